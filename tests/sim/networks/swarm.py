"""Peers that share and fetch one root: the real session, ledger and swarm machines. Blocks have names and sizes, no bytes; peer
records are not signed."""

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from random import Random

from stack.bitswap.effects import Ask, Connect, PeerDropped, Withdraw
from stack.bitswap.engine import Engine, EngineParameters, LookUp, PresencesReady, SendBlocks
from stack.bitswap.interfaces import Order
from stack.bitswap.messages import OutgoingMessage, WantKind, decode_message, encode_message
from stack.bitswap.session import SessionMachine
from stack.bitswap.session_parameters import SessionParameters
from stack.bitswap.wants import PeerWants, SessionId
from stack.errors import RemoteProtocolError
from stack.identity.peer_id import PeerId
from stack.identity.peer_record import PeerRecord
from stack.multiformats import varint
from stack.protocols.providers.interfaces import RangeBook
from stack.protocols.providers.messages import Update, decode_update, encode_update
from stack.protocols.providers.ranges import LeafRanges
from stack.protocols.providers.subscription import PeerFound, RangesChanged, SendUpdates, SubscriptionId
from stack.protocols.providers.swarm import SwarmMachine
from tests.sim.networks.content import Blocks, Content, Kind, Told
from tests.sim.networks.gossip import peer_of
from tests.sim.networks.line import Line
from tests.sim.networks.trace import RunTrace
from tests.sim.simnet import Link, SimNet

ONLY = SessionId(1)
TICK = 0.1
"""How late a time-out of a session may come, as in the node."""
DIAL_ROUND_TRIPS = 2.5
"""TCP, then Noise and the muxer. Where nobody answers it takes seconds: TCP's own time-out in a node."""
DIAL_TIMEOUT = 5.0
WANTS_PER_MESSAGE = 512
PRESENCES_PER_MESSAGE = 1024


class SwarmNode:
    """A peer that shares or fetches, or pretends to."""

    def __init__(self, world: "SwarmWorld", number: int, upload: int, kind: Kind, slots: int | None) -> None:
        self.world = world
        self.number = number
        self.kind = kind
        self.peer = peer_of(number)
        self.have: dict[bytes, None] = {}
        self.links: dict[int, PeerWants] = {}
        self.started: float | None = None
        self.first_block: float | None = None
        self.done: float | None = None
        self.sent = 0
        """Bytes of blocks."""
        self.session: SessionMachine | None = None
        self.dropped: dict[int, str] = {}
        limited = EngineParameters.limited(upload)
        self._engine = Engine(limited if slots is None else replace(limited, peers_at_once=slots))
        self._line = Line(world.net, upload, self._piece_gone)
        self._sending: dict[int, deque[SendBlocks]] = {}
        self._book = RangeBook()
        self._swarm = SwarmMachine(self._book, open_record=_open_record)
        self._ranges = LeafRanges(len(world.content.leaves))
        self._streams: dict[SubscriptionId, int] = {}
        self._asking: dict[int, None] = {}
        self._in_session: dict[int, None] = {}
        self._swarm_wakes = False
        world.net.add(number, self._receive)

    # commands

    def share(self) -> None:
        """It has everything."""
        content = self.world.content
        self.have.update((cid.multihash, None) for cid in content.leaves)
        self._ranges.add(0, len(content.leaves))
        self._book.add(content.root, self._ranges)

    def fetch(self, providers: Sequence[int], parameters: SessionParameters | None = None) -> None:
        """Begin to fetch everything, with these providers, said to have all of it."""
        content = self.world.content
        self.started = self.world.net.now
        self._book.add(content.root, self._ranges)
        self.session = SessionMachine(
            Random(f"{self.world.seed} {self.number}"), order=Order.SPREAD, parameters=parameters
        )
        for other in self.links:
            self.session.peer_connected(peer_of(other))
        self._swarm.join(content.root)
        self.session.want(content.leaves, range(len(content.leaves)))
        for provider in providers:
            self.add_provider(provider, full=True)
        self._drain_swarm()
        self._tick()

    def add_provider(self, number: int, *, full: bool) -> None:
        """Somebody says that this one has the root, or (not `full`) parts of it."""
        assert self.session is not None
        if number != self.number and self.session.add_peer(peer_of(number), full=full):
            self._in_session[number] = None
            if number in self.links:
                self._connected_to_provider(number)
        self._drain()

    # connections

    def connected(self, other: int) -> None:
        """There is a connection."""
        self.links[other] = PeerWants()
        self._engine.peer_connected(peer_of(other))
        if self.session is not None:
            self._connected_to_provider(other)
            self._drain()

    def answered_dial(self, other: int) -> None:
        """The other had dialled us meanwhile."""
        if self.session is not None:
            self.session.peer_connected(peer_of(other))
            self._drain()

    def _connected_to_provider(self, other: int) -> None:
        assert self.session is not None
        self.session.peer_connected(peer_of(other))
        root = self.world.content.root
        if other in self._in_session and other not in self._asking and not self._swarm.knows(root, peer_of(other)):
            self._asking[other] = None
            id = self.world.new_stream()
            self._streams[id] = other
            self._swarm.subscribe(id, peer_of(other), root, bytes(self.peer), self.world.net.now)
            self._drain_swarm()

    # what comes

    def _receive(self, sender: object, message: object) -> None:
        assert isinstance(sender, int)
        now = self.world.net.now
        if isinstance(message, bytes):
            self._receive_control(sender, message)
        elif isinstance(message, Blocks):
            self._receive_blocks(sender, message)
        elif isinstance(message, Told):
            if message.id not in self._streams:
                self._streams[message.id] = sender
            try:
                for data in message.updates:
                    self._swarm.receive_update(message.id, peer_of(sender), _decode(data), bytes(self.peer), now)
            except RemoteProtocolError:
                self._close_stream(message.id)
            else:
                if message.closed:
                    self._close_stream(message.id)
            self._drain_swarm()

    def _receive_control(self, sender: int, data: bytes) -> None:
        length, start = varint.decode(data)
        assert length == len(data) - start
        message = decode_message(memoryview(data)[start:])
        if self.kind is Kind.MUTE:
            return
        self._engine.receive_wants(peer_of(sender), message.wants, full=message.full)
        for presence in message.presences:
            multihash = presence.cid.multihash
            if self.links[sender].answered(multihash, have=presence.have) and self.session is not None:
                self.session.receive_presence(peer_of(sender), multihash, self.world.net.now, have=presence.have)
        self._pump()
        self._drain()

    def _receive_blocks(self, sender: int, message: Blocks) -> None:
        session, now, peer = self.session, self.world.net.now, peer_of(sender)
        if session is None:
            return
        if message.wrong:
            session.receive_wrong_block(peer, now)
        elif not message.multihashes:
            session.receive_progress(peer, now, message.size)
        for multihash in message.multihashes:
            self.links[sender].received(multihash)
            size = self.world.content.leaf_size
            if multihash in self.have:
                session.receive_late_block(peer, size, now)
                continue
            if self.first_block is None:
                self.first_block = now
            self.have[multihash] = None
            leaf = self.world.leaf_numbers[multihash]
            self._ranges.add(leaf, leaf + 1)
            session.receive_block(peer, multihash, size, now)
            self._engine.blocks_added([self.world.content.leaves[leaf]], [size])
        if self.done is None and not session.wanted:
            self.done = now
            self.world.unfinished -= 1
        self._pump()
        self._drain()

    # what the machines want done

    def _tick(self) -> None:
        assert self.session is not None
        deadline = self.session.next_timeout()
        if deadline is not None and self.world.net.now >= deadline:
            self.session.handle_timeout(self.world.net.now)
            self._drain()
        if self.session.wanted:
            self.world.net.call_later(TICK, self._tick)

    def _drain(self) -> None:
        session, world = self.session, self.world
        if session is None:
            return
        changed: dict[int, None] = {}
        while (effect := session.next_effect(world.net.now)) is not None:
            other = world.numbers[effect.peer]
            match effect:
                case Ask(cids=cids, have=have):
                    if other in self.links:
                        self.links[other].ask(ONLY, cids, WantKind.HAVE if have else WantKind.BLOCK)
                        changed[other] = None
                case Withdraw(cids=cids):
                    if other in self.links:
                        self.links[other].withdraw(ONLY, cids)
                        changed[other] = None
                case Connect():
                    world.dial(self.number, other)
                case PeerDropped(reason=reason):
                    self.dropped[other] = reason
                    if other in self.links:
                        self.links[other].end_session(ONLY)
                        changed[other] = None
        for other in changed:
            self._tell(other)

    def unreachable(self, other: int) -> None:
        """A dial came to nothing."""
        assert self.session is not None
        self.session.peer_unreachable(peer_of(other), self.world.net.now)
        self._drain()

    def _tell(self, other: int) -> None:
        wants = self.links[other]
        while wants.pending:
            taken, full = wants.take(WANTS_PER_MESSAGE)
            self._send_control(other, OutgoingMessage(wants=taken, full=full))

    def _send_control(self, other: int, message: OutgoingMessage) -> None:
        data = b"".join(encode_message(message))
        self.world.net.send(self.number, other, data, len(data))

    def _pump(self) -> None:
        world = self.world
        while (effect := self._engine.next_effect(world.net.now)) is not None:
            match effect:
                case LookUp(id=id, cids=cids):
                    size = world.content.leaf_size
                    here = self.kind is not Kind.DENIES
                    known = [size if here and cid.multihash in self.have else None for cid in cids]
                    self._engine.looked_up(id, known)
                case PresencesReady(peer=peer):
                    presences = self._engine.take_presences(peer, PRESENCES_PER_MESSAGE)
                    self._send_control(world.numbers[peer], OutgoingMessage(presences=presences))
                case SendBlocks(peer=peer, size=size):
                    other = world.numbers[peer]
                    self._sending.setdefault(other, deque()).append(effect)
                    self._line.send(other, size)

    def _piece_gone(self, other: int, size: int, last: bool) -> None:
        self.sent += size
        if not last:
            self.world.net.send(self.number, other, Blocks(size, (), False), size)
            return
        message = self._sending[other].popleft()
        multihashes = tuple(cid.multihash for cid in message.cids)
        wrong = self.kind is Kind.WRONG
        self.world.net.send(self.number, other, Blocks(size, () if wrong else multihashes, wrong), size)
        self._engine.message_sent(message.id, (), message.size, self.world.net.now)
        self._pump()

    # the providers protocol

    def _drain_swarm(self) -> None:
        world = self.world
        changed = False
        while (effect := self._swarm.next_effect()) is not None:
            match effect:
                case SendUpdates(id=id, updates=updates, close=close):
                    self._send_updates(id, updates, close)
                case PeerFound(peer=peer):
                    self.add_provider(world.numbers[peer], full=False)
                case RangesChanged(peer=peer, ranges=ranges, hearsay=hearsay):
                    if self.session is not None:
                        self.session.receive_ranges(peer, ranges, hearsay=hearsay)
                        changed = True
        if changed:
            self._drain()
        if not self._swarm_wakes and self._swarm.next_timeout() is not None:
            self._swarm_wakes = True
            world.net.call_at(self._swarm.next_timeout() or 0.0, self._wake_swarm)

    def _wake_swarm(self) -> None:
        self._swarm_wakes = False
        if self.world.unfinished:
            self._swarm.handle_timeout(self.world.net.now)
            self._drain_swarm()

    def _send_updates(self, id: SubscriptionId, updates: tuple[Update, ...], close: bool) -> None:
        other = self._streams.get(id)
        if other is None:
            return
        data = tuple(encode_update(update) for update in updates)
        self.world.net.send(self.number, other, Told(id, data, close), sum(map(len, data)) + 2 * len(data))
        self._swarm.sent(id)
        if close:
            self._close_stream(id)

    def _close_stream(self, id: SubscriptionId) -> None:
        self._swarm.stream_closed(id)
        self._streams.pop(id, None)


class SwarmWorld:
    """Commands: `add`, `connect`, `dial`, `run`. Getters: `nodes`, `unfinished`. `net` is the clock."""

    def __init__(self, seed: int, content: Content, *, link: Link, trace: RunTrace | None = None) -> None:
        self.seed = seed
        self.content = content
        self.random = Random(seed)
        self._dial_time = 2 * DIAL_ROUND_TRIPS * link.latency
        self.net: SimNet[int] = SimNet(seed, default=link)
        self.nodes: dict[int, SwarmNode] = {}
        self.numbers: dict[PeerId, int] = {}
        self.leaf_numbers = {cid.multihash: index for index, cid in enumerate(content.leaves)}
        self.unfinished = 0
        self.trace = trace
        self._dialling: dict[tuple[int, int], None] = {}
        self._streams = 0
        if trace is not None:
            self.net.tap = self._note

    def add(self, count: int, *, upload: int, kind: Kind = Kind.HONEST, slots: int | None = None) -> list[SwarmNode]:
        """Nodes whose lines carry so many bytes of blocks a second upwards; wants and ranges are not held up by them.
        `slots`: how many peers each serves at a time, in place of what a node with this limit does."""
        added = []
        for _ in range(count):
            number = len(self.numbers)
            self.numbers[peer_of(number)] = number
            self.nodes[number] = node = SwarmNode(self, number, upload, kind, slots)
            added.append(node)
        return added

    def connect(self, one: int, other: int) -> None:
        """Both are connected, unless they are."""
        if one != other and other not in self.nodes[one].links:
            self.nodes[one].connected(other)
            self.nodes[other].connected(one)

    def dial(self, one: int, other: int) -> None:
        """A connection in a few round trips, or none."""
        if (one, other) not in self._dialling:
            self._dialling[one, other] = None
            silent = self.nodes[other].kind is Kind.UNREACHABLE
            self.net.call_later(DIAL_TIMEOUT if silent else self._dial_time, self._dialled, one, other)

    def new_stream(self) -> SubscriptionId:
        """A stream that both of its ends know by one number."""
        self._streams += 1
        return SubscriptionId(self._streams)

    def run(self, seconds: float) -> bool:
        """Let time pass until everybody has everything; False when they have not by then."""
        return self.net.run(lambda: self.unfinished == 0, seconds=seconds)

    def _dialled(self, one: int, other: int) -> None:
        del self._dialling[one, other]
        if self.nodes[other].kind is Kind.UNREACHABLE:
            self.nodes[one].unreachable(other)
        elif other in self.nodes[one].links:
            self.nodes[one].answered_dial(other)
        else:
            self.connect(one, other)

    def _note(self, now: float, sender: int, receiver: int, message: object) -> None:
        assert self.trace is not None
        if isinstance(message, bytes):
            data = message
        elif isinstance(message, Told):
            data = b"".join(message.updates)
        elif isinstance(message, Blocks):
            data = hashlib.sha256(b"".join(message.multihashes)).digest()
        self.trace.note(now, sender, receiver, data)


_decode = lru_cache(maxsize=1 << 16)(decode_update)
"""What is told to many is read once."""


def _open_record(data: bytes) -> PeerRecord:
    """Records of a simulation are peer ids: nobody signs."""
    return PeerRecord(PeerId.decode(data), 1, ())
