"""The score of peers: P1 to P7. Source: gossipsub v1.1, "Peer Scoring"; what it leaves open is as in go-libp2p-pubsub."""

from collections.abc import Callable

from stack.gossipsub.params import PeerScoreParams, TopicScoreParams
from stack.identity.peer_id import PeerId

ApplicationScore = Callable[[PeerId], float]
"""P5: what the application thinks of a peer; any finite number."""


class TopicStats:
    """Counters of one peer in one topic."""

    __slots__ = (
        "active",
        "failure_penalty",
        "first_deliveries",
        "graft_time",
        "in_mesh",
        "invalid_deliveries",
        "mesh_deliveries",
        "mesh_time",
        "params",
    )

    def __init__(self, params: TopicScoreParams) -> None:
        self.params = params
        self.in_mesh = False
        self.graft_time = 0.0
        self.mesh_time = 0.0
        self.active = False
        """In the mesh for long enough that a low delivery rate counts."""
        self.first_deliveries = 0.0
        self.mesh_deliveries = 0.0
        self.failure_penalty = 0.0
        self.invalid_deliveries = 0.0

    def deficit(self) -> float:
        """P3: how much too little was delivered, squared."""
        missing = self.params.mesh_message_deliveries_threshold - self.mesh_deliveries
        return missing * missing if self.active and missing > 0 else 0.0

    def leave_mesh(self) -> None:
        """P3b: a deficit at this moment sticks."""
        self.failure_penalty += self.deficit()
        self.in_mesh = self.active = False

    def score(self) -> float:
        """P1 to P4, with the weight of the topic."""
        params = self.params
        score = self.first_deliveries * params.first_message_deliveries_weight
        if self.in_mesh:
            quanta = min(self.mesh_time // params.time_in_mesh_quantum, params.time_in_mesh_cap)
            score += quanta * params.time_in_mesh_weight
        if self.active:
            score += self.deficit() * params.mesh_message_deliveries_weight
        if self.failure_penalty:
            score += self.failure_penalty * params.mesh_failure_penalty_weight
        if self.invalid_deliveries:
            score += self.invalid_deliveries * self.invalid_deliveries * params.invalid_message_deliveries_weight
        return score * params.topic_weight

    def decay(self, now: float, zero: float) -> None:
        """One decay interval has passed."""
        params = self.params
        if self.first_deliveries:
            self.first_deliveries = _decayed(self.first_deliveries, params.first_message_deliveries_decay, zero)
        if self.mesh_deliveries:
            self.mesh_deliveries = _decayed(self.mesh_deliveries, params.mesh_message_deliveries_decay, zero)
        if self.failure_penalty:
            self.failure_penalty = _decayed(self.failure_penalty, params.mesh_failure_penalty_decay, zero)
        if self.invalid_deliveries:
            self.invalid_deliveries = _decayed(self.invalid_deliveries, params.invalid_message_deliveries_decay, zero)
        if self.in_mesh:
            self.mesh_time = now - self.graft_time
            if self.mesh_time > params.mesh_message_deliveries_activation:
                self.active = True


def _decayed(value: float, factor: float, zero: float) -> float:
    value *= factor
    return value if value >= zero else 0.0


class PeerStats:
    """All counters of one peer."""

    __slots__ = ("address_group", "behaviour_penalty", "cached", "connected", "expires", "topics")

    def __init__(self, address_group: str | None) -> None:
        self.address_group = address_group
        self.behaviour_penalty = 0.0
        self.topics: dict[str, TopicStats] = {}
        self.connected = True
        self.expires = 0.0
        """When it is forgotten, for a peer that is gone."""
        self.cached: float | None = None
        """The score, unless something has changed since."""


class PeerScores:
    """Judges peers. Without parameters every score is 0 and nothing is counted.

    Getters: `score`, `stats`. Facts: everything else; `decay` once each decay interval.
    """

    def __init__(self, params: PeerScoreParams | None, application: ApplicationScore | None = None) -> None:
        self._params = params
        self._application = application
        self._peers: dict[PeerId, PeerStats] = {}
        self._groups: dict[str, dict[PeerId, PeerStats]] = {}
        self._retained: dict[PeerId, None] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def stats(self, peer: PeerId) -> PeerStats | None:
        """The counters of a peer, also of one that is gone but not forgotten."""
        return self._peers.get(peer)

    def connected(self, peer: PeerId, address_group: str | None) -> PeerStats:
        """A peer has come, or come back. `address_group` counts for P6; None (loopback, say) does not."""
        stats = self._peers.get(peer)
        if stats is None:
            stats = PeerStats(address_group)
            if self._params is None:
                return stats
            self._peers[peer] = stats
        else:
            self._leave_group(peer, stats)
            self._retained.pop(peer, None)
            stats.connected = True
            stats.cached = None
            stats.address_group = address_group
        if address_group is not None:
            group = self._groups.setdefault(address_group, {})
            group[peer] = stats
            _touch(group)
        return stats

    def disconnected(self, peer: PeerId, now: float) -> None:
        """A peer has gone. A score above 0 is forgotten with it, one below is kept: leaving must not wash anybody clean."""
        params = self._params
        stats = self._peers.get(peer)
        if params is None or stats is None:
            return
        score = self.score(peer, stats)
        for topic in stats.topics.values():
            if topic.in_mesh:
                topic.leave_mesh()
            topic.first_deliveries = 0.0
        stats.connected = False
        stats.cached = None
        if score > 0 or (score == 0 and not _is_tainted(stats)):
            self._forget(peer, stats)
            return
        stats.expires = now + params.retain_score
        self._retained[peer] = None
        if len(self._retained) > params.retained_max:
            oldest = next(iter(self._retained))
            self._forget(oldest, self._peers[oldest])

    def score(self, peer: PeerId, stats: PeerStats) -> float:
        """What we think of the peer now."""
        params = self._params
        if params is None:
            return 0.0
        if stats.cached is not None:
            return stats.cached
        score = 0.0
        for topic in stats.topics.values():
            score += topic.score()
        if params.topic_score_cap and score > params.topic_score_cap:
            score = params.topic_score_cap
        if self._application is not None:
            score += self._application(peer) * params.app_specific_weight
        if stats.address_group is not None:
            surplus = len(self._groups[stats.address_group]) - params.ip_colocation_factor_threshold
            if surplus > 0:
                score += surplus * surplus * params.ip_colocation_factor_weight
        excess = stats.behaviour_penalty - params.behaviour_penalty_threshold
        if excess > 0:
            score += excess * excess * params.behaviour_penalty_weight
        stats.cached = score
        return score

    def penalize(self, peer: PeerId, count: int) -> None:
        """P7: it has misbehaved `count` times."""
        stats = self._peers.get(peer)
        if stats is not None:
            stats.behaviour_penalty += count
            stats.cached = None

    def grafted(self, stats: PeerStats, topic: str, now: float) -> None:
        """It has joined the mesh of a topic."""
        counters = self._counters(stats, topic)
        if counters is not None:
            counters.in_mesh = True
            counters.graft_time = now
            counters.mesh_time = 0.0
            counters.active = False

    def pruned(self, stats: PeerStats, topic: str) -> None:
        """It has left the mesh of a topic."""
        counters = self._counters(stats, topic)
        if counters is not None:
            counters.leave_mesh()

    def delivered_first(self, stats: PeerStats, topic: str) -> None:
        """P2 and P3: it was the first to deliver a good message."""
        counters = self._counters(stats, topic)
        if counters is not None:
            params = counters.params
            counters.first_deliveries = min(counters.first_deliveries + 1, params.first_message_deliveries_cap)
            if counters.in_mesh:
                counters.mesh_deliveries = min(counters.mesh_deliveries + 1, params.mesh_message_deliveries_cap)

    def delivered_again(self, stats: PeerStats, topic: str, age: float) -> None:
        """P3: it delivered a good message `age` seconds after that was found to be good."""
        counters = self._counters(stats, topic)
        if counters is not None and counters.in_mesh and age <= counters.params.mesh_message_deliveries_window:
            cap = counters.params.mesh_message_deliveries_cap
            counters.mesh_deliveries = min(counters.mesh_deliveries + 1, cap)

    def delivered_invalid(self, stats: PeerStats, topic: str) -> None:
        """P4: it delivered an invalid message."""
        counters = self._counters(stats, topic)
        if counters is not None:
            counters.invalid_deliveries += 1

    def decay(self, now: float) -> None:
        """A decay interval has passed: counters fall, and whoever is gone for long enough is forgotten.

        Counters of peers that are gone do not fall: nobody waits out a bad score.
        """
        params = self._params
        if params is None:
            return
        zero = params.decay_to_zero
        forgotten = []
        for peer, stats in self._peers.items():
            stats.cached = None
            if not stats.connected:
                if stats.expires <= now:
                    forgotten.append((peer, stats))
                continue
            for topic in stats.topics.values():
                topic.decay(now, zero)
            if stats.behaviour_penalty:
                stats.behaviour_penalty = _decayed(stats.behaviour_penalty, params.behaviour_penalty_decay, zero)
        for peer, stats in forgotten:
            self._forget(peer, stats)

    def _counters(self, stats: PeerStats, topic: str) -> TopicStats | None:
        stats.cached = None
        counters = stats.topics.get(topic)
        if counters is None and self._params is not None:
            params = self._params.of_topic(topic)
            if params is not None:
                counters = stats.topics[topic] = TopicStats(params)
        return counters

    def _forget(self, peer: PeerId, stats: PeerStats) -> None:
        del self._peers[peer]
        self._retained.pop(peer, None)
        self._leave_group(peer, stats)

    def _leave_group(self, peer: PeerId, stats: PeerStats) -> None:
        if stats.address_group is None:
            return
        group = self._groups[stats.address_group]
        del group[peer]
        _touch(group)
        if not group:
            del self._groups[stats.address_group]


def _touch(group: dict[PeerId, PeerStats]) -> None:
    """The size of the group has changed, and with it the scores of all in it."""
    for stats in group.values():
        stats.cached = None


def _is_tainted(stats: PeerStats) -> bool:
    if stats.behaviour_penalty:
        return True
    return any(topic.failure_penalty or topic.invalid_deliveries for topic in stats.topics.values())
