"""A WebSocket as a raw stream of bytes."""

from typing import Protocol

import anyio

from stack.errors import RemoteProtocolError, TransportError
from stack.multiformats.multiaddr import Multiaddr
from stack.streams.buffers import POOL
from stack.streams.interfaces import RawStream
from stack.transports.websocket.frames import FRAME_BYTES_MAX, Frames, Upgrade


class LowerStream(RawStream, Protocol):
    """What a WebSocket stands on: TCP, or TLS over it."""

    def send_now(self, data: memoryview) -> int:
        """See `DirectStream.send_now`."""
        ...


async def upgrade(stream: LowerStream, machine: Upgrade) -> Frames:
    """Run the HTTP upgrade on `stream`. Raises TransportError; the caller closes `stream` then."""
    buffer = memoryview(bytearray(4096))
    try:
        while True:
            data = machine.data_to_send()
            if data:
                await stream.send_all(memoryview(data))
            if machine.frames is not None:
                return machine.frames
            try:
                size = await stream.receive_into(buffer)
            except anyio.EndOfStream:
                size = 0
            machine.receive_data(bytes(buffer[:size]))
    except RemoteProtocolError as error:
        say_last(stream, machine.data_to_send())
        raise TransportError(str(error)) from error
    except anyio.BrokenResourceError as error:
        raise TransportError(f"the connection broke within the HTTP upgrade: {error}") from error


class WebSocketStream:
    """A `RawStream` over the frames of a WebSocket.

    Answers to pings go out from the reading side, or behind what the writing side is just sending.
    """

    def __init__(self, below: LowerStream, frames: Frames, *, local: Multiaddr, remote: Multiaddr) -> None:
        self._below = below
        self._frames = frames
        self._sending = anyio.Lock(fast_acquire=True)
        self._closed = False
        self.local_address = local
        self.remote_address = remote

    def __repr__(self) -> str:
        return f"<WebSocketStream {self.local_address} - {self.remote_address}{' closed' if self._closed else ''}>"

    async def receive_into(self, buffer: memoryview) -> int:
        """See `RawStream.receive_into`."""
        while not (size := self._frames.read_into(buffer)):
            if self._frames.ended:
                self._raise_end()
            await self._receive()
        return size

    async def wait_readable(self) -> None:
        """See `RawStream.wait_readable`."""
        self._check()
        while not self._frames.readable and not self._frames.ended:
            await self._receive()

    async def send_all(self, data: memoryview) -> None:
        """See `RawStream.send_all`."""
        self._check()
        async with self._sending:
            for start in range(0, len(data), FRAME_BYTES_MAX):
                if not self._frames.open:
                    raise anyio.BrokenResourceError(self._frames.error or "the peer has closed the WebSocket")
                await self._below.send_all(memoryview(self._frames.frame(data[start : start + FRAME_BYTES_MAX])))
            await self._flush()

    async def aclose(self) -> None:
        """See `RawStream.aclose`; says goodbye if that does not have to wait."""
        if self._closed:
            return
        self._closed = True
        if not self._sending.locked():
            self._frames.close()
            say_last(self._below, self._frames.data_to_send())
        await self._below.aclose()

    async def _receive(self) -> None:
        self._check()
        await self._below.wait_readable()
        buffer = POOL.borrow()
        try:
            size = await self._below.receive_into(buffer)
            self._frames.receive_data(bytes(buffer[:size]))
        except anyio.EndOfStream:
            self._frames.receive_data(b"")
        finally:
            POOL.give_back(buffer)
        if not self._sending.locked():
            async with self._sending:
                await self._flush()

    async def _flush(self) -> None:
        while data := self._frames.data_to_send():
            try:
                await self._below.send_all(memoryview(data))
            except anyio.BrokenResourceError:
                return  # the peer left without waiting for our answer; reading will find its end

    def _raise_end(self) -> None:
        self._check()
        if self._frames.error is None:
            raise anyio.EndOfStream
        raise anyio.BrokenResourceError(self._frames.error)

    def _check(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError


def say_last(stream: LowerStream, data: bytes) -> None:
    """Send a last word if it can go without waiting; nobody is there to care if it cannot."""
    try:
        stream.send_now(memoryview(data))
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return
