"""All connections of a host: taken in, dialled, kept, chosen between, trimmed."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence

import anyio

from stack.errors import TransportError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import is_relayed
from stack.net.connection import Connection, SwarmListener, supersede
from stack.net.entrance import Entrance, Visitor
from stack.net.events import CloseReason, ConnectionClosed, ConnectionOpened
from stack.net.interfaces import Direction
from stack.net.limits import NetLimits
from stack.net.pauses import Pauses
from stack.net.punching import Expected
from stack.net.scopes import PeerScopes
from stack.net.stream_places import StreamPlaces
from stack.net.upgrader import PHASE_SECONDS, Upgrader
from stack.net.upkeep import Standing, best, superfluous, to_trim
from stack.sansio.budget import Reservation, Resource, Scope
from stack.streams.interfaces import StreamHandler
from stack.streams.supervision import Supervisor
from stack.streams.turns import Turn
from stack.trace import Trace
from stack.transports.extras import lacking
from stack.transports.interfaces import Incoming, Listener, ListenError, NewConnection, SecuredConnection, Transport
from stack.transports.late import dial, protectable, punch

_log = logging.getLogger(__name__)

CANNOT_BE_PRIVATE = "this transport cannot carry a private network"
CLOSING = "closing a connection"
SHUTDOWN_SECONDS = 3.0
"""For all goodbyes together, and for what is on its way then."""
ACCEPT_PAUSE_SECONDS = 0.1
"""After an accept that failed in a way no transport should, so that the loop does not spin."""


class Swarm:
    """Commands: `listen`, `establish`, `close_peer`, `upkeep`, `aclose`. Getters: `of`, `best`, `all`, `peer_scope`."""

    def __init__(
        self,
        peer_id: PeerId,
        *,
        transports: Sequence[Transport],
        upgrader: Upgrader,
        limits: NetLimits,
        budget: Scope,
        handlers: Mapping[str, StreamHandler],
        stream_bounds: Mapping[str, int],
        listener: SwarmListener,
        tasks: Supervisor,
        protected: Callable[[PeerId], bool],
        trace: Trace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.peer_id = peer_id
        self._transports = list(transports)
        self._upgrader = upgrader
        self._limits = limits
        self._budget = budget
        self._of_connection: Mapping[Resource, int] = {Resource.BYTES: limits.connection_bytes}
        self._transient = budget.child("connections without identity", limits.transient)
        self._connections: dict[PeerId, list[Connection]] = {}
        self._scopes = PeerScopes(budget, limits.peer, self._connections)
        self._entrance = Entrance(
            limits, self._transient, standing=self._standing, close=self._close, clock=clock, trace=trace
        )
        self.expected = Expected()
        self._places = StreamPlaces(limits.streams, limits.streams_of_a_peer, stream_bounds)
        self._pauses = Pauses()
        self._starting = anyio.Lock(fast_acquire=True)
        self._handlers = handlers
        self._listener = listener
        self._tasks = tasks
        self._protected = protected
        self._trace = trace
        self._clock = clock
        self._listeners: list[Listener] = []
        self._closing = False

    def of(self, peer: PeerId) -> list[Connection]:
        """The connections to a peer."""
        return list(self._connections.get(peer, ()))

    def all(self) -> list[Connection]:
        """Every connection, peers in order of their first one."""
        return [connection for connections in self._connections.values() for connection in connections]

    def peers(self) -> list[PeerId]:
        """Everyone who is connected."""
        return list(self._connections)

    def best(self, peer: PeerId) -> Connection | None:
        """The connection for new streams."""
        usable = [connection for connection in self._connections.get(peer, ()) if not connection.closed]
        return best(usable, self._standing, self.peer_id, peer) if usable else None

    def peer_scope(self, peer: PeerId) -> Scope:
        """What this peer makes us hold."""
        return self._scopes.of(peer)

    def carry(self, transport: Transport) -> None:
        """One more transport."""
        self._transports.append(transport)

    def can_dial(self, address: Multiaddr) -> bool:
        """A transport knows this address."""
        return any(transport.can_dial(address) for transport in self._transports)

    @property
    def listen_addresses(self) -> list[Multiaddr]:
        """As the listeners tell them, wildcards included; what is listened on at a relay comes last."""
        return sorted((listener.address for listener in self._listeners), key=is_relayed)

    async def listen(self, address: Multiaddr) -> Multiaddr:
        """See `Host.listen`."""
        for transport in self._transports:
            if transport.can_listen(address):
                if self._upgrader.private and not protectable(transport, address):
                    raise ListenError(address, CANNOT_BE_PRIVATE)
                listener = await transport.listen(address)
                self._listeners.append(listener)
                self._tasks.keep(self._accept, listener, owner="accepting connections")
                return listener.address
        raise ListenError(address, lacking(address))

    async def establish(self, peer: PeerId | None, address: Multiaddr) -> Connection:
        """Dial one address. Raises TransportError, SecurityError, NegotiationError, LimitExceeded."""
        transport = next(transport for transport in self._transports if transport.can_dial(address))
        if self._upgrader.private and not protectable(transport, address):
            raise TransportError(CANNOT_BE_PRIVATE)
        target = address
        if is_relayed(address):
            if peer is None:
                raise TransportError("it does not say who is behind the relay")
            target = address.with_peer(str(peer))
        room = self._transient.reserve(Resource.CONNECTIONS_OUT)
        try:
            stream = await dial(transport, target, peer)
            return await self._upgrade(stream, Direction.OUTBOUND, peer, room, address)
        except BaseException:
            room.release()
            raise

    async def punch(self, peer: PeerId, address: Multiaddr, *, client: bool) -> Connection:
        """Dial one address from the port that is listened on, at the moment when the peer does the same; the `client` asks when the
        connection stands. By QUIC the other one only lets the client in, and does so until it is cancelled. Raises as `establish`."""
        transport = next((t for t in self._transports if t.can_dial(address)), None)
        if transport is None:
            raise TransportError("no transport understands this address")
        direction = Direction.OUTBOUND if client else Direction.INBOUND
        room = self._transient.reserve(Resource.CONNECTIONS_OUT if client else Resource.CONNECTIONS_IN)
        try:
            stream = await punch(transport, address, peer, client=client)
            return await self._upgrade(stream, direction, peer, room, address)
        except BaseException:
            room.release()
            raise

    async def close_peer(self, peer: PeerId, reason: CloseReason) -> bool:
        """Close all connections to a peer; False if there are none."""
        connections = self.of(peer)
        for connection in connections:
            await connection.aclose(reason)
            self._left(connection)
        return bool(connections)

    def upkeep(self) -> None:
        """To be called every few seconds: close duplicates that carry nothing, and what is too much."""
        now = self._clock()
        for peer, connections in list(self._connections.items()):
            for connection in connections:
                connection.look(now)
            for connection in superfluous(connections, self._standing, self.peer_id, peer, now):
                self._tasks.start(connection.aclose, CloseReason.DUPLICATE, owner=CLOSING)
        self._trim()

    async def aclose(self, *, in_order: bool = False) -> None:
        """Stop listening, close everything. Who ends in order waits some seconds for what is on its way, or until cancelled."""
        self._closing = True
        connections = self.all()
        with anyio.move_on_after(SHUTDOWN_SECONDS, shield=True):
            for listener in self._listeners:
                await listener.aclose()
            async with anyio.create_task_group() as closing:
                for connection in connections:
                    closing.start_soon(connection.aclose, CloseReason.SHUTDOWN)
        for connection in connections:
            self._left(connection)
        if in_order:
            with anyio.move_on_after(SHUTDOWN_SECONDS):
                for connection in connections:
                    await connection.wait_closed()

    async def _accept(self, listener: Listener) -> None:
        """Take in connections until the listener is closed; nothing else ends this loop (A11). As many in a turn of the event
        loop as it has time for: what waits in the kernel when too many come is not accepted for seconds (attack 6)."""
        turn = Turn()
        while True:
            try:
                incoming = await listener.accept()
                await turn.give_way()
                visitor = self._entrance.admit(incoming.remote_address)
                if visitor is None:
                    await incoming.aclose()
                else:
                    self._tasks.start(self._welcome, incoming, visitor, owner="an inbound connection")
            except anyio.ClosedResourceError:
                break
            except Exception:  # noqa: BLE001 - a transport of another package may raise anything; the others' callers go on
                _log.exception("fault while accepting on %s", listener.address)
                await anyio.sleep(ACCEPT_PAUSE_SECONDS)
        if not self._closing:  # a relay keeps no place for us any more
            self._listeners.remove(listener)
            self._listener.listener_ended(listener.address)

    async def _welcome(self, incoming: Incoming, visitor: Visitor) -> None:
        connection = None
        with visitor.scope:
            try:
                with anyio.fail_after(PHASE_SECONDS):
                    stream = await incoming.open()
                address = incoming.remote_address
                expected = self.expected.is_expected(address, self._clock()) and not isinstance(
                    stream, SecuredConnection
                )
                way = Direction.OUTBOUND if expected else Direction.INBOUND
                connection = await self._upgrade(stream, way, None, visitor.room, address, visitor)
            except Exception as error:  # noqa: BLE001 - strangers cause errors of every kind; none may harm the listener (A11)
                _log.debug("connection from %s failed: %r", incoming.remote_address, error)
            finally:
                self._entrance.through(visitor, connection)
                if connection is None:
                    await incoming.aclose()  # it may have been dropped before it was opened

    async def _upgrade(
        self,
        stream: NewConnection,
        direction: Direction,
        expected: PeerId | None,
        room: Reservation,
        address: Multiaddr,
        visitor: Visitor | None = None,
    ) -> Connection:
        """Make it a connection in the table. `room`, and the place of a `visitor`, belong to the connection when this returns, else to
        the caller, and the stream is closed."""
        further = visitor.arrival.further if visitor is not None else lambda: None
        try:
            connection = await self._made(stream, direction, expected, room, address, further)
        except BaseException:
            await stream.aclose()
            raise
        self._joined(connection)
        self._tasks.start(self._live, connection, room, visitor, owner="a connection")
        return connection

    async def _made(
        self,
        stream: NewConnection,
        direction: Direction,
        expected: PeerId | None,
        room: Reservation,
        address: Multiaddr,
        further: Callable[[], object],
    ) -> Connection:
        outbound = direction is Direction.OUTBOUND
        channel = await self._upgrader.secure(stream, outbound=outbound, expected=expected, agreed=further)
        further()
        peer = channel.remote_peer
        if peer == self.peer_id:
            raise TransportError("that is this node itself")
        scope = self.peer_scope(peer)
        room.move(scope)
        scope = scope.child(f"connection to {peer}", self._of_connection, *self._scopes.of_group(address))
        muxed = await self._upgrader.multiplex(channel, outbound=outbound, scope=scope)
        connection = Connection(
            muxed,
            direction=direction,
            address=address,
            opened_at=self._clock(),
            scope=scope,
            places=self._places,
            pauses=self._pauses,
            starting=self._starting,
            limited=getattr(stream, "limited", False),  # of a stream through a relay
            trace=self._trace,
        )
        if self._closing:
            await connection.aclose(CloseReason.SHUTDOWN)
            raise TransportError("the host is closing")
        return connection

    async def _live(self, connection: Connection, room: Reservation, visitor: Visitor | None) -> None:
        try:
            await connection.run(self._handlers, lambda: self._left(connection))
        finally:
            self._left(connection)
            room.release()
            if visitor is not None:
                self._entrance.left(visitor)

    def _joined(self, connection: Connection) -> None:
        (connections := self._connections.setdefault(connection.peer, [])).append(connection)
        if self._trace is not None:
            self._trace(
                ConnectionOpened(peer=connection.peer, address=connection.address, direction=connection.direction)
            )
        supersede(connections, self._clock())
        self._listener.connection_opened(connection, len(connections) == 1)
        self._trim()

    def _left(self, connection: Connection) -> None:
        connections = self._connections.get(connection.peer, [])
        if connection not in connections:
            return
        connections.remove(connection)
        if not connections:
            del self._connections[connection.peer]
        supersede(connections, self._clock())
        reason = connection.close_reason = connection.close_reason or CloseReason.REMOTE
        if self._trace is not None:
            self._trace(
                ConnectionClosed(
                    peer=connection.peer,
                    address=connection.address,
                    direction=connection.direction,
                    reason=reason,
                    seconds=self._clock() - connection.opened_at,
                )
            )
        self._listener.connection_closed(connection, not connections)

    def _trim(self) -> None:
        for connection in to_trim(
            [connection for connection in self.all() if not connection.closed],
            self._standing,
            low_water=self._limits.low_water,
            high_water=self._limits.high_water,
            grace=self._limits.grace,
            now=self._clock(),
        ):
            self._close(connection, CloseReason.TRIMMED)

    def _close(self, connection: Connection, reason: CloseReason) -> None:
        connection.close_reason = reason
        self._tasks.start(connection.aclose, reason, owner=CLOSING)

    def _standing(self, connection: Connection) -> Standing:
        return connection.standing(self._protected(connection.peer))
