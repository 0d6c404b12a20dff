"""The host: one identity, its addresses, its connections and the protocols it serves. See `interfaces.Host`."""

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from types import TracebackType

import anyio

from stack.errors import StackError
from stack.identity.envelope import Envelope
from stack.identity.keys import PrivateKey, PublicKey
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import is_relayed
from stack.net.connection import LATENCY_SECONDS, Connection
from stack.net.dialer import Dialer, connect_by_addresses
from stack.net.direct import COORDINATION, Direct
from stack.net.events import CloseReason
from stack.net.interfaces import ConnectionInfo, DialError, Direction, PeerListener
from stack.net.limits import NetLimits
from stack.net.news import AddressNews
from stack.net.our_addresses import OurAddresses
from stack.net.peerstore import CONNECTED_SECONDS, Peerstore
from stack.net.resolver import Resolver
from stack.net.stream_places import STREAMS_OF_A_PROTOCOL
from stack.net.swarm import Swarm
from stack.net.upgrader import Upgrader
from stack.net.upkeep import WakeDetector
from stack.platform import interface_addresses
from stack.sansio.budget import Scope
from stack.streams.interfaces import Stream, StreamHandler
from stack.streams.supervision import Supervisor
from stack.trace import Trace
from stack.transports.interfaces import Transport
from stack.transports.late import default_transports, hosted

UPKEEP_SECONDS = 5.0
"""Between two looks at clocks, interfaces and idle duplicates; a moved laptop notices sooner where the system tells."""
PROBE_SECONDS = 4.0
"""For the answer to a probe after the machine slept or moved, or when a peer dials again: a transfer goes on within 5 s of a move."""

ConnectionHook = Callable[[Connection], Awaitable[None]]
"""Run for each new connection, in a task of its own that ends with the host; what it raises is logged and traced."""
LISTENER, PROBE = "a listener of the host", "a probe of a connection"  # what faults are reported of


class Host:
    """A context: inside `async with` it lives, leaving closes everything. Without `transports`: TCP and WebSocket."""

    def __init__(
        self,
        key: PrivateKey,
        *,
        transports: Sequence[Transport] | None = None,
        upgrader: Upgrader | None = None,
        limits: NetLimits | None = None,
        budget: Scope | None = None,
        peerstore: Peerstore | None = None,
        resolver: Resolver | None = None,
        trace: Trace | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        interfaces: Callable[[], list[str]] = interface_addresses,
        external: Sequence[Multiaddr] = (),
    ) -> None:
        self._key = key
        self.peer_id = PeerId.of(key.public)
        self.trace = trace
        self.limits = limits or NetLimits()
        self.budget = budget or Scope("host", self.limits.system)
        self.peerstore = peerstore or Peerstore()
        self._transports = list(transports) if transports is not None else default_transports()
        self._upgrader = upgrader or Upgrader.of(key)
        self._resolver = resolver or Resolver()
        self._clock = clock
        self._wall_clock = wall_clock
        self.ours = OurAddresses(key, lambda: self._swarm.listen_addresses, interfaces, external, self._changed, clock)
        """Where others can dial us, by who says so."""
        self._wake = WakeDetector(wall_clock(), clock())
        self.on_wake(self.peerstore.clock_jumped)
        self.on_wake(self.ours.clock_jumped)
        self._handlers: dict[str, StreamHandler] = {}
        self._stream_bounds: dict[str, int] = {}
        self._peer_listeners: list[PeerListener] = []
        self._hooks: list[ConnectionHook] = []
        self._change_callbacks: list[Callable[[], None]] = []
        self._tags: dict[PeerId, set[object]] = {}

    def __repr__(self) -> str:
        return f"<Host {self.peer_id}>"

    async def __aenter__(self) -> "Host":
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._tasks = Supervisor(self._group, self.trace)
        self._swarm = Swarm(
            self.peer_id,
            transports=[hosted(transport, self._key, self._tasks) for transport in self._transports],
            upgrader=self._upgrader,
            limits=self.limits,
            budget=self.budget,
            handlers=self._handlers,
            stream_bounds=self._stream_bounds,
            listener=self,
            tasks=self._tasks,
            protected=lambda peer: peer in self._tags,
            trace=self.trace,
            clock=self._clock,
        )
        self.direct = Direct(self._swarm, self.peerstore, self._clock, self._wall_clock, self.trace)
        self._dialer = Dialer(
            self._swarm.establish,
            self._swarm.can_dial,
            self._resolver,
            self._tasks,
            attempts_max=self.limits.dial_attempts,
            clock=self._clock,
            trace=self.trace,
        )
        self._tasks.keep(self._watch, owner="the upkeep of the host")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            await self._swarm.aclose(in_order=kind is None)
        except anyio.get_cancelled_exc_class() as cancelled:
            self._tasks.cancel()
            if not await self._group.__aexit__(type(cancelled), cancelled, cancelled.__traceback__):
                raise
            return None
        self._tasks.cancel()
        if kind is not None and issubclass(kind, anyio.get_cancelled_exc_class()):
            return await self._group.__aexit__(kind, error, traceback)
        await self._group.__aexit__(None, None, None)  # so that the caller's error is not wrapped in a group
        return None

    # --- what others know of us

    @property
    def public_key(self) -> PublicKey:
        """Of this host's identity."""
        return self._key.public

    def handle(self, protocol: str, handler: StreamHandler, *, streams: int = STREAMS_OF_A_PROTOCOL) -> None:
        """See `interfaces.Host.handle`."""
        self._handlers[protocol] = handler
        self._stream_bounds[protocol] = streams
        self._changed()

    def unhandle(self, protocol: str) -> None:
        """See `interfaces.Host.unhandle`; unknown protocols are ignored."""
        if self._handlers.pop(protocol, None) is not None:
            self._changed()

    def supported(self) -> list[str]:
        """The protocols that are served, in order of their registration."""
        return list(self._handlers)

    async def listen(self, address: Multiaddr) -> Multiaddr:
        """See `interfaces.Host.listen`."""
        bound = await self._swarm.listen(address)
        self._changed()
        return bound

    def addresses(self) -> list[Multiaddr]:
        """See `interfaces.Host.addresses`; what is seen from furthest away comes first."""
        return self.ours.all()

    def signed_record(self) -> bytes:
        """Our addresses, signed; a new sequence number only when they have changed."""
        return self.ours.signed_record(self._wall_clock())

    def seal(self, domain: str, payload_type: bytes, payload: bytes) -> bytes:
        """A payload in an envelope that this host has signed for the purpose `domain`."""
        return Envelope.seal(self._key, domain, payload_type, payload).encode()

    def carry(self, transport: Transport) -> None:
        """One more transport, which comes after the others."""
        self._swarm.carry(transport)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever our protocols or addresses have changed."""
        self._change_callbacks.append(callback)

    def on_wake(self, callback: Callable[[float], None]) -> Callable[[], None]:
        """See `interfaces.Host.on_wake`."""
        return self._wake.listen(callback)

    # --- peers

    def peer_budget(self, peer: PeerId) -> Scope:
        """See `interfaces.Host.peer_budget`."""
        return self._swarm.peer_scope(peer)

    async def connect(self, peer: PeerId | None, addresses: Sequence[Multiaddr] = ()) -> PeerId:
        """See `interfaces.Host.connect`."""
        if peer is None:
            return await connect_by_addresses(self.connect, self._dialer, addresses)
        if self._swarm.best(peer) is None:
            await self._dial(peer, addresses)
        return peer

    def can_dial(self, address: Multiaddr) -> bool:
        """A transport knows this address."""
        return self._swarm.can_dial(address)

    async def disconnect(self, peer: PeerId, *, misbehaved: bool = False) -> bool:
        """See `interfaces.Host.disconnect`."""
        return await self._swarm.close_peer(peer, CloseReason.MISBEHAVED if misbehaved else CloseReason.REQUESTED)

    def is_connected(self, peer: PeerId) -> bool:
        """See `interfaces.Host.is_connected`."""
        return self._swarm.best(peer) is not None

    def connections(self) -> list[ConnectionInfo]:
        """See `interfaces.Host.connections`."""
        return [connection.info(self.peerstore.agent(connection.peer)) for connection in self._swarm.all()]

    async def open_stream(self, peer: PeerId, *protocols: str) -> Stream:
        """See `interfaces.Host.open_stream`."""
        connection = self._swarm.best(peer) or await self._dial(peer, ())
        if connection.limited and not all(protocol.startswith(COORDINATION) for protocol in protocols):
            connection = await self.direct.wait(peer, connection, self._dialer.dial)
        try:
            return await connection.open_stream(protocols, self.peerstore.protocols(peer))
        except anyio.BrokenResourceError:
            # The connection may have ended just now, or been a duplicate that the peer closed; another may stand.
            other = self._swarm.best(peer)
            if other is None or other is connection:
                raise
            return await other.open_stream(protocols, self.peerstore.protocols(peer))

    def protocols(self, peer: PeerId) -> frozenset[str] | None:
        """See `interfaces.Host.protocols`."""
        return self.peerstore.protocols(peer)

    def protect(self, peer: PeerId, tag: str) -> Callable[[], None]:
        """See `interfaces.Host.protect`. The connection is also made again after the machine slept or moved."""
        token = (tag, object())
        self._tags.setdefault(peer, set()).add(token)

        def end() -> None:
            tags = self._tags.get(peer, set())
            tags.discard(token)
            if not tags:
                self._tags.pop(peer, None)

        return end

    def listen_to_peers(self, listener: PeerListener) -> Callable[[], None]:
        """See `interfaces.Host.listen_to_peers`."""
        self._peer_listeners.append(listener)
        for peer in self._swarm.peers():
            self._tasks.call(listener.peer_connected, peer, owner=LISTENER)
            protocols = self.peerstore.protocols(peer)
            if protocols is not None:
                self._tasks.call(listener.peer_identified, peer, protocols, owner=LISTENER)

        def end() -> None:
            if listener in self._peer_listeners:
                self._peer_listeners.remove(listener)

        return end

    # --- for services: identify tells what it learns

    def best_connection(self, peer: PeerId) -> Connection | None:
        """The connection that would carry a new stream; None when there is none, and nobody is dialled for it."""
        return self._swarm.best(peer)

    def start(self, duty: Callable[[], Awaitable[object]], owner: str = "a service of the host") -> None:
        """Run `duty` until the host closes, for `owner`, a few words for the log; when it raises it is begun again after a pause."""
        self._tasks.keep(duty, owner=owner)

    def on_connection(self, hook: ConnectionHook) -> None:
        """Run `hook` for each new connection."""
        self._hooks.append(hook)

    def identified(self, peer: PeerId, protocols: frozenset[str] | None, agent: str | None) -> None:
        """Identify has told what `peer` speaks (None: it did not say); listeners are told."""
        if not self._swarm.of(peer):
            return
        self.peerstore.identified(peer, protocols, agent)
        known = self.peerstore.protocols(peer)
        if known is not None:
            for listener in tuple(self._peer_listeners):
                self._tasks.call(listener.peer_identified, peer, known, owner=LISTENER)

    def told_addresses(self, peer: PeerId, addresses: Sequence[Multiaddr], record: bytes | None) -> None:
        """What a connected peer says of its own addresses: a valid record of its own counts, else the plain list."""
        if not self._swarm.of(peer):
            return
        now = self._wall_clock()
        if record is None or not self.peerstore.add_record(peer, record, CONNECTED_SECONDS, now):
            self.peerstore.replace_addresses(peer, addresses, CONNECTED_SECONDS, now)

    def told_observation(self, connection: Connection, address: Multiaddr) -> None:
        """The peer of `connection` sees us at `address`."""
        if connection.relayed or is_relayed(address):
            return
        local = connection.local_address
        connection.observed = local if address == local else address
        self.ours.observe(connection.address, address, dialled_us=connection.direction is Direction.INBOUND)

    # --- what the swarm tells

    def connection_opened(self, connection: Connection, first: bool) -> None:
        """See `SwarmListener`."""
        self.direct.changed()
        if connection.direction is Direction.OUTBOUND:
            self.peerstore.dialled(connection.peer, connection.address, self._wall_clock())
        self._dialer.peer_connected(connection)
        if first:
            self.peerstore.peer_connected(connection.peer)
            for listener in tuple(self._peer_listeners):
                self._tasks.call(listener.peer_connected, connection.peer, owner=LISTENER)
        for older in self._swarm.of(connection.peer):
            if older is not connection:  # who dials again may have lost it: a laptop that moved
                self._tasks.start(older.doubt, owner=PROBE)
        for hook in self._hooks:
            self._tasks.start(hook, connection, owner="a hook for new connections")
        self._tasks.start(connection.ping, LATENCY_SECONDS, owner=PROBE)

    def listener_ended(self, address: Multiaddr) -> None:
        """See `SwarmListener`."""
        self._changed()

    def connection_closed(self, connection: Connection, last: bool) -> None:
        """See `SwarmListener`."""
        self.direct.changed()
        for left in self.direct.left_by(connection):  # as if it had come just now: for a way without the relay
            for hook in self._hooks:
                self._tasks.start(hook, left, owner="a hook for new connections")
        if last:
            self.peerstore.peer_disconnected(connection.peer, self._wall_clock())
            for listener in tuple(self._peer_listeners):
                self._tasks.call(listener.peer_disconnected, connection.peer, owner=LISTENER)

    # --- inside

    async def upkeep(self) -> None:
        """One look at clocks, interfaces and connections; done every few seconds by itself."""
        self._swarm.upkeep()
        moved = self.ours.look()
        jump = self._wake.jump(self._wall_clock(), self._clock())
        for callback in self._wake.listeners() if jump else ():
            self._tasks.call(callback, jump, owner=LISTENER)
        if jump or moved:
            self._dialer.network_changed()
            await self.probe()

    async def probe(self) -> None:
        """Ask every connection for a sign of life, close those that give none, dial protected peers that are gone."""
        async with anyio.create_task_group() as group:
            probes = Supervisor(group, self.trace)
            for connection in self._swarm.all():
                probes.start(self._ask, connection, owner=PROBE)
        for peer in list(self._tags):
            if self._swarm.best(peer) is None:
                self._tasks.start(self._redial, peer, owner="dialling a protected peer again")

    def doubt(self, peer: PeerId) -> None:
        """Somebody waits for this peer in vain: connections to it that give no sign of life are closed, so that it is dialled again."""
        for connection in self._swarm.of(peer):
            self._tasks.start(connection.doubt, owner=PROBE)

    async def _ask(self, connection: Connection) -> None:
        if self.ours.has_lost(connection.local_address):
            await connection.aclose(CloseReason.UNRESPONSIVE)
        else:
            await connection.doubt(PROBE_SECONDS)

    async def _redial(self, peer: PeerId) -> None:
        with suppress(StackError):  # the trace tells of every attempt
            await self._dial(peer, ())

    async def _watch(self) -> None:
        with AddressNews(self.ours.of_this_computer) as news:
            while True:
                await news.wait(UPKEEP_SECONDS)
                await self.upkeep()

    async def _dial(self, peer: PeerId, addresses: Sequence[Multiaddr]) -> Connection:
        if peer == self.peer_id:
            raise DialError(peer, [(address, "that is this node itself") for address in addresses])
        known = [a for a in self.peerstore.addresses(peer, self._wall_clock()) if a not in self.addresses()]
        return await self._dialer.dial(peer, addresses, known)

    def _changed(self) -> None:
        for callback in self._change_callbacks:
            self._tasks.call(callback, owner=LISTENER)
