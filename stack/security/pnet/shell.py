"""A pre-shared key around raw streams: whoever does not have it gets 24 random bytes, and is told nothing."""

import os

import anyio

from stack.errors import SecurityError
from stack.multiformats.multiaddr import Multiaddr
from stack.security.pnet.cipher import NONCE_BYTES, XSalsa20, fingerprint
from stack.streams.buffers import POOL
from stack.streams.interfaces import DirectStream, RawStream, under_way

FIRST_WORDS = b"\x13/multistream/1.0.0\n"
"""What either end of a libp2p connection says first. Salsa20 does not authenticate: by these words we know that the other
end has the key, before a byte of what it sends is given to anybody."""


class NotInNetwork(SecurityError):
    """The other end does not have the key of this private network."""


class PrivateNetwork:
    """A `Protector` by a pre-shared key. Raises ConfigError when the extra `pnet` is not installed."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.fingerprint = fingerprint(key)

    def __repr__(self) -> str:
        return f"<PrivateNetwork {self.fingerprint.hex()}>"

    def protect(self, stream: RawStream, *, outbound: bool) -> RawStream:
        """See `Protector.protect`."""
        if hasattr(stream, "send_now"):  # an ability is asked for by its methods
            return DirectProtectedStream(stream, self._key, outbound=outbound)  # type: ignore[arg-type] # as just seen
        return ProtectedStream(stream, self._key, outbound=outbound)


class ProtectedStream:
    """A raw stream, all of it encrypted but the nonces of both ends in front.

    Raises NotInNetwork until the other end has shown that it has the key, and what the stream below raises.
    """

    def __init__(self, below: RawStream, key: bytes, *, outbound: bool) -> None:
        self._below = below
        self._key = key
        self._outbound = outbound
        self._nonce = os.urandom(NONCE_BYTES)
        self._writing = XSalsa20(key, self._nonce)
        self._reading: XSalsa20 | None = None
        self._remote_nonce = b""
        self._begun = False
        self._intact = True
        """No write was cut off in the middle: the key stream goes on where the other end's does."""
        self._beginning = anyio.Lock(fast_acquire=True)
        self._awaited = FIRST_WORDS
        """What has still to come before the other end is believed."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._below!r}>"

    @property
    def local_address(self) -> Multiaddr:
        """See `RawStream`."""
        return self._below.local_address

    @property
    def remote_address(self) -> Multiaddr:
        """See `RawStream`."""
        return self._below.remote_address

    async def receive_into(self, buffer: memoryview) -> int:
        """See `RawStream.receive_into`."""
        try:
            await self._begin()
            await self._read_nonce()
            return self._decrypt(buffer, await self._below.receive_into(buffer))
        except anyio.EndOfStream:
            self._raise_if_strange()
            raise

    async def wait_readable(self) -> None:
        """See `RawStream.wait_readable`."""
        await self._below.wait_readable()

    async def send_all(self, data: memoryview) -> None:
        """See `RawStream.send_all`. After one that was cut off in the middle, BrokenResourceError."""
        await self._begin()
        self._go_in()
        buffer = POOL.borrow()
        try:
            while data:
                size = min(len(data), len(buffer))
                self._writing.apply(data[:size], buffer[:size])
                await self._below.send_all(buffer[:size])
                data = data[size:]
        finally:
            POOL.give_back(buffer)
        self._intact = True

    def _go_in(self) -> None:
        """Into a write that `_intact = True` ends."""
        if not self._intact:
            raise anyio.BrokenResourceError("a write was cut off in the middle")
        self._intact = False

    @property
    def under_way(self) -> int:
        """See `TrackedStream.under_way`."""
        return under_way(self._below)

    async def aclose(self) -> None:
        """See `RawStream.aclose`."""
        await self._below.aclose()

    async def _begin(self) -> None:
        """Send our nonce; who was dialled does so when the other end's has come, so that a port scan gets nothing."""
        if self._begun:
            return
        async with self._beginning:  # whoever reads and whoever writes may both be the first
            if not self._begun:
                if not self._outbound:
                    await self._read_nonce()
                self._go_in()
                await self._below.send_all(memoryview(self._nonce))
                self._begun = self._intact = True

    async def _read_nonce(self) -> None:
        while self._reading is None:
            room = memoryview(bytearray(NONCE_BYTES - len(self._remote_nonce)))
            self._add_nonce(bytes(room[: await self._below.receive_into(room)]))

    def _add_nonce(self, data: bytes) -> None:
        self._remote_nonce += data
        if len(self._remote_nonce) == NONCE_BYTES:
            self._reading = XSalsa20(self._key, self._remote_nonce)

    def _decrypt(self, buffer: memoryview, size: int) -> int:
        assert self._reading is not None  # the nonce has come
        self._reading.apply(buffer[:size], buffer[:size])
        if self._awaited:
            count = min(size, len(self._awaited))
            if buffer[:count] != self._awaited[:count]:
                raise NotInNetwork("the other end does not have the key of this private network")
            self._awaited = self._awaited[count:]
        return size

    def _raise_if_strange(self) -> None:
        if self._awaited:
            raise NotInNetwork(
                "the other end left before it showed that it has the key of this private network"
            ) from None


class DirectProtectedStream(ProtectedStream):
    """The same over a `DirectStream`. `send_now` must be offered again what it did not take, as a socket's is."""

    def __init__(self, below: DirectStream, key: bytes, *, outbound: bool) -> None:
        super().__init__(below, key, outbound=outbound)
        self._direct = below
        self._out: memoryview | None = None
        self._sealed: memoryview | None = None
        """Encrypted already, and not yet taken by the stream below: the caller will offer these bytes again."""

    def receive_now(self, buffer: memoryview) -> int | None:
        """See `DirectStream.receive_now`."""
        try:
            while self._reading is None:
                room = memoryview(bytearray(NONCE_BYTES - len(self._remote_nonce)))
                received = self._direct.receive_now(room)
                if received is None:
                    return None
                self._add_nonce(bytes(room[:received]))
            received = self._direct.receive_now(buffer)
        except anyio.EndOfStream:
            self._raise_if_strange()
            raise
        return None if received is None else self._decrypt(buffer, received)

    def send_now(self, data: memoryview) -> int:
        """See `DirectStream.send_now`."""
        taken = 0
        while taken < len(data):
            if self._sealed is None:
                self._out = POOL.borrow()
                size = min(len(data) - taken, len(self._out))
                self._sealed = self._out[:size]
                self._writing.apply(data[taken : taken + size], self._sealed)
            sent = self._direct.send_now(self._sealed)
            taken += sent
            if sent < len(self._sealed):
                self._sealed = self._sealed[sent:]
                break
            self._release()
        return taken

    async def wait_writable(self) -> None:
        """See `DirectStream.wait_writable`."""
        await self._direct.wait_writable()

    async def send_all(self, data: memoryview) -> None:
        """See `RawStream.send_all`."""
        await self._begin()
        self._go_in()
        while data := data[self.send_now(data) :]:
            await self.wait_writable()
        self._intact = True

    async def aclose(self) -> None:
        """See `RawStream.aclose`."""
        self._release()
        await super().aclose()

    def _release(self) -> None:
        self._sealed = None
        if self._out is not None:
            POOL.give_back(self._out)
            self._out = None
