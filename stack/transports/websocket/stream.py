"""A WebSocket as a raw stream of bytes."""

import anyio
import anyio.lowlevel

from stack.errors import RemoteProtocolError, TransportError
from stack.multiformats.multiaddr import Multiaddr
from stack.streams.buffers import POOL
from stack.streams.interfaces import DirectStream, under_way
from stack.streams.turns import Turn
from stack.transports.websocket.frames import FRAME_BYTES_MAX, Frames, Upgrade


async def upgrade(stream: DirectStream, machine: Upgrade) -> Frames:
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
    """A `DirectStream` over the frames of a WebSocket. `send_now` must be offered again what it did not take, as a socket's is.

    Answers to pings go out in front of the next frame, or from the reading side when nothing is being written.
    """

    def __init__(self, below: DirectStream, frames: Frames, *, local: Multiaddr, remote: Multiaddr) -> None:
        self._below = below
        self._frames = frames
        self._sealed = memoryview(b"")
        """A frame, or its rest, that the stream below has not taken yet."""
        self._covers = 0
        """Bytes of the caller's that are in it: they count as taken when all of it has gone."""
        self._turn = Turn()
        self._closed = False
        self.local_address = local
        self.remote_address = remote

    def __repr__(self) -> str:
        return f"<WebSocketStream {self.local_address} - {self.remote_address}{' closed' if self._closed else ''}>"

    def receive_now(self, buffer: memoryview) -> int | None:
        """See `DirectStream.receive_now`."""
        self._check()
        # Not more than one look: frames that bring nothing are looked at in `wait_readable`, which gives way.
        if not self._frames.readable and not self._frames.ended:
            self._look_on()
        size = self._frames.read_into(buffer)
        if not size and self._frames.ended:
            self._raise_end()
        return size or None

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
        self._turn.begin()
        while not self._frames.readable and not self._frames.ended:
            if not self._look_on():
                await self._below.wait_readable()
                self._turn.begin()
            await self._turn.give_way()
            self._check()

    def send_now(self, data: memoryview) -> int:
        """See `DirectStream.send_now`."""
        self._check()
        taken = 0
        while self._put():
            taken += self._covers
            self._covers = 0
            if taken == len(data):
                break
            if not self._frames.open:
                raise anyio.BrokenResourceError(self._frames.error or "the peer has closed the WebSocket")
            self._covers = min(len(data) - taken, FRAME_BYTES_MAX)
            self._sealed = memoryview(self._frames.frame(data[taken : taken + self._covers]))
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
        self._frames.close()
        try:
            self._put()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # the peer has gone already
        await self._below.aclose()

    def _look_on(self) -> bool:
        """Look at what came, or read more if all has been looked at; False when nothing is there."""
        now = anyio.current_time()
        if self._frames.behind:
            self._frames.go_on(now)
        else:
            buffer = POOL.borrow()
            try:
                size = self._below.receive_now(buffer)
                if size is None:
                    return False
                self._frames.receive_data(bytes(buffer[:size]), now)
            except anyio.EndOfStream:
                self._frames.receive_data(b"", now)
            except anyio.BrokenResourceError as error:
                self._frames.cut(str(error))
            finally:
                POOL.give_back(buffer)
        if not self._covers:
            try:
                self._put()
            except anyio.BrokenResourceError:
                pass  # the peer left without waiting for our answer; reading will find its end
        return True

    def _put(self) -> bool:
        """Write what is sealed, and answers behind it; False when the stream below takes no more."""
        while self._sealed or (answer := self._frames.data_to_send()):
            self._sealed = self._sealed or memoryview(answer)
            self._sealed = self._sealed[self._below.send_now(self._sealed) :]
            if self._sealed:
                return False
        return True

    def _raise_end(self) -> None:
        if self._frames.error is None:
            raise anyio.EndOfStream
        raise anyio.BrokenResourceError(self._frames.error) from self._frames.offence

    def _check(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError


def say_last(stream: DirectStream, data: bytes) -> None:
    """Send a last word if it can go without waiting; nobody is there to care if it cannot."""
    try:
        stream.send_now(memoryview(data))
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return
