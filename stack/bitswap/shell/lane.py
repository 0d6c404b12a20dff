"""Messages to one peer, on one stream, and the rate of all of them."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import anyio

from stack.bitswap.messages import PROTOCOLS
from stack.identity.peer_id import PeerId
from stack.net.failures import SEND_ERRORS
from stack.net.interfaces import Host
from stack.sansio.interfaces import Buffer
from stack.sansio.pace import Pace
from stack.streams.interfaces import Stream

LEAVE_SECONDS = 10.0
"""For the peer to read what is on its way on a connection that is left for a better one."""
OPEN_SECONDS = 30.0
"""For a new stream, a dial included."""

SEND_SECONDS = 10.0
SEND_SECONDS_LEAST = 30.0
SEND_BYTES_PER_SECOND = 64 * 1024
"""A message must be taken in 10 s and a second for each 64 KiB, and a short one, which waits behind others on a slow line, in 30 s.
Peers that take less are sent their blocks in pieces."""

SLICE_BYTES = 16 * 1024
SLICE_SECONDS = 30.0
"""For each slice of a message that is sent in pieces: half a KiB a second is what each of a hundred gets of a line that uploads 60. A
message that is given up has filled that line for nothing. A receiver at 8 KiB/s opens its window by 128 KiB every 16 s."""


def seconds_for(size: int) -> float:
    """The time limit of one message that is sent."""
    return max(SEND_SECONDS + size / SEND_BYTES_PER_SECOND, SEND_SECONDS_LEAST)


class Throttle:
    """The limit of all payload in one direction. Streams move a `piece` at a time and `pause` for each."""

    def __init__(self, rate: int) -> None:
        self._pace = Pace(rate, anyio.current_time())
        self.piece = self._pace.piece

    async def pause(self, size: int, limit: anyio.CancelScope) -> None:
        """Wait until `size` bytes may move, or may be reckoned as moved; the time is not the peer's: `limit` moves with it."""
        delay = self._pace.take(size, anyio.current_time())
        if delay:
            limit.deadline += delay
            await anyio.sleep(delay)


class Lane:
    """One outbound stream to a peer, opened when first needed, kept, and opened once more when it turns out to be gone.

    It is written to no faster than `throttle` allows. `spoken_on` is told of each once a message has gone, reads what the peer says
    there, and tells by an event when that has ended.
    """

    __slots__ = (
        "_closed",
        "_given_up",
        "_host",
        "_lock",
        "_opening",
        "_peer",
        "_read",
        "_spoken_on",
        "_stream",
        "_throttle",
    )

    def __init__(
        self,
        host: Host,
        peer: PeerId,
        throttle: Throttle | None = None,
        *,
        spoken_on: Callable[[Stream], anyio.Event] | None = None,
    ) -> None:
        self._host = host
        self._throttle = throttle
        self._peer = peer
        self._spoken_on = spoken_on
        self._stream: Stream | None = None
        self._read: anyio.Event | None = None
        """Somebody else reads the stream, until then."""
        self._lock = anyio.Lock()
        self._opening = anyio.CancelScope()
        """Of whoever opens the stream."""
        self._closed = False
        self._given_up = 0
        """Messages that the peer did not take in time."""

    async def send(self, encode: Callable[[str], list[Buffer]]) -> None:
        """Send what `encode` makes for the stream's protocol, after all that was sent before. Raises SEND_ERRORS."""
        await self._in_turn(partial(self._send, encode))

    async def send_pieces(self, next_piece: Callable[[str, int], Awaitable[bytes]]) -> None:
        """The same of one message whose pieces are asked for one by one, by the protocol and how much has gone, until there
        is none. Each slice of them has SLICE_SECONDS. Raises SEND_ERRORS and what `next_piece` raises."""
        await self._in_turn(partial(self._send_pieces, next_piece))

    async def protocol(self) -> str:
        """What the peer speaks; opens the stream if need be. Raises SEND_ERRORS."""
        async with self._lock:
            return (await self._open()).protocol

    async def take(self) -> Stream | None:
        """The stream, which is the caller's from now on, after all that is being sent; the next send opens another."""
        async with self._lock:
            stream, self._stream = self._stream, None
            return stream

    def close(self) -> None:
        """Drop the stream, or the opening of one, and open none any more: whoever sends gets ClosedResourceError."""
        self._closed = True
        self._opening.cancel()
        self.reset()

    def reset(self) -> None:
        """Drop the stream."""
        if self._stream is not None:
            self._stream.reset()
            self._stream = None

    async def aclose(self) -> None:
        """End the stream politely."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            await stream.aclose()

    async def _leave(self) -> None:
        """There is a better connection: go on there when the peer has read what went this way, so that nothing overtakes it."""
        stream = self._stream
        assert stream is not None
        try:
            with anyio.move_on_after(LEAVE_SECONDS):
                await stream.send_eof()
                if self._read is not None:
                    await self._read.wait()
                while True:
                    await stream.receive()
        except (anyio.EndOfStream, *SEND_ERRORS):
            pass
        finally:
            self._stream = None
            await stream.aclose()

    async def _open(self) -> Stream:
        if self._stream is not None and getattr(self._stream, "superseded", False):  # of a connection of `net`
            await self._leave()
        if self._stream is None and not self._closed:
            with anyio.fail_after(OPEN_SECONDS) as self._opening:
                self._stream = await self._host.open_stream(self._peer, *PROTOCOLS)
            self._read = None
        if self._closed:
            self.reset()  # it may have been opened in the same moment
        if self._stream is None:
            raise anyio.ClosedResourceError
        return self._stream

    async def _in_turn(self, send: Callable[[], Awaitable[None]]) -> None:
        given_up = self._given_up
        async with self._lock:
            if self._given_up != given_up:
                raise TimeoutError("the peer did not take the message before this one")
            reused = self._stream is not None
            try:
                try:
                    await send()
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    if not reused:
                        raise
                    await send()
            except TimeoutError:
                self._given_up += 1
                raise

    async def _send(self, encode: Callable[[str], list[Buffer]]) -> None:
        stream = await self._open()
        buffers = encode(stream.protocol)
        with self._whole_or_reset(), anyio.fail_after(seconds_for(sum(map(len, buffers)))) as limit:
            await self._write(stream, buffers, limit)
        if self._read is None and self._spoken_on is not None:
            self._read = self._spoken_on(stream)

    async def _send_pieces(self, next_piece: Callable[[str, int], Awaitable[bytes]]) -> None:
        stream = await self._open()
        piece = await next_piece(stream.protocol, 0)
        position = 0
        with self._whole_or_reset():
            while piece:
                for taken in pieces_of([piece], SLICE_BYTES):
                    with anyio.fail_after(SLICE_SECONDS) as limit:
                        await self._write(stream, taken, limit)
                position += len(piece)
                piece = await next_piece(stream.protocol, position)

    async def _write(self, stream: Stream, buffers: Sequence[Buffer], limit: anyio.CancelScope) -> None:
        if self._throttle is None:
            await stream.send_buffers(*buffers)
            return
        for piece in pieces_of(buffers, self._throttle.piece):
            await self._throttle.pause(sum(map(len, piece)), limit)
            await stream.send_buffers(*piece)

    @contextmanager
    def _whole_or_reset(self) -> Iterator[None]:
        """When a message could not be written half of it may be on its way: nothing can follow it."""
        try:
            yield
        except BaseException:
            self.reset()
            raise


def pieces_of(buffers: Iterable[Buffer], size: int) -> Iterator[list[memoryview]]:
    """The same bytes in lists of at most `size`, all but the last of just that; nothing is copied."""
    piece: list[memoryview] = []
    room = size
    for buffer in buffers:
        view = memoryview(buffer)
        while len(view):
            piece.append(view[:room])
            view, room = view[room:], room - len(piece[-1])
            if not room:
                yield piece
                piece, room = [], size
    if piece:
        yield piece
