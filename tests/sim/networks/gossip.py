"""Many routers of gossipsub, and what attacks them, on one simulated clock and network. Signatures are stubbed."""

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from random import Random
from typing import Protocol

from stack.errors import DecodeError
from stack.gossipsub.events import Connect, Deliver, SendRpc
from stack.gossipsub.messages import PROTOCOL_1_2, Message
from stack.gossipsub.params import GossipsubParams
from stack.gossipsub.router import Gossipsub
from stack.gossipsub.signing import Author
from stack.identity.peer_id import PeerId
from stack.identity.peer_record import PeerRecord
from stack.sansio.budget import Scope
from tests.sim.networks.codec import RpcCodec
from tests.sim.networks.trace import RunTrace
from tests.sim.simnet import Link, SimNet

TOPIC = "topic"
GOOD_SIGNATURE = b"\x01" * 64
BAD_SIGNATURE = b"\xff" * 64
"""What the stub of a signature check takes, and what it refuses: signing 1,000 nodes' messages would be all the work there is."""
UNLIMITED = Scope("peers", {})
"""Budgets are not what is simulated."""

_ID_PREFIX = b"\x00\x24\x08\x01\x12\x20"
"""The identity multihash of an ed25519 key: 38 bytes, as most peer ids."""


@lru_cache(maxsize=1 << 20)
def peer_of(number: int) -> PeerId:
    """The peer id of a node; nobody has its key."""
    return PeerId.decode(_ID_PREFIX + hashlib.sha256(b"simulated node %d" % number).digest())


class Party(Protocol):
    """Anybody in the network."""

    number: int
    group: str
    """Its address, for scoring (P6)."""
    honest: bool

    def receive(self, sender: int, data: bytes) -> None:
        """An RPC has come."""
        ...

    def connected(self, other: "Party", outbound: bool) -> None:
        """There is a connection to another one."""
        ...

    def disconnected(self, other: int) -> None:
        """It is gone."""
        ...

    def stop(self) -> None:
        """It has left: nothing may be sent any more."""
        ...


class Sent:
    """One message of an honest node, and whom it has reached."""

    __slots__ = ("at", "author", "reached")

    def __init__(self, author: int, at: float) -> None:
        self.author = author
        self.at = at
        self.reached: dict[int, float] = {}
        """Seconds until each node had it, in the order they got it."""


class GossipNode:
    """An honest router."""

    def __init__(
        self, world: "GossipWorld", number: int, params: GossipsubParams, group: str, *, honest: bool = True
    ) -> None:
        self.world = world
        self.number = number
        self.group = group
        self.honest = honest
        self.alive = True
        self.mute = False
        """Takes part in everything and passes no message on: what a covert attacker turns to."""
        self.copies = 0
        """Messages that came, the same one again and again too."""
        author = Author(bytes(peer_of(number)), lambda data: GOOD_SIGNATURE)
        # Not all clocks strike at once.
        start = world.net.now + world.random.random()
        self.machine = Gossipsub(
            peer_of(number),
            random=Random(f"{world.seed} {number}"),
            now=start,
            author=author,
            params=params,
            verify=_is_signed,
            open_record=_no_record,
        )
        self.machine.subscribe(TOPIC, world.net.now)
        world.net.call_at(self.machine.next_timeout(), self._wake)

    def receive(self, sender: int, data: bytes) -> None:
        """An RPC has come."""
        rpc = self.world.codec.decode(data)
        self.copies += len(rpc.publish)
        self.machine.receive_rpc(peer_of(sender), rpc, self.world.net.now)
        self.drain()

    def connected(self, other: Party, outbound: bool) -> None:
        """There is a connection."""
        self.machine.peer_connected(
            peer_of(other.number), PROTOCOL_1_2, outbound, other.group, self.world.net.now, UNLIMITED
        )
        self.drain()

    def disconnected(self, other: int) -> None:
        """It is gone."""
        self.machine.peer_disconnected(peer_of(other), self.world.net.now)
        self.drain()

    def stop(self) -> None:
        """It has left."""
        self.alive = False

    def publish(self, data: bytes) -> Sent:
        """Write a message."""
        world = self.world
        sent = Sent(self.number, world.net.now)
        world.sent[self.machine.publish(TOPIC, data, world.net.now)] = sent
        self.drain()
        return sent

    def drain(self) -> None:
        """Do what the machine wants done."""
        world = self.world
        next_effect = self.machine.next_effect
        while (effect := next_effect()) is not None:
            if type(effect) is SendRpc:
                if not (self.mute and effect.rpc.publish):
                    data = world.codec.encode(effect.rpc)
                    world.net.send(self.number, world.numbers[effect.peer], data, len(data) + 2)
            elif type(effect) is Deliver:
                sent = world.sent.get(effect.message_id)
                if sent is not None:
                    sent.reached[self.number] = world.net.now - sent.at
            elif type(effect) is Connect:
                world.connect(self.number, world.numbers[effect.peer])

    def _wake(self) -> None:
        if self.alive:
            self.machine.handle_timeout(self.world.net.now)
            self.drain()
            self.world.net.call_at(self.machine.next_timeout(), self._wake)


class GossipWorld:
    """Commands: `add`, `add_party`, `connect`, `disconnect`, `wire`, `leave`, `publish_every`. Getters:
    `neighbours`. `net` is the clock."""

    def __init__(self, seed: int, *, link: Link, trace: RunTrace | None = None) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.net: SimNet[int] = SimNet(seed, default=link)
        self.codec = RpcCodec()
        self.parties: dict[int, Party] = {}
        self.nodes: dict[int, GossipNode] = {}
        """The honest ones of them."""
        self.numbers: dict[PeerId, int] = {}
        self.sent: dict[bytes, Sent] = {}
        """Messages of nodes with a router by their ids."""
        self._links: dict[int, dict[int, None]] = {}
        self.trace = trace
        if trace is not None:
            self.net.tap = self._note

    def add(
        self,
        count: int,
        params: GossipsubParams,
        *,
        honest: bool = True,
        upload: float | None = None,
        download: float | None = None,
    ) -> list[GossipNode]:
        """Nodes with a router, each at an address of its own."""
        added = []
        for _ in range(count):
            number = len(self.numbers)
            group = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
            node = GossipNode(self, number, params, group, honest=honest)
            self.add_party(node, upload=upload, download=download)
            if honest:
                self.nodes[number] = node
            added.append(node)
        return added

    def add_party(self, party: Party, *, upload: float | None = None, download: float | None = None) -> None:
        """Anybody; its number is that of the next: `len(numbers)`."""
        number = party.number
        self.numbers[peer_of(number)] = number
        self.parties[number] = party
        self._links[number] = {}

        def receive(sender: object, message: object) -> None:
            assert isinstance(sender, int) and isinstance(message, bytes)
            # Whose connection has gone meanwhile is not heard any more.
            if sender in self._links[number]:
                party.receive(sender, message)

        self.net.add(number, receive, upload=upload, download=download)

    def neighbours(self, number: int) -> list[int]:
        """Who is connected to a party."""
        return list(self._links[number])

    def connect(self, dialler: int, other: int) -> None:
        """One dials another. Nothing happens when they are connected, or one of them has left."""
        one, two = self.parties.get(dialler), self.parties.get(other)
        if one is None or two is None or one is two or other in self._links[dialler]:
            return
        self._links[dialler][other] = self._links[other][dialler] = None
        one.connected(two, True)
        two.connected(one, False)

    def disconnect(self, one: int, other: int) -> None:
        """The connection of two is gone; both are told."""
        if other not in self._links[one]:
            return
        del self._links[one][other], self._links[other][one]
        for here, there in ((one, other), (other, one)):
            party = self.parties.get(here)
            if party is not None:
                party.disconnected(there)

    def wire(self, numbers: Sequence[int], degree: int, among: Sequence[int] | None = None) -> None:
        """Each dials `degree` others at random."""
        among = numbers if among is None else among
        for number in numbers:
            for other in self.random.sample(among, min(degree, len(among))):
                self.connect(number, other)

    def leave(self, number: int, *, noticed_after: float) -> None:
        """A node is gone; its neighbours find out after a while."""
        self.parties.pop(number).stop()
        self.nodes.pop(number, None)
        self.net.remove(number)
        for other in self.neighbours(number):
            self.net.call_later(noticed_after, self.disconnect, number, other)

    def publish_every(self, seconds: float, count: int, size: int, choose: Callable[[], GossipNode]) -> list[Sent]:
        """Somebody writes something, again and again; the list fills as time passes."""
        sent: list[Sent] = []

        def write() -> None:
            sent.append(choose().publish(self.random.randbytes(size)))

        for index in range(count):
            self.net.call_later(index * seconds, write)
        return sent

    def _note(self, now: float, sender: int, receiver: int, message: object) -> None:
        assert self.trace is not None and isinstance(message, bytes)
        self.trace.note(now, sender, receiver, message)


def _is_signed(message: Message) -> bool:
    return message.signature != BAD_SIGNATURE


def _no_record(data: bytes) -> PeerRecord:
    raise DecodeError("there are no records here")
