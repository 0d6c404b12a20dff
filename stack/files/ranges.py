"""Which leaves of a root are here, told to the providers protocol while they come.

Leaves have numbers only in a file that is cut into pieces of one size: number n starts at n times that size, for everybody
who has the same root. Of anything else (a tree, pieces cut by content) only the whole is told, as a single leaf.
"""

import threading

from stack.multiformats.cid import Cid
from stack.protocols.providers.interfaces import RangeBook
from stack.protocols.providers.ranges import LEAVES_MAX, LeafRanges, merge_runs


def leaf_count(size: int, leaf_size: int) -> int | None:
    """How many leaves of `leaf_size` a file of `size` bytes has; None where there are too many to number."""
    count = -(-size // leaf_size) if leaf_size else 0
    return count if 0 < count <= LEAVES_MAX else None


def whole_ranges(size: int = 0, leaf_size: int = 0) -> LeafRanges:
    """The ranges of something that is all here."""
    ranges = LeafRanges(leaf_count(size, leaf_size) or 1)
    ranges.add(0, ranges.count)
    return ranges


class LeafTracker:
    """Keeps the ranges of one root that is being fetched in a book.

    Commands, on the event loop: `start`, `drain`, `complete`, `close`. Fact, from any thread: `written`. Getter: `number`.
    """

    def __init__(self, book: RangeBook, root: Cid, *, gives: bool = True) -> None:
        """Without `gives` nothing of it can be served from where it is written: then none is claimed, and the book only says how many
        leaves there are."""
        self.gives = gives
        self._book = book
        self._root = root
        self._size = 0
        self._leaf_size = 0
        self._ranges = LeafRanges(1)
        self._lock = threading.Lock()
        self._fresh: list[int] = []
        book.add(root, self._ranges)

    def start(self, size: int, leaf_size: int) -> None:
        """The root is a file of `size` bytes whose first leaf has `leaf_size`; told once, before any leaf is."""
        count = leaf_count(size, leaf_size)
        if count is not None and not self._leaf_size:
            self._size, self._leaf_size = size, leaf_size
            self._ranges = LeafRanges(count)
            self._book.add(self._root, self._ranges)

    def number(self, offset: int, size: int) -> int | None:
        """The number of the leaf at `offset`; None where leaves have none."""
        leaf_size = self._leaf_size
        if not leaf_size or offset % leaf_size or size != min(leaf_size, self._size - offset):
            return None
        return offset // leaf_size

    def written(self, offset: int, size: int) -> None:
        """A leaf is on the disk and can be served."""
        number = self.number(offset, size)
        if number is not None and self.gives:
            with self._lock:
                self._fresh.append(number)

    def irregular(self) -> None:
        """Something that was taken for a leaf is none, so no number can be trusted."""
        self._leaf_size = 0
        self._ranges = LeafRanges(1)
        self._book.add(self._root, self._ranges)

    def drain(self) -> None:
        """Put what was written into the book; called a few times a second."""
        with self._lock:
            fresh, self._fresh = self._fresh, []
        if self._leaf_size:
            for start, end in merge_runs((number, number + 1) for number in fresh):
                self._ranges.add(start, end)

    def complete(self) -> None:
        """Everything is here."""
        self.drain()
        self._ranges.add(0, self._ranges.count)

    def close(self) -> None:
        """The fetch ended without being complete: it is not offered any more."""
        self._book.remove(self._root)
