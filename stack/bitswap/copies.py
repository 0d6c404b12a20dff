"""How often each block was sent, and with it what a peer that leaves the order to us is sent next. Pure.

Those who fetch the same get different pieces first, which they can give each other: one copy of everything is among them after
the time that sending one copy takes.
"""

from collections.abc import Iterable

from stack.bitswap.ledger import HeldWant, Ledger
from stack.multiformats.cid import Cid

CHOICE_MAX = 64
"""Wants of a peer among which the one that was sent least is looked for: 64 MiB of our own leaves."""

COPIES_MAX = 16_384
"""Blocks of which it is remembered how often they were sent, 2 MiB of memory: 16 GiB of our own leaves."""


class Copies:
    """Getters: `least`. Facts: `sent`, `failed`."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[bytes, int] = {}
        """The one that was sent last is at the end."""

    def least(self, ledger: Ledger) -> HeldWant | None:
        """Of the wants with the highest priority the one whose block was sent least, the oldest of these."""
        first = ledger.peek()
        if first is None or not self._counts:
            return first
        choice = ledger.equals_of(first, CHOICE_MAX)
        return min(choice, key=lambda want: self._counts.get(want.cid.multihash, 0), default=first)

    def sent(self, cid: Cid) -> None:
        """A block is on its way to somebody."""
        self._count(cid, 1)

    def failed(self, cids: Iterable[Cid]) -> None:
        """They did not get there."""
        for cid in cids:
            self._count(cid, -1)

    def _count(self, cid: Cid, change: int) -> None:
        self._counts[cid.multihash] = self._counts.pop(cid.multihash, 0) + change
        if len(self._counts) > COPIES_MAX:
            del self._counts[next(iter(self._counts))]
