"""Fetches: a flash crowd, and providers that lie."""

from dataclasses import dataclass

from stack.bitswap.session_parameters import SessionParameters
from tests.sim.networks.content import Content, Kind
from tests.sim.networks.swarm import SwarmWorld
from tests.sim.networks.trace import RunTrace
from tests.sim.scenarios.figures import quantile
from tests.sim.simnet import Link

KIB = 1024
MIB = 1024 * 1024
LINK = Link(latency=0.05)
LYING = (Kind.UNREACHABLE, Kind.MUTE, Kind.DENIES, Kind.WRONG)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrowdResult:
    """Figures of one run. Times in seconds since the first receiver began."""

    receivers: int
    seed: int
    size: int
    upload: int
    bound: float
    """No scheme can be faster: everybody's upload together carries everybody's copy, and the seed one whole one."""
    alone: float
    """One receiver with nobody else, at the seed's upload."""
    finished: bool
    times: tuple[float, ...]
    """When each receiver was done, the first first."""
    seed_copies: float
    """Of the whole content, that the seed has sent."""
    copies: float
    """Bytes of blocks sent by all for each byte that was needed."""
    curve: tuple[tuple[float, float], ...]
    """(seconds, part of all blocks of all receivers that are there)."""
    trace: str


def flash_crowd(
    *,
    receivers: int,
    seed: int,
    leaves: int = 128,
    leaf_size: int = 512 * KIB,
    upload: int = 4 * MIB,
    arrive: float = 2.0,
    known: int = 20,
    slots: int | None = None,
    parameters: SessionParameters | None = None,
    limit: float = 600.0,
) -> CrowdResult:
    """One seed, and receivers that come within `arrive` seconds. Each knows the seed, and a second later `known` of the
    others that are there: as many as one answer of the announcement layer names."""
    content = Content.make(leaves, leaf_size)
    world = SwarmWorld(seed, content, link=LINK, trace=RunTrace())
    (sharer,) = world.add(1, upload=upload, slots=slots)
    sharer.share()
    crowd = world.add(receivers, upload=upload, slots=slots)
    world.unfinished = receivers
    here: list[int] = []

    def begin(index: int) -> None:
        node = crowd[index]
        here.append(node.number)
        node.fetch([sharer.number], parameters)
        world.net.call_later(1.0, meet, index)

    def meet(index: int) -> None:
        others = [number for number in here if number != crowd[index].number]
        for number in world.random.sample(others, min(known, len(others))):
            crowd[index].add_provider(number, full=False)

    for index in range(receivers):
        world.net.call_at(world.random.uniform(0, arrive), begin, index)
    curve: list[tuple[float, float]] = []

    def look() -> None:
        curve.append((world.net.now, sum(len(node.have) for node in crowd) / (leaves * receivers)))
        if world.unfinished:
            world.net.call_later(0.5, look)

    look()
    finished = world.run(limit)
    look()
    assert world.trace is not None
    return CrowdResult(
        receivers=receivers,
        seed=seed,
        size=content.size,
        upload=upload,
        bound=max(content.size / upload, receivers * content.size / ((receivers + 1) * upload)),
        alone=content.size / upload,
        finished=finished,
        times=tuple(sorted(node.done for node in crowd if node.done is not None)),
        seed_copies=sharer.sent / content.size,
        copies=sum(node.sent for node in world.nodes.values()) / (receivers * content.size),
        curve=tuple(curve),
        trace=world.trace.digest(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LiarsResult:
    """Figures of one run."""

    fetches: int
    honest_named: int
    """Of 20 providers that are named."""
    seed: int
    starts: tuple[float, ...]
    """Seconds from knowing the providers to the first block, for each fetch; those that never began are left out."""
    ends: tuple[float, ...]
    median: float
    p99: float
    trace: str


def lying_providers(
    *,
    fetches: int,
    seed: int,
    nodes: int = 100,
    liars: float = 0.2,
    named: int = 20,
    honest_named: int = 1,
    parameters: SessionParameters | None = None,
) -> LiarsResult:
    """A part of all nodes are sybils that announce what they do not have: a quarter of them each cannot be reached, takes
    wants and never answers, says that it has nothing, sends wrong bytes. An answer to a look-up names 20 records: as many
    sybils as there are places, and few honest providers among them, in any order."""
    content = Content.make(16, 256 * KIB)
    world = SwarmWorld(seed, content, link=LINK, trace=RunTrace())
    lying: list[int] = []
    for index in range(int(nodes * liars)):
        (liar,) = world.add(1, upload=4 * MIB, kind=LYING[index % len(LYING)])
        liar.share()
        lying.append(liar.number)
    good = world.add(max(nodes - len(lying) - fetches, 1), upload=4 * MIB)
    for sharer in good:
        sharer.share()
    seekers = world.add(fetches, upload=4 * MIB)
    world.unfinished = fetches

    def begin(index: int) -> None:
        names = world.random.sample([node.number for node in good], honest_named)
        names += world.random.sample(lying, min(named - honest_named, len(lying)))
        world.random.shuffle(names)
        seekers[index].fetch(names, parameters)

    for index in range(fetches):
        world.net.call_at(float(index), begin, index)
    world.run(600.0 + fetches)
    begun = [(node.started, node.first_block, node.done) for node in seekers]
    starts = [first - started for started, first, _ in begun if started is not None and first is not None]
    ends = [done - started for started, _, done in begun if started is not None and done is not None]
    assert world.trace is not None
    return LiarsResult(
        fetches=fetches,
        honest_named=honest_named,
        seed=seed,
        starts=tuple(sorted(starts)),
        ends=tuple(sorted(ends)),
        median=quantile([*starts, *[float("inf")] * (fetches - len(starts))], 0.5),
        p99=quantile([*starts, *[float("inf")] * (fetches - len(starts))], 0.99),
        trace=world.trace.digest(),
    )
