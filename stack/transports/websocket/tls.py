"""TLS over a raw stream, with the standard library's sans-I/O objects, on asyncio and on trio."""

import ssl

import anyio
import anyio.lowlevel

from stack.errors import TransportError
from stack.multiformats.multiaddr import Multiaddr
from stack.streams.buffers import POOL
from stack.streams.interfaces import DirectStream, under_way
from stack.streams.turns import Turn
from stack.transports.websocket.stream import say_last

RECORD_BYTES_MAX = 16384
"""The plaintext of one TLS record at most (RFC 8446, 5.1)."""

WRITE_BYTES = 4 * RECORD_BYTES_MAX
"""Encrypted at once, before the stream below is asked whether it takes them."""


class TlsStream:
    """A `DirectStream` inside TLS; made by `handshake`. The addresses are those of the stream below.

    `send_now` must be offered again what it did not take, as a socket's is.
    """

    def __init__(
        self, below: DirectStream, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO
    ) -> None:
        self._below = below
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing
        self._sealed = memoryview(b"")
        """Records that the stream below has not taken yet."""
        self._covers = 0
        """Bytes of the caller's that are in them: they count as taken when all have gone."""
        self._ready = bytearray()
        self._turn = Turn()
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

    def receive_now(self, buffer: memoryview) -> int | None:
        """See `DirectStream.receive_now`."""
        self._check()
        if not self._ready and not self._fill(len(buffer)):
            return None
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        del self._ready[:size]
        return size

    async def receive_into(self, buffer: memoryview) -> int:
        """See `RawStream.receive_into`."""
        while (size := self.receive_now(buffer)) is None:
            await self.wait_readable()
        await self._turn.give_way()
        return size

    async def wait_readable(self) -> None:
        """See `RawStream.wait_readable`."""
        self._check()
        await anyio.lowlevel.checkpoint()
        try:
            while not self._ready and not self._fill(RECORD_BYTES_MAX):
                await self._below.wait_readable()
                self._check()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return  # `receive_now` will meet it again
        self._turn.begin()

    def send_now(self, data: memoryview) -> int:
        """See `DirectStream.send_now`."""
        self._check()
        taken = 0
        while self._put():
            taken += self._covers
            self._covers = 0
            if taken == len(data):
                break
            try:
                self._covers = self._tls.write(data[taken : taken + WRITE_BYTES])
            except ssl.SSLError as error:
                raise anyio.BrokenResourceError(str(error)) from error
        return taken

    @property
    def under_way(self) -> int:
        """See `TrackedStream.under_way`."""
        return len(self._sealed) + under_way(self._below)

    async def wait_writable(self) -> None:
        """See `DirectStream.wait_writable`."""
        await self._below.wait_writable()

    async def send_all(self, data: memoryview) -> None:
        """See `RawStream.send_all`."""
        while data := data[self.send_now(data) :]:
            await self.wait_writable()

    async def aclose(self) -> None:
        """See `RawStream.aclose`; says goodbye if that does not have to wait."""
        if self._closed:
            return
        self._closed = True
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # it wants the peer's answer, which nobody waits for
        try:
            self._put()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # the peer has gone already
        await self._below.aclose()

    def _fill(self, most: int) -> bool:
        """Decrypt at least one byte; False when none has come. Raises EndOfStream, BrokenResourceError."""
        for has_read in (False, True):
            try:
                self._ready += self._tls.read(most)
            except ssl.SSLWantReadError:
                if has_read or not self._read_on():
                    return False  # also after records without a byte for us: who reads on gives way first
                continue
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError) as error:
                raise anyio.EndOfStream from error
            except ssl.SSLError as error:
                raise anyio.BrokenResourceError(str(error)) from error
            if not self._ready:
                raise anyio.EndOfStream
            break
        return True

    def _read_on(self) -> bool:
        """Move records in, and out what reading them made necessary (tickets, key updates); False when none have come."""
        if not self._covers:
            self._put()
        buffer = POOL.borrow()
        try:
            size = self._below.receive_now(buffer)
            if size is None:
                return False
            self._incoming.write(buffer[:size])
        except anyio.EndOfStream:
            self._incoming.write_eof()
        finally:
            POOL.give_back(buffer)
        return True

    def _put(self) -> bool:
        """Write what is sealed; False when the stream below takes no more."""
        while self._sealed or self._outgoing.pending:
            self._sealed = self._sealed or memoryview(self._outgoing.read())
            self._sealed = self._sealed[self._below.send_now(self._sealed) :]
            if self._sealed:
                return False
        return True

    def _check(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError


async def handshake(
    below: DirectStream, context: ssl.SSLContext, *, server: bool, server_name: str | None
) -> TlsStream:
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
