"""What this process has hashed in users' files, and how they looked then: a peer hashes what it gets, so a block that cannot have
changed since need not be hashed here again.

If this is mistaken no wrong byte is kept by anybody; but an honest sharer is then taken for one who lies. So it is believed only of
files whose times the kernel itself keeps, and of those that held still, and is looked at again now and then (bit rot, stores through
a shared mapping, which touch no time).
"""

import os
import threading
import time
from collections.abc import Iterable

from stack.blocks.interfaces import SegmentId
from stack.platform import keeps_own_times

SETTLED_NS = 2_000_000_000
"""A file that was changed less than this before it was read may change again without its times telling: they are as coarse as the
file system's clock (2 s on FAT)."""

HASHED_ALL_THE_SAME = 16
"""One message in so many of blocks that are known to be right."""

BLOCKS_MAX = 65_536
"""Blocks remembered, some 10 MiB; the files that were looked at first are forgotten."""

Look = tuple[int, int, int, int, int]
"""What tells that a file has not been written to: its owner can set its mtime, but not its ctime."""


def look_of(status: os.stat_result) -> Look | None:
    """How a file looks, to be asked before it is read; None where that tells nothing, because it was just changed."""
    if time.time_ns() - status.st_ctime_ns < SETTLED_NS:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class _File:
    __slots__ = ("blocks", "keeps_times", "look")

    def __init__(self, look: Look) -> None:
        self.look = look
        self.blocks: set[bytes] = set()
        self.keeps_times: bool | None = None
        """Of its file system; None as long as nobody has asked."""


class Hashed:
    """Facts: `add`, `found_wrong`. Getter: `covers`. For worker threads, several at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[SegmentId, _File] = {}
        self._total = 0

    def add(self, segment: SegmentId, look: Look, blocks: Iterable[tuple[bytes, int]]) -> None:
        """These blocks (multihash, offset) were read and hashed, and were right; the file looked so before and after."""
        with self._lock:
            file = self._files.get(segment)
            if file is None or file.look != look:
                self._forget(segment)
                file = self._files[segment] = _File(look)
            before = len(file.blocks)
            file.blocks.update(_key(*block) for block in blocks)
            self._total += len(file.blocks) - before
            while self._total > BLOCKS_MAX:
                self._forget(next(iter(self._files)))

    def covers(self, segment: SegmentId, look: Look, block: tuple[bytes, int], fd: int) -> bool:
        """Whether a block that was read from a file which looks so, before and after, is right without being hashed."""
        with self._lock:
            file = self._files.get(segment)
            if file is None or file.look != look or _key(*block) not in file.blocks:
                return False
        if file.keeps_times is None:
            file.keeps_times = keeps_own_times(fd)
        return file.keeps_times

    def found_wrong(self) -> None:
        """A block in a file was not what it was said to be: whatever made it so may have met others."""
        with self._lock:
            self._files.clear()
            self._total = 0

    def _forget(self, segment: SegmentId) -> None:
        file = self._files.pop(segment, None)
        self._total -= len(file.blocks) if file is not None else 0


def _key(multihash: bytes, offset: int) -> bytes:
    return multihash + offset.to_bytes(8, "big", signed=True)
