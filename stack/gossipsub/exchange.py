"""Peer exchange: whoever prunes may name others. Source: gossipsub v1.1, "PRUNE Backoff and Peer Exchange"."""

from collections.abc import Callable, Sequence

from stack.errors import StackError
from stack.gossipsub.events import Connect, PeersExchanged
from stack.gossipsub.messages import PeerInfo, Prune
from stack.gossipsub.peers import Peer
from stack.gossipsub.state import State
from stack.identity.peer_id import PeerId, PeerIdMismatch
from stack.identity.peer_record import PeerRecord
from stack.multiformats.multiaddr import Multiaddr

OpenRecord = Callable[[bytes], PeerRecord]
"""Reads and verifies a signed peer record; raises StackError. `identity.peer_record.open_peer_record`, or a stub."""

RECORD_BYTES_MAX = 2048
"""The longest record that is passed on: sixteen of them fit into one RPC that everybody takes."""
ADDRESSES_MAX = 16
"""Addresses of one record that are dialled."""


class Exchange:
    """Writes the PRUNEs that we send, and dials whom others name in theirs."""

    __slots__ = ("_open_record", "_state")

    def __init__(self, state: State, open_record: OpenRecord) -> None:
        self._state = state
        self._open_record = open_record

    def write_prune(self, peer: Peer, topic: str, backoff: float, *, px: bool) -> Prune:
        """A PRUNE for `peer`, with others to turn to when `px` and we do so at all. 1.0 peers read neither."""
        if not peer.takes_px:
            return Prune(topic)
        state = self._state
        named: list[Peer] = []
        if px and state.params.do_px:
            named = state.candidates(
                topic, state.params.prune_peers, lambda other: other is not peer and state.score(other) >= 0
            )
        return Prune(topic, tuple(PeerInfo(other.raw_id, other.record) for other in named), int(backoff))

    def receive(self, peer: Peer, topic: str, peers: Sequence[PeerInfo]) -> None:
        """A mesh member that has pruned us names others. Who is connected or ourselves is passed over."""
        state = self._state
        if len(peers) > state.params.prune_peers:
            peers = state.random.sample(peers, state.params.prune_peers)
        taken = refused = 0
        for info in peers:
            try:
                connect = self._checked(info)
            except StackError:
                refused += 1
                continue
            if connect.peer != state.peer_id and connect.peer not in state.peers:
                taken += 1
                state.effects.append(connect)
        if state.trace is not None:
            state.trace(PeersExchanged(peer=peer.id, topic=topic, taken=taken, refused=refused))

    def _checked(self, info: PeerInfo) -> Connect:
        named = PeerId.decode(info.peer_id)
        addresses: tuple[Multiaddr, ...] = ()
        if info.signed_peer_record is not None:
            record = self._open_record(info.signed_peer_record)
            if record.peer_id != named:
                raise PeerIdMismatch(named, record.peer_id)
            addresses = record.addresses[:ADDRESSES_MAX]
        return Connect(named, addresses, False)
