"""The streams of a QUIC connection: what is read and written on them, and what they hold. Pure.

The table, the windows and what a stream has received are those of yamux, so that a peer costs the same whichever way it has come. The
library does the rest: it keeps what was sent until it has arrived, so `send` copies, and takes no more than the peer lets us send.
"""

from collections.abc import Callable

from stack.errors import LimitExceeded, RemoteProtocolError
from stack.muxers.yamux import events
from stack.muxers.yamux.parameters import YamuxParameters
from stack.muxers.yamux.stream import Input, State, Stream
from stack.muxers.yamux.table import LATE_BYTES, StreamTable
from stack.muxers.yamux.windows import IDLE_SECONDS
from stack.sansio.budget import Resource, Scope
from stack.sansio.flood import Flood
from stack.sansio.interfaces import Buffer, StreamId
from stack.transports.quic.library import STREAMS_MAX, LibraryConnection
from stack.values import dataclass

PARAMETERS = YamuxParameters(window_max=4 * 1024 * 1024)
"""A window of 4 MiB carries 40 MB/s over 100 ms, which is more than the library can."""
STREAM_HELD_MAX = 512 * 1024
"""Bytes of one stream that have been sent and have not arrived."""
HELD_MAX = 2 * 1024 * 1024
"""And of all streams of a connection."""
HELD_FREE = 64 * 1024
"""Of which so many are the connection's by right: with a full budget it goes on, slowly."""
HELD_STEP = 64 * 1024
"""The others are drawn from the budget in such steps, and so is what has come out of order."""
ROOM_WORTH = 16 * 1024
"""Room for less is not worth waking who waits for it, while more is on its way. So much is left to each that
was told of it, so that a few bytes do not have to wait for all that lies before them on a hundred streams."""
VAIN_STREAMS_MAX = 1000
"""Streams in 10 s that ended before they said anything, as of yamux."""
INTERNAL_ERROR = 0x1
"""RFC 9000, 20.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwanted:
    """The peer reads no more on this stream."""

    stream: StreamId


Event = events.Event | Unwanted


class QuicStreams:
    """A `MuxerMachine`, beneath `QuicMachine`, which feeds it.

    Facts: `received`, `was_reset`, `was_stopped`, `moved` (after each datagram), `rest`. The rest are the commands and getters of
    `MuxerMachine`, and `open`, `accept`, `end`.
    """

    def __init__(
        self, library: LibraryConnection, scope: Scope, tell: Callable[[Event], None], *, outbound: bool, now: float
    ) -> None:
        self._library = library
        self._tell = tell
        self._own = 0 if outbound else 1
        """The lowest bit of the ids of streams that we open (RFC 9000, 2.1)."""
        self._table = StreamTable(PARAMETERS, scope, forgotten=lambda stream: None, backlog_opened=lambda: None)
        self._held = scope.reserve(Resource.BYTES, 0)
        self._gaps = scope.reserve(Resource.BYTES, 0)
        self._full: dict[int, bool] = {}
        """Streams that wait for room, in turn, and whether they were told that there is some, which is left to them then."""
        self._seen: set[int] = set()
        """Streams that the peer has opened, as long as the library knows them."""
        self._late: dict[int, int] = {}
        """Streams that the application has closed, and how much may still come on each before the peer is told."""
        self._vain = Flood(VAIN_STREAMS_MAX)
        self._now = now
        self._rested_at = now

    def __len__(self) -> int:
        return len(self._table)

    # Facts.

    def received(self, id: int, data: bytes, *, ended: bool, now: float) -> None:
        """What has come on a stream, in order. Raises RemoteProtocolError."""
        self._now = now
        self._library.arrived += len(data)
        record = self._of(id)
        if record is None:
            self._came_late(id, len(data))
            return
        if record.reading and data:
            record.move(Input.RECEIVE_DATA)
            record.receive_window.receive(len(data))
            try:
                record.deliver(memoryview(data))
            except LimitExceeded:
                self._drop(record, remote=False)
                return
            if not record.announced:
                record.announced = True
                self._tell(events.StreamReadable(stream=StreamId(id)))
        if ended and not record.remote_finished:
            record.move(Input.RECEIVE_FIN)
            record.remote_finished = True
            self._tell(events.StreamEnded(stream=StreamId(id)))
            if not record.outbound and record.receive_window.untouched:
                self._opened_in_vain()
            self._table.settle(record)

    def was_reset(self, id: int, now: float) -> None:
        """The peer has given up a stream: in libp2p that is for both directions. Raises RemoteProtocolError."""
        self._now = now
        self._library.lost(id)
        record = self._of(id)
        if record is not None:
            vain = not record.outbound and (self._table.waits(record) or record.receive_window.untouched)
            self._drop(record, remote=True)
            if vain:
                self._opened_in_vain()

    def was_stopped(self, id: int) -> None:
        """The peer reads no more on a stream; the library has ended our side of it."""
        record = self._table.get(StreamId(id))
        if record is not None and record.state in (State.OPEN, State.REMOTE_FINISHED):
            record.move(Input.SEND_FIN)
            record.settled = True
            self._tell(Unwanted(stream=StreamId(id)))
            self._table.settle(record)
        self._library.reset(id, 0)

    def moved(self, now: float) -> None:
        """Something has come: perhaps there is room now. Raises LimitExceeded when what is out of order does not fit."""
        self._now = now
        gaps = -(-self._library.out_of_order // HELD_STEP) * HELD_STEP
        if gaps > self._gaps.amount:
            self._gaps.grow(gaps - self._gaps.amount)
        elif gaps < self._gaps.amount:
            self._gaps.shrink(self._gaps.amount - gaps)
        held, all_streams = self._library.load()
        spare = self._held.amount - max(-(-(held - HELD_FREE) // HELD_STEP) * HELD_STEP, 0)
        if spare > 0:
            self._held.shrink(spare)
        for id, told in tuple(self._full.items()):
            record = self._table.get(StreamId(id))
            if record is None or record.state not in (State.OPEN, State.REMOTE_FINISHED):
                del self._full[id]
                continue
            room = self._room(id, held, all_streams)
            if told or room >= ROOM_WORTH or (room and not self._library.held(id)):
                held += ROOM_WORTH
                all_streams -= ROOM_WORTH
                if not told:
                    self._full[id] = True
                    self._tell(events.WindowOpened(stream=StreamId(id)))

    def next_timeout(self) -> float | None:
        """When a window that has grown may be idle."""
        return self._rested_at + IDLE_SECONDS if self._table.grown else None

    def rest(self, now: float) -> None:
        """Let windows shrink that were not used of late."""
        if now >= self._rested_at + IDLE_SECONDS:
            self._rested_at = now
            self._table.rest(now)

    # Commands.

    def open(self) -> StreamId:
        """A new stream, of which the peer hears with its first byte. Raises LimitExceeded."""
        id = self._library.get_next_available_stream_id()
        record = self._table.create(id, outbound=True, now=self._now)
        self._table.acknowledge(record)
        self._library.send_stream_data(id, b"")
        return StreamId(id)

    def accept(self, stream: StreamId) -> None:
        """The application takes a stream of the peer's."""
        self._table.accept(stream)

    @property
    def pending(self) -> bool:
        """Reading has made room that the peer is to be told of: always looked at, as it costs little beside a datagram."""
        return True

    def waiting(self, stream: StreamId) -> int:
        """Bytes that `read_into` would give now."""
        record = self._table.get(stream)
        return len(record.inbox) if record is not None else 0

    def unwritten(self, stream: StreamId) -> int:
        """Nothing: what was taken was copied."""
        return 0

    def send(self, stream: StreamId, data: Buffer) -> int:
        """Hand payload over; says how much was taken. `WindowOpened` says when to go on. Raises LocalProtocolError after `finish`."""
        record = self._table.get(stream)
        if record is None:
            return 0
        record.move(Input.SEND_DATA)
        told = self._full.pop(stream, False)
        held, all_streams = self._library.load()
        others = sum(self._full.values()) * ROOM_WORTH
        fair = max(min(all_streams, HELD_MAX - held) - others, ROOM_WORTH * told)
        taken = self._affordable(min(len(data), self._room(stream, held, all_streams), fair), held)
        if taken:
            self._library.send_stream_data(stream, bytes(memoryview(data)[:taken]))
        if taken < len(data):
            self._full[stream] = False
        return taken

    def retract(self, stream: StreamId) -> int:
        """What was taken cannot be taken back: says 0."""
        return 0

    def read_into(self, stream: StreamId, out: memoryview) -> int:
        """Move received payload into `out`; says how much."""
        record = self._table.get(stream)
        if record is None:
            return 0
        size = record.read_into(out)
        self._after_reading(record)
        return size

    def post(self, stream: StreamId, buffer: memoryview) -> None:
        """Have `buffer` filled by what comes next."""
        record = self._table.get(stream)
        if record is not None:
            record.post(buffer)
            record.announced = False

    def collect(self, stream: StreamId) -> int:
        """Take the posted buffer back; says how much of it is filled."""
        record = self._table.get(stream)
        if record is None:
            return 0
        size = record.collect()
        self._after_reading(record)
        return size

    def withdraw(self, stream: StreamId) -> None:
        """Take the posted buffer back; what was filled in waits to be read again."""
        record = self._table.get(stream)
        if record is not None:
            record.withdraw()

    def finish(self, stream: StreamId) -> None:
        """Send no more. Raises LocalProtocolError when that was said before."""
        record = self._table.get(stream)
        if record is not None:
            record.move(Input.SEND_FIN)
            record.settled = True
            self._library.send_stream_data(stream, b"", end_stream=True)
            self._table.settle(record)

    def close_stream(self, stream: StreamId) -> None:
        """Finish if that was not done, and read no more: a peer that sends more than a few bytes is told."""
        record = self._table.get(stream)
        if record is None:
            return
        unread = len(record.inbox)
        record.reading = False
        record.drop()
        record.receive_window.release()
        if record.state in (State.OPEN, State.REMOTE_FINISHED):
            self.finish(stream)
        else:
            self._table.settle(record)
        if not record.remote_finished:
            if len(self._late) >= 2 * STREAMS_MAX:
                self._late = {late: left for late, left in self._late.items() if self._library.knows(late)}
            self._late[stream] = LATE_BYTES
            self._came_late(stream, unread)

    def reset(self, stream: StreamId, code: int = 0) -> None:
        """Drop a stream at once, on both ends; the peer is told `code`."""
        record = self._table.get(stream)
        if record is not None:
            if record.state is not State.RESET:
                record.move(Input.SEND_RST)
            self._end_both(stream, code)
            self._table.forget(record)

    def end(self) -> None:
        """The connection is over: give everything back, but for what has come and can still be read."""
        self._table.end_all()
        self._held.release()
        self._gaps.release()

    # Parts.

    def _of(self, id: int) -> Stream | None:
        """The record of a stream, new when the peer has just opened it; None when it is over, or there is no place for it."""
        record = self._table.get(StreamId(id))
        if record is not None or id % 2 == self._own or id in self._seen:
            return record
        if len(self._seen) >= 2 * STREAMS_MAX:
            self._seen = {seen for seen in self._seen if self._library.knows(seen)}
        self._seen.add(id)
        try:
            if not self._table.may_accept:
                raise LimitExceeded("streams that wait to be accepted", PARAMETERS.backlog_max)
            record = self._table.create(id, outbound=False, now=self._now)
        except LimitExceeded:
            self._end_both(id, 0)
            self._opened_in_vain()
            return None
        self._tell(events.StreamOpened(stream=StreamId(id)))
        return record

    def _came_late(self, id: int, size: int) -> None:
        """Nobody reads what has come. The peer is not told for the few bytes with which it agrees to the protocol: it has them to send
        when what it was to be given, and nothing else, is here; js and py take no more of that then."""
        left = self._late.get(id)
        if left is not None:
            self._late[id] = left - size
            if size > left:
                del self._late[id]
                self._library.stop(id, 0)

    def _drop(self, record: Stream, *, remote: bool) -> None:
        record.move(Input.RECEIVE_RST if remote else Input.SEND_RST)
        self._end_both(record.id, 0)
        self._tell(events.StreamReset(stream=StreamId(record.id), remote=remote))
        if not record.remote_finished:
            record.drop()
        if not remote:
            self._table.forget(record)
        else:
            self._table.settle(record)

    def _end_both(self, id: int, code: int) -> None:
        self._library.reset(id, code)
        self._library.stop(id, code)

    def _room(self, stream: int, held: int, all_streams: int) -> int:
        """What may be handed over on a stream, when so much is `held` of all, and may be sent on all."""
        here = min(self._library.room(stream), STREAM_HELD_MAX - self._library.held(stream))
        return max(min(here, all_streams, HELD_MAX - held), 0)

    def _affordable(self, wanted: int, held: int) -> int:
        """As much of it as there is budget for, which is drawn."""
        lacking = held + wanted - HELD_FREE - self._held.amount
        if wanted and lacking > 0:
            try:
                self._held.grow(-(-lacking // HELD_STEP) * HELD_STEP)
            except LimitExceeded:
                return max(min(wanted, HELD_FREE + self._held.amount - held), 0)
        return wanted

    def _after_reading(self, record: Stream) -> None:
        record.announced = bool(record.inbox)
        window = record.receive_window
        if window.due and not record.remote_finished and record.reading:
            self._library.grant(record.id, window.take_credit(self._now, self._library.round_trip))
        self._table.settle(record)

    def _opened_in_vain(self) -> None:
        if self._vain.add(self._now):
            raise RemoteProtocolError(f"more than {VAIN_STREAMS_MAX} streams opened in vain", code=INTERNAL_ERROR)
