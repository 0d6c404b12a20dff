"""Whether the nodes of a tree come again and again: a few blocks can list each other without end. Pure."""

from stack.errors import LimitExceeded
from stack.multiformats.cid import Cid

REPEATED_MAX = 1_000_000
"""Entries listed by nodes that were listed before, beyond as many as are new: ten directories that each list the next one ten
times are ten blocks and ten thousand million files."""

NODES_SEEN_BYTES = 1 << 20
"""A bit for each node listed, by its hash: with a million nodes one in nine that are new is taken for an old one."""


class Repeats:
    """Fact: `listed`."""

    def __init__(self) -> None:
        self._seen = bytearray(NODES_SEEN_BYTES)
        self._repeated = 0
        self._fresh = 0

    def listed(self, cid: Cid, entries: int) -> None:
        """A node with so many entries. Raises LimitExceeded when the same nodes come again and again."""
        bit = int.from_bytes(cid.multihash[-4:], "big") % (NODES_SEEN_BYTES * 8)
        if self._seen[bit // 8] >> bit % 8 & 1:
            self._repeated += entries
        else:
            self._seen[bit // 8] |= 1 << bit % 8
            self._fresh += entries
        if self._repeated > REPEATED_MAX + self._fresh:
            raise LimitExceeded("entries of a tree that repeat others", REPEATED_MAX + self._fresh)
