"""Reading blocks, each hashed before a byte of it is believed; for peers, who do that themselves, see `hashed`. Called from worker
threads.

A file is opened for each call and closed at its end (4 us, against 700 us for reading and hashing 1 MiB): so a user's file that was
deleted frees its space, and one that was replaced is noticed. `pread`, never a mapping: a truncated mapping kills the process.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from sqlite3 import Connection
from types import TracebackType
from typing import TypeVar

from stack.blocks import disk
from stack.blocks.gone import Fault
from stack.blocks.hashed import Hashed, look_of
from stack.blocks.hashing import matches
from stack.blocks.index import PACK, Index
from stack.blocks.interfaces import (
    BlockMismatch,
    BlockNotFound,
    ReadFailed,
    Segment,
    SegmentId,
    SegmentState,
    SourceChanged,
)
from stack.blocks.locations import Location, Locations
from stack.blocks.packs import pack_path
from stack.errors import StoreError
from stack.multiformats.cid import Cid
from stack.platform import descriptor_limit
from stack.trace import Trace, TraceEvent
from stack.values import dataclass

T = TypeVar("T")

OPEN_FILES_MAX = 16
"""Files open at once for one call: a call for a thousand small files must not take all handles there are (256 on macOS)."""


SHARE_OF_HANDLES = 32
"""Where a process may have few files open, a call has this part of them: several read at once, and keep as many for the next."""


def files_at_once() -> int:
    """How many files one call has open."""
    return max(1, min(OPEN_FILES_MAX, descriptor_limit() // SHARE_OF_HANDLES))


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceWithdrawn(TraceEvent):
    """A file in place is no longer served."""

    path: Path
    fault: Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockDamaged(TraceEvent):
    """A block's bytes have turned out wrong in a pack, or in a file that is being fetched; it counts as absent there."""

    multihash: bytes
    path: Path


def segment_path(packs: Path, segment: Segment) -> Path:
    """Where a segment lies; `packs` is the directory of our own."""
    return pack_path(packs, segment.id) if segment.kind == PACK else segment.path


class OpenFiles:
    """The files of one call, a context. `open` finds the segment's file, checks its stamp, and keeps the last few open."""

    def __init__(self, packs: Path) -> None:
        self._packs = packs
        self._open: dict[SegmentId, int] = {}
        self._most = files_at_once()

    def __enter__(self) -> "OpenFiles":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close_all()

    def _close_all(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def open(self, segment: Segment) -> int | Fault:
        """A file descriptor that lives until the next is opened, if not longer. Raises ReadFailed, and StoreError when we ourselves
        are out of handles."""
        fd = self._open.get(segment.id)
        if fd is not None:
            return fd
        try:
            path = segment_path(self._packs, segment)
            fd, status = disk.patiently(lambda: disk.open_regular(path), self._close_all)
        except OSError as error:
            if error.errno in disk.OUT_OF_HANDLES:
                raise disk.store_error("reading blocks", error) from error
            if error.errno not in disk.ABSENT:
                raise ReadFailed(segment.path, error) from error
            return Fault.GONE
        if segment.kind != PACK and segment.state is SegmentState.SEALED and not disk.unchanged(segment.stamp, status):
            os.close(fd)
            return Fault.CHANGED
        if len(self._open) >= self._most:
            os.close(self._open.pop(next(iter(self._open))))
        self._open[segment.id] = fd
        return fd


def fill(fd: int, location: Location, out: memoryview) -> bool:
    """Put a block into `out`, which has its size; whether the bytes are right. Raises ReadFailed."""
    return _copy(fd, location, out) and matches(location.multihash, out)


def _copy(fd: int, location: Location, out: memoryview) -> bool:
    """The same unhashed: whether there are as many bytes."""
    if not location.plausible:
        return False
    start = len(location.prefix)
    end = start + location.length
    try:
        if disk.read_at(fd, out[start:end], location.offset) < location.length:
            return False
    except OSError as error:
        raise ReadFailed(location.segment.path, error) from error
    out[:start] = location.prefix
    out[end:] = location.suffix
    return True


def load(fd: int, location: Location) -> bytes | None:
    """A block as bytes, None when they are not right. Raises ReadFailed."""
    if not location.plausible:
        return None
    try:
        data = os.pread(fd, location.length, location.offset)
    except OSError as error:
        raise ReadFailed(location.segment.path, error) from error
    if location.prefix or location.suffix:
        data = b"".join((location.prefix, data, location.suffix))
    return data if matches(location.multihash, data) else None


class Reader:
    """Blocks by name, from wherever they lie. A place that fails is withdrawn, and the next one is tried; nobody who reads is told that
    the index cannot be written."""

    def __init__(self, index: Index, locations: Locations, packs: Path, tell: Trace) -> None:
        self._index = index
        self._locations = locations
        self._packs = packs
        self._tell = tell
        self.hashed = Hashed()
        """For `read_to_send`."""

    def path(self, segment: Segment) -> Path:
        """Where a segment lies."""
        return segment_path(self._packs, segment)

    def get(self, cid: Cid) -> bytes:
        """One block. Raises BlockNotFound, BlockMismatch, SourceChanged, ReadFailed, StoreError."""
        self.record_gone()
        failed: list[Segment] = []
        with self._index.database.reading() as connection, OpenFiles(self._packs) as files:
            data = self._first(connection, files, cid.multihash, load, failed)
        if data is not None:
            return data
        for segment in failed:
            if segment.kind != PACK and segment.state is SegmentState.SEALED:
                raise SourceChanged(segment.path)
        if failed:
            raise BlockMismatch(cid, str(self.path(failed[0])))
        raise BlockNotFound(cid)

    def get_many(self, cids: Sequence[Cid]) -> list[bytes | None]:
        """Several blocks in one call, None for each that is absent or damaged. Raises ReadFailed."""
        self.record_gone()
        with self._index.database.reading() as connection, OpenFiles(self._packs) as files:
            return [self._first(connection, files, cid.multihash, load, []) for cid in cids]

    def load_many(self, multihashes: Sequence[bytes], most: int) -> list[bytes | None]:
        """See `ReadsMany.get_many`."""
        room = most

        def take(fd: int, location: Location) -> bytes | int | None:
            return _TOO_LARGE if location.size > room else load(fd, location)

        blocks: list[bytes | None] = []
        self.record_gone()
        with self._index.database.reading() as connection, OpenFiles(self._packs) as files:
            for multihash in multihashes:
                try:
                    block = self._first(connection, files, multihash, take, [])
                except ReadFailed:
                    block = None
                blocks.append(block if isinstance(block, bytes) else None)
                room -= len(blocks[-1] or b"")
        return blocks

    def read_into(self, multihashes: Sequence[bytes], out: memoryview) -> list[int | None]:
        """Blocks one behind the other; see `DirectReads.read_into`. Raises ReadFailed."""
        return self._read_into(multihashes, out, fill)

    def read_to_send(
        self, multihashes: Sequence[bytes], out: memoryview, hash_all: bool
    ) -> tuple[list[int | None], dict[SegmentId, int]]:
        """See `ReadsToSend.read_to_send`; with descriptors, for whoever calls, of files that may be read again. Raises ReadFailed."""
        files: dict[SegmentId, int] = {}
        most = files_at_once()

        def fill_to_send(fd: int, location: Location, out: memoryview) -> bool:
            right = self._fill_to_send(fd, location, out, hash_all)
            segment = location.segment
            if right and segment.kind != PACK and segment.id not in files and len(files) < most:
                with suppress(OSError):  # no handle is left: it is opened again
                    files[segment.id] = os.dup(fd)
            return right

        try:
            return self._read_into(multihashes, out, fill_to_send), files
        except BaseException:
            for fd in files.values():
                disk.let_go(fd)
            raise

    def _fill_to_send(self, fd: int, location: Location, out: memoryview, hash_all: bool) -> bool:
        """As `fill`, but for a file in place that looks as when the block was hashed, before the read and after it."""
        segment = location.segment
        if segment.kind == PACK or segment.state is not SegmentState.SEALED:
            return fill(fd, location, out)
        block = location.multihash, location.offset
        try:
            look = look_of(os.fstat(fd))
            whole = _copy(fd, location, out)
            if look_of(os.fstat(fd)) != look:
                look = None
        except OSError as error:
            raise ReadFailed(segment.path, error) from error
        if whole and look is not None and not hash_all and self.hashed.covers(segment.id, look, block, fd):
            return True
        if not whole or not matches(location.multihash, out):
            self.hashed.found_wrong()
            return False
        if look is not None:
            self.hashed.add(segment.id, look, [block])
        return True

    def _read_into(
        self, multihashes: Sequence[bytes], out: memoryview, fill: Callable[[int, Location, memoryview], bool]
    ) -> list[int | None]:
        sizes: list[int | None] = []
        position = 0

        def take(fd: int, location: Location) -> int | None:
            size = location.size
            if size > len(out) - position:
                return _TOO_LARGE
            return size if fill(fd, location, out[position : position + size]) else None

        self.record_gone()
        with self._index.database.reading() as connection, OpenFiles(self._packs) as files:
            for multihash in multihashes:
                size = self._first(connection, files, multihash, take, [])
                if size is None or size == _TOO_LARGE:
                    sizes.append(None)
                else:
                    sizes.append(size)
                    position += size
        return sizes

    def _first(
        self,
        connection: Connection,
        files: OpenFiles,
        multihash: bytes,
        take: Callable[[int, Location], T | None],
        failed: list[Segment],
    ) -> T | None:
        """What `take` makes of the first place that holds the right bytes; places that do not are added to `failed`.

        Raises ReadFailed when no place has them and one could not be read: that one may have them.
        """
        unread: ReadFailed | None = None
        for location in self._locations.candidates(connection, multihash):
            try:
                result = _attempt(files, location, take)
                if isinstance(result, Fault):
                    # A fetched file gets its final name, and a file is indexed anew, between our look-up and our opening. One
                    # that stands where it stood is read once more before it is given up.
                    segment = self._index.segment(connection, location.segment.id)
                    moved = segment is not None and (segment.path, segment.state) != (
                        location.segment.path,
                        location.segment.state,
                    )
                    if segment is not None and moved:
                        location = replace(location, segment=segment)
                    if moved or result is Fault.WRONG_BYTES:
                        result = _attempt(files, location, take)
            except ReadFailed as error:
                unread = error
                continue
            if not isinstance(result, Fault):
                return result
            if self.blame(location, result, self.path(location.segment)):
                failed.append(location.segment)
        if unread is not None:
            raise unread
        return None

    def blame(self, location: Location, fault: Fault, path: Path) -> bool:
        """Withdraw what is not there any more; False when the place has only moved."""
        segment = location.segment
        if segment.kind == PACK or segment.state is SegmentState.FETCHING:
            if fault is not Fault.WRONG_BYTES:
                # Compaction removed the pack, or the fetch has ended; its blocks are listed where they are now.
                return False
            if segment.kind == PACK:
                self._locations.found_damaged(location.multihash, segment.id)
            else:
                try:
                    with self._index.database.writing() as connection:
                        self._index.remove(connection, location.multihash, segment.id)
                except StoreError:
                    self._locations.found_damaged(location.multihash, segment.id)
                self._locations.recorded(location)
            self._tell(BlockDamaged(multihash=location.multihash, path=path))
            return True
        self.withdraw(segment, fault)
        return True

    def withdraw(self, segment: Segment, fault: Fault) -> None:
        """A file in place is not to be served any more. Its rows stay for its return, unless it lies about itself."""
        try:
            is_news = self._record_missing(segment, fault)
        except StoreError:
            is_news = self._locations.gone.found(segment, fault, time.monotonic())
        if is_news:
            self._tell(SourceWithdrawn(path=segment.path, fault=fault))

    def record_gone(self) -> None:
        """Write down what was withdrawn while the index could not be written, if it is time to try again."""
        for segment, fault in self._locations.gone.due(time.monotonic()):
            try:
                self._record_missing(segment, fault)
            except StoreError:
                return
            self._locations.gone.recorded(segment.id)

    def _record_missing(self, segment: Segment, fault: Fault) -> bool:
        """Whether the index had it as it is said to be. Raises StoreError."""
        with self._index.database.writing() as connection:
            if self._index.segment(connection, segment.id) != segment:
                return False
            self._index.set_state(connection, segment.id, SegmentState.MISSING)
            if fault is Fault.WRONG_BYTES:
                # It looks unchanged and is not: without a stamp nothing brings it back but being shared again.
                self._index.set_stamp(connection, segment.id, None)
        return True


_TOO_LARGE = -1
"""A size no block has: this one does not fit into what is left of the buffer."""


def _attempt(files: OpenFiles, location: Location, take: Callable[[int, Location], T | None]) -> T | Fault:
    fd = files.open(location.segment)
    if isinstance(fd, Fault):
        return fd
    try:
        result = take(fd, location)
    except ReadFailed:  # a network mount that hiccups, a drive that has woken: the second time it is there
        result = take(fd, location)
    return Fault.WRONG_BYTES if result is None else result
