"""The block exchange on a host and a store: sessions that fetch, an engine that serves, one link a peer."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import cast

import anyio
import anyio.to_thread

from stack.bitswap.effects import Ask, Connect, LookUp, PeerDropped, PeerForgotten, SendBlocks, Withdraw
from stack.bitswap.engine import Engine, EngineParameters
from stack.bitswap.events import SessionPeerDropped
from stack.bitswap.interfaces import Access, Enclosure, Order, Provider, ProviderSource, Swarm
from stack.bitswap.ledger import Ledger
from stack.bitswap.messages import PROTOCOLS, BlockPrefix, Message, Payload, WantKind
from stack.bitswap.seeking import Seeking
from stack.bitswap.session import SessionMachine
from stack.bitswap.session_parameters import SessionParameters
from stack.bitswap.shell.delivery import Delivery
from stack.bitswap.shell.inbound import Inbound
from stack.bitswap.shell.intake import Arrival, Intake
from stack.bitswap.shell.link import Link, look_up
from stack.bitswap.shell.meeting import Meeting
from stack.bitswap.shell.session import FetchSession
from stack.bitswap.shell.shelf import Shelf
from stack.bitswap.shell.wire import Loan, Receiver, Throttle
from stack.bitswap.wants import PeerWants, SessionId, WantedBlocks
from stack.blocks.interfaces import BlockStore, ReadsToSend, RealmId
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.net.interfaces import Host
from stack.sansio.budget import Resource
from stack.streams.supervision import Supervisor, supervised
from stack.trace import TraceEvent

TICK_SECONDS = 0.1
"""How late a time-out may come while something is being fetched."""

STREAMS_PER_PEER_MAX = 32
"""Of one version: ours open two; Kubo opens one for each message, and closes it when it has gone."""

HAND_OVER_THREADS = 2
"""Worker calls, of all sessions, that hand over what is here already."""

DEPARTED_MAX = 64
"""Peers whose connection or link ended of whom it is remembered what they had been told: what came last may still be in hand."""


class Bitswap:
    """Implements `Exchange`. Made by `Bitswap.open`, a context that owns all its tasks."""

    def __init__(
        self,
        host: Host,
        store: BlockStore,
        tasks: Supervisor,
        *,
        swarm: Swarm | None,
        access: Access | None,
        upload: int,
        download: int,
    ) -> None:
        self.host = host
        self.store = store
        self.engine = Engine(EngineParameters.of(upload, host.budget.limit(Resource.BYTES)))
        self.shelf = Shelf()
        self.throttle = Throttle(upload) if upload else None
        self._parameters = SessionParameters.limited(download) if download else None
        self.wanted = WantedBlocks()
        self._tasks = tasks
        self._swarm = swarm
        self._access = access
        self._meeting = Meeting(self, tasks, swarm, access)
        if access is not None:
            access.listen(self._admitted)
        self.sources: list[ProviderSource] = []
        self.serving = True
        self.sessions: dict[SessionId, FetchSession] = {}
        self._session_id = 0
        self._links: dict[PeerId, Link] = {}
        self._departed: dict[PeerId, PeerWants] = {}
        self._delivery = Delivery(self)
        self._intake = Intake(self.wanted, self._delivery)
        self._receiver = Receiver(
            host,
            receive=self._receive,
            progress=self._delivery.progress,
            broken=self._delivery.broken,
            asked=self._is_asked,
            room=self._intake.room,
            throttle=Throttle(download) if download else None,
        )
        self.inbound = Inbound(host, self._receiver, self._delivery.offences, tasks)
        tasks.keep(self._intake.verify, owner="hashing received blocks")
        tasks.keep(self._intake.deliver, owner="delivery of blocks")
        self.limiter = anyio.CapacityLimiter(HAND_OVER_THREADS)
        self._tick_event = anyio.Event()
        tasks.keep(self._run_ticker, owner="the clock of bitswap")
        tasks.keep(self._receiver.rest, owner="free buffers of bitswap")
        if hasattr(store, "let_go"):
            tasks.keep(cast(ReadsToSend, store).let_go, owner="files that lie open to be sent")

    def __repr__(self) -> str:
        return f"<Bitswap {self.host.peer_id}: {len(self.sessions)} sessions, {len(self._links)} links>"

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        host: Host,
        store: BlockStore,
        *,
        sources: Sequence[ProviderSource] = (),
        swarm: Swarm | None = None,
        access: Access | None = None,
        serve: bool = True,
        upload: int = 0,
        download: int = 0,
    ) -> AsyncIterator["Bitswap"]:
        """Serve the store's blocks to every peer of `host` (without `serve`: say that nothing is here), and fetch what sessions
        want, until the context is left. `sources` (asked by sessions that seek; may be added to) and `swarm` find providers.
        `access` knows which peers are given what is not for everybody.
        `upload` and `download` bound the blocks of all peers together, in bytes a second; 0 is no bound."""
        with ExitStack() as afterwards:
            async with supervised(host.trace) as tasks:
                exchange = cls(host, store, tasks, swarm=swarm, access=access, upload=upload, download=download)
                # When its tasks have ended: then nobody works any more on what is let go.
                afterwards.callback(exchange._intake.clear)
                exchange.sources += sources
                exchange.serving = serve
                for protocol in PROTOCOLS:
                    host.handle(protocol, exchange.inbound.serve, streams=STREAMS_PER_PEER_MAX)
                stop_listening = host.listen_to_peers(exchange)
                try:
                    yield exchange
                finally:
                    stop_listening()
                    for protocol in PROTOCOLS:
                        host.unhandle(protocol)
                    exchange._intake.close()
                    for link in exchange._links.values():
                        link.close()

    # Exchange

    @asynccontextmanager
    async def session(
        self,
        root: Cid,
        *,
        providers: Sequence[Provider] = (),
        order: Order = Order.SPREAD,
        broadcast: bool = False,
        head_start: float = 0.0,
        seek: float | None = None,
        enclosure: Enclosure | None = None,
    ) -> AsyncIterator[FetchSession]:
        """See Exchange."""
        self._session_id += 1
        # The order of a session differs from peer to peer, so that receivers of one root have different pieces to trade.
        seeded = random.Random(bytes(self.host.peer_id) + bytes(root))
        now = anyio.current_time()
        ask_at = now + head_start if head_start and self.sources else 0.0
        machine = SessionMachine(
            seeded,
            order=order,
            broadcast=ask_at if broadcast and enclosure is None else None,
            parameters=self._parameters,
        )
        session = FetchSession(
            self,
            SessionId(self._session_id),
            root,
            machine,
            partial(self.host.protect, tag=f"bitswap {self._session_id}"),
            Seeking(0.0 if broadcast else seek, now),
            enclosure,
        )
        self.sessions[session.id] = session
        if enclosure is None:
            for peer in {connection.peer: None for connection in self.host.connections()}:
                machine.peer_connected(peer)
        leave = self._swarm.join(root, session) if self._swarm is not None else lambda: None
        for provider in providers:
            session.add_provider(provider)
        ended = anyio.Event()
        scope = anyio.CancelScope()
        self._tasks.start(session.run, self.sources, scope, ended, owner="a bitswap session")
        session.look(now)
        if session.seeking.active:
            self._meeting.ask_connected(session)
        self._tick_event.set()
        try:
            yield session
            await session.aclose()
        finally:
            await session.flush()
            leave()
            session.end()
            del self.sessions[session.id]
            for link in self._links.values():
                link.wants.end_session(session.id)
                link.wake()
            scope.cancel()
            with anyio.CancelScope(shield=True):
                await ended.wait()

    def ledger(self, peer: PeerId) -> Ledger | None:
        """What has passed between us and a connected peer."""
        return self.engine.ledger(peer)

    def blocks_added(self, cids: Sequence[Cid], sizes: Sequence[int], realms: frozenset[RealmId] | None = None) -> None:
        """Blocks have come into the store, from wherever, for these realms or for everybody: peers that wait for them get them."""
        if self.serving:
            self.engine.blocks_added(cids, sizes, realms)
            self.pump()

    def realm_opened(self) -> None:
        """What was for few is for everybody now."""
        self.engine.realm_opened()
        self.pump()

    def _admitted(self, peer: PeerId, realms: frozenset[RealmId]) -> None:
        self.engine.peer_admitted(peer, realms)
        self.pump()

    # PeerListener

    def peer_connected(self, peer: PeerId) -> None:
        """See PeerListener."""
        self.engine.peer_connected(peer)
        if self._access is not None:
            self.engine.peer_admitted(peer, self._access.admitted(peer))
        for session in self.sessions.values():
            self._meeting.connected(session, peer)
            self.drain(session)

    def peer_identified(self, peer: PeerId, protocols: frozenset[str]) -> None:
        """See PeerListener."""

    def peer_disconnected(self, peer: PeerId) -> None:
        """See PeerListener."""
        self.engine.peer_disconnected(peer)
        self._delivery.offences.peer_disconnected(peer)
        self._part(peer)
        now = anyio.current_time()
        for session in self.sessions.values():
            session.machine.peer_disconnected(peer, now)
            self.drain(session)

    # Hub

    def drain(self, session: FetchSession) -> None:
        """See Hub."""
        now = anyio.current_time()
        self._tick_event.set()
        while (effect := session.machine.next_effect(now)) is not None:
            match effect:
                case Ask(peer=peer, cids=cids, have=have, any_order=any_order):
                    link = self.link(peer)
                    link.wants.ask(session.id, cids, WantKind.HAVE if have else WantKind.BLOCK, any_order=any_order)
                    link.wake()
                case Withdraw(peer=peer, cids=cids):
                    if peer in self._links:
                        self._links[peer].wants.withdraw(session.id, cids)
                        self._links[peer].wake()
                case Connect(peer=peer):
                    gone = partial(session.peer_unreachable, peer, now, None)
                    self._tasks.start(self._meeting.dial, session, peer, owner="a dial of bitswap", failed=gone)
                case PeerDropped(peer=peer, reason=reason):
                    if peer in self._links:
                        self._links[peer].wants.end_session(session.id)
                        self._links[peer].wake()
                    session.peer_left_out(peer, forgotten=False)
                    self.trace(SessionPeerDropped(peer=peer, root=session.root, reason=reason))
                case PeerForgotten(peer=peer):
                    session.peer_left_out(peer, forgotten=True)

    def provider_added(self, session: FetchSession, peer: PeerId) -> None:
        """See Hub."""
        if self.host.is_connected(peer):
            self._meeting.connected(session, peer)
        self.drain(session)

    async def found_here(self, cid: Cid, block: bytes) -> None:
        """See Hub."""
        payload = Payload(BlockPrefix(cid.version, cid.codec, cid.hash_code, len(cid.digest)), memoryview(block))
        self._intake.add(Arrival(peer=self.host.peer_id, told=None, blocks=(payload,), loan=None, again=True))
        await self._intake.room()

    # link

    def peer_unreachable(self, peer: PeerId, reason: str | None) -> None:
        """A link gave up: nothing can be sent to this peer; with a `reason`, never."""
        self._part(peer)
        now = anyio.current_time()
        for session in self.sessions.values():
            session.peer_unreachable(peer, now, reason)
            self.drain(session)

    # receiving

    def _is_asked(self, peer: PeerId) -> bool:
        link = self._links.get(peer)
        return link is not None and len(link.wants) > 0

    def _receive(self, peer: PeerId, message: Message, loan: Loan | None) -> None:
        now = anyio.current_time()
        if message.wants or message.full:
            self.engine.receive_wants(peer, message.wants, full=message.full)
            self.pump()
        link = self._links.get(peer)
        if message.presences and link is not None:
            for presence in message.presences:
                multihash = presence.cid.multihash
                for session in self._delivery.those(link.wants.answered(multihash, have=presence.have)):
                    session.machine.receive_presence(peer, multihash, now, have=presence.have)
            self._delivery.settle()
        told = link.wants if link is not None else self._departed.get(peer)
        if message.blocks and not self._delivery.offences.is_cut(peer, now):
            self._intake.add(Arrival(peer=peer, told=told, blocks=message.blocks, loan=loan))
        elif loan is not None:
            self._delivery.let_go(message, loan)

    def cut(self, peer: PeerId) -> None:
        """See DeliveryOwner."""
        self._intake.drop(peer)
        self._tasks.start(partial(self.host.disconnect, peer, misbehaved=True), owner="cutting off a peer")

    # serving

    def pump(self) -> None:
        """Let the engine's next effects happen; of an exchange that is over, nothing more."""
        now = anyio.current_time()
        while not self._tasks.cancelled and (effect := self.engine.next_effect(now)) is not None:
            match effect:
                case LookUp():
                    self._tasks.start(self._look_up, effect, owner="a look-up in the store")
                case SendBlocks():
                    self._tasks.start(self.link(effect.peer).send_blocks, effect, owner="sending blocks")
                case _:
                    self.link(effect.peer).wake()

    async def _look_up(self, effect: LookUp) -> None:
        awaited = partial(self.engine.awaits, effect.id)
        sizes: Sequence[int | None] = [None] * len(effect.cids)
        try:
            if self.serving:
                sizes = await look_up(self.store, effect.cids, awaited, effect.admitted)
        finally:
            self.engine.looked_up(effect.id, sizes)
            self._receiver.missed(effect.peer, sum(size is None for size in sizes))
            self.pump()

    # tasks

    def link(self, peer: PeerId) -> Link:
        """What goes to a peer that is connected."""
        if peer not in self._links:
            self._links[peer] = Link(self, peer, self._departed.pop(peer, None))
            gone = partial(self.peer_unreachable, peer, None)
            self._tasks.start(self._links[peer].run, owner="a link of bitswap", failed=gone)
        return self._links[peer]

    def _part(self, peer: PeerId) -> None:
        """Nothing more can be told to this peer on what there was between us and it."""
        link = self._links.pop(peer, None)
        if link is not None:
            link.close()
            link.wants.lost()
            self._departed[peer] = link.wants
            if len(self._departed) > DEPARTED_MAX:
                del self._departed[next(iter(self._departed))]

    async def _run_ticker(self) -> None:
        while True:
            now = anyio.current_time()
            busy = False
            for session in tuple(self.sessions.values()):
                busy |= session.machine.wanted > 0
                if session.look(now):
                    self._meeting.ask_connected(session)
                if (deadline := session.machine.next_timeout()) is not None and now >= deadline:
                    self._tasks.call(session.handle_timeout, now, owner="a bitswap session")
            if busy:
                await anyio.sleep(TICK_SECONDS)
            else:
                self._tick_event = anyio.Event()
                await self._tick_event.wait()

    def trace(self, event: TraceEvent) -> None:
        """See Hub."""
        if self.host.trace is not None:
            self.host.trace(event)
