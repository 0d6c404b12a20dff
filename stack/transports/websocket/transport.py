"""Dialling and listening for WebSockets, over our own TCP."""

import ssl

import anyio

from stack.errors import TransportError
from stack.multiformats.multiaddr import Multiaddr
from stack.streams.interfaces import DirectStream
from stack.transports.interfaces import ListenError
from stack.transports.tcp import TcpIncoming, TcpListener, TcpTransport
from stack.transports.websocket.address import WebSocketAddress
from stack.transports.websocket.frames import Upgrade
from stack.transports.websocket.stream import WebSocketStream, upgrade
from stack.transports.websocket.tls import handshake

HANDSHAKE_SECONDS = 15.0
"""For TLS and the HTTP upgrade together: go-libp2p's WebSocket handshake limit."""


class WebSocketTransport:
    """A `Transport` for `/ws`, `/tls/ws` and `/wss`.

    `client_tls` says whose certificates are believed when dialling (None: those the system trusts); `server_tls` holds
    our certificate and is needed to listen on `/tls/ws`.
    """

    protectable = True

    def __init__(self, *, client_tls: ssl.SSLContext | None = None, server_tls: ssl.SSLContext | None = None) -> None:
        self._client_tls = client_tls
        self._server_tls = server_tls
        self._tcp = TcpTransport()

    def can_dial(self, address: Multiaddr) -> bool:
        """True for a WebSocket over an IP address."""
        return WebSocketAddress.of(address) is not None

    def can_listen(self, address: Multiaddr) -> bool:
        """As `can_dial`; over TLS only with a certificate."""
        parts = WebSocketAddress.of(address)
        return parts is not None and (not parts.tls or self._server_tls is not None)

    async def dial(self, address: Multiaddr) -> WebSocketStream:
        """See `Transport.dial`."""
        parts = WebSocketAddress.of(address)
        if parts is None:
            raise TransportError("not a WebSocket address")
        stream: DirectStream = await self._tcp.dial(parts.tcp)
        try:
            with anyio.fail_after(HANDSHAKE_SECONDS):
                if parts.tls:
                    if self._client_tls is None:
                        self._client_tls = ssl.create_default_context()
                    name = parts.server_name or parts.tcp.get("ip4") or parts.tcp.get("ip6")
                    stream = await handshake(stream, self._client_tls, server=False, server_name=name)
                frames = await upgrade(stream, Upgrade(host=parts.host_header, path=parts.path))
        except TimeoutError:
            await stream.aclose()
            raise TransportError(f"no WebSocket within {HANDSHAKE_SECONDS:g} s") from None
        except BaseException:
            await stream.aclose()
            raise
        return WebSocketStream(stream, frames, local=parts.over(stream.local_address), remote=address)

    async def listen(self, address: Multiaddr) -> "WebSocketListener":
        """See `Transport.listen`."""
        parts = WebSocketAddress.of(address)
        if parts is None or (parts.tls and self._server_tls is None):
            raise ListenError(address, "listening over TLS needs a certificate" if parts else "not a WebSocket address")
        try:
            listener = await self._tcp.listen(parts.tcp)
        except ListenError as error:
            raise ListenError(address, error.reason) from error
        return WebSocketListener(listener, parts, self._server_tls)


class WebSocketListener:
    """See `Listener`."""

    def __init__(self, below: TcpListener, parts: WebSocketAddress, server_tls: ssl.SSLContext | None) -> None:
        self._below = below
        self._parts = parts
        self._server_tls = server_tls
        self.address = parts.over(below.address)

    async def accept(self) -> "WebSocketIncoming":
        """See `Listener.accept`."""
        return WebSocketIncoming(await self._below.accept(), self._parts, self._server_tls)

    async def aclose(self) -> None:
        """See `Listener.aclose`."""
        await self._below.aclose()


class WebSocketIncoming:
    """A TCP connection on which nothing has been read yet."""

    def __init__(self, below: TcpIncoming, parts: WebSocketAddress, server_tls: ssl.SSLContext | None) -> None:
        self._below = below
        self._parts = parts
        self._server_tls = server_tls
        self.remote_address = parts.over(below.remote_address)

    async def open(self) -> WebSocketStream:
        """See `Incoming.open`."""
        stream: DirectStream = await self._below.open()
        try:
            with anyio.fail_after(HANDSHAKE_SECONDS):
                if self._parts.tls:
                    assert self._server_tls is not None  # `listen` refuses without it
                    stream = await handshake(stream, self._server_tls, server=True, server_name=None)
                frames = await upgrade(stream, Upgrade())
        except TimeoutError:
            await stream.aclose()
            raise TransportError(f"no WebSocket within {HANDSHAKE_SECONDS:g} s") from None
        except BaseException:
            await stream.aclose()
            raise
        local = self._parts.over(stream.local_address)
        return WebSocketStream(stream, frames, local=local, remote=self.remote_address)

    async def aclose(self) -> None:
        """See `Incoming.aclose`."""
        await self._below.aclose()
