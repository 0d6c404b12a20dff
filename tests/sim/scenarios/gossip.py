"""gossipsub without attackers: speed, churn, partition and heal."""

from dataclasses import dataclass, replace

from stack.gossipsub.params import GossipsubParams, PeerScoreParams, PeerScoreThresholds, TopicScoreParams, score_decay
from tests.sim.networks.gossip import GossipNode, GossipWorld, Sent
from tests.sim.networks.trace import RunTrace
from tests.sim.scenarios.figures import quantile, reach_of
from tests.sim.simnet import Link

LINK = Link(latency=0.05, loss=0.001)
"""50 ms one way; a lost packet costs its message two latencies more, as on a stream."""

DELIVERY = 10.0
"""Seconds that a message may take to count as delivered."""

SCORED = GossipsubParams(
    d=8,
    d_low=6,
    d_high=12,
    d_score=6,
    d_out=3,
    d_lazy=12,
    mcache_len=10,
    mcache_gossip=5,
    flood_publish=True,
    opportunistic_graft_ticks=15,
    score=PeerScoreParams(
        other_topics=TopicScoreParams(
            topic_weight=1.0,
            time_in_mesh_weight=0.01,
            time_in_mesh_cap=100,
            first_message_deliveries_weight=1.0,
            first_message_deliveries_decay=score_decay(600),
            first_message_deliveries_cap=100,
            mesh_message_deliveries_weight=-0.5,
            mesh_message_deliveries_threshold=3.0,
            mesh_message_deliveries_cap=30.0,
            mesh_message_deliveries_window=0.2,
            mesh_message_deliveries_activation=10.0,
            mesh_message_deliveries_decay=score_decay(60),
            mesh_failure_penalty_weight=-0.5,
            mesh_failure_penalty_decay=score_decay(120),
            invalid_message_deliveries_weight=-10.0,
        ),
        ip_colocation_factor_weight=-10.0,
        ip_colocation_factor_threshold=5,
    ),
    thresholds=PeerScoreThresholds(gossip=-10, publish=-50, graylist=-80, opportunistic_graft=3.5),
)
"""Degrees and gossip as in the published evaluation and in Filecoin; scoring with all parts on, its weights and thresholds
scaled to one message a second (there: tens of them), its times to runs of minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GossipResult:
    """Figures of one run. Times in seconds, `reach` of each message among those who were there all along."""

    nodes: int
    seed: int
    simulated: float
    messages: int
    reach: tuple[float, ...]
    latency_median: float
    latency_p99: float
    copies: float
    """How often each node got each message."""
    bytes_per_second: float
    """Sent by a node at the mean: RPCs with their lengths, without what a transport adds."""
    rpcs: int
    trace: str


def start(nodes: int, seed: int, params: GossipsubParams = SCORED, degree: int = 10) -> GossipWorld:
    """A network in which each node has dialled `degree` others, a few seconds old."""
    world = GossipWorld(seed, link=LINK, trace=RunTrace())
    world.add(nodes, params)
    world.wire(list(world.nodes), degree)
    world.net.run(seconds=3)
    return world


def summary(world: GossipWorld, sent: list[Sent], stayed: list[set[int]] | None = None) -> GossipResult:
    """`stayed`: for each message who was there from its writing on until it was old."""
    assert world.trace is not None
    everybody = set(world.nodes)
    present = stayed if stayed is not None else [everybody] * len(sent)
    times = [time for message in sent for time in message.reached.values()]
    received = sum(node.copies for node in world.nodes.values())
    expected = max(sum(len(message.reached) - 1 for message in sent), 1)
    return GossipResult(
        nodes=len(everybody),
        seed=world.seed,
        simulated=round(world.net.now, 1),
        messages=len(sent),
        reach=tuple(reach_of(message, numbers, DELIVERY) for message, numbers in zip(sent, present, strict=True)),
        latency_median=quantile(times, 0.5),
        latency_p99=quantile(times, 0.99),
        copies=received / expected,
        bytes_per_second=sum(world.net.bytes_sent.values()) / len(world.net.bytes_sent) / world.net.now,
        rpcs=len(world.trace),
        trace=world.trace.digest(),
    )


def steady(*, nodes: int, seed: int, seconds: int = 60, size: int = 200) -> GossipResult:
    """One message a second by anybody."""
    world = start(nodes, seed)
    sent = world.publish_every(1.0, seconds, size, lambda: _anybody(world))
    world.net.run(seconds=seconds)
    # What was written last has time to arrive, but is not part of the bill.
    world.net.run(seconds=3)
    return summary(world, sent)


def churn(
    *, nodes: int, seed: int, seconds: int = 60, a_minute: float = 0.2, crashed: float = 0.5, degree: int = 10
) -> GossipResult:
    """A part of the nodes leaves each minute and as many come; half of those who leave crash, which their neighbours
    notice only after 15 s. Who has less than half of its connections left dials others."""
    world = start(nodes, seed, degree=degree)
    present: list[set[int]] = []

    def choose() -> GossipNode:
        present.append(set(world.nodes))
        return _anybody(world)

    def change() -> None:
        gone = world.random.choice(list(world.nodes))
        world.leave(gone, noticed_after=15.0 if world.random.random() < crashed else 0.1)
        (fresh,) = world.add(1, SCORED)
        world.wire([fresh.number], degree, list(world.nodes))
        world.net.call_later(world.random.expovariate(nodes * a_minute / 60), change)

    def upkeep() -> None:
        for number in list(world.nodes):
            if len(world.neighbours(number)) < degree:
                world.wire([number], degree // 2, list(world.nodes))
        world.net.call_later(5.0, upkeep)

    world.net.call_later(1.0, change)
    world.net.call_later(5.0, upkeep)
    sent = world.publish_every(1.0, seconds, 200, choose)
    world.net.run(seconds=seconds + DELIVERY)
    # Nobody counts who had left before the message was old.
    stayed = [numbers & set(world.nodes) for numbers in present]
    return summary(world, sent, stayed)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionResult:
    """Before, while and after: the part of all nodes that had each message within `DELIVERY` seconds."""

    before: GossipResult
    during: tuple[float, ...]
    """Each message can reach its own half only."""
    after: tuple[float, ...]
    missed: tuple[float, ...]
    """Of the last messages before the partition healed: the part of all nodes that have them in the end."""
    healed_after: float
    """Seconds from the healing to the first message that reached everybody."""


def partition(*, nodes: int, seed: int, seconds: int = 20, degree: int = 10) -> PartitionResult:
    """Two halves lose sight of each other: every connection between them breaks, after 15 s without an answer. When the
    way is free again some dial as they did at first."""
    world = start(nodes, seed, degree=degree)
    before = world.publish_every(1.0, 10, 200, lambda: _anybody(world))
    world.net.run(seconds=15)
    first = summary(world, before)
    sides = {number: number % 2 for number in world.nodes}
    world.net.partition(sides)
    across = [
        (one, other) for one in world.nodes for other in world.neighbours(one) if one < other and (one ^ other) & 1
    ]
    for one, other in across:
        world.net.call_later(15.0, world.disconnect, one, other)
    during = world.publish_every(1.0, seconds, 200, lambda: _anybody(world))
    world.net.run(seconds=seconds)
    world.net.partition(None)
    healed = world.net.now
    for one, other in across:
        world.net.call_later(world.random.uniform(0, 10), world.connect, one, other)
    after = world.publish_every(1.0, 20, 200, lambda: _anybody(world))
    world.net.run(seconds=20 + DELIVERY)
    numbers = list(world.nodes)
    complete = [sent.at - healed for sent in after if reach_of(sent, numbers, DELIVERY) == 1.0]
    return PartitionResult(
        before=first,
        during=tuple(reach_of(sent, numbers, DELIVERY) for sent in during),
        after=tuple(reach_of(sent, numbers, DELIVERY) for sent in after),
        missed=tuple(reach_of(sent, numbers, 3600.0) for sent in during[-5:]),
        healed_after=min(complete, default=float("inf")),
    )


def with_params(**changes: object) -> GossipsubParams:
    """`SCORED`, a little different."""
    return replace(SCORED, **changes)


def _anybody(world: GossipWorld) -> GossipNode:
    return world.random.choice(list(world.nodes.values()))
