"""What the tests of the disk store share."""

import os
from pathlib import Path

from stack.blocks.interfaces import Leaf
from stack.multiformats.cid import Cid
from stack.testing.conformance.stores import leaves_of, stamp
from stack.trace import TraceEvent

__all__ = ["Events", "flip", "leaves_of", "noise", "packs", "stamp", "wrapped_leaves"]


class Events:
    """A trace sink that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[TraceEvent] = []

    def __call__(self, event: TraceEvent) -> None:
        self.told.append(event)

    def names(self) -> list[str]:
        """The classes of the events, in order."""
        return [type(event).__name__ for event in self.told]


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that repeat nowhere and are the same in each run."""
    import random

    return random.Random(seed).randbytes(size)


def packs(home: Path) -> list[Path]:
    """The pack files of a store."""
    return sorted((home / "blocks" / "packs").iterdir())


def flip(path: Path, offset: int, bit: int = 0, *, keep_stamp: bool = True) -> None:
    """Flip a bit of a file, as a rotting disk would: without anybody noticing, unless told."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))
    if keep_stamp:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def wrapped_leaves(data: bytes, size: int) -> list[Leaf]:
    """Leaves in a frame of dag-pb's kind, as CIDv0 files have."""
    found = []
    for start in range(0, len(data), size):
        payload = data[start : start + size]
        prefix, suffix = (
            b"\x0a\x08\x02\x12" + len(payload).to_bytes(3, "big"),
            b"\x18" + len(payload).to_bytes(3, "big"),
        )
        found.append(Leaf(Cid.of(prefix + payload + suffix, 0x70, version=0), start, len(payload), prefix, suffix))
    return found
