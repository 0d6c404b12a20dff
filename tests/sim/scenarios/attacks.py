"""The attackers of gossipsub's published evaluation: Vyzovitis et al., "GossipSub: Attack-Resilient Message Propagation in
the Filecoin and ETH2.0 Networks", 2020, section 4 ("Attack Evaluation")."""

from dataclasses import dataclass
from enum import Enum

from stack.gossipsub.params import GossipsubParams
from tests.sim.networks.attackers import FLOODS, Flood, Sybil
from tests.sim.networks.gossip import TOPIC, GossipNode, GossipWorld, Sent
from tests.sim.networks.trace import RunTrace
from tests.sim.scenarios.figures import part_of, quantile, reach_of
from tests.sim.scenarios.gossip import DELIVERY, LINK, SCORED

HONEST_DIALS = 10
SYBIL_DIALS = 20
"""So an honest node has 20 honest neighbours and, with four sybils for each honest node, 80 others."""
COLD_DIALS = 50
"""Where four of five that one can dial are sybils, a node dials so many: ten honest ones are among them."""
FLOOD_RATE = 2.0
"""RPCs a second on each connection of a flooding sybil: 160 a second for each honest node when there are four to one."""


class Attack(Enum):
    """What the sybils do."""

    SYBIL = "sybil"
    """They dial everybody in a running network, graft, and pass nothing on."""
    ECLIPSE = "eclipse"
    """The same, all against one node of a hundred: a thousand and more of them on each."""
    COLD_BOOT = "cold boot"
    """They are there first, and four of five whom an honest node dials are sybils."""
    COVERT_FLASH = "covert flash"
    """They take part like anybody, and fall mute all at once."""
    INVALID_MESSAGES = "invalid messages"
    BROKEN_PROMISES = "broken promises"
    REQUESTS = "requests"
    GRAFTS = "grafts"


FLOODING = (Attack.INVALID_MESSAGES, Attack.BROKEN_PROMISES, Attack.REQUESTS, Attack.GRAFTS)
"""Sybils that also send all they can of one thing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackResult:
    """Figures of one run."""

    attack: str
    honest: int
    sybils: int
    seed: int
    reach: tuple[float, ...]
    """Of each message written since the attack began: the part of honest nodes that had it within 10 s."""
    target_reach: tuple[float, ...]
    """The same of the targets of an eclipse."""
    latency_median: float
    latency_p99: float
    in_mesh: tuple[tuple[float, float], ...]
    """(seconds since the attack began, part of all places in meshes that sybils have)."""
    trace: str

    @property
    def kept(self) -> float:
        """The part of honest messages that reached at least 99 % of honest nodes."""
        return part_of(self.reach, 0.99)


def attack(
    kind: Attack,
    *,
    honest: int,
    seed: int,
    ratio: int = 4,
    warm: int = 20,
    seconds: int = 60,
    params: GossipsubParams = SCORED,
) -> AttackResult:
    """`ratio` sybils for each honest node; honest messages once a second, counted from the beginning of the attack."""
    world = GossipWorld(seed, link=LINK, trace=RunTrace())
    nodes = world.add(honest, params)
    numbers = [node.number for node in nodes]
    count = ratio * honest
    targets = numbers[: max(honest // 100, 1)] if kind is Attack.ECLIPSE else []
    if kind is Attack.COLD_BOOT:
        sybils = _add_sybils(world, count, None)
        world.wire(sybils, SYBIL_DIALS, numbers)
        world.wire(numbers, COLD_DIALS, [*numbers, *sybils])
        world.net.run(seconds=1)
    elif kind is Attack.COVERT_FLASH:
        covert = world.add(count, params, honest=False)
        world.wire(numbers, HONEST_DIALS)
        world.wire([node.number for node in covert], SYBIL_DIALS, numbers)
        _warm(world, nodes, warm)
        for node in covert:
            node.mute = True
    else:
        world.wire(numbers, HONEST_DIALS)
        _warm(world, nodes, warm)
        flood = FLOODS.get(kind.value)
        sybils = _add_sybils(world, count, flood)
        world.wire(sybils, SYBIL_DIALS, targets or numbers)
    began = world.net.now
    in_mesh: list[tuple[float, float]] = []
    for second in range(0, seconds + 1, 5):
        world.net.call_later(second, lambda: in_mesh.append((world.net.now - began, _sybils_in_meshes(world))))
    sent = _write(world, nodes, seconds)
    world.net.run(seconds=seconds + DELIVERY)
    assert world.trace is not None
    times = [message.reached[number] for message in sent for number in numbers if number in message.reached]
    return AttackResult(
        attack=kind.value,
        honest=honest,
        sybils=count,
        seed=seed,
        reach=tuple(reach_of(message, numbers, DELIVERY) for message in sent),
        target_reach=tuple(reach_of(message, targets, DELIVERY) for message in sent) if targets else (),
        latency_median=quantile(times, 0.5),
        latency_p99=quantile(times, 0.99),
        in_mesh=tuple(in_mesh),
        trace=world.trace.digest(),
    )


def _add_sybils(world: GossipWorld, count: int, flood: Flood | None) -> list[int]:
    numbers = []
    for _ in range(count):
        number = len(world.numbers)
        group = f"11.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        world.add_party(Sybil(world, number, group, flood=flood, rate=FLOOD_RATE))
        numbers.append(number)
    return numbers


def _warm(world: GossipWorld, nodes: list[GossipNode], seconds: int) -> None:
    _write(world, nodes, seconds)
    world.net.run(seconds=seconds)


def _write(world: GossipWorld, nodes: list[GossipNode], seconds: int) -> list[Sent]:
    return world.publish_every(1.0, seconds, 200, lambda: world.random.choice(nodes))


def _sybils_in_meshes(world: GossipWorld) -> float:
    """The part of the members of honest meshes that are none of us."""
    members = [world.numbers[peer] for node in world.nodes.values() for peer in node.machine.mesh(TOPIC)]
    return sum(number not in world.nodes for number in members) / max(len(members), 1)
