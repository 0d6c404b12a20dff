"""Sybils that announce what they do not have: from the look-up in the announcement layer to the first block of a fetch."""

from dataclasses import dataclass

from stack.multiformats.multiaddr import Multiaddr
from tests.announce.aged import make_aged
from tests.announce.network import Network, Node
from tests.sim.networks.content import Content
from tests.sim.networks.swarm import SwarmWorld
from tests.sim.networks.trace import RunTrace
from tests.sim.scenarios.announcing import DIAL_TIMEOUT, LATENCY, join
from tests.sim.scenarios.figures import quantile
from tests.sim.scenarios.swarm import KIB, LINK, LYING, MIB

PATIENCE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LyingResult:
    """Figures of one run. Times in seconds."""

    nodes: int
    """The sybils among them."""
    sybils: int
    """All of them announce the root that is sought."""
    groups: int
    """Address groups that the sybils are in."""
    honest: int
    """Nodes that announce it and have it."""
    seed: int
    named: tuple[float, ...]
    """From the beginning of each look-up until an honest announcer is named; infinite when none is in a minute."""
    starts: tuple[float, ...]
    """From there until its first block; infinite when there is none in a minute."""
    median: float
    p90: float
    trace: str


def lying_announcers(
    *,
    nodes: int,
    seed: int,
    sybils: float = 0.2,
    honest: int = 1,
    groups: int | None = None,
    fetches: int = 20,
    files: int = 20,
) -> LyingResult:
    """A part of all nodes are sybils that announce a root they do not have, from `groups` address groups (None: each from its own);
    `honest` others have it and announce it too. A quarter of the sybils each behaves as `swarm.lying_providers` says."""
    network = Network(seed=seed, latency=LATENCY, heartbeat=5.0)
    network.dial_timeout = DIAL_TIMEOUT
    count = int(nodes * sybils)
    make_aged(network, nodes=nodes - count, files=files, change=0.01)
    content = Content.make(16, 256 * KIB, f"lied about {seed}")
    good = network.random.sample(sorted(network.nodes), honest)
    network.run(5)
    liars = []
    for index in range(count):
        liar = join(network, 0)
        if groups is not None:
            address = Multiaddr.parse(f"/ip4/9.9.{index % groups}.{index // groups + 1}/tcp/1000")
            liar.machine.addresses_changed((address,), liar.now)
        liar.announce(content.root)
        liars.append(liar.number)
        network.run(0.1)
    for number in good:
        network.nodes[number].announce(content.root)
    network.run(60)
    others = [number for number in sorted(network.nodes) if number not in good and number not in liars]
    seekers = [network.nodes[number] for number in network.random.sample(others, fetches)]
    found = _find(network, seekers, content)
    named = tuple(min((at for at, author in each if author in good), default=float("inf")) for each in found)
    trace = RunTrace()
    starts = [_fetch(content, seed, good, liars, told, trace) for told in found]
    return LyingResult(
        nodes=nodes,
        sybils=count,
        groups=groups if groups is not None else count,
        honest=honest,
        seed=seed,
        named=tuple(sorted(named)),
        starts=tuple(sorted(starts)),
        median=quantile(starts, 0.5),
        p90=quantile(starts, 0.9),
        trace=trace.digest(),
    )


def _find(network: Network, seekers: list[Node], content: Content) -> list[list[tuple[float, int]]]:
    """Whom nodes are told of within a minute, and when."""
    asked = []
    for seeker in seekers:
        asked.append((seeker, network.net.now, seeker.find(content.root)))
        network.run(1)
    network.run(PATIENCE)
    return [
        [(at - began, network.numbers[record.author]) for at, record in seeker.found.get(lookup, [])]
        for seeker, began, lookup in asked
    ]


def _fetch(
    content: Content, seed: int, good: list[int], liars: list[int], told: list[tuple[float, int]], trace: RunTrace
) -> float:
    """Seconds to the first block of a fetch that is told of providers as a look-up was. Each has a world of its own, for sybils would
    not tell of one another's victims."""
    world = SwarmWorld(seed, content, link=LINK, trace=trace)
    sharers = {number: world.add(1, upload=4 * MIB)[0] for number in good}
    for index, number in enumerate(liars):
        [sharers[number]] = world.add(1, upload=4 * MIB, kind=LYING[index % len(LYING)])
    for sharer in sharers.values():
        sharer.share()
    [seeker] = world.add(1, upload=4 * MIB)
    world.unfinished = 1
    seeker.fetch(())
    for at, author in told:
        world.net.call_at(at, lambda number: seeker.add_provider(number, full=True), sharers[author].number)
    world.run(PATIENCE)
    return seeker.first_block if seeker.first_block is not None else float("inf")
