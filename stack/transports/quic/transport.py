"""Dialling and listening for QUIC."""

import random
import secrets
import socket
from ipaddress import ip_address
from typing import NoReturn

import anyio
import anyio.lowlevel

from stack.errors import TransportError
from stack.identity.keys import PrivateKey
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.streams.supervision import Supervisor
from stack.transports.interfaces import ListenError
from stack.transports.quic.address import Address, socket_address
from stack.transports.quic.connection import QuicConnection
from stack.transports.quic.endpoint import Endpoint, QuicIncoming, is_wildcard
from stack.transports.quic.library import Credentials
from stack.transports.tcp import reason_of

KNOCK_BYTES = 64
"""go-libp2p's figure; too few to begin a connection, whatever they are."""
KNOCK_SECONDS_MIN, KNOCK_SECONDS_MAX = 0.01, 0.2
""""Packets should be sent repeatedly in random intervals between 10 and 200 ms" (relay/DCUtR.md)."""
KNOCKS_MAX = 24
"""In some 2.5 s; the hole that the first one makes stays open for longer. It is a stranger who says where they go (A70)."""

_random = random.SystemRandom()


class Sockets:
    """The UDP sockets of one host: one for each address that is listened on, and for each family one to dial from when there is none."""

    def __init__(self, key: PrivateKey, tasks: Supervisor) -> None:
        self._credentials = Credentials(key)
        self._tasks = tasks
        self._endpoints: list[Endpoint] = []

    async def dial(self, address: Multiaddr, expected: PeerId | None) -> QuicConnection:
        """See `SecuringTransport.dial_secured`."""
        family, target = socket_address(address)
        try:
            endpoint = self._to_dial_from(family, target)
        except OSError as error:
            raise TransportError(reason_of(error)) from error
        return await endpoint.dial(target, address, expected)

    def listen(self, address: Multiaddr) -> "QuicListener":
        """See `Transport.listen`."""
        try:
            family, target = socket_address(address)
            endpoint = self._bound(family, target)
        except (OSError, TransportError) as error:
            raise ListenError(address, reason_of(error)) from error
        endpoint.listen(on=True)
        return QuicListener(endpoint)

    async def knock(self, address: Multiaddr) -> NoReturn:
        """See `KnockingTransport.knock`."""
        family, target = socket_address(address)
        endpoint = self._standing(family, target)
        if endpoint is None or not endpoint.front.listening:
            raise TransportError("no port is listened on at which it could arrive")
        for _ in range(KNOCKS_MAX):
            endpoint.send([(secrets.token_bytes(KNOCK_BYTES), target)], None)
            await anyio.sleep(KNOCK_SECONDS_MIN + (KNOCK_SECONDS_MAX - KNOCK_SECONDS_MIN) * _random.random())
        while True:
            await anyio.sleep_forever()

    def _to_dial_from(self, family: socket.AddressFamily, target: Address) -> Endpoint:
        standing = self._standing(family, target)
        if standing is not None:
            return standing
        return self._bound(family, ("0.0.0.0", 0) if family == socket.AF_INET else ("::", 0, 0, 0))

    def _standing(self, family: socket.AddressFamily, target: Address) -> Endpoint | None:
        """What is listened on, so that routers keep one outside port for both; not from loopback to elsewhere."""
        self._endpoints = [endpoint for endpoint in self._endpoints if not endpoint.closed]
        near = ip_address(target[0]).is_loopback
        for endpoint in sorted(self._endpoints, key=lambda each: not each.front.listening):
            wildcard = is_wildcard(endpoint.bound)
            if endpoint.family == family and (wildcard or ip_address(endpoint.bound[0]).is_loopback == near):
                return endpoint
        return None

    def _bound(self, family: socket.AddressFamily, where: Address) -> Endpoint:
        line = socket.socket(family, socket.SOCK_DGRAM)
        try:
            if family == socket.AF_INET6:
                line.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            line.bind(where)
            endpoint = Endpoint(line, self._credentials)
        except BaseException:
            line.close()
            raise
        self._endpoints.append(endpoint)
        self._tasks.keep(endpoint.run, owner="a UDP socket")
        return endpoint


class QuicListener:
    """See `Listener`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._closed = False
        self.address = endpoint.address

    async def accept(self) -> QuicIncoming:
        """See `Listener.accept`."""
        await anyio.lowlevel.checkpoint()
        while not self._endpoint.incoming:
            if self._closed:
                raise anyio.ClosedResourceError
            await self._endpoint.arrived.wait()
        return self._endpoint.incoming.popleft()

    async def aclose(self) -> None:
        """See `Listener.aclose`."""
        if not self._closed:
            self._closed = True
            self._endpoint.listen(on=False)
