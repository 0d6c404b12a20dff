"""Blocks that the system has in memory, read for a peer on the event loop: that takes 0.1 ms a megabyte, and to ask a worker thread for
it twice as much again.

Nothing here looks at a path, waits for a disk, or hashes. What was looked up just now is read from a file that a worker has opened a
moment ago and this process has hashed; whatever is not quite so is left to a worker, which finds out what it means.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence

import anyio

from stack.blocks import disk
from stack.blocks.database import Database
from stack.blocks.hashed import HASHED_ALL_THE_SAME, Hashed, look_of
from stack.blocks.index import PACK
from stack.blocks.interfaces import SegmentId, SegmentState
from stack.blocks.locations import Location
from stack.blocks.reads import files_at_once

KEPT_SECONDS = 1.0
"""A file is used for so long after a worker has opened it by its name: one that was deleted frees its space soon, and one that was
replaced or moved is noticed."""

LOCATIONS_KEPT = 4096
"""Looked up and not sent yet; more than all fast peers have asked ahead."""

_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)
"""Linux only: an error instead of waiting for the disk."""


class Warm:
    """Facts: `found`, `opened`. Commands: `is_time_to_hash`, `read`, `close`; somebody runs `let_go`. For the event loop alone."""

    def __init__(self, database: Database, hashed: Hashed) -> None:
        self._database = database
        self._hashed = hashed
        self._found: dict[bytes, Location] = {}
        self._changes = database.changes
        """Of the index, when they were found."""
        self._open: dict[SegmentId, tuple[int, float]] = {}
        self._something_is: anyio.Event | None = None
        """Open, that is."""
        self._messages = 0

    def found(self, locations: Iterable[Location | None], changes: int) -> None:
        """These are about to be read; the index had changed so often before they were looked up."""
        if changes != self._database.changes:
            return
        if changes != self._changes or len(self._found) >= LOCATIONS_KEPT:
            self._found.clear()
            self._changes = changes
        self._found.update((location.multihash, location) for location in locations if location is not None)

    def opened(self, files: Mapping[SegmentId, int]) -> None:
        """Descriptors of segments that were opened by their names just now; they are closed here."""
        now = time.monotonic()
        for segment, fd in files.items():
            self._close(segment)
            self._open[segment] = fd, now
        if files and self._something_is is not None:
            self._something_is.set()
        while len(self._open) > files_at_once():
            self._close(next(iter(self._open)))

    def read(self, multihashes: Sequence[bytes], out: memoryview) -> list[int | None] | None:
        """The sizes of the blocks, which lie in `out` then one behind the other; None when a worker has to be asked."""
        if _NOWAIT is None or self._changes != self._database.changes:
            return None
        sizes: list[int | None] = []
        position = 0
        for multihash in multihashes:
            location = self._found.get(multihash)
            if location is None or not self._read(location, out[position:]):
                return None
            sizes.append(location.size)
            position += location.size
        for multihash in multihashes:
            self._found.pop(multihash, None)
        return sizes

    def is_time_to_hash(self) -> bool:
        """Whether all is to be hashed of the message that is read next."""
        self._messages += 1
        return self._messages % HASHED_ALL_THE_SAME == 0

    async def let_go(self) -> None:
        """The duty of closing what was opened a while ago."""
        while True:
            while self._rest():
                await anyio.sleep(KEPT_SECONDS)
            self._something_is = anyio.Event()
            await self._something_is.wait()

    def _rest(self) -> bool:
        """Whether anything is still open."""
        before = time.monotonic() - KEPT_SECONDS
        for segment, (_, opened_at) in list(self._open.items()):
            if opened_at <= before:
                self._close(segment)
        return bool(self._open)

    def close(self) -> None:
        """Close everything."""
        for segment in list(self._open):
            self._close(segment)

    def _read(self, location: Location, out: memoryview) -> bool:
        segment = location.segment
        fd, opened_at = self._open.get(segment.id, (-1, 0.0))
        if fd < 0 or time.monotonic() - opened_at > KEPT_SECONDS or location.size > len(out):
            return False
        if segment.kind == PACK or segment.state is not SegmentState.SEALED or not location.plausible:
            return False
        start = len(location.prefix)
        end = start + location.length
        try:
            status = os.fstat(fd)
            look = look_of(status)
            if look is None or not disk.unchanged(segment.stamp, status):
                return False
            if not self._hashed.covers(segment.id, look, (location.multihash, location.offset), fd):
                return False
            assert _NOWAIT is not None  # `read` has seen to it
            if os.preadv(fd, [out[start:end]], location.offset, _NOWAIT) < location.length:
                return False
            if look_of(os.fstat(fd)) != look:
                return False
        except OSError:
            return False
        out[:start] = location.prefix
        out[end : location.size] = location.suffix
        return True

    def _close(self, segment: SegmentId) -> None:
        fd, _ = self._open.pop(segment, (-1, 0.0))
        if fd >= 0:
            disk.let_go(fd)
