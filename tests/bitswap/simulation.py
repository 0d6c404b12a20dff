"""The session and the engine of many peers on one simulated clock: no sockets, no bytes, only who sends what when."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from random import Random

from stack.bitswap.effects import Ask, Connect, PeerDropped, Withdraw
from stack.bitswap.engine import Engine, EngineParameters, LookUp, PresencesReady, SendBlocks
from stack.bitswap.interfaces import Order
from stack.bitswap.messages import Presence, Want, WantKind
from stack.bitswap.session import SessionMachine
from stack.bitswap.session_parameters import SessionParameters
from stack.bitswap.wants import PeerWants, SessionId
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.protocols.providers.ranges import LeafRanges
from tests.sim.simnet import SimNet

KIB = 1024
MIB = 1024 * 1024
ONLY = SessionId(1)


def peer_named(name: str) -> PeerId:
    """A peer id of nobody."""
    return PeerId.decode(b"\x12\x20" + hashlib.sha256(name.encode()).digest())


def cid_of(number: int) -> Cid:
    """The CID of a block that need not exist."""
    return Cid.of(number.to_bytes(8, "big"))


class SimPeer:
    """A peer that serves what it has, and may fetch. Behaviours are set as attributes."""

    def __init__(
        self, net: SimNet[PeerId], name: str, *, upload: float | None = None, engine: EngineParameters | None = None
    ) -> None:
        self.net = net
        self.name = name
        self.peer = peer_named(name)
        self.blocks: dict[bytes, int] = {}
        self.engine = Engine(engine)
        self.session: SessionMachine | None = None
        self.links: dict[PeerId, PeerWants] = {}
        self.received: dict[bytes, list[PeerId]] = {}
        self.sent_blocks: list[tuple[float, PeerId, bytes]] = []
        self.dropped: dict[PeerId, str] = {}
        self.asked: list[tuple[float, PeerId, Cid]] = []
        self.withdrawn: list[tuple[PeerId, Cid]] = []
        self.unreachable: set[PeerId] = set()
        self.lies = False
        """Sends wrong bytes for every block."""
        self.denies = False
        """Has nothing, whatever it is asked."""
        self.mute = False
        """Takes wants and never answers."""
        self.drips: int | None = None
        """Bytes of a message that the other side sees come, one piece after the other; None: it sees whole messages only."""
        self.on_block: Callable[[bytes], None] | None = None
        net.add(self.peer, self._receive, upload=upload)
        self.others: dict[PeerId, SimPeer] = {}

    def __repr__(self) -> str:
        return f"<SimPeer {self.name}>"

    # set-up

    def share(self, cids: Iterable[Cid], size: int) -> None:
        self.blocks.update((cid.multihash, size) for cid in cids)

    def connect(self, other: "SimPeer") -> None:
        """Both are connected from now on."""
        for here, there in ((self, other), (other, self)):
            if there.peer in here.others:
                continue
            here.others[there.peer] = there
            here.engine.peer_connected(there.peer)
            here.links[there.peer] = PeerWants()
            if here.session is not None:
                here.session.peer_connected(there.peer)
                here.drain()

    def disconnect(self, other: "SimPeer") -> None:
        for here, there in ((self, other), (other, self)):
            del here.others[there.peer]
            del here.links[there.peer]
            here.engine.peer_disconnected(there.peer)
            if here.session is not None:
                here.session.peer_disconnected(there.peer, here.net.now)
                here.drain()

    def fetch(
        self,
        cids: Sequence[Cid],
        *,
        order: Order = Order.SPREAD,
        broadcast: bool = False,
        leaves: Sequence[int] | None = None,
        parameters: SessionParameters | None = None,
    ) -> SessionMachine:
        self.session = SessionMachine(
            Random(bytes(self.peer)),
            order=order,
            broadcast=0.0 if broadcast else None,
            parameters=parameters or SessionParameters(window_together=0),
        )
        for peer in self.others:
            self.session.peer_connected(peer)
        self.session.want(cids, leaves)
        self.drain()
        self._tick()
        return self.session

    @property
    def done(self) -> bool:
        return self.session is not None and self.session.wanted == 0

    # what happens

    def _tick(self) -> None:
        assert self.session is not None
        deadline = self.session.next_timeout()
        if deadline is not None and self.net.now >= deadline:
            self.session.handle_timeout(self.net.now)
            self.drain()
        if self.session.wanted:
            self.net.call_later(0.1, self._tick)

    def drain(self) -> None:
        assert self.session is not None
        while (effect := self.session.next_effect(self.net.now)) is not None:
            match effect:
                case Ask(peer=peer, cids=cids, have=have, any_order=any_order):
                    self.asked += [(self.net.now, peer, cid) for cid in cids]
                    if peer in self.links:
                        self.links[peer].ask(ONLY, cids, WantKind.HAVE if have else WantKind.BLOCK, any_order=any_order)
                        self._tell(peer)
                case Withdraw(peer=peer, cids=cids):
                    self.withdrawn += [(peer, cid) for cid in cids]
                    if peer in self.links:
                        self.links[peer].withdraw(ONLY, cids)
                        self._tell(peer)
                case Connect(peer=peer):
                    if peer in self.others:
                        self.session.peer_connected(peer)
                    else:
                        self.unreachable.add(peer)
                        self.net.call_later(0.1, lambda peer=peer: self._unreachable(peer))
                case PeerDropped(peer=peer, reason=reason):
                    self.dropped[peer] = reason
                    if peer in self.links:
                        self.links[peer].end_session(ONLY)
                        self._tell(peer)

    def _unreachable(self, peer: PeerId) -> None:
        assert self.session is not None
        if peer not in self.others:
            self.session.peer_unreachable(peer, self.net.now)
            self.drain()

    def _tell(self, peer: PeerId) -> None:
        while self.links[peer].pending:
            wants, full = self.links[peer].take(512)
            self.net.send(self.peer, peer, ("wants", wants, full), 50 * len(wants))

    def _receive(self, sender: object, message: object) -> None:
        assert isinstance(sender, PeerId) and isinstance(message, tuple)
        if sender not in self.others:
            return
        match message:
            case ("wants", wants, full):
                self._receive_wants(sender, wants, full)
            case ("blocks", blocks):
                for multihash, size in blocks:
                    self._receive_block(sender, multihash, size)
            case ("piece", size):
                if self.session is not None:
                    self.session.receive_progress(sender, self.net.now, size)
            case ("wrong", size):
                if self.session is not None:
                    self.session.receive_wrong_block(sender, self.net.now)
            case ("presences", presences):
                for presence in presences:
                    if (
                        self.links[sender].answered(presence.cid.multihash, have=presence.have)
                        and self.session is not None
                    ):
                        self.session.receive_presence(sender, presence.cid.multihash, self.net.now, have=presence.have)
        if self.session is not None:
            self.drain()

    def _receive_wants(self, sender: PeerId, wants: tuple[Want, ...], full: bool) -> None:
        if self.mute:
            return
        if self.denies:
            no = [Presence(want.cid, False) for want in wants if not want.cancel]
            self.net.send(self.peer, sender, ("presences", no), 40 * len(no))
            return
        self.engine.receive_wants(sender, wants, full=full)
        self.pump()

    def _receive_block(self, sender: PeerId, multihash: bytes, size: int) -> None:
        self.links[sender].received(multihash)
        fresh = multihash not in self.blocks
        self.received.setdefault(multihash, []).append(sender)
        if self.session is None:
            return
        if not fresh:
            self.session.receive_late_block(sender, size, self.net.now)
            return
        self.blocks[multihash] = size
        self.session.receive_block(sender, multihash, size, self.net.now)
        self.engine.blocks_added([Cid.v1(0x55, multihash)], [size])
        self.pump()
        if self.on_block is not None:
            self.on_block(multihash)

    def pump(self) -> None:
        while (effect := self.engine.next_effect(self.net.now)) is not None:
            match effect:
                case LookUp(id=id, cids=cids):
                    self.engine.looked_up(id, [self.blocks.get(cid.multihash) for cid in cids])
                case PresencesReady(peer=peer):
                    presences = self.engine.take_presences(peer, 100_000)
                    self.net.send(self.peer, peer, ("presences", presences), 40 * len(presences))
                case SendBlocks():
                    self._send(effect)

    def _send(self, effect: SendBlocks) -> None:
        for cid in effect.cids:
            self.sent_blocks.append((self.net.now, effect.peer, cid.multihash))
            if self.lies:
                self.net.send(self.peer, effect.peer, ("wrong", 1000), 1000)
        if not self.lies:
            blocks = [(cid.multihash, self.blocks[cid.multihash]) for cid in effect.cids]
            left = effect.size
            while self.drips is not None and left > self.drips:
                self.net.send(self.peer, effect.peer, ("piece", self.drips), self.drips)
                left -= self.drips
            self.net.send(self.peer, effect.peer, ("blocks", blocks), left)

        def sent() -> None:
            self.engine.message_sent(effect.id, (), effect.size, self.net.now)
            self.pump()

        self.net.call_at(self.net.line_free(self.peer), sent)


class SimSwarm:
    """Peers of one root whose ranges are told to each other four times a second, as the providers protocol does."""

    def __init__(
        self,
        net: SimNet[PeerId],
        cids: Sequence[Cid],
        size: int,
        *,
        seeders: int = 1,
        receivers: int,
        upload: float,
        seeder_upload: float | None = None,
        numbered: bool = True,
    ) -> None:
        self.net = net
        self.cids = cids
        self.seeders = [SimPeer(net, f"seeder {index}", upload=seeder_upload or upload) for index in range(seeders)]
        self.receivers = [SimPeer(net, f"receiver {index}", upload=upload) for index in range(receivers)]
        self.ranges = {peer.peer: LeafRanges(len(cids)) for peer in self.receivers}
        number = {cid.multihash: index for index, cid in enumerate(cids)}
        for seeder in self.seeders:
            seeder.share(cids, size)
        everybody = self.seeders + self.receivers
        for index, peer in enumerate(everybody):
            for other in everybody[:index]:
                peer.connect(other)
        for receiver in self.receivers:
            own = self.ranges[receiver.peer]
            receiver.on_block = lambda multihash, own=own: own.add(number[multihash], number[multihash] + 1)
            session = receiver.fetch(cids, leaves=range(len(cids)) if numbered else None)
            for seeder in self.seeders:
                session.add_peer(seeder.peer)
            for other in self.receivers:
                if other is not receiver:
                    session.add_peer(other.peer, full=False)
        for receiver in self.receivers:
            receiver.drain()
        if numbered:
            self._tell_ranges()

    @property
    def done(self) -> bool:
        return all(receiver.done for receiver in self.receivers)

    @property
    def union_complete(self) -> bool:
        """The receivers together have everything."""
        return len(set().union(*(receiver.blocks for receiver in self.receivers))) == len(self.cids)

    def _tell_ranges(self) -> None:
        told = {peer: ranges.copy() for peer, ranges in self.ranges.items()}
        for receiver in self.receivers:
            for peer, ranges in told.items():
                if peer != receiver.peer and receiver.session is not None:
                    receiver.session.receive_ranges(peer, ranges)
            receiver.drain()
        if not self.done:
            self.net.call_later(0.25, self._tell_ranges)
