"""One UDP socket, and all connections that use it, those that we dial and those that come to us."""

import errno
import secrets
import socket
import time
from collections import deque

import anyio
import anyio.lowlevel

from stack.errors import TransportError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.streams.accepting import AcceptFaults
from stack.streams.turns import Turn
from stack.transports.quic import udp
from stack.transports.quic.address import multiaddr_of
from stack.transports.quic.connection import QuicConnection
from stack.transports.quic.front import FIRST_DATAGRAMS_MAX, Answer, Beginning, Front
from stack.transports.quic.library import ID_BYTES, Address, Credentials
from stack.transports.quic.machine import QuicMachine
from stack.transports.tcp import reason_of

HANDSHAKE_SECONDS = 10.0
"""For a handshake, as for TLS over TCP."""
DATAGRAM_BYTES_MAX = 65536
RECEIVE_BUFFER_BYTES = 2 * 1024 * 1024
"""Asked of the kernel, which may give less: what comes while the event loop is busy waits there, or is lost."""


class QuicIncoming:
    """An `Incoming`: some first datagrams; nothing is computed before it is opened."""

    def __init__(self, endpoint: "Endpoint", beginning: Beginning, address: Address, source: str | None) -> None:
        """`source`: which of our addresses it came to, where that is told."""
        self._endpoint = endpoint
        self._source = source
        self._beginning = beginning
        self._datagrams: list[tuple[bytes, Address]] = []
        self._waits = True
        self.remote_address = multiaddr_of(endpoint.family, address)
        self._address = address
        endpoint.front.began(address)
        endpoint.front.add(beginning.id, self)

    def receive(self, data: bytes, address: Address, now: float) -> None:
        """One more of its datagrams."""
        if len(self._datagrams) < FIRST_DATAGRAMS_MAX:
            self._datagrams.append((data, address))

    def flush(self) -> None:
        """Nothing is said before it is opened."""

    async def open(self) -> QuicConnection:
        """See `Incoming.open`: do the handshake. Raises TransportError, SecurityError."""
        if not self._waits:
            raise TransportError("closed")
        self._waits = False
        try:
            now = anyio.current_time()
            beginning = self._beginning
            machine = QuicMachine.accept(
                self._endpoint.credentials,
                original_id=beginning.original_id,
                retry_id=beginning.retry_id,
                wall=time.time(),
                now=now,
            )
            connection = self._endpoint.join(machine, self._datagrams[0][1], self.remote_address, self._source)
            self._endpoint.front.add(beginning.id, connection)
            for data, address in self._datagrams:
                machine.receive_datagram(data, address, now)
            return await shaken(connection)
        finally:
            self._leave()

    async def aclose(self) -> None:
        """See `Incoming.aclose`."""
        if self._waits:
            self._waits = False
            self._leave()

    def _leave(self) -> None:
        self._endpoint.front.ended(self._address)
        self._endpoint.front.remove(self)
        self._endpoint.settle()


class Endpoint:
    """Owns `line`. `run` is to be started once and lasts until nobody needs the socket. It is a `Line` of its connections."""

    def __init__(self, line: socket.socket, credentials: Credentials) -> None:
        line.setblocking(False)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._line = line
        self.family = line.family
        self.bound: Address = line.getsockname()
        self._told = is_wildcard(self.bound) and udp.tells_destination(line)
        self.address = multiaddr_of(self.family, self.bound)
        self.credentials = credentials
        self.front: Front[QuicIncoming | QuicConnection] = Front(lambda: secrets.token_bytes(ID_BYTES))
        self.incoming: deque[QuicIncoming] = deque()
        self.arrived = anyio.Event()
        """Set when somebody has come, or the endpoint has stopped listening."""
        self._connections: set[QuicConnection] = set()
        self._busy: dict[QuicIncoming | QuicConnection, None] = {}
        self._faults = AcceptFaults(str(self.address))
        self.closed = False

    async def dial(self, target: Address, remote: Multiaddr, expected: PeerId | None) -> QuicConnection:
        """A connection to who is there, who has proved to be `expected`. Raises TransportError, SecurityError."""
        now = anyio.current_time()
        machine = QuicMachine.dial(self.credentials, target, expected=expected, wall=time.time(), now=now)
        return await shaken(self.join(machine, target, remote))

    def join(
        self, machine: QuicMachine, target: Address, remote: Multiaddr, source: str | None = None
    ) -> QuicConnection:
        """A connection whose datagrams go through this socket, from `source` of our addresses; without, from the one that the system
        chooses. Raises TransportError when there is no way to `target`."""
        try:
            local = self._local(target, source)
        except OSError as error:
            self.settle()
            raise TransportError(reason_of(error)) from error
        connection = QuicConnection(machine, self, local=local, remote=remote, source=source)
        self._connections.add(connection)
        return connection

    async def run(self) -> None:
        """Take in datagrams until the socket is closed. When this is cancelled, every connection is over: their peers are told."""
        try:
            await self._read_on()
        except anyio.get_cancelled_exc_class():
            for connection in tuple(self._connections):
                connection.drop()
            self._close()
            raise

    async def _read_on(self) -> None:
        """As many in a turn of the event loop as it has time for."""
        turn = Turn()
        while not self.closed:
            try:
                if self._told:
                    data, address, source = udp.receive(self._line, DATAGRAM_BYTES_MAX)
                else:
                    data, address = self._line.recvfrom(DATAGRAM_BYTES_MAX)
                    source = None
            except (BlockingIOError, InterruptedError):
                self._flush()
                if not self.closed:
                    try:
                        await anyio.wait_readable(self._line)
                    except (anyio.ClosedResourceError, OSError):
                        continue
                turn.begin()
            except OSError as error:
                if not self.closed:
                    await self._faults.survive(error)
            else:
                self._receive(data, address, source, anyio.current_time())
                if turn.over:
                    self._flush()
                    await turn.give_way()

    def listen(self, *, on: bool) -> None:
        """Begin or end to take in connections; those that nobody has opened are dropped then."""
        self.front.listening = on
        if not on:
            while self.incoming:
                self.incoming.popleft()._leave()
            self.arrived.set()
            self.settle()

    def settle(self) -> None:
        """Close the socket if nobody needs it any more."""
        if not self.front.listening and not self._connections and not len(self.front):
            self._close()

    def _close(self) -> None:
        if not self.closed:
            self.closed = True
            anyio.notify_closing(self._line)
            self._line.close()

    # A `Line` of its connections.

    def send(self, datagrams: list[tuple[bytes, Address]], source: str | None) -> None:
        """See `Line`."""
        if self.closed:
            return
        for data, address in datagrams:
            try:
                if source is None:
                    self._line.sendto(data, address)
                else:
                    udp.send(self._line, data, address, source)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EPERM, errno.EMSGSIZE, errno.ECONNREFUSED):
                    return  # no way there, for now: it is sent again, or given up

    def add(self, id: bytes, connection: QuicConnection) -> None:
        """See `Line`."""
        self.front.add(id, connection)

    def remove_id(self, id: bytes) -> None:
        """See `Line`."""
        self.front.remove_id(id)

    def leave(self, connection: QuicConnection, farewell: bytes) -> None:
        """See `Line`."""
        self._connections.discard(connection)
        self._busy.pop(connection, None)
        if farewell:
            self.front.bid_farewell(connection, farewell, anyio.current_time())
        else:
            self.front.remove(connection)
        self.settle()

    def _local(self, target: Address, source: str | None) -> Multiaddr:
        """Our end. Raises OSError."""
        if source is not None:
            return multiaddr_of(self.family, (source, self.bound[1]))
        return source_of(self.family, target, self.bound[1]) if is_wildcard(self.bound) else self.address

    def _receive(self, data: bytes, address: Address, source: str | None, now: float) -> None:
        owner = self.front.sort(data, address, now)
        match owner:
            case None:
                return
            case Answer(data=answer):
                self.send([(answer, address)], source)
                return
            case Beginning():
                owner = QuicIncoming(self, owner, address, source)
                self.incoming.append(owner)
                self.arrived.set()
                self.arrived = anyio.Event()
        owner.receive(data, address, now)
        self._busy[owner] = None

    def _flush(self) -> None:
        busy, self._busy = self._busy, {}
        for owner in busy:
            owner.flush()


async def shaken(connection: QuicConnection) -> QuicConnection:
    """The connection when its handshake is over; dropped when that fails."""
    try:
        with anyio.fail_after(HANDSHAKE_SECONDS):
            await connection.handshake()
    except BaseException as error:
        connection.drop()
        if isinstance(error, TimeoutError):
            raise TransportError(f"no answer within {HANDSHAKE_SECONDS:g} s") from None
        raise
    return connection


def is_wildcard(bound: Address) -> bool:
    """Every address of this computer."""
    return bound[0] in ("0.0.0.0", "::")


def source_of(family: int, target: Address, port: int) -> Multiaddr:
    """Where datagrams to `target` leave from, by the system's table of routes. Raises OSError when there is no way."""
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.connect(target)
        here = asking.getsockname()
    return multiaddr_of(family, (here[0], port, *here[2:]))
