"""Which leaves of a file somebody has: one bit a leaf, in the order of the file. Pure."""

import re
from collections.abc import Iterable

from stack.errors import DecodeError

LEAVES_MAX = 1 << 22
"""Most leaves a bitmap is kept for: 512 KiB, a file of 1 TiB in leaves of 256 KiB. Of larger files only `complete` is told."""

_STRETCH = re.compile(rb"\xff+|[^\x00\xff]")
"""Full bytes that follow each other, or one that is partly set: a sparse or a nearly full bitmap is searched by the expression."""


class LeafRanges:
    """A set of leaf numbers below `count`.

    Getters: `in`, `len`, `complete`, `runs`, `bytes`. Commands: `add`.
    """

    __slots__ = ("_bits", "_present", "count")

    def __init__(self, count: int) -> None:
        if not 0 <= count <= LEAVES_MAX:
            raise ValueError(f"{count} leaves, at most {LEAVES_MAX} are kept")
        self.count = count
        self._bits = bytearray((count + 7) // 8)
        self._present = 0

    @classmethod
    def decode(cls, count: int, bitmap: bytes) -> "LeafRanges":
        """A bitmap as it is on the wire: leaf n is bit n % 8 of byte n // 8. Raises DecodeError on another length or stray bits."""
        if not 0 <= count <= LEAVES_MAX or len(bitmap) != (count + 7) // 8:
            raise DecodeError(f"bitmap of {len(bitmap)} bytes for {count} leaves")
        if count % 8 and bitmap[-1] >> count % 8:
            raise DecodeError("bits behind the last leaf")
        ranges = cls(count)
        ranges._bits[:] = bitmap
        ranges._present = int.from_bytes(bitmap, "little").bit_count()
        return ranges

    def __bytes__(self) -> bytes:
        return bytes(self._bits)

    def __contains__(self, leaf: int) -> bool:
        return 0 <= leaf < self.count and bool(self._bits[leaf >> 3] >> (leaf & 7) & 1)

    def __len__(self) -> int:
        return self._present

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LeafRanges) and self.count == other.count and self._bits == other._bits

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"<LeafRanges {self._present} of {self.count}>"

    @property
    def complete(self) -> bool:
        """All leaves are there."""
        return self._present == self.count

    def copy(self) -> "LeafRanges":
        """An independent copy."""
        return LeafRanges.decode(self.count, bytes(self._bits))

    def add(self, start: int, end: int) -> None:
        """Leaves `start` to `end - 1` are there. Raises ValueError outside of the file."""
        if not 0 <= start <= end <= self.count:
            raise ValueError(f"leaves {start} to {end} of {self.count}")
        if start == end:
            return
        first, last = start >> 3, (end + 7) >> 3
        before = int.from_bytes(self._bits[first:last], "little")
        after = before | ((1 << end - start) - 1) << (start & 7)
        self._bits[first:last] = after.to_bytes(last - first, "little")
        self._present += after.bit_count() - before.bit_count()

    def runs(self) -> list[tuple[int, int]]:
        """(start, end) of each unbroken run, in order."""
        return _runs(bytes(self._bits))

    def runs_missing_in(self, other: "LeafRanges", most: int) -> list[tuple[int, int]]:
        """The runs that are here and not in `other`, which has as many leaves; when they are more than `most`, only some more than
        that: a bitmap may be made of as many runs as its sender likes."""
        fresh = int.from_bytes(self._bits, "little") & ~int.from_bytes(other._bits, "little")
        return _runs(fresh.to_bytes(len(self._bits), "little"), most)


def _runs(bitmap: bytes, most: int | None = None) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for stretch in _STRETCH.finditer(bitmap):
        if most is not None and len(runs) > most:
            break
        start, byte = 8 * stretch.start(), bitmap[stretch.start()]
        if byte == 0xFF:
            _append(runs, start, 8 * stretch.end())
            continue
        for bit in range(8):
            if byte >> bit & 1:
                _append(runs, start + bit, start + bit + 1)
    return runs


def _append(runs: list[tuple[int, int]], start: int, end: int) -> None:
    if runs and runs[-1][1] == start:
        runs[-1] = (runs[-1][0], end)
    else:
        runs.append((start, end))


def merge_runs(runs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted, with neighbours and overlaps joined."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(runs):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif start < end:
            merged.append((start, end))
    return merged
