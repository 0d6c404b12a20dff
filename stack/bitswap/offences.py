"""Peers that send what nobody wanted, and those that were cut for it. Pure."""

from stack.identity.peer_id import PeerId

UNWANTED_BLOCKS_MAX = 32
UNWANTED_BYTES_MAX = 8 * 1024 * 1024
"""Never asked of it, of one connected peer: it is cut then (A49).
What it was told and has not sent yet is none of these, however late it comes."""

COPIES_BYTES_MAX = 4 * 1024 * 1024
"""Copies of blocks that it has sent before, of one connected peer: what an honest one sends twice, it sends by accident."""

COPY_BYTES = 1024
"""What each of them counts besides its bytes: of blocks without any there would be no end, at 10 us of the event loop each."""

CUT_SECONDS = 600.0
CUT_PEERS_MAX = 1024
"""How long a peer that was cut is refused, and how many such peers are remembered."""


class Offences:
    """Facts: `copy`, `unwanted`, `peer_disconnected`. Getters: `is_cut`, `of`."""

    __slots__ = ("_copies", "_counts", "_cut")

    def __init__(self) -> None:
        self._copies: dict[PeerId, int] = {}
        self._counts: dict[PeerId, tuple[int, int]] = {}
        self._cut: dict[PeerId, float] = {}

    def of(self, peer: PeerId) -> tuple[int, int]:
        """Blocks and bytes that nobody wanted, from this peer since it connected."""
        return self._counts.get(peer, (0, 0))

    def is_cut(self, peer: PeerId, now: float) -> bool:
        """Whether it is refused."""
        until = self._cut.get(peer)
        return until is not None and now < until

    def copy(self, peer: PeerId, size: int) -> bool:
        """It sent a block once more than it was told that we want it. False when it has done so too often: then it is unwanted."""
        total = self._copies[peer] = self._copies.get(peer, 0) + COPY_BYTES + size
        return total <= COPIES_BYTES_MAX

    def unwanted(self, peer: PeerId, size: int, now: float) -> bool:
        """A block came that was never wanted. True when the peer is to be cut now."""
        blocks, total = self.of(peer)
        self._counts[peer] = blocks, total = blocks + 1, total + size
        if (blocks <= UNWANTED_BLOCKS_MAX and total <= UNWANTED_BYTES_MAX) or self.is_cut(peer, now):
            return False
        self._cut.pop(peer, None)
        self._cut[peer] = now + CUT_SECONDS
        if len(self._cut) > CUT_PEERS_MAX:
            del self._cut[next(iter(self._cut))]
        return True

    def peer_disconnected(self, peer: PeerId) -> None:
        """Its count begins anew when it returns; a cut stands."""
        self._counts.pop(peer, None)
        self._copies.pop(peer, None)
