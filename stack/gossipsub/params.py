"""Parameters of gossipsub, by the names of the specification, with the defaults of go-libp2p-pubsub v0.19.

Sources: libp2p/specs, pubsub/gossipsub/gossipsub-v1.0.md "Parameters", -v1.1.md "Overview of New Parameters"; bounds that
no specification states have their reason beside them. Times are seconds.
"""

import math
from collections.abc import Mapping
from dataclasses import field

from stack.errors import ConfigError
from stack.values import dataclass

MIB = 1024 * 1024


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def score_decay(seconds: float, *, interval: float = 1.0, zero: float = 0.01) -> float:
    """The factor by which a counter of 1 falls to `zero` within `seconds` when it is applied every `interval`."""
    return float(zero ** (interval / seconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicScoreParams:
    """How peers are judged by what they do in one topic. A weight of 0 switches a part off.

    go-libp2p-pubsub has no defaults here; ours suit a topic of unknown rate: time in the mesh and first deliveries are worth
    a little, invalid messages cost much, and a low delivery rate is not judged (P3), since nobody knows what is low.
    """

    topic_weight: float = 0.5
    """What the topic counts for, at least 0."""
    time_in_mesh_weight: float = 0.01
    """P1, at least 0."""
    time_in_mesh_quantum: float = 1.0
    time_in_mesh_cap: float = 300.0
    """In quanta."""
    first_message_deliveries_weight: float = 0.5
    """P2, at least 0."""
    first_message_deliveries_decay: float = field(default_factory=lambda: score_decay(600))
    first_message_deliveries_cap: float = 50.0
    mesh_message_deliveries_weight: float = 0.0
    """P3, at most 0; the counter's deficit below the threshold is squared."""
    mesh_message_deliveries_decay: float = field(default_factory=lambda: score_decay(60))
    mesh_message_deliveries_cap: float = 100.0
    mesh_message_deliveries_threshold: float = 20.0
    mesh_message_deliveries_window: float = 0.01
    """Copies this long after validation still count as deliveries; longer, and replaying ours back would earn score."""
    mesh_message_deliveries_activation: float = 30.0
    """Time in the mesh before a low rate is judged."""
    mesh_failure_penalty_weight: float = 0.0
    """P3b, at most 0: the squared deficit of peers that leave the mesh, kept."""
    mesh_failure_penalty_decay: float = field(default_factory=lambda: score_decay(600))
    invalid_message_deliveries_weight: float = -20.0
    """P4, at most 0; the counter is squared."""
    invalid_message_deliveries_decay: float = field(default_factory=lambda: score_decay(3600))

    def __post_init__(self) -> None:
        for name in ("topic_weight", "time_in_mesh_weight", "first_message_deliveries_weight"):
            _require(0 <= getattr(self, name) < math.inf, f"{name} is a finite number of at least 0")
        for name in ("mesh_message_deliveries", "mesh_failure_penalty", "invalid_message_deliveries"):
            _require(-math.inf < getattr(self, f"{name}_weight") <= 0, f"{name}_weight is a finite number of at most 0")
            _require(0 < getattr(self, f"{name}_decay") < 1, f"{name}_decay is between 0 and 1")
        _require(0 < self.first_message_deliveries_decay < 1, "first_message_deliveries_decay is between 0 and 1")
        for name in (
            "time_in_mesh_quantum",
            "time_in_mesh_cap",
            "first_message_deliveries_cap",
            "mesh_message_deliveries_cap",
            "mesh_message_deliveries_threshold",
        ):
            _require(0 < getattr(self, name) < math.inf, f"{name} is a finite number above 0")
        _require(
            self.mesh_message_deliveries_threshold <= self.mesh_message_deliveries_cap,
            "mesh_message_deliveries_threshold is at most mesh_message_deliveries_cap",
        )
        _require(self.mesh_message_deliveries_window >= 0, "mesh_message_deliveries_window is at least 0")
        _require(self.mesh_message_deliveries_activation >= 1, "mesh_message_deliveries_activation is at least 1 s")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerScoreParams:
    """How peers are judged. Each node judges for itself and tells nobody."""

    topics: Mapping[str, TopicScoreParams] = field(default_factory=dict)
    """Topics with parameters of their own."""
    other_topics: TopicScoreParams | None = field(default_factory=TopicScoreParams)
    """For all other topics we are in; None: they do not count (as in go-libp2p-pubsub)."""
    topic_score_cap: float = 100.0
    """The most all topics together may add; 0: no cap."""
    app_specific_weight: float = 1.0
    """P5: what the application's own score is multiplied by."""
    ip_colocation_factor_weight: float = -5.0
    """P6, at most 0: peers in one address group over the threshold, squared."""
    ip_colocation_factor_threshold: int = 10
    behaviour_penalty_weight: float = -10.0
    """P7, at most 0: grafting during back-off and broken promises, over the threshold, squared."""
    behaviour_penalty_threshold: float = 6.0
    behaviour_penalty_decay: float = field(default_factory=lambda: score_decay(600))
    decay_interval: float = 1.0
    decay_to_zero: float = 0.01
    """Counters below this are 0."""
    retain_score: float = 3600.0
    """A peer that leaves with a score of 0 or less finds it again when it comes back within this time."""
    retained_max: int = 4096
    """Peers that are gone whose score is kept; the oldest goes first. Peer ids cost nothing, memory does."""

    def __post_init__(self) -> None:
        _require(0 <= self.topic_score_cap < math.inf, "topic_score_cap is a finite number of at least 0")
        _require(math.isfinite(self.app_specific_weight), "app_specific_weight is a finite number")
        for name in ("ip_colocation_factor_weight", "behaviour_penalty_weight"):
            _require(-math.inf < getattr(self, name) <= 0, f"{name} is a finite number of at most 0")
        _require(self.ip_colocation_factor_threshold >= 1, "ip_colocation_factor_threshold is at least 1")
        _require(0 <= self.behaviour_penalty_threshold < math.inf, "behaviour_penalty_threshold is at least 0")
        for name in ("behaviour_penalty_decay", "decay_to_zero"):
            _require(0 < getattr(self, name) < 1, f"{name} is between 0 and 1")
        _require(self.decay_interval >= 1, "decay_interval is at least 1 s")
        _require(self.retain_score >= 0 and self.retained_max >= 0, "retain_score and retained_max are at least 0")

    def of_topic(self, topic: str) -> TopicScoreParams | None:
        """The parameters of a topic, None when it does not count."""
        return self.topics.get(topic, self.other_topics)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerScoreThresholds:
    """Scores below which a peer is treated worse. Below 0 it is in no mesh. Source: v1.1, "Score Thresholds"."""

    gossip: float = -100.0
    """No gossip is sent to it, none is taken from it."""
    publish: float = -500.0
    """Our own messages are not sent to it outside the mesh."""
    graylist: float = -1000.0
    """What it sends is not looked at."""
    accept_px: float = 0.0
    """Peers it names when it prunes us are connected to from this score on."""
    opportunistic_graft: float = 1.0
    """Better peers are grafted when the median of a mesh is below."""

    def __post_init__(self) -> None:
        _require(
            -math.inf < self.graylist <= self.publish <= self.gossip <= 0,
            "thresholds: graylist <= publish <= gossip <= 0, all finite",
        )
        for name in ("accept_px", "opportunistic_graft"):
            _require(0 <= getattr(self, name) < math.inf, f"the threshold {name} is a finite number of at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshSize:
    """How many members the mesh of one topic has, where it is not that of all topics: names as in `GossipsubParams`."""

    d: int
    d_low: int
    d_high: int
    d_score: int
    d_out: int

    def __post_init__(self) -> None:
        _check_mesh(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class GossipsubParams:
    """Everything that can be set. The first half is the specification's, with go-libp2p-pubsub's defaults; then bounds."""

    d: int = 6
    """Peers wanted in the mesh of a topic. All of d, d_low, d_high and d_out are 0 at a node that only introduces peers."""
    d_low: int = 5
    """Below this, more are grafted."""
    d_high: int = 12
    """From this on, some are pruned."""
    d_score: int = 4
    """The best by score that stay when a mesh is pruned; the others stay or go at random."""
    d_out: int = 2
    """Peers in the mesh that we dialled, so that those who dial us cannot be all of it. Below d_low, at most d / 2."""
    d_lazy: int = 6
    """Peers outside the mesh that are told of messages, at least."""
    gossip_factor: float = 0.25
    """The same as a part of all such peers; the larger of both counts."""
    gossip_retransmission: int = 3
    """How often one peer gets one message by asking for it."""
    mcache_len: int = 5
    """Heartbeats for which messages are kept to be asked for."""
    mcache_gossip: int = 3
    """Heartbeats for which they are told of."""
    seen_ttl: float = 120.0
    """How long the id of a message is remembered."""
    heartbeat_initial_delay: float = 0.1
    heartbeat_interval: float = 1.0
    fanout_ttl: float = 60.0
    """How long peers are kept for a topic that we publish to but are not in."""
    prune_peers: int = 16
    """Peers told, or taken, when pruning (PX)."""
    prune_backoff: float = 60.0
    """After pruning nobody grafts the other for so long."""
    unsubscribe_backoff: float = 10.0
    """The same when we leave the topic."""
    graft_flood_threshold: float = 10.0
    """A graft this soon after pruning costs double."""
    connectors: int = 8
    """Dials at a time to peers learnt by PX."""
    max_pending_connections: int = 128
    """Dials that wait; more are forgotten."""
    connection_timeout: float = 30.0
    direct_connect_ticks: int = 300
    """Heartbeats between attempts to reach direct peers."""
    direct_connect_initial_delay: float = 1.0
    opportunistic_graft_ticks: int = 60
    opportunistic_graft_peers: int = 2
    max_ihave_length: int = 5000
    """Ids taken from one IHAVE, and asked of one peer in a heartbeat; also told to one peer."""
    max_ihave_messages: int = 10
    """RPCs with IHAVE that one peer may send in a heartbeat."""
    max_idontwant_length: int = 10
    """Ids taken from the IDONTWANTs of one RPC; ours have no more."""
    max_idontwant_messages: int = 1000
    """RPCs with IDONTWANT that one peer may send in a heartbeat."""
    iwant_followup_time: float = 3.0
    """A message asked for that nobody has delivered by then is a broken promise (P7)."""
    idontwant_message_threshold: int = 1024
    """IDONTWANT is sent for data of at least this size; for small messages it costs more than it saves."""
    idontwant_message_ttl: int = 3
    """Heartbeats for which an IDONTWANT is remembered."""
    do_px: bool = False
    """Tell peers that we prune of others; for well connected nodes."""
    flood_publish: bool = False
    """Send our own messages to all peers of the topic, not only to the mesh."""
    emit_self: bool = True
    """Our own messages are delivered to ourselves, as in go-libp2p-pubsub."""
    score: PeerScoreParams | None = None
    """None: peers are not scored (go-libp2p-pubsub's default); all scores are 0."""
    thresholds: PeerScoreThresholds = field(default_factory=PeerScoreThresholds)

    rpc_bytes: int = 64 * 1024
    """Our RPCs are split at this size: rust-libp2p takes no larger ones. A single message may still be larger."""
    backoff_max: float = 3600.0
    """The longest back-off a peer can ask of us (CVE-2026-33040: 2**64 - 1 seconds); rust-libp2p's figure."""
    backoffs_max: int = 16_384
    """Back-offs remembered; the oldest goes first. A mesh has few members, so this takes thousands of identities."""
    topics_per_peer: int = 100
    """Topics of one peer that are kept (CVE-2026-46679); rust-libp2p's figure."""
    seen_max: int = 131_072
    """Ids remembered, about 25 MB; at 1,000 messages a second that is longer than `seen_ttl`."""
    mcache_bytes: int = 32 * MIB
    """Messages kept to be asked for; the oldest go first."""
    unwanted_max: int = 131_072
    """IDONTWANT ids remembered of all peers together, 50 MB at the very most; more are ignored, which costs only traffic."""
    pending_max: int = 8192
    """Messages being validated (go-libp2p-pubsub's throttle); more are dropped unjudged."""
    pending_bytes: int = 32 * MIB
    pending_per_peer: int = 1024
    """Of one peer, so that it cannot shut out the others."""
    fanout_max: int = 1024
    """Topics that we publish to but are not in; the least recent goes first."""

    def __post_init__(self) -> None:
        _require(1 <= self.mcache_gossip <= self.mcache_len, "1 <= mcache_gossip <= mcache_len")
        if (self.d, self.d_low, self.d_high, self.d_out) != (0, 0, 0, 0):
            _check_mesh(self)
        _require(0 <= self.gossip_factor <= 1, "gossip_factor is between 0 and 1")
        _require(self.heartbeat_interval > 0, "heartbeat_interval is above 0")
        _require(self.direct_connect_ticks > 0, "direct_connect_ticks is above 0")
        _require(self.opportunistic_graft_ticks > 0, "opportunistic_graft_ticks is above 0")
        _require(0 <= self.prune_backoff <= self.backoff_max, "prune_backoff is at most backoff_max")
        _require(0 <= self.unsubscribe_backoff <= self.backoff_max, "unsubscribe_backoff is at most backoff_max")
        _require(self.rpc_bytes >= 8192, "rpc_bytes is at least 8192")


def _check_mesh(size: "MeshSize | GossipsubParams") -> None:
    _require(0 < size.d_low <= size.d <= size.d_high, "0 < d_low <= d <= d_high")
    _require(0 <= size.d_score <= size.d_high, "0 <= d_score <= d_high")
    _require(0 <= size.d_out < size.d_low and size.d_out <= size.d // 2, "d_out < d_low and d_out <= d / 2")
