"""Peers to publish to in topics that we are not in. Source: gossipsub v1.0, "fanout", "Topic Membership", "Heartbeat"."""

from collections.abc import Iterable, Iterator

from stack.gossipsub.peers import Peer
from stack.gossipsub.state import Members, State


class Fanout:
    """Commands: `peers_for`, `take`, `maintain`. Facts: `peer_left`, `peer_gone`."""

    __slots__ = ("_published", "_state", "_topics")

    def __init__(self, state: State) -> None:
        self._state = state
        self._topics: dict[str, Members] = {}
        self._published: dict[str, float] = {}
        """When we last published to each, the least recent first."""

    def __iter__(self) -> Iterator[tuple[str, Members]]:
        return iter(self._topics.items())

    def peers_for(self, topic: str, now: float) -> Iterable[Peer]:
        """We publish to a topic: the same peers each time, so that messages take stable ways."""
        state = self._state
        members = self._topics.get(topic)
        if not members:
            members = dict.fromkeys(state.candidates(topic, state.params.d, self._accepts))
            if not members:
                return ()
            self._topics[topic] = members
        self._published.pop(topic, None)
        self._published[topic] = now
        if len(self._published) > state.params.fanout_max:
            self._drop(next(iter(self._published)))
        return members

    def take(self, topic: str) -> list[Peer]:
        """We join the topic: its fanout becomes its mesh."""
        members = list(self._topics.get(topic, ()))
        self._drop(topic)
        return members

    def peer_left(self, peer: Peer, topic: str) -> None:
        """A peer has unsubscribed."""
        self._topics.get(topic, {}).pop(peer, None)

    def peer_gone(self, peer: Peer) -> None:
        """A peer has disconnected."""
        for members in self._topics.values():
            members.pop(peer, None)

    def maintain(self, now: float) -> None:
        """At each heartbeat: forget topics we no longer publish to, replace peers whose score is too low."""
        state = self._state
        ttl = state.params.fanout_ttl
        for topic in [topic for topic, at in self._published.items() if at + ttl < now]:
            self._drop(topic)
        for topic, members in self._topics.items():
            for peer in [peer for peer in members if not self._accepts(peer)]:
                del members[peer]
            missing = state.params.d - len(members)
            if missing > 0:
                found = state.candidates(topic, missing, lambda p, m=members: p not in m and self._accepts(p))  # type: ignore[misc]
                members.update(dict.fromkeys(found))

    def _accepts(self, peer: Peer) -> bool:
        return not peer.direct and self._state.score(peer) >= self._state.params.thresholds.publish

    def _drop(self, topic: str) -> None:
        self._topics.pop(topic, None)
        self._published.pop(topic, None)
