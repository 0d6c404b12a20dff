"""TLS over a raw stream, with the standard library's sans-I/O objects, on asyncio and on trio."""

import ssl

import anyio

from stack.errors import TransportError
from stack.multiformats.multiaddr import Multiaddr
from stack.streams.buffers import POOL
from stack.transports.websocket.stream import LowerStream, say_last

RECORD_BYTES_MAX = 16384
"""The plaintext of one TLS record at most (RFC 8446, 5.1)."""


class TlsStream:
    """A `RawStream` inside TLS; made by `handshake`. The addresses are those of the stream below."""

    def __init__(
        self, below: LowerStream, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO
    ) -> None:
        self._below = below
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing
        self._sending = anyio.Lock(fast_acquire=True)
        self._ready = bytearray()
        self._closed = False

    def __repr__(self) -> str:
        return f"<TlsStream {self._below!r}{' closed' if self._closed else ''}>"

    @property
    def local_address(self) -> Multiaddr:
        """Of the stream below."""
        return self._below.local_address

    @property
    def remote_address(self) -> Multiaddr:
        """Of the stream below."""
        return self._below.remote_address

    async def receive_into(self, buffer: memoryview) -> int:
        """See `RawStream.receive_into`."""
        if not self._ready:
            await self._fill(len(buffer))
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        del self._ready[:size]
        return size

    async def wait_readable(self) -> None:
        """See `RawStream.wait_readable`."""
        self._check()
        if not self._ready:
            try:
                await self._fill(RECORD_BYTES_MAX)
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return  # `receive_into` will meet it again

    async def send_all(self, data: memoryview) -> None:
        """See `RawStream.send_all`."""
        self._check()
        if not data:
            return
        async with self._sending:
            try:
                self._tls.write(data)
            except ssl.SSLError as error:
                raise anyio.BrokenResourceError(str(error)) from error
            await self._below.send_all(memoryview(self._outgoing.read()))

    def send_now(self, data: memoryview) -> int:
        """For last words: all of it, or nothing while another task sends. What TCP does not take at once is lost."""
        self._check()
        if not data or self._sending.locked():
            return 0
        try:
            size = self._tls.write(data)
        except ssl.SSLError as error:
            raise anyio.BrokenResourceError(str(error)) from error
        self._below.send_now(memoryview(self._outgoing.read()))
        return size

    async def aclose(self) -> None:
        """See `RawStream.aclose`; says goodbye if that does not have to wait."""
        if self._closed:
            return
        self._closed = True
        if not self._sending.locked():
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass  # it wants the peer's answer, which nobody waits for
            say_last(self._below, self._outgoing.read())
        await self._below.aclose()

    async def _fill(self, most: int) -> None:
        """Decrypt at least one byte. Raises EndOfStream, BrokenResourceError."""
        while True:
            self._check()
            try:
                self._ready += self._tls.read(most)
            except ssl.SSLWantReadError:
                await self._receive()
                continue
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError) as error:
                raise anyio.EndOfStream from error
            except ssl.SSLError as error:
                raise anyio.BrokenResourceError(str(error)) from error
            if not self._ready:
                raise anyio.EndOfStream
            return

    async def _receive(self) -> None:
        """Move records in, and out what reading them made necessary (tickets, key updates)."""
        if self._outgoing.pending and not self._sending.locked():
            async with self._sending:
                await self._below.send_all(memoryview(self._outgoing.read()))
        await self._below.wait_readable()
        buffer = POOL.borrow()
        try:
            size = await self._below.receive_into(buffer)
            self._incoming.write(buffer[:size])
        except anyio.EndOfStream:
            self._incoming.write_eof()
        finally:
            POOL.give_back(buffer)

    def _check(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError


async def handshake(below: LowerStream, context: ssl.SSLContext, *, server: bool, server_name: str | None) -> TlsStream:
    """Run the TLS handshake. Raises TransportError, also on a certificate that is not trusted; `below` is left to the
    caller then."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    buffer = memoryview(bytearray(RECORD_BYTES_MAX))
    try:
        tls = context.wrap_bio(incoming, outgoing, server_side=server, server_hostname=server_name)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await below.send_all(memoryview(outgoing.read()))
                incoming.write(buffer[: await below.receive_into(buffer)])
                continue
            await below.send_all(memoryview(outgoing.read()))
            return TlsStream(below, tls, incoming, outgoing)
    except ssl.SSLCertVerificationError as error:
        say_last(below, outgoing.read())
        raise TransportError(f"the certificate is not trusted: {error.verify_message}") from error
    except (ssl.SSLError, ValueError) as error:
        say_last(below, outgoing.read())
        raise TransportError(f"TLS handshake failed: {error}") from error
    except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
        raise TransportError("the connection ended within the TLS handshake") from error
