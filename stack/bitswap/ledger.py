"""What one peer wants from us, and what has passed between us. Pure."""

import heapq
from collections.abc import Iterable
from itertools import islice

from stack.bitswap.messages import Want, WantKind
from stack.errors import DecodeError
from stack.multiformats import multihash as multihashes
from stack.multiformats.cid import Cid
from stack.values import dataclass

WANTS_MAX = 1024
"""Wants kept for one peer (boxo: 1,024 too). What has no block here goes first, then what has the lowest priority (A45, A46)."""


@dataclass(frozen=True, slots=True)
class HeldWant:
    """A want whose block is here."""

    cid: Cid
    size: int
    priority: int


class Ledger:
    """One peer's wants, those whose block is here (held) and those whose is not (absent), and the byte counts.

    Getters: `held`, `len`, `bytes_*`, `blocks_*`. Facts: `hold`, `miss`, `cancel`, `clear`, `count_*`. Outputs: `peek`,
    `equals_of`, `take`, `take_absent`, `take_all_absent`.
    """

    __slots__ = (
        "_absent",
        "_held",
        "_order",
        "_sequence",
        "blocks_received",
        "blocks_sent",
        "bytes_received",
        "bytes_sent",
    )

    def __init__(self) -> None:
        self._held: dict[bytes, tuple[int, HeldWant]] = {}
        self._order: list[tuple[int, int, bytes]] = []
        """Heap of (-priority, sequence, multihash); entries that are no longer held are skipped."""
        self._absent: dict[bytes, Want] = {}
        self._sequence = 0
        self.bytes_sent = 0
        self.blocks_sent = 0
        self.bytes_received = 0
        self.blocks_received = 0

    def __len__(self) -> int:
        return len(self._held) + len(self._absent)

    def __repr__(self) -> str:
        return f"<Ledger {len(self._held)} held, {len(self._absent)} absent>"

    @property
    def held(self) -> int:
        """How many blocks are still to be sent."""
        return len(self._held)

    def held_bytes(self) -> int:
        """Their sizes together."""
        return sum(want.size for _, want in self._held.values())

    def hold(self, wants: Iterable[HeldWant]) -> list[bytes]:
        """These wants' blocks are here. Returns the absent wants that had to go for them.

        Beyond the bound the lowest priorities go, the newest of them first.
        """
        for want in wants:
            multihash = want.cid.multihash
            self._absent.pop(multihash, None)
            self._sequence += 1
            self._held[multihash] = (self._sequence, want)
            heapq.heappush(self._order, (-want.priority, self._sequence, multihash))
        evicted = self._evict()
        if len(self._held) > WANTS_MAX:
            best = sorted((-want.priority, sequence, multihash) for multihash, (sequence, want) in self._held.items())
            for _, _, multihash in best[WANTS_MAX:]:
                del self._held[multihash]
        if len(self._order) > 2 * WANTS_MAX:
            self._order = [(-want.priority, sequence, multihash) for multihash, (sequence, want) in self._held.items()]
            heapq.heapify(self._order)
        return evicted

    def miss(self, want: Want) -> list[bytes]:
        """This want's block is not here; it is remembered while there is place. Returns absent wants that had to go."""
        multihash = want.cid.multihash
        self._held.pop(multihash, None)
        self._absent.pop(multihash, None)
        self._absent[multihash] = want
        return self._evict()

    def take_absent(self, multihash: bytes) -> Want:
        """A block has come: the want that waited for it, which is forgotten. Raises KeyError when none did."""
        return self._absent.pop(multihash)

    def take_all_absent(self) -> list[Want]:
        """All wants that wait for a block, which are forgotten."""
        taken = list(self._absent.values())
        self._absent.clear()
        return taken

    def cancel(self, multihash: bytes) -> None:
        """The peer no longer wants it."""
        self._held.pop(multihash, None)
        self._absent.pop(multihash, None)

    def clear(self) -> list[bytes]:
        """The peer wants nothing of what it wanted. Returns the absent wants that went."""
        absent = list(self._absent)
        self._absent.clear()
        self._held.clear()
        self._order.clear()
        return absent

    def peek(self) -> HeldWant | None:
        """What is to be sent next: the highest priority, the oldest of these."""
        while self._order:
            _, sequence, multihash = self._order[0]
            entry = self._held.get(multihash)
            if entry is not None and entry[0] == sequence:
                return entry[1]
            heapq.heappop(self._order)
        return None

    def equals_of(self, first: HeldWant, most: int) -> list[HeldWant]:
        """Of the `most` oldest held wants those that have the priority of `first`."""
        return [want for _, want in islice(self._held.values(), most) if want.priority == first.priority]

    def take(self, want: HeldWant) -> None:
        """Take this one, whether or not it is next."""
        del self._held[want.cid.multihash]

    def _evict(self) -> list[bytes]:
        """Forget the oldest absent wants that are too many."""
        evicted = list(islice(self._absent, max(len(self) - WANTS_MAX, 0)))
        for multihash in evicted:
            del self._absent[multihash]
        return evicted

    def count_sent(self, blocks: int, size: int) -> None:
        """Blocks went to the peer."""
        self.blocks_sent += blocks
        self.bytes_sent += size

    def count_received(self, blocks: int, size: int) -> None:
        """Blocks that we wanted came from the peer."""
        self.blocks_received += blocks
        self.bytes_received += size


def held_want(want: Want, size: int) -> HeldWant:
    """A want once the size of its block is known."""
    return HeldWant(want.cid, size, want.priority)


def is_answered_by_block(want: Want, size: int, have_replace: int) -> bool:
    """Whether to send the block: it was asked for, or is so small that HAVE would only cost a round trip."""
    return want.kind is WantKind.BLOCK or size <= have_replace


def may_be_a_block(cid: Cid) -> bool:
    """Whether a store could have this block: identity CIDs carry their data themselves."""
    try:
        multihashes.check_allowed(cid.multihash)
    except DecodeError:
        return False
    return cid.hash_code != multihashes.IDENTITY
