"""Peers that send what nobody wanted, and those that were cut for it. Pure."""

from stack.identity.peer_id import PeerId

UNWANTED_BLOCKS_MAX = 32
UNWANTED_BYTES_MAX = 8 * 1024 * 1024
"""Never wanted, of one connected peer: it is cut then (A49). Late copies of what was wanted do not count."""

CUT_SECONDS = 600.0
CUT_PEERS_MAX = 1024
"""How long a peer that was cut is refused, and how many such peers are remembered."""


class Offences:
    """Facts: `unwanted`, `peer_disconnected`. Getters: `is_cut`, `of`."""

    __slots__ = ("_counts", "_cut")

    def __init__(self) -> None:
        self._counts: dict[PeerId, tuple[int, int]] = {}
        self._cut: dict[PeerId, float] = {}

    def of(self, peer: PeerId) -> tuple[int, int]:
        """Blocks and bytes that nobody wanted, from this peer since it connected."""
        return self._counts.get(peer, (0, 0))

    def is_cut(self, peer: PeerId, now: float) -> bool:
        """Whether it is refused."""
        until = self._cut.get(peer)
        return until is not None and now < until

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
