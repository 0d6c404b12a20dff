"""TCP over IPv4 and IPv6: `/ip4/1.2.3.4/tcp/4001`, `/ip6/::1/tcp/4001`, `/ip6zone/eth0/ip6/fe80::1/tcp/4001`."""

import errno
import os
import socket
import sys
from functools import lru_cache
from ipaddress import ip_address

import anyio

from stack.errors import TransportError
from stack.multiformats.multiaddr import Multiaddr
from stack.streams.accepting import AcceptFaults
from stack.streams.socket import SocketStream
from stack.transports.interfaces import ListenError

BACKLOG = 256
"""The kernel's queue of finished connections; a burst of a swarm coming back fits."""
DIAL_SECONDS = 5.0
"""go-libp2p's TCP dial limit; one lost SYN is sent again within it."""

PORTS_SHARED = sys.platform == "linux"
"""A port that is listened on may be dialled from, once both sockets say so; elsewhere the listener would have to say so before it has
the port, and would then share it with any other program."""
PORT_TAKEN = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)

_FORMS = (("ip4", "tcp"), ("ip6", "tcp"), ("ip6zone", "ip6", "tcp"))


class _PortTaken(Exception):
    """The port cannot be shared for this connection."""


class TcpTransport:
    """A `Transport` for plain TCP."""

    protectable = True

    def __init__(self) -> None:
        self._listeners: list[TcpListener] = []

    def can_dial(self, address: Multiaddr) -> bool:
        """True for an IP address with a TCP port and nothing behind it."""
        return address.protocols in _FORMS

    def can_listen(self, address: Multiaddr) -> bool:
        """See `can_dial`."""
        return self.can_dial(address)

    def apart(self) -> "TcpTransport":
        """See `transports.interfaces.Transport`."""
        return TcpTransport()

    async def dial(self, address: Multiaddr) -> SocketStream:
        """See `Transport.dial`. To a public address it leaves from a port that is listened on, if it can: a router then keeps one
        outside port for both, and what the other end sees is where others reach us. On one's own network it does not: two who dial
        each other there at the same moment would meet in one connection, and each would take the other for the one who answers."""
        return await self._dial(address, from_port=_is_public(address))

    async def dial_from_port(self, address: Multiaddr) -> SocketStream:
        """Dial from a port that is listened on, whatever the address. Raises TransportError, also when there is none."""
        family, _ = socket_address(address)
        if self._port_of(family) is None:
            raise TransportError("no port is listened on from which it could be dialled")
        return await self._dial(address, from_port=True)

    def _port_of(self, family: int) -> tuple[str, int] | None:
        """Where a socket has to be bound to share the port of a listener."""
        if not PORTS_SHARED:
            return None
        self._listeners = [listener for listener in self._listeners if not listener.closed]
        bound = [listener.bound for listener in self._listeners if listener.family == family]
        return next((place for place in bound if not ip_address(place[0]).is_loopback), None)

    async def _dial(self, address: Multiaddr, *, from_port: bool) -> SocketStream:
        family, target = socket_address(address)
        source = self._port_of(family) if from_port else None
        if source is not None:
            try:
                return await self._connect(family, target, source)
            except _PortTaken:
                pass  # there is, or was a moment ago, a connection from this port to there
        return await self._connect(family, target, None)

    async def _connect(
        self,
        family: socket.AddressFamily,
        target: tuple[str, int] | tuple[str, int, int, int],
        source: tuple[str, int] | None,
    ) -> SocketStream:
        try:
            connection = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # no descriptors left: for now, and no fault of ours
            raise TransportError(reason_of(error)) from error
        try:
            connection.setblocking(False)
            if source is not None:
                _share_port(connection)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                connection.bind(source)
            with anyio.fail_after(DIAL_SECONDS):
                code = connection.connect_ex(target)
                if code in (errno.EINPROGRESS, errno.EWOULDBLOCK):
                    await anyio.wait_writable(connection)
                    code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code and source is not None and code in PORT_TAKEN:
                raise _PortTaken
            if code:
                raise TransportError(os.strerror(code).lower())
            return _stream(connection)
        except TimeoutError:
            connection.close()
            raise TransportError(f"no answer within {DIAL_SECONDS:g} s") from None
        except OSError as error:
            connection.close()
            if source is not None and error.errno in PORT_TAKEN:
                raise _PortTaken from error
            raise TransportError(reason_of(error)) from error
        except BaseException:
            connection.close()
            raise

    async def listen(self, address: Multiaddr) -> "TcpListener":
        """See `Transport.listen`."""
        await anyio.lowlevel.checkpoint()
        try:
            family, target = socket_address(address)
            listening = socket.socket(family, socket.SOCK_STREAM)
        except (OSError, TransportError) as error:
            raise ListenError(address, reason_of(error)) from error
        try:
            listening.setblocking(False)
            if os.name == "posix":
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # One socket a family: an IPv4 peer has an IPv4 address, and both may listen on the same port.
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(target)
            listening.listen(BACKLOG)
        except OSError as error:
            listening.close()
            raise ListenError(address, reason_of(error)) from error
        if PORTS_SHARED:
            # Only now: a second listener on this port, which asks for it beforehand, is refused as ever.
            _share_port(listening)
        listener = TcpListener(listening)
        self._listeners.append(listener)
        return listener


class TcpIncoming:
    """An accepted socket."""

    def __init__(self, connection: socket.socket, remote_address: Multiaddr) -> None:
        self._connection: socket.socket | None = connection
        self.remote_address = remote_address

    async def open(self) -> SocketStream:
        """The stream; nothing is left to do. Raises TransportError when the peer has gone already."""
        await anyio.lowlevel.checkpoint()
        connection, self._connection = self._connection, None
        if connection is None:
            raise TransportError("closed")
        try:
            return _stream(connection)
        except OSError as error:
            connection.close()
            raise TransportError(reason_of(error)) from error

    async def aclose(self) -> None:
        """See `Incoming.aclose`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class TcpListener:
    """See `Listener`."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._closed = False
        self.family = listening.family
        self.bound: tuple[str, int] = listening.getsockname()[:2]
        self.address = multiaddr_of(listening.family, listening.getsockname())
        self._faults = AcceptFaults(str(self.address))

    @property
    def closed(self) -> bool:
        """It is listened on no longer."""
        return self._closed

    async def accept(self) -> TcpIncoming:
        """See `Listener.accept`. Every error but our own closing is survived (A11)."""
        while True:
            if self._closed:
                raise anyio.ClosedResourceError
            try:
                connection, remote = self._listening.accept()
            except BlockingIOError:
                await anyio.wait_readable(self._listening)
                continue
            except OSError as error:
                if self._closed:
                    raise anyio.ClosedResourceError from error
                await self._faults.survive(error)
                continue
            return TcpIncoming(connection, multiaddr_of(connection.family, remote))

    async def aclose(self) -> None:
        """See `Listener.aclose`."""
        if not self._closed:
            self._closed = True
            anyio.notify_closing(self._listening)
            self._listening.close()


def socket_address(address: Multiaddr) -> tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]:
    """Family and target of the IP and TCP parts in front of `address`. Raises TransportError on an unknown zone."""
    port = int(address.get("tcp") or 0)
    four = address.get("ip4")
    if four is not None:
        return socket.AF_INET, (four, port)
    zone = address.get("ip6zone")
    try:
        scope = int(zone) if zone and zone.isdecimal() else socket.if_nametoindex(zone) if zone else 0
    except OSError:
        raise TransportError(f"there is no interface {zone}") from None
    return socket.AF_INET6, (address.get("ip6") or "::", port, 0, scope)


def multiaddr_of(family: int, target: tuple[str, int] | tuple[str, int, int, int]) -> Multiaddr:
    """The address of a socket's end."""
    host, _, zone = target[0].partition("%")
    if family == socket.AF_INET:
        return Multiaddr.parse(f"/ip4/{host}/tcp/{target[1]}")
    prefix = f"/ip6zone/{zone}" if zone else ""
    return Multiaddr.parse(f"{prefix}/ip6/{host}/tcp/{target[1]}")


def reason_of(error: Exception) -> str:
    """Why a socket call failed, in words for users."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    if error.errno == errno.EADDRINUSE:
        return "the port is in use by another program"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address"
    if error.errno == errno.EACCES:
        return "not permitted (ports below 1024 need a privilege)"
    if error.errno == errno.EAFNOSUPPORT:
        return "this machine does not have that kind of address"
    return (error.strerror or str(error)).lower()


def _share_port(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _is_public(address: Multiaddr) -> bool:
    text = address.get("ip4") or address.get("ip6")
    return text is not None and ip_address(text).is_global


_local = lru_cache(64)(multiaddr_of)
"""The connections of a listener share what they came in by."""


def _stream(connection: socket.socket) -> SocketStream:
    return SocketStream(
        connection,
        local_address=_local(connection.family, connection.getsockname()),
        remote_address=multiaddr_of(connection.family, connection.getpeername()),
    )
