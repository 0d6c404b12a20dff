"""Block bytes that went to and came from each peer since the node started; a connection that breaks does not lose the count."""

from collections import OrderedDict

from stack.bitswap.events import BlockReceived, BlockSent
from stack.identity.peer_id import PeerId
from stack.trace import TraceEvent

PEERS_MAX = 4096
"""Peers counted; peer ids cost nothing, so the one heard of longest ago is forgotten. 1 MiB at the most."""


class Traffic:
    """A trace sink. Getters: `sent`, `received`."""

    def __init__(self) -> None:
        self._peers: OrderedDict[PeerId, list[int]] = OrderedDict()

    def __call__(self, event: TraceEvent) -> None:
        """Count one block."""
        if isinstance(event, BlockSent):
            self._row(event.peer)[0] += event.size
        elif isinstance(event, BlockReceived):
            self._row(event.peer)[1] += event.size

    def sent(self, peer: PeerId) -> int:
        """Bytes that went to this peer."""
        return self._peers.get(peer, (0, 0))[0]

    def received(self, peer: PeerId) -> int:
        """Bytes that came from this peer."""
        return self._peers.get(peer, (0, 0))[1]

    def _row(self, peer: PeerId) -> list[int]:
        row = self._peers.get(peer)
        if row is None:
            row = self._peers[peer] = [0, 0]
            if len(self._peers) > PEERS_MAX:
                self._peers.popitem(last=False)
        else:
            self._peers.move_to_end(peer)
        return row
