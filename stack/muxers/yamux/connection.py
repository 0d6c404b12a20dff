"""A yamux connection as a pure machine.

Sources: libp2p specs yamux/README.md; go-yamux for what the specification leaves open (keep-alive, window growth, what
is forgiven). It raises RemoteProtocolError for what the peer does wrong, with the go-away already queued, and
LocalProtocolError or LimitExceeded for what our caller does.
"""

from functools import partial

from stack.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from stack.muxers.yamux import events
from stack.muxers.yamux.counters import Counters
from stack.muxers.yamux.frames import ACK, GO_AWAY, PING, RST, SYN, UINT32_MAX, WINDOW_UPDATE, GoAwayCode, encode_header
from stack.muxers.yamux.liveness import Liveness
from stack.muxers.yamux.outbox import Outbox
from stack.muxers.yamux.parameters import YamuxParameters
from stack.muxers.yamux.receiver import Receiver
from stack.muxers.yamux.stream import Input, State, Stream
from stack.muxers.yamux.table import StreamTable
from stack.muxers.yamux.windows import IDLE_SECONDS
from stack.sansio.budget import Scope
from stack.sansio.interfaces import Buffer, StreamId


class YamuxMachine:
    """One end of a connection; a `DataMachine` of `Event`.

    Getters: `stream_count`, `may_open`, `waiting`, `unwritten`, `round_trip`, `asked`, `pending`. Facts: `receive_data`, `heard_part`,
    `handle_timeout`.
    Commands: `open`, `accept`, `send`, `retract`, `read_into`, `post`, `collect`, `withdraw`, `finish`, `close_stream`,
    `reset`, `ping`, `go_away`, `close`. Outputs: `write_to`, `next_event`, `next_timeout`.
    A command on a stream that is gone does nothing and says 0; the event that told of its end says why.
    """

    def __init__(self, *, outbound: bool, parameters: YamuxParameters, scope: Scope, now: float) -> None:
        # "The client side should use odd IDs, and the server even."
        self._next_id = 1 if outbound else 2
        self._events: list[events.Event] = []
        self._telling: list[events.Event] = []
        """What is told next, the last first: two lists weigh a tenth of a deque, of which a node has one for each connection."""
        opened = partial(self._events.append, events.BacklogOpened())
        self._table = StreamTable(parameters, scope, forgotten=self._after_forgetting, backlog_opened=opened)
        self.counters = Counters()
        self._outbox = Outbox(self.counters, written=self._after_writing, settled=self._table.settle)
        self._liveness = Liveness(parameters, now)
        self._receiver = Receiver(
            self._table,
            self._outbox,
            self._liveness,
            self._events,
            self.counters,
            parity=self._next_id % 2,
            reset=lambda stream: self.reset(StreamId(stream.id)),
        )
        self._now = now
        self._looked_at = now

    def __repr__(self) -> str:
        return f"<YamuxMachine {len(self._table)} streams{', going away' if self._receiver.going_away else ''}>"

    # Getters.

    @property
    def stream_count(self) -> int:
        """Streams that are not over."""
        return len(self._table)

    @property
    def may_open(self) -> bool:
        """The peer has acknowledged enough of our streams."""
        return self._table.may_open

    @property
    def pending(self) -> bool:
        """There is something to write."""
        return self._outbox.pending

    @property
    def round_trip(self) -> float:
        """Seconds, from the last ping; 0 before the first."""
        return self._liveness.round_trip

    def waiting(self, stream: StreamId) -> int:
        """Bytes that `read_into` would give now."""
        record = self._table.get(stream)
        return len(record.inbox) if record is not None else 0

    def unwritten(self, stream: StreamId) -> int:
        """Bytes that were taken by `send` and not yet written."""
        record = self._table.get(stream)
        return record.unwritten if record is not None else 0

    # Facts.

    def receive_data(self, data: memoryview, now: float) -> int:
        """Take some of these bytes, and say how many; `data` is borrowed. Raises RemoteProtocolError: write what is left,
        then hang up."""
        self._now = now
        self._liveness.heard(now)
        try:
            return self._receiver.receive(data, now)
        except RemoteProtocolError:
            if not self._receiver.refusing:
                self.go_away(GoAwayCode.PROTOCOL_ERROR)
            raise

    def next_timeout(self) -> float:
        """When the peer has been silent for too long, or a window that has grown may be idle."""
        due = self._liveness.next_timeout()
        return min(due, self._looked_at + IDLE_SECONDS) if self._table.grown else due

    def handle_timeout(self, now: float) -> None:
        """Let idle windows shrink, or ask the peer for a sign of life. Raises RemoteProtocolError when it was asked and did not answer."""
        self._now = now
        if now - self._looked_at >= IDLE_SECONDS:
            self._looked_at = now
            self._table.rest(now)
        number = self._liveness.handle_timeout(now)
        if number is not None:
            self._outbox.push(encode_header(PING, SYN, 0, number))

    # Commands.

    def open(self) -> StreamId:
        """A new stream. Raises LimitExceeded, LocalProtocolError when either end is going away."""
        if self._receiver.going_away:
            raise LocalProtocolError("this connection is going away")
        if self._next_id > UINT32_MAX:
            raise LimitExceeded("stream ids of a connection", UINT32_MAX)
        stream = self._table.create(self._next_id, outbound=True, now=self._now)
        self._next_id += 2
        self._outbox.push(encode_header(WINDOW_UPDATE, SYN, stream.id, 0))
        return StreamId(stream.id)

    def accept(self, stream: StreamId) -> None:
        """Acknowledge a stream the peer has opened."""
        if self._table.accept(stream):
            self._outbox.push(encode_header(WINDOW_UPDATE, ACK, stream, 0))

    def send(self, stream: StreamId, data: Buffer) -> int:
        """Offer payload; says how much the peer's window takes. What was taken must not change until `StreamWritten`.

        Raises LocalProtocolError after `finish`.
        """
        record = self._table.get(stream)
        if record is None:
            return 0
        record.move(Input.SEND_DATA)
        taken = record.offer(memoryview(data))
        if taken:
            self._outbox.schedule(record)
        return taken

    def retract(self, stream: StreamId) -> int:
        """Let go of what was taken and not written; says how much that is."""
        record = self._table.get(stream)
        if record is None:
            return 0
        unwritten = record.unwritten
        self._outbox.retract(record)
        return unwritten

    def read_into(self, stream: StreamId, out: memoryview) -> int:
        """Move received payload into `out`; says how much."""
        record = self._table.get(stream)
        if record is None:
            return 0
        size = record.read_into(out)
        self.counters.copied_in += size
        record.announced = bool(record.inbox)
        self._after_reading(record)
        return size

    def post(self, stream: StreamId, buffer: memoryview) -> None:
        """Have `buffer` filled straight from the frames that come next; `StreamReadable` tells when some have come.

        Raises LocalProtocolError when there is something to read already, or a buffer is posted.
        """
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
        record.announced = bool(record.inbox)
        self._after_reading(record)
        return size

    def withdraw(self, stream: StreamId) -> None:
        """Take the posted buffer back; what was filled in waits to be read again."""
        record = self._table.get(stream)
        if record is not None:
            record.withdraw()

    def finish(self, stream: StreamId) -> None:
        """Send no more once what was taken is written. Raises LocalProtocolError when that was said before."""
        record = self._table.get(stream)
        if record is not None:
            record.move(Input.SEND_FIN)
            self._outbox.schedule(record)

    def close_stream(self, stream: StreamId) -> None:
        """Finish if that was not done, and read no more. A peer that goes on and on sending is told by a reset, then.

        What is unwritten belongs to a `send` that will never return: the stream is reset, so as not to end cleanly.
        """
        record = self._table.get(stream)
        if record is None:
            return
        if record.unwritten:
            self.reset(stream)
            return
        if record.state in (State.OPEN, State.REMOTE_FINISHED):
            self.finish(stream)
        record.reading = False
        record.drop()
        record.receive_window.release()
        self._table.settle(record)

    def reset(self, stream: StreamId) -> None:
        """Drop a stream at once, on both ends."""
        record = self._table.get(stream)
        if record is None:
            return
        if record.state is not State.RESET:
            record.move(Input.SEND_RST)
            self._outbox.push(encode_header(WINDOW_UPDATE, RST, stream, 0))
        self._table.forget(record)

    @property
    def asked(self) -> bool:
        """The peer was asked for a sign of life, and has not been heard since."""
        return self._liveness.asked

    def heard_part(self, at: float) -> None:
        """Bytes came from the peer then, of a frame that may not be whole yet."""
        self._liveness.heard_part(at)

    def ping(self, now: float) -> int:
        """Measure the round trip; `PongReceived` will carry the returned number."""
        number = self._liveness.ping(now)
        self._outbox.push(encode_header(PING, SYN, 0, number))
        return number

    def go_away(self, code: GoAwayCode = GoAwayCode.NORMAL) -> None:
        """Accept no more streams, and say so."""
        self._receiver.refusing = True
        self._outbox.push(encode_header(GO_AWAY, 0, 0, code))

    def close(self) -> None:
        """The connection is over: give everything back, but for what has come and can still be read."""
        self._receiver.refusing = True
        self._receiver.stop()
        self._table.end_all()
        self._outbox.stop()

    # Outputs.

    def next_event(self) -> events.Event | None:
        """The next thing that happened, or None."""
        if not self._telling:
            if not self._events:
                return None
            self._telling.extend(reversed(self._events))
            self._events.clear()
        return self._telling.pop()

    def write_to(self, out: memoryview) -> int:
        """Fill at most `len(out)` bytes with frames; 0 means nothing to send. One full data frame fills 65,519."""
        return self._outbox.write_to(out, self._now, self._liveness.round_trip)

    # What the parts report.

    def _after_writing(self, stream: Stream) -> None:
        self._events.append(events.StreamWritten(stream=StreamId(stream.id)))

    def _after_forgetting(self, stream: Stream) -> None:
        self._outbox.forget(stream)
        self._receiver.forget(stream)

    def _after_reading(self, stream: Stream) -> None:
        if stream.receive_window.due and not stream.remote_finished and stream.reading:
            self._outbox.credit(stream)
        self._table.settle(stream)
