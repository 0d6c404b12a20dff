"""Many announcing nodes on one simulated clock and network: the real routers of gossip, the real machines, no sockets."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from random import Random

from stack.announce.events import (
    Ask,
    AskId,
    Connect,
    Found,
    InterestEnded,
    InterestId,
    Judgement,
    LookupId,
    Publish,
    Push,
    RoundEnded,
    StopAsking,
    Subscribe,
    Unsubscribe,
)
from stack.announce.keyspace import announce_key
from stack.announce.machine import AnnounceMachine
from stack.announce.messages import (
    Request,
    Response,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from stack.announce.own import Announcement
from stack.announce.params import AnnounceParams
from stack.announce.records import Record, RecordReader
from stack.gossipsub.events import Connect as GossipConnect
from stack.gossipsub.events import SendRpc, Validate, Verdict
from stack.gossipsub.messages import PROTOCOL_1_2, Rpc
from stack.gossipsub.params import GossipsubParams
from stack.gossipsub.router import Gossipsub
from stack.gossipsub.signing import SignaturePolicy, TopicRules
from stack.identity.ed25519 import Ed25519PrivateKey, _Private
from stack.identity.keys import PrivateKey
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.sansio.budget import Scope
from stack.trace import TraceEvent
from tests.sim.networks.codec import RpcCodec
from tests.sim.networks.gossip import UNLIMITED
from tests.sim.simnet import Link, SimNet

CONNECTION_BYTES = 2400
"""What each end sends until it knows the other: handshakes, identify, subscriptions; seen between two daemons."""
WALL = 1_800_000_000.0
"""Wall-clock time when the simulated clock is 0."""
VERDICTS = {
    Judgement.ACCEPT: Verdict.ACCEPT,
    Judgement.REJECT: Verdict.REJECT,
    Judgement.IGNORE: Verdict.IGNORE,
}
RULES = TopicRules(
    SignaturePolicy.STRICT_NO_SIGN,
    lambda message: hashlib.sha256(message.topic.encode() + b"\0" + (message.data or b"")).digest()[:16],
)
MESH = GossipsubParams(d=4, d_low=3, d_high=6, d_out=1, d_score=2, d_lazy=2)


@cache
def key_of(number: int) -> PrivateKey:
    return Ed25519PrivateKey(_Private.from_private_bytes(hashlib.sha256(b"announce %d" % number).digest()))


@cache
def peer_of(number: int) -> PeerId:
    return PeerId.of(key_of(number).public)


def address_of(number: int) -> Multiaddr:
    return Multiaddr.parse(f"/ip4/1.{number >> 8}.{number & 255}.1/tcp/1000")


def root_of(name: object) -> Cid:
    return Cid.of(f"content {name}".encode())


class Node:
    """A router and a machine, and what they have been told."""

    def __init__(self, network: "Network", number: int, *, is_member: bool, params: AnnounceParams) -> None:
        self.network = network
        self.number = number
        self.id = peer_of(number)
        self.is_member = is_member
        self.alive = True
        self.events: list[TraceEvent] = []
        self.found: dict[LookupId, list[tuple[float, Record]]] = {}
        self.rounds: dict[LookupId, list[float]] = {}
        self.asked: dict[bytes, list[float]] = {}
        """When it asked for a key: each time one member, or some at once."""
        self.saved = b""
        self.ahead = 0.0
        """Seconds by which its clock is wrong."""
        now = network.net.now
        mesh = replace(MESH, heartbeat_interval=network.heartbeat)
        self.router = Gossipsub(self.id, random=Random(number), now=now, params=mesh)
        self.router.set_rules(None, RULES)
        self.machine = AnnounceMachine(
            key_of(number),
            random=Random(number + 1),
            now=now,
            budget=Scope(f"node {number}", {}),
            params=params,
            reader=network.reader,
            is_member=is_member,
            trace=self.events.append,
        )
        self.machine.addresses_changed((address_of(number),), now)
        self._ask_peers: dict[AskId, int] = {}
        self._kept: dict[AskId, int] = {}
        """Whose stream may bring more after the answer."""
        self._interests: dict[InterestId, tuple[int, AskId]] = {}
        self._served: dict[tuple[int, AskId], InterestId] = {}
        self._wake_at = -1.0
        # Not all hearts beat at once.
        network.net.call_later(network.heartbeat * Random(number).random(), self._beat)
        self.pump()

    @property
    def now(self) -> float:
        return self.network.net.now

    @property
    def wall(self) -> float:
        return WALL + self.network.net.now + self.ahead

    # commands

    def announce(self, root: Cid, name: str | None = None) -> None:
        self.machine.announce(Announcement(root=root, name=name, size=len(name or "")), self.now)
        self.pump()

    def withdraw(self, root: Cid) -> None:
        self.machine.withdraw(root, self.now)
        self.pump()

    def find(self, root: Cid) -> LookupId:
        lookup = self.machine.find(announce_key(root.multihash), self.now, self.wall)
        self.pump()
        return lookup

    def search(self, words: str) -> LookupId:
        lookup = self.machine.search(words, self.now, self.wall)
        self.pump()
        return lookup

    def authors(self, lookup: LookupId) -> set[int]:
        return {self.network.numbers[record.author] for _, record in self.found.get(lookup, [])}

    # facts

    def receive(self, sender: object, message: object) -> None:
        assert isinstance(sender, int)
        assert isinstance(message, tuple)
        kind, *rest = message
        if kind == "rpc":
            self.router.receive_rpc(peer_of(sender), rest[0], self.now)
        elif kind == "request":
            self._serve(sender, rest[0], decode_request(rest[1]))
        elif kind == "response":
            id, data = rest
            response = decode_response(data)
            if id in self._ask_peers:
                del self._ask_peers[id]
                self.machine.answered(id, peer_of(sender), response, self.now, self.wall)
            else:
                self.machine.pushed(id, peer_of(sender), response, self.wall)
        elif kind == "stop" and (sender, rest[0]) in self._served:
            interest = self._served.pop((sender, rest[0]))
            del self._interests[interest]
            self.machine.interest_dropped(interest)
        self.pump()

    def _serve(self, sender: int, id: AskId, request: Request) -> None:
        response, interest = self.machine.receive_request(peer_of(sender), request, self.now, self.wall)
        if interest is not None:
            self._interests[interest] = (sender, id)
            self._served[sender, id] = interest
        self._respond(sender, id, response)

    def _respond(self, sender: int, id: AskId, response: Response) -> None:
        data = encode_response(response)
        self.network.send(self.number, sender, ("response", id, data), len(data) + 60, "answers")

    def connected(self, other: int, outbound: bool) -> None:
        self.router.peer_connected(peer_of(other), PROTOCOL_1_2, outbound, f"{other}", self.now, UNLIMITED)
        if self.network.nodes[other].is_member:
            self.machine.peer_connected(peer_of(other), f"1.{other >> 8}.{other & 255}.0/24", self.now, self.wall)
        self.pump()

    def disconnected(self, other: int) -> None:
        self.router.peer_disconnected(peer_of(other), self.now)
        self.machine.peer_disconnected(peer_of(other))
        for id, peer in list(self._ask_peers.items()):
            if peer == other:
                self.ask_failed(id, other)
        self.pump()

    def ask_failed(self, id: AskId, other: int) -> None:
        if self._ask_peers.pop(id, None) is not None and self.alive:
            self.machine.answered(id, peer_of(other), None, self.now, self.wall)
            self.pump()

    # effects

    def pump(self) -> None:
        if not self.alive:
            return
        busy = True
        while busy:
            busy = False
            while (effect := self.machine.next_effect()) is not None:
                busy = True
                self._act(effect)
            while (gossip := self.router.next_effect()) is not None:
                busy = True
                if isinstance(gossip, SendRpc):
                    other = self.network.numbers[gossip.peer]
                    size = len(self.network.codec.encode(gossip.rpc)) + 2
                    self.network.send(self.number, other, ("rpc", gossip.rpc), size, "gossip")
                elif isinstance(gossip, Validate):
                    message = gossip.message
                    verdict = self.machine.receive_gossip(
                        message.topic, message.data or b"", gossip.peer, self.now, self.wall
                    )
                    self.router.validation_result(gossip.token, VERDICTS[verdict], self.now)
                elif isinstance(gossip, GossipConnect):
                    self.network.connect(self.number, self.network.numbers[gossip.peer])
        wake = self.machine.next_timeout()
        if wake != self._wake_at:
            self._wake_at = wake
            if wake < 1e12:
                self.network.net.call_at(wake, lambda: self._timeout(wake))

    def _act(self, effect: object) -> None:
        network = self.network
        if isinstance(effect, Ask):
            other = network.numbers.get(effect.peer)
            if other is None:
                network.net.call_later(
                    0.0, lambda: self.machine.answered(effect.id, effect.peer, None, self.now, self.wall)
                )
                return
            self._ask_peers[effect.id] = other
            if effect.request.keep:
                self._kept[effect.id] = other
                self.asked.setdefault(effect.request.key, []).append(self.now)
            network.reach(self, other, bool(effect.addresses), lambda ok: self._reached(effect, other, ok))
        elif isinstance(effect, StopAsking):
            asked = self._ask_peers.pop(effect.id, None)
            asked = self._kept.pop(effect.id, asked)
            if asked is not None and network.is_linked(self.number, asked):
                network.send(self.number, asked, ("stop", effect.id), 0, "answers")
        elif isinstance(effect, Connect):
            other = network.numbers[effect.peer]
            peer = effect.peer
            network.reach(self, other, True, lambda ok: None if ok else self.machine.dial_failed(peer))
        elif isinstance(effect, Subscribe):
            self.router.require_validation(effect.topic)
            self.router.subscribe(effect.topic, self.now)
        elif isinstance(effect, Unsubscribe):
            self.router.unsubscribe(effect.topic, self.now)
        elif isinstance(effect, Publish):
            self.router.publish(effect.topic, effect.data, self.now)
        elif isinstance(effect, Found):
            self.found.setdefault(effect.lookup, []).append((self.now, effect.record))
        elif isinstance(effect, RoundEnded):
            self.rounds.setdefault(effect.lookup, []).append(self.now)
        elif isinstance(effect, Push):
            if effect.interest in self._interests:
                sender, id = self._interests[effect.interest]
                self._respond(sender, id, Response(records=(effect.data,)))
        elif isinstance(effect, InterestEnded):
            sender, id = self._interests.pop(effect.interest)
            self._served.pop((sender, id), None)

    def _reached(self, effect: Ask, other: int, ok: bool) -> None:
        if effect.id not in self._ask_peers:
            return
        if not ok or not self.network.nodes[other].is_member:
            self.ask_failed(effect.id, other)
            return
        data = encode_request(effect.request)
        self.network.send(self.number, other, ("request", effect.id, data), len(data) + 60, "asks")

    def _timeout(self, wake: float) -> None:
        if self.alive and wake == self._wake_at:
            self._wake_at = -1.0
            self.machine.handle_timeout(self.now, self.wall)
            self.pump()

    def _beat(self) -> None:
        if self.alive:
            self.router.handle_timeout(self.now)
            self.pump()
            self.network.net.call_at(self.router.next_timeout(), self._beat)


class Network:
    """Nodes by number. Commands: `add`, `connect`, `leave`, `run`; the clock is `net`."""

    def __init__(
        self, seed: int = 1, latency: float = 0.05, params: AnnounceParams | None = None, heartbeat: float = 1.0
    ) -> None:
        self.random = Random(seed)
        self.net: SimNet[int] = SimNet(seed, default=Link(latency=latency))
        self.latency = latency
        self.heartbeat = heartbeat
        """Of the routers, in seconds: where hours are to pass, they need not beat each second."""
        self.dial_timeout = 1.0
        """After so many seconds a dial to who is not there has failed."""
        self.params = params if params is not None else AnnounceParams()
        self.reader = RecordReader(cached_max=4_000_000)
        self.nodes: dict[int, Node] = {}
        self.numbers: dict[PeerId, int] = {}
        self.links: dict[int, dict[int, None]] = {}
        """Who is connected to each."""
        self.codec = RpcCodec()
        self.cut: Callable[[int, int], bool] = lambda one, other: False
        self.bytes: dict[str, int] = {}
        self.log: list[tuple[float, int, int, str, bytes]] | None = None
        """Time, sender, receiver, kind, bytes."""

    def add(self, count: int = 1, *, is_member: bool = True) -> list[Node]:
        added = []
        for _ in range(count):
            number = len(self.numbers)
            self.numbers[peer_of(number)] = number
            node = Node(self, number, is_member=is_member, params=self.params)
            self.insert(node)
            added.append(node)
        return added

    def insert(self, node: Node) -> None:
        """A node takes part from now on."""
        self.nodes[node.number] = node
        self.links[node.number] = {}
        self.net.add(node.number, node.receive)

    def is_linked(self, one: int, other: int) -> bool:
        return other in self.links.get(one, {})

    def connect(self, dialler: int, other: int) -> None:
        if dialler == other or self.is_linked(dialler, other) or self.cut(dialler, other):
            return
        if dialler not in self.nodes or other not in self.nodes:
            return
        self.links[dialler][other] = None
        self.links[other][dialler] = None
        self.bytes["connections"] = self.bytes.get("connections", 0) + 2 * CONNECTION_BYTES
        self.nodes[dialler].connected(other, True)
        self.nodes[other].connected(dialler, False)

    def reach(self, node: Node, other: int, may_dial: bool, then: Callable[[bool], None]) -> None:
        """Call back when the two are connected, or not: a dial takes two round trips."""
        if self.is_linked(node.number, other):
            then(True)
        elif not may_dial or other not in self.nodes or self.cut(node.number, other):
            self.net.call_later(self.dial_timeout, lambda: then(False))
        else:

            def dialled() -> None:
                self.connect(node.number, other)
                then(self.is_linked(node.number, other))

            self.net.call_later(4 * self.latency, dialled)

    def disconnect(self, one: int, other: int) -> None:
        if not self.is_linked(one, other):
            return
        del self.links[one][other], self.links[other][one]
        for here, there in ((one, other), (other, one)):
            if here in self.nodes:
                self.nodes[here].disconnected(there)

    def leave(self, number: int) -> None:
        node = self.nodes.pop(number)
        node.alive = False
        self.net.remove(number)
        for other in list(self.links[number]):
            self.disconnect(number, other)
        del self.links[number]

    def send(self, sender: int, receiver: int, message: tuple[object, ...], size: int, what: str) -> None:
        self.bytes[what] = self.bytes.get(what, 0) + size
        if self.log is not None:
            kind, *rest = message
            if kind == "rpc":
                assert isinstance(rest[0], Rpc)
                rest = [self.codec.encode(rest[0])]
            self.log.append((self.net.now, sender, receiver, what, rest[-1] if isinstance(rest[-1], bytes) else b""))
        if not self.cut(sender, receiver):
            self.net.send(sender, receiver, message, size)

    def wire(self, nodes: Iterable[Node], degree: int) -> None:
        """Each dials `degree` of the others at random."""
        numbers = [node.number for node in nodes]
        for number in numbers:
            for other in self.random.sample(numbers, min(degree, len(numbers))):
                self.connect(number, other)

    def run(self, seconds: float) -> None:
        self.net.run(seconds=seconds)
