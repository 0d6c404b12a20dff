"""A secured channel as a plain stream of bytes, for what is negotiated on it before a muxer takes it over."""

from dataclasses import replace

import anyio

from stack.multiformats.multiaddr import Multiaddr
from stack.streams.buffers import FRAME_BYTES
from stack.streams.interfaces import SecureChannel


class SealedStream:
    """A `RawStream` over `channel`. After the negotiation, `channel_behind` gives what the muxer goes on with.

    Raises SecurityError on a forged frame, and what the raw stream raises.
    """

    def __init__(self, channel: SecureChannel) -> None:
        self._channel = channel
        self._sealed = bytearray(channel.leftover)
        self._opened = bytearray(channel.plaintext)
        self._intact = True

    def __repr__(self) -> str:
        return f"<SealedStream {self._channel.stream!r}>"

    @property
    def local_address(self) -> Multiaddr:
        """Of the raw stream."""
        return self._channel.stream.local_address

    @property
    def remote_address(self) -> Multiaddr:
        """Of the raw stream."""
        return self._channel.stream.remote_address

    async def receive_into(self, buffer: memoryview) -> int:
        """Wait for bytes and fill at most `len(buffer)`."""
        await self.wait_readable()
        if not self._opened:
            raise anyio.EndOfStream
        received = min(len(buffer), len(self._opened))
        buffer[:received] = self._opened[:received]
        del self._opened[:received]
        return received

    async def wait_readable(self) -> None:
        """Return when there are opened bytes, or the end."""
        self._open()
        while not self._opened:
            room = bytearray(FRAME_BYTES)
            try:
                received = await self._channel.stream.receive_into(memoryview(room))
            except anyio.EndOfStream:
                return
            self._sealed += room[:received]
            self._open()

    async def send_all(self, data: memoryview) -> None:
        """Seal and write everything. After one that was cut off in the middle, BrokenResourceError."""
        if not self._intact:
            raise anyio.BrokenResourceError("a write was cut off in the middle")
        self._intact = False
        session = self._channel.session
        while data:
            size = min(len(data), session.payload_max)
            frame = memoryview(bytearray(session.prefix + size + session.suffix))
            frame[session.prefix : session.prefix + size] = data[:size]
            await self._channel.stream.send_all(frame[: session.seal(frame, size)])
            data = data[size:]
        self._intact = True

    async def aclose(self) -> None:
        """Close the raw stream."""
        await self._channel.stream.aclose()

    def channel_behind(self) -> SecureChannel:
        """The channel with whatever was read too far; this stream must not be used any more."""
        return replace(self._channel, leftover=bytes(self._sealed), plaintext=bytes(self._opened))

    def _open(self) -> None:
        # One copy for all frames: they are opened in place, and views would keep the bytearray from shrinking.
        data = memoryview(bytearray(self._sealed))
        start = 0
        while (opened := self._channel.session.open(data[start:])) is not None:
            consumed, plaintext = opened
            self._opened += plaintext
            start += consumed
        del self._sealed[:start]
