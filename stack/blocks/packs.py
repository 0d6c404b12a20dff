"""Packs: files of ours to which blocks are appended. Called from worker threads, inside the index's write transaction.

`<directory>/NNNNNN.pack`, numbered by the id of its segment. The index knows how far a pack is valid (`stamp.size`); what
lies behind was never acknowledged.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from sqlite3 import Connection

from stack.blocks import disk
from stack.blocks.gc import Position
from stack.blocks.hashing import STORED_BLOCK_MAX, matches
from stack.blocks.index import PACK, Index
from stack.blocks.interfaces import FileStamp, SegmentId, SegmentState
from stack.blocks.records import HEAD, MARK, RECORD_HEAD_MAX, decode_head, encode_head, head_size
from stack.errors import NoSpace
from stack.sansio.interfaces import Buffer
from stack.values import dataclass

PACK_BYTES_MAX = 256 * 1024 * 1024
"""A pack that has grown to this is closed and a new one begun: what compaction rewrites at once, and needs free for it."""

SEARCH_BYTES = 1024 * 1024
"""Read at once while looking for the next record behind a damaged place."""

Entry = tuple[bytes, Buffer]
"""multihash and block."""


@dataclass(frozen=True, slots=True)
class Record:
    """A whole record whose block hashes to its name."""

    multihash: bytes
    offset: int
    """Of the block, not of the record."""
    length: int


def pack_path(directory: Path, number: SegmentId) -> Path:
    """Where the pack of a segment lies."""
    return directory / f"{number:06d}.pack"


def pack_number(path: Path) -> SegmentId | None:
    """The segment of a pack file, None for any other file."""
    return SegmentId(int(path.stem)) if path.suffix == ".pack" and path.stem.isdecimal() else None


def pack_stamp(size: int) -> FileStamp:
    """What the index keeps of a pack: how far it is valid."""
    return FileStamp(0, 0, size, 0)


class Pack:
    """One pack that is being written. Commands: `append`, `cut`, `close`. Getters: `number`, `path`, `end`."""

    def __init__(self, number: SegmentId, path: Path, fd: int, end: int) -> None:
        self.number = number
        self.path = path
        self.end = end
        self._fd = fd

    @classmethod
    def create(cls, index: Index, connection: Connection, directory: Path) -> "Pack":
        """A new pack: its row in this transaction, and its file. Raises OSError, NoSpace."""
        # The path is unique, the number not known yet.
        number = index.add_segment(connection, PACK, Path("new.pack"), SegmentState.FETCHING)
        path = pack_path(directory, number)
        index.set_path(connection, number, Path(path.name))
        index.set_stamp(connection, number, pack_stamp(len(HEAD)))
        # A file of this number can only be left from a transaction that was taken back: recovery adopts all others.
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            disk.write_at(fd, [HEAD], 0)
            disk.sync_directory(directory)
        except BaseException:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        return cls(number, path, fd, len(HEAD))

    @classmethod
    def reopen(cls, number: SegmentId, directory: Path, end: int) -> "Pack":
        """Go on with a pack whose valid part ends at `end`. Raises OSError."""
        path = pack_path(directory, number)
        return cls(number, path, os.open(path, os.O_RDWR | os.O_CLOEXEC), end)

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """Write blocks and sync them; returns the offset of each. On failure nothing has changed. Raises OSError."""
        parts: list[Buffer] = []
        offsets = []
        position = self.end
        for multihash, data in entries:
            parts += (encode_head(multihash, len(data)), data)
            position += head_size(multihash)
            offsets.append(position)
            position += len(data)
        try:
            disk.write_at(self._fd, parts, self.end)
            disk.sync_data(self._fd)
        except BaseException:
            self.cut(self.end)
            raise
        self.end = position
        return offsets

    def cut(self, end: int) -> None:
        """Forget what lies behind `end`: it was not recorded."""
        self.end = end
        try:
            os.ftruncate(self._fd, end)
        except OSError:
            # Only space is lost: the next append writes over it, and recovery cuts it.
            pass

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


class Packs:
    """The packs of a store, one of which grows. Commands: `append`, `recorded`, `taken_back`, `roll`, `close`.
    Getters: `position`, `is_growing`, `holds`. Facts: `made`."""

    def __init__(self, index: Index, directory: Path, quota: int | None) -> None:
        self.directory = directory
        self._index = index
        self._quota = quota
        self._pack: Pack | None = None
        self._committed_end = 0
        self._created = False
        self._last = SegmentId(0)

    @property
    def position(self) -> Position:
        """Tells what is appended from now on from what is there."""
        pack = self._pack
        if pack is None or self._created:
            return Position(SegmentId(0), 0, self._last)
        return Position(pack.number, self._committed_end, self._last)

    def is_growing(self, number: SegmentId) -> bool:
        """Whether this is the pack that is appended to."""
        return self._pack is not None and self._pack.number == number

    def holds(self, number: SegmentId, offset: int, data: Buffer) -> bool:
        """Whether a block is still in its pack as it was written: what is on record is not believed when it is put again."""
        try:
            fd, _ = disk.open_regular(pack_path(self.directory, number))
        except OSError as error:
            if error.errno in disk.OUT_OF_HANDLES:
                raise
            return False
        try:
            return os.pread(fd, len(data), offset) == data
        except OSError:
            return False
        finally:
            os.close(fd)

    def made(self, number: SegmentId) -> None:
        """There is such a pack; all to come have higher numbers."""
        self._last = max(self._last, number)

    def go_on(self, number: SegmentId, end: int) -> None:
        """Append to a pack from an earlier run. Raises OSError."""
        self._pack = Pack.reopen(number, self.directory, end)
        self._committed_end = end

    def append(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """Write blocks, sync them, and add their rows to this transaction. Raises OSError, NoSpace.

        The caller then says `recorded` or, when the transaction failed, `taken_back`.
        """
        size = sum(head_size(multihash) + len(data) for multihash, data in entries)
        self.check_quota(connection, size)
        if self._pack is not None and self._committed_end + size > PACK_BYTES_MAX and self._committed_end > len(HEAD):
            self.roll(connection)
        if self._pack is None:
            self._pack = Pack.create(self._index, connection, self.directory)
            self._created = True
        pack = self._pack
        offsets = pack.append(entries)
        rows = [
            (multihash, offset, len(data), b"", b"") for (multihash, data), offset in zip(entries, offsets, strict=True)
        ]
        self._index.add(connection, pack.number, rows)
        self._index.set_stamp(connection, pack.number, pack_stamp(pack.end))

    def check_quota(self, connection: Connection, size: int) -> None:
        """Raise NoSpace when `size` more bytes would not fit into the quota."""
        if self._quota is None:
            return
        used = self._index.pack_bytes(connection)
        if used + size > self._quota:
            raise NoSpace(
                f"the quota of the store is {self._quota} B; {used} B are used, {size} B more were to be kept"
            )

    def recorded(self) -> None:
        """The transaction is on disk."""
        if self._pack is not None:
            self._committed_end = self._pack.end
            self._created = False
            self.made(self._pack.number)

    def taken_back(self) -> None:
        """The transaction is undone: so is what was appended in it."""
        if self._pack is None:
            return
        if self._created:
            self._pack.close()
            self._pack.path.unlink(missing_ok=True)
            self._pack = None
            self._created = False
        else:
            self._pack.cut(self._committed_end)

    def roll(self, connection: Connection) -> None:
        """Close the growing pack; the next append begins another. Part of the caller's transaction."""
        if self._pack is not None:
            self._index.set_state(connection, self._pack.number, SegmentState.SEALED)
            self.close()

    def close(self) -> None:
        """Let go of the growing pack: the next append begins another, the next run goes on with this one."""
        if self._pack is not None:
            self._pack.close()
            self._pack = None


def scan(path: Path, start: int, *, search: bool) -> Iterator[Record]:
    """The records of a pack from `start`: up to the first that is not whole and right or, with `search`, beyond it.

    Raises OSError.
    """
    fd, status = disk.open_regular(path)
    try:
        position = start
        scratch = bytearray()
        while position < status.st_size:
            head = decode_head(os.pread(fd, RECORD_HEAD_MAX, position))
            if head is not None and head.length <= STORED_BLOCK_MAX:
                if len(scratch) < head.length:
                    scratch = bytearray(head.length)
                view = memoryview(scratch)[: head.length]
                offset = position + head.size
                if disk.read_at(fd, view, offset) == head.length and matches(head.multihash, view):
                    yield Record(head.multihash, offset, head.length)
                elif not search:
                    return
                # The head vouches for the length: a damaged block is stepped over, not searched for what looks like a record.
                position = offset + head.length
            elif search:
                position = _next_mark(fd, position + 1)
            else:
                return
    finally:
        os.close(fd)


def _next_mark(fd: int, position: int) -> int:
    """The offset of the next mark from `position`, or the end of the file."""
    while True:
        data = os.pread(fd, SEARCH_BYTES, position)
        found = data.find(MARK)
        if found >= 0:
            return position + found
        if len(data) < len(MARK):
            return position + len(data)
        # A mark may lie across the border of two reads.
        position += len(data) - len(MARK) + 1
