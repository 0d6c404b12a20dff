"""Connected peers of whom it is not known whether they have anything: asked for HAVE while no provider is known. Pure."""

from collections.abc import Iterable, Iterator
from itertools import islice

from stack.bitswap.effects import Ask
from stack.bitswap.session_want import SessionWant
from stack.identity.peer_id import PeerId


class Neighbours:
    """Facts: `connected`, `disconnected`. Getters: `in`. Outputs: `ask`, `finished`."""

    __slots__ = ("_asked", "_limit", "_peers", "_wants_max")

    def __init__(self, limit: int, wants_max: int) -> None:
        """So many peers are asked in all, each for so many wants."""
        self._limit = limit
        self._wants_max = wants_max
        self._peers: dict[PeerId, bool] = {}
        """And whether each has been asked."""
        self._asked: dict[bytes, list[PeerId]] = {}
        """Who has been asked for each block."""

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._peers

    def connected(self, peer: PeerId) -> None:
        """A connection to this peer is ready."""
        self._peers.setdefault(peer, False)

    def disconnected(self, peer: PeerId) -> None:
        """The last connection to this peer is gone."""
        self._peers.pop(peer, None)

    def ask(self, wants: Iterable[SessionWant]) -> Iterator[Ask]:
        """Ask those who have not been, a bounded number in all: it tells strangers what we seek."""
        sought = list(islice(wants, self._wants_max))
        room = self._limit - sum(self._peers.values())
        for peer in [peer for peer, asked in self._peers.items() if not asked][: max(room, 0)]:
            self._peers[peer] = True
            for want in sought:
                self._asked.setdefault(want.multihash, []).append(peer)
            yield Ask(peer=peer, cids=tuple(want.cid for want in sought), have=True)

    def finished(self, multihash: bytes) -> list[PeerId]:
        """The block is not needed any more: who is to be told."""
        return self._asked.pop(multihash, [])
