"""Messages on streams: receiving whole ones into budgeted buffers, sending them on one stream a lane."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import anyio

from stack.bitswap.messages import MESSAGE_BYTES_MAX, PROTOCOLS, Message, decode_message
from stack.bitswap.shell.buffers import MessageBuffers, buffer_size
from stack.errors import LimitExceeded, NegotiationError, RemoteProtocolError, SecurityError, TransportError
from stack.identity.peer_id import PeerId
from stack.net.interfaces import Host
from stack.sansio.budget import Reservation, Resource
from stack.sansio.interfaces import Buffer
from stack.sansio.pace import Pace
from stack.streams.interfaces import Stream

MIB = 1024 * 1024

LEAD_BYTES = 1024
"""Read first of every message. Most messages without blocks fit; a stream on which nothing comes holds no more."""

FIRST_BYTES = 64 * 1024
"""What a peer that we asked nothing has to send of a long message before it gets a buffer for all of it (A01, A02)."""

RECEIVE_PEER_MAX = 8 * MIB
"""Received and not yet handed over, of one peer: four messages of our own nodes, so that reading goes on while one is hashed."""

RECEIVE_TOTAL_MAX = 48 * MIB
"""The same of all peers."""

RECEIVE_UNASKED_MAX = 8 * MIB
"""The same of all peers whom we asked nothing: they can send us only wantlists. They wait for each other, not others for them."""

MESSAGE_SECONDS = 10.0
MESSAGE_BYTES_PER_SECOND = 16 * 1024
"""A message must be there, or gone, after 10 s and a second for each 16 KiB (boxo: 10 s and 12 KiB/s)."""

PIECE_SECONDS = 30.0
"""For each piece of a message that is sent in pieces: a receiver at 8 KiB/s opens its window by 128 KiB every 16 s."""

ASKED_PATIENCE = 4
"""What we asked for has so many times as long: a sharer that limits its upload serves many at a time, each slowly."""

OPEN_SECONDS = 30.0
"""For a new stream, a dial included."""

PROGRESS_BYTES = 16 * 1024
"""A peer is alive when it has sent this much of a message: one byte now and then is not enough."""

SEND_ERRORS = (
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    TimeoutError,
    TransportError,
    NegotiationError,
    SecurityError,
    LimitExceeded,
)
"""What a send may end with because of the peer or the path to it."""


def seconds_for(size: int) -> float:
    """The time limit of one message."""
    return MESSAGE_SECONDS + size / MESSAGE_BYTES_PER_SECOND


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


class Loan:
    """A buffer with a message in it, charged to a peer; `release` gives both back and may be called twice."""

    __slots__ = ("_buffer", "_receiver", "_reservation", "peer", "unasked", "view")

    def __init__(
        self,
        receiver: "Receiver",
        peer: PeerId,
        buffer: bytearray,
        size: int,
        reservation: Reservation,
        *,
        unasked: bool,
    ) -> None:
        self._receiver = receiver
        self._buffer: bytearray | None = buffer
        self._reservation = reservation
        self.peer = peer
        self.unasked = unasked
        self.view = memoryview(buffer)[:size]

    def release(self) -> None:
        """Give the buffer back."""
        if self._buffer is not None:
            buffer, self._buffer = self._buffer, None
            self._reservation.release()
            self._receiver.give_back(self, buffer)


class Receiver:
    """Reads inbound streams. `receive(peer, message, loan)` gets each message and must release the loan, if there is one,
    when it is done with the blocks; `progress(peer, size)` tells while a long one comes that so much more has; `asked(peer)` says
    whether we expect blocks. Those are read no faster than `throttle` allows.
    """

    def __init__(
        self,
        host: Host,
        *,
        receive: Callable[[PeerId, Message, Loan | None], None],
        progress: Callable[[PeerId, int], None],
        asked: Callable[[PeerId], bool],
        throttle: Throttle | None = None,
    ) -> None:
        self._host = host
        self._throttle = throttle
        self._receive = receive
        self._progress = progress
        self._asked = asked
        self._buffers = MessageBuffers()
        self._used: dict[PeerId, int] = {}
        self._total = 0
        self._unasked = 0
        self._freed = anyio.Event()

    @property
    def used(self) -> int:
        """Bytes of buffers that are lent, for tests and for `stack doctor`."""
        return self._total

    async def serve(self, stream: Stream) -> None:
        """Read messages until the peer ends the stream.

        Raises RemoteProtocolError on what is malformed, too long or too slow, and what the stream raises.
        """
        lead = memoryview(bytearray(LEAD_BYTES))
        have = 0
        while True:
            header = _read_length(lead[:have])
            size, start = header if header is not None else (0, 0)
            end = start + size
            if header is None or have < end <= LEAD_BYTES:
                with _time_limit(MESSAGE_SECONDS if have else None):
                    try:
                        have += await stream.receive_into(lead[have:])
                    except anyio.EndOfStream:
                        if have:
                            raise RemoteProtocolError("stream ended inside of a message") from None
                        return
                continue
            if end <= have:
                self._receive(stream.remote_peer, decode_message(memoryview(bytes(lead[start:end]))), None)
                lead[: have - end] = bytes(lead[end:have])
                have -= end
                continue
            loan = await self._receive_long(stream, lead[start:have], size)
            have = 0
            try:
                message = decode_message(loan.view)
            except BaseException:
                loan.release()
                raise
            self._receive(stream.remote_peer, message, loan)

    async def _receive_long(self, stream: Stream, head: memoryview, size: int) -> Loan:
        peer = stream.remote_peer
        unasked = not self._asked(peer)
        first = min(size, FIRST_BYTES) if unasked else size
        loan = await self._borrow(peer, first, unasked=unasked)
        try:
            loan.view[: len(head)] = head
            await self._fill(stream, loan, len(head))
            if first < size:
                whole = await self._borrow(peer, size, unasked=unasked)
                whole.view[:first] = loan.view
                loan.release()
                loan = whole
                await self._fill(stream, loan, first)
        except BaseException:
            loan.release()
            raise
        return loan

    async def _fill(self, stream: Stream, loan: Loan, have: int) -> None:
        view = loan.view
        size = len(view)
        told = have
        throttle = self._throttle if not loan.unasked else None
        most = throttle.piece if throttle is not None else size
        with _time_limit(seconds_for(size) * (1 if loan.unasked else ASKED_PATIENCE)) as limit:
            while have < size:
                try:
                    count = await stream.receive_into(view[have : have + most])
                except anyio.EndOfStream:
                    raise RemoteProtocolError("stream ended inside of a message") from None
                have += count
                if have - told >= PROGRESS_BYTES:
                    self._progress(loan.peer, have - told)
                    told = have
                if throttle is not None:
                    await throttle.pause(count, limit)

    async def _borrow(self, peer: PeerId, size: int, *, unasked: bool) -> Loan:
        """A buffer, when the peer's share and the node's allow it; waiting here is what slows a peer down."""
        charged = buffer_size(size)
        while not self._fits(peer, charged, unasked=unasked):
            await self._freed.wait()
        # The peer's own scope may be fuller than our share of it: then this stream ends, nothing waits.
        reservation = self._host.peer_budget(peer).reserve(Resource.BYTES, charged)
        self._used[peer] = self._used.get(peer, 0) + charged
        self._total += charged
        self._unasked += charged if unasked else 0
        return Loan(self, peer, self._buffers.borrow(size), size, reservation, unasked=unasked)

    def _fits(self, peer: PeerId, charged: int, *, unasked: bool) -> bool:
        if unasked and self._unasked + charged > RECEIVE_UNASKED_MAX:
            return False
        return self._used.get(peer, 0) + charged <= RECEIVE_PEER_MAX and self._total + charged <= RECEIVE_TOTAL_MAX

    def give_back(self, loan: Loan, buffer: bytearray) -> None:
        """A loan has been released."""
        charged = len(buffer)
        self._total -= charged
        self._unasked -= charged if loan.unasked else 0
        self._used[loan.peer] -= charged
        if not self._used[loan.peer]:
            del self._used[loan.peer]
        self._buffers.give_back(buffer)
        self._freed.set()
        self._freed = anyio.Event()


class Lane:
    """One outbound stream to a peer, opened when first needed, kept, and opened once more when it turns out to be gone.

    It is written to no faster than `throttle` allows.
    """

    __slots__ = ("_given_up", "_host", "_lock", "_peer", "_stream", "_throttle")

    def __init__(self, host: Host, peer: PeerId, throttle: Throttle | None = None) -> None:
        self._host = host
        self._throttle = throttle
        self._peer = peer
        self._stream: Stream | None = None
        self._lock = anyio.Lock()
        self._given_up = 0
        """Messages that the peer did not take in time."""

    async def send(self, encode: Callable[[str], list[Buffer]]) -> None:
        """Send what `encode` makes for the stream's protocol, after all that was sent before. Raises SEND_ERRORS."""
        await self._in_turn(partial(self._send, encode))

    async def send_pieces(self, next_piece: Callable[[str, int], Awaitable[bytes]]) -> None:
        """The same of one message whose pieces are asked for one by one, by the protocol and how much has gone, until there
        is none. Each has PIECE_SECONDS. Raises SEND_ERRORS and what `next_piece` raises."""
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

    async def _open(self) -> Stream:
        if self._stream is None:
            with anyio.fail_after(OPEN_SECONDS):
                self._stream = await self._host.open_stream(self._peer, *PROTOCOLS)
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

    async def _send_pieces(self, next_piece: Callable[[str, int], Awaitable[bytes]]) -> None:
        stream = await self._open()
        piece = await next_piece(stream.protocol, 0)
        position = 0
        with self._whole_or_reset():
            while piece:
                with anyio.fail_after(PIECE_SECONDS) as limit:
                    await self._write(stream, [piece], limit)
                position += len(piece)
                piece = await next_piece(stream.protocol, position)

    async def _write(self, stream: Stream, buffers: list[Buffer], limit: anyio.CancelScope) -> None:
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


@contextmanager
def _time_limit(seconds: float | None) -> Iterator[anyio.CancelScope]:
    """A deadline whose passing is the peer's fault."""
    try:
        with anyio.fail_after(seconds) as limit:
            yield limit
    except TimeoutError:
        raise RemoteProtocolError("a message did not arrive in time") from None


def _read_length(data: memoryview) -> tuple[int, int] | None:
    """(length of the message, where it begins), or None while that is not known. Raises RemoteProtocolError."""
    value = 0
    for index in range(min(len(data), 4)):
        byte = data[index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if value > MESSAGE_BYTES_MAX:
                break
            return value, index + 1
    else:
        if len(data) < 4:
            return None
    raise RemoteProtocolError(f"bitswap message longer than {MESSAGE_BYTES_MAX} bytes")
