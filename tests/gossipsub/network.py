"""Many routers on one simulated clock and network; signatures are stubbed."""

import hashlib
from collections.abc import Callable, Iterable
from functools import cache
from random import Random

from stack.errors import DecodeError
from stack.gossipsub.events import Connect, Deliver, SendRpc
from stack.gossipsub.messages import PROTOCOL_1_2, Control, IHave, Message, Rpc
from stack.gossipsub.params import GossipsubParams
from stack.gossipsub.router import Gossipsub
from stack.gossipsub.signing import Author
from stack.identity.peer_id import PeerId
from stack.identity.peer_record import PeerRecord
from tests.sim.networks.gossip import UNLIMITED
from tests.sim.simnet import Link, SimNet

TOPIC = "topic"
INVALID = b"invalid"
"""What the stub of a signature check refuses."""


@cache
def node_id(number: int) -> PeerId:
    return PeerId.decode(b"\x12\x20" + hashlib.sha256(b"node %d" % number).digest())


def size_of(rpc: Rpc) -> int:
    """About how many bytes an RPC takes."""
    size = 30 * len(rpc.subscriptions) + sum(message.size for message in rpc.publish)
    control = rpc.control
    if control is not None:
        ids = len(control.iwant) + len(control.idontwant) + sum(len(entry.message_ids) for entry in control.ihave)
        size += 48 * ids + 30 * len(control.graft) + 100 * len(control.prune)
    return size


def no_record(data: bytes) -> PeerRecord:
    raise DecodeError("there are no records here")


class Node:
    """An honest router."""

    def __init__(self, network: "Network", number: int, params: GossipsubParams | None, protocol: str) -> None:
        self.network = network
        self.number = number
        self.id = node_id(number)
        self.protocol = protocol
        self.delivered: dict[bytes, float] = {}
        self.duplicates = 0
        self.alive = True
        self.mute = False
        """Takes part in everything but passes no message on."""
        self.machine = Gossipsub(
            self.id,
            random=Random(number * 7919 + network.seed),
            now=network.net.now,
            author=Author(bytes(self.id), lambda data: b"signature"),
            params=params,
            verify=lambda message: message.signature != INVALID,
            open_record=no_record,
        )
        self._tick()

    def receive(self, sender: object, rpc: object) -> None:
        assert isinstance(sender, int)
        assert isinstance(rpc, Rpc)
        if rpc.publish:
            self.duplicates += sum(
                m.author is not None and m.author + (m.seqno or b"") in self.delivered for m in rpc.publish
            )
        self.machine.receive_rpc(node_id(sender), rpc, self.network.net.now)
        self.pump()

    def connected(self, other: int, protocol: str, outbound: bool, group: str | None) -> None:
        self.machine.peer_connected(node_id(other), protocol, outbound, group, self.network.net.now, UNLIMITED)
        self.pump()

    def disconnected(self, other: int) -> None:
        self.machine.peer_disconnected(node_id(other), self.network.net.now)
        self.pump()

    def subscribe(self) -> None:
        self.machine.subscribe(TOPIC, self.network.net.now)
        self.pump()

    def publish(self, data: bytes = b"x" * 100) -> bytes:
        message_id = self.machine.publish(TOPIC, data, self.network.net.now)
        self.pump()
        return message_id

    def pump(self) -> None:
        network = self.network
        while (effect := self.machine.next_effect()) is not None:
            if isinstance(effect, SendRpc):
                if self.mute and effect.rpc.publish:
                    continue
                network.send(self.number, network.numbers[effect.peer], effect.rpc)
            elif isinstance(effect, Deliver):
                self.delivered[effect.message_id] = network.net.now
            elif isinstance(effect, Connect):
                network.connect(self.number, network.numbers[effect.peer])

    def _tick(self) -> None:
        if self.alive:
            self.machine.handle_timeout(self.network.net.now)
            self.pump()
            self.network.net.call_at(self.machine.next_timeout(), self._tick)


class Attacker:
    """Answers what it gets as told, and keeps nothing."""

    def __init__(self, network: "Network", number: int, behave: "Behaviour") -> None:
        self.network = network
        self.number = number
        self.protocol = PROTOCOL_1_2
        self.peers: list[int] = []
        self.behave = behave
        self.count = 0
        behave.started(self)

    def receive(self, sender: object, rpc: object) -> None:
        assert isinstance(sender, int)
        assert isinstance(rpc, Rpc)
        self.behave.receive(self, sender, rpc)

    def connected(self, other: int, protocol: str, outbound: bool, group: str | None) -> None:
        self.peers.append(other)
        self.send(other, Rpc(subscriptions=((True, TOPIC),), control=Control(graft=(TOPIC,))))

    def disconnected(self, other: int) -> None:
        self.peers.remove(other)

    def send(self, other: int, rpc: Rpc) -> None:
        self.network.send(self.number, other, rpc)


class Behaviour:
    """A mute mesh member: grafts again whenever it is pruned, forwards nothing."""

    def started(self, attacker: Attacker) -> None:
        """It has been added to the network."""

    def receive(self, attacker: Attacker, sender: int, rpc: Rpc) -> None:
        if rpc.control is not None and rpc.control.prune:
            again = Rpc(control=Control(graft=(TOPIC,)))
            attacker.network.net.call_later(61, lambda: attacker.send(sender, again))


class Spammer(Behaviour):
    """Ten messages a second with bad signatures, IHAVEs of what does not exist, GRAFTs without end."""

    def started(self, attacker: Attacker) -> None:
        attacker.network.net.call_later(1, lambda: self.spam(attacker))

    def spam(self, attacker: Attacker) -> None:
        network = attacker.network
        author = bytes(node_id(attacker.number))
        for other in list(attacker.peers):
            attacker.count += 1
            number = attacker.count.to_bytes(8, "big")
            rpc = Rpc(
                publish=tuple(Message(TOPIC, b"spam", author, number + bytes([i]), INVALID) for i in range(1)),
                control=Control(ihave=(IHave(TOPIC, (b"none" + number,)),), graft=(TOPIC,)),
            )
            attacker.send(other, rpc)
        network.net.call_later(0.1, lambda: self.spam(attacker))


class Network:
    """Routers by number. Commands: `add`, `connect`, `wire`, `leave`; the clock is `net`."""

    def __init__(self, seed: int = 1, latency: float = 0.05) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.net: SimNet[int] = SimNet(seed, default=Link(latency=latency))
        self.nodes: dict[int, Node] = {}
        self.attackers: dict[int, Attacker] = {}
        self.numbers: dict[PeerId, int] = {}
        self.links: dict[tuple[int, int], None] = {}
        self.cut: Callable[[int, int], bool] = lambda one, other: False
        self.log: list[tuple[float, int, int, Rpc]] | None = None

    def add(self, count: int, params: GossipsubParams | None = None, protocol: str = PROTOCOL_1_2) -> list[Node]:
        """Honest nodes that subscribe."""
        added = []
        for _ in range(count):
            number = len(self.numbers)
            self.numbers[node_id(number)] = number
            node = self.nodes[number] = Node(self, number, params, protocol)
            self.net.add(number, node.receive)
            node.subscribe()
            added.append(node)
        return added

    def add_attackers(self, count: int, behave: Behaviour) -> list[Attacker]:
        added = []
        for _ in range(count):
            number = len(self.numbers)
            self.numbers[node_id(number)] = number
            attacker = self.attackers[number] = Attacker(self, number, behave)
            self.net.add(number, attacker.receive)
            added.append(attacker)
        return added

    def party(self, number: int) -> Node | Attacker:
        return self.nodes.get(number) or self.attackers[number]

    def connect(self, dialer: int, other: int, group: str | None = None) -> None:
        """One dials another; again is harmless."""
        if dialer == other or (dialer, other) in self.links or (other, dialer) in self.links:
            return
        self.links[dialer, other] = None
        one, two = self.party(dialer), self.party(other)
        one.connected(other, two.protocol, True, None)
        two.connected(dialer, one.protocol, False, group)

    def disconnect(self, one: int, other: int) -> None:
        if self.links.pop((one, other), self.links.pop((other, one), 0)) == 0:
            return
        self.party(one).disconnected(other)
        self.party(other).disconnected(one)

    def leave(self, number: int) -> None:
        """A node is gone."""
        node = self.nodes.pop(number)
        node.alive = False
        self.net.remove(number)
        for one, other in list(self.links):
            if number in (one, other):
                del self.links[one, other]
                remaining = other if one == number else one
                self.party(remaining).disconnected(number)

    def wire(self, nodes: Iterable[Node], degree: int) -> None:
        """Each dials `degree` others at random."""
        numbers = [node.number for node in nodes]
        for number in numbers:
            for other in self.random.sample(numbers, min(degree, len(numbers))):
                self.connect(number, other)

    def send(self, sender: int, receiver: int, rpc: Rpc) -> None:
        if self.log is not None:
            self.log.append((self.net.now, sender, receiver, rpc))
        if not self.cut(sender, receiver):
            self.net.send(sender, receiver, rpc, size_of(rpc))

    def run(self, seconds: float) -> None:
        self.net.run(seconds=seconds)

    def reached(self, message_id: bytes) -> float:
        """The part of honest nodes that have a message."""
        return sum(message_id in node.delivered for node in self.nodes.values()) / len(self.nodes)
