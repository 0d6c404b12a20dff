"""The receiving half of a yamux connection: bytes become frames, frames move streams, and what only costs us is counted."""

from collections.abc import Callable

from stack.errors import LimitExceeded, RemoteProtocolError
from stack.muxers.yamux import events
from stack.muxers.yamux.counters import Counters
from stack.muxers.yamux.frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER_BYTES,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    GoAwayCode,
    decode_header,
    encode_header,
)
from stack.muxers.yamux.liveness import Liveness
from stack.muxers.yamux.outbox import Outbox
from stack.muxers.yamux.stream import Input, State, Stream, nobody
from stack.muxers.yamux.table import StreamTable
from stack.muxers.yamux.windows import WINDOW_INITIAL
from stack.sansio.flood import Flood
from stack.sansio.interfaces import StreamId

FRAMES_A_CALL = 32
"""Headers that one call reads, some tenths of a millisecond: the shell gives way between two calls, whatever a peer sends."""

VAIN_STREAMS_MAX = 1000
"""Streams opened in vain in 10 s: reset before they were taken or carried a byte, or refused (CVE-2023-44487)."""

EMPTY_FRAMES_MAX = 100
"""Frames in a row within 10 s that say nothing: data without a byte, pings, credit for nothing."""

CRUMB_BYTES = 8
CRUMBS_MAX = 20_000
"""Frames of less in 10 s, also for streams that are over: each costs 2 us, and who has something to say says more at a time."""

CREDIT_WORTH_BYTES = 1024
"""Less credit on a stream on which we have sent nothing since the last is for nothing."""

STRAYS_A_STREAM = 8
"""Frames without payload that may still come for a stream that is over; they were in flight."""


class Receiver:
    """Facts: `receive`, `forget`. Commands: `stop`. Getters: `going_away`."""

    __slots__ = (
        "_counters",
        "_crumbs",
        "_empty",
        "_events",
        "_liveness",
        "_now",
        "_outbox",
        "_parity",
        "_payload_finishes",
        "_payload_left",
        "_payload_of",
        "_peer_gone",
        "_reset",
        "_strays",
        "_table",
        "_vain",
        "header",
        "refusing",
    )

    def __init__(
        self,
        table: StreamTable,
        outbox: Outbox,
        liveness: Liveness,
        told: list[events.Event],
        counters: Counters,
        *,
        parity: int,
        reset: Callable[[Stream], None],
    ) -> None:
        """`parity` is that of our own stream numbers; `reset` drops a stream on both ends."""
        self._table = table
        self._outbox = outbox
        self._liveness = liveness
        self._events = told
        self._counters = counters
        self._parity = parity
        self._reset = reset
        self._now = 0.0
        self.header = bytearray()
        """The part of a header that has come."""
        self._payload_of: Stream | None = None
        self._payload_left = 0
        self._payload_finishes = False
        self.refusing = False
        """We have said go-away: new streams are refused."""
        self._peer_gone = False
        self._vain = Flood(VAIN_STREAMS_MAX)
        self._empty = Flood(EMPTY_FRAMES_MAX)
        self._strays = EMPTY_FRAMES_MAX
        self._crumbs = Flood(CRUMBS_MAX)

    @property
    def going_away(self) -> bool:
        """Either end has said so."""
        return self.refusing or self._peer_gone

    def receive(self, data: memoryview, now: float) -> int:
        """Take some of `data`; says how much. Raises RemoteProtocolError."""
        self._now = now
        position = 0
        end = len(data)
        frames = 0
        while position < end and frames < FRAMES_A_CALL:
            if self._payload_left:
                size = min(self._payload_left, end - position)
                self._receive_payload(data[position : position + size])
                position += size
            elif self.header or end - position < HEADER_BYTES:
                size = min(HEADER_BYTES - len(self.header), end - position)
                self.header += data[position : position + size]
                position += size
                if len(self.header) == HEADER_BYTES:
                    header, self.header = self.header, bytearray()
                    self._receive_frame(*decode_header(header))
            else:
                frames += 1
                position += HEADER_BYTES
                self._receive_frame(*decode_header(data, position - HEADER_BYTES))
        return position

    def forget(self, stream: Stream) -> None:
        """`stream` is over: what of it is in flight is let pass."""
        self._strays += STRAYS_A_STREAM
        if self._payload_of is stream:
            self._payload_of = None

    def stop(self) -> None:
        """The connection is over, also in the middle of a frame."""
        self._payload_left = 0
        self._reset = nobody

    def _receive_frame(self, kind: int, flags: int, id: int, length: int) -> None:
        if kind == PING:
            if flags & SYN:
                self._outbox.answer_ping(length)
                self._nothing_said()
            elif (pong := self._liveness.receive_pong(length, self._now)) is not None:
                self._events.append(pong)
            else:
                self._nothing_said()
        elif kind == GO_AWAY:
            if self._peer_gone:
                self._nothing_said()
            self._peer_gone = True
            self._events.append(events.GoAwayReceived(code=length))
        else:
            if kind == DATA and 0 < length < CRUMB_BYTES:
                self._crumb_came()
            stream = self._receive_syn(kind, id, length) if flags & SYN else self._table.get(id)
            if stream is not None and stream.state is not State.RESET:
                self._receive_on(stream, kind, flags, length)
            else:
                self._receive_unknown(kind, flags, id, length)

    def _receive_unknown(self, kind: int, flags: int, id: int, length: int) -> None:
        """Probably in flight when we closed, reset or refused the stream: it is let pass."""
        if kind == DATA and length:
            self._payload_left = length
        elif not flags & SYN:
            self._strays -= 1
            if self._strays < 0:
                self._nothing_said()
        if flags & (FIN | RST):
            self._table.late_end(id)
        elif kind == DATA and self._table.late_bytes(id, length):
            self._outbox.push(encode_header(WINDOW_UPDATE, RST, id, 0))

    def _receive_syn(self, kind: int, id: int, length: int) -> Stream | None:
        """The peer opens a stream: the record, or None when it is refused. Everything is checked before it exists."""
        if id % 2 == self._parity or self._table.get(id) is not None:
            raise RemoteProtocolError(f"the peer cannot open stream {id}", code=GoAwayCode.PROTOCOL_ERROR)
        if kind == DATA and length > WINDOW_INITIAL:
            raise RemoteProtocolError(f"a first frame of {length} bytes", code=GoAwayCode.PROTOCOL_ERROR)
        self._outbox.check()
        if not self.refusing and self._table.may_accept:
            try:
                stream = self._table.create(id, outbound=False, now=self._now)
            except LimitExceeded:
                pass  # of the budget: refused like all the others
            else:
                self._events.append(events.StreamOpened(stream=StreamId(id)))
                return stream
        self._outbox.push(encode_header(WINDOW_UPDATE, RST, id, 0))
        self._opened_in_vain()
        return None

    def _receive_on(self, stream: Stream, kind: int, flags: int, length: int) -> None:
        news = bool(flags & (SYN | RST)) or (bool(flags & FIN) and not stream.remote_finished)
        if flags & ACK:
            news = news or (stream.outbound and not stream.acknowledged)
            self._table.acknowledge(stream)
        if flags & RST:
            # The length of a window update is an error code here.
            self._payload_left = length if kind == DATA else 0
            self._receive_reset(stream)
        elif kind == DATA and length:
            self._empty.forgive()
            stream.move(Input.RECEIVE_DATA)
            stream.receive_window.receive(length)
            self._payload_of = stream
            self._payload_left = length
            self._payload_finishes = bool(flags & FIN)
        else:
            if kind == WINDOW_UPDATE:
                stream.move(Input.RECEIVE_WINDOW)
                news = news or length >= CREDIT_WORTH_BYTES or (length > 0 and stream.spent)
                stream.spent = False
                if stream.send_window.open(length):
                    self._events.append(events.WindowOpened(stream=StreamId(stream.id)))
            if flags & FIN:
                self._receive_fin(stream)
            if news:
                self._empty.forgive()
            else:
                self._nothing_said()

    def _receive_payload(self, data: memoryview) -> None:
        self._payload_left -= len(data)
        stream = self._payload_of
        if stream is None:
            return
        if stream.reading:
            try:
                self._counters.copied_in += len(data)
                stream.deliver(data)
            except LimitExceeded:
                self._payload_of = None
                self._reset(stream)
                self._events.append(events.StreamReset(stream=StreamId(stream.id), remote=False))
                return
            self._counters.received += len(data)
            if not stream.announced:
                stream.announced = True
                self._events.append(events.StreamReadable(stream=StreamId(stream.id)))
        if not self._payload_left:
            self._payload_of = None
            if self._payload_finishes:
                self._receive_fin(stream)

    def _receive_fin(self, stream: Stream) -> None:
        stream.move(Input.RECEIVE_FIN)
        if not stream.remote_finished:
            stream.remote_finished = True
            self._events.append(events.StreamEnded(stream=StreamId(stream.id)))
            if not stream.outbound and stream.receive_window.untouched:
                self._opened_in_vain()
        self._table.settle(stream)

    def _receive_reset(self, stream: Stream) -> None:
        stream.move(Input.RECEIVE_RST)
        self._events.append(events.StreamReset(stream=StreamId(stream.id), remote=True))
        self._outbox.forget(stream)
        if not stream.outbound and (self._table.waits(stream) or stream.receive_window.untouched):
            self._opened_in_vain()
        if not stream.remote_finished:
            stream.drop()
        self._table.settle(stream)

    def _opened_in_vain(self) -> None:
        if self._vain.add(self._now):
            raise RemoteProtocolError(
                f"more than {VAIN_STREAMS_MAX} streams opened in vain", code=GoAwayCode.PROTOCOL_ERROR
            )

    def _crumb_came(self) -> None:
        if self._crumbs.add(self._now):
            raise RemoteProtocolError(
                f"more than {CRUMBS_MAX} frames of less than {CRUMB_BYTES} bytes", code=GoAwayCode.PROTOCOL_ERROR
            )

    def _nothing_said(self) -> None:
        if self._empty.add(self._now):
            raise RemoteProtocolError(
                f"more than {EMPTY_FRAMES_MAX} frames in a row that say nothing", code=GoAwayCode.PROTOCOL_ERROR
            )
