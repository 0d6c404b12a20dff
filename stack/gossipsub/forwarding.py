"""Who gets a message. Source: gossipsub v1.0, "Message Processing"; v1.1, "Flood Publishing"; v1.2, "Basic scenario"."""

from collections.abc import Collection, Iterable

from stack.gossipsub.cache import MessageCache
from stack.gossipsub.events import SendRpc
from stack.gossipsub.fanout import Fanout
from stack.gossipsub.gossip import Gossip
from stack.gossipsub.messages import Message, Rpc
from stack.gossipsub.peers import Peer
from stack.gossipsub.state import Members, State


class Forwarding:
    """Commands: `publish`, `forward`."""

    __slots__ = ("_cache", "_fanout", "_gossip", "_state")

    def __init__(self, state: State, cache: MessageCache, fanout: Fanout, gossip: Gossip) -> None:
        self._state = state
        self._cache = cache
        self._fanout = fanout
        self._gossip = gossip

    def publish(self, message: Message, message_id: bytes, now: float) -> None:
        """A message of our own: to the mesh, or to the fanout of a topic that we are not in, or to all (flood)."""
        self._cache.put(message_id, message)
        flood = self._state.params.flood_publish
        receivers = self._outside_the_mesh(message.topic, everybody=flood)
        if not flood:
            mesh = self._state.mesh.get(message.topic)
            peers = self._fanout.peers_for(message.topic, now) if mesh is None else mesh
            self._add_wanting(receivers, peers, message_id)
        self._send(message, receivers)

    def forward(self, message: Message, message_id: bytes, source: Peer, copies: Collection[Peer]) -> None:
        """A message of a topic that we are in; `source` and `copies` have it already."""
        self._cache.put(message_id, message)
        receivers = self._outside_the_mesh(message.topic, everybody=False)
        self._add_wanting(receivers, self._state.mesh[message.topic], message_id)
        for peer in (source, *copies):
            receivers.pop(peer, None)
        self._send(message, receivers)

    def _outside_the_mesh(self, topic: str, *, everybody: bool) -> Members:
        """Direct peers always; floodsub peers, or everybody, unless their score is too low."""
        threshold = self._state.params.thresholds.publish
        return {
            peer: None
            for peer in self._state.topics.get(topic, ())
            if peer.direct or ((everybody or not peer.takes_mesh) and self._state.score(peer) >= threshold)
        }

    def _add_wanting(self, receivers: Members, peers: Iterable[Peer], message_id: bytes) -> None:
        for peer in peers:
            if not self._gossip.is_unwanted(peer, message_id):
                receivers[peer] = None

    def _send(self, message: Message, receivers: Members) -> None:
        if not receivers:
            return
        rpc = Rpc(publish=(message,))
        for peer in receivers:
            if peer.raw_id != message.author:
                self._state.effects.append(SendRpc(peer.id, rpc))
