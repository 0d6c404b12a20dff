"""What waits to be written: frames without payload first, then the streams, one frame each in turn."""

from collections.abc import Callable

from stack.errors import RemoteProtocolError
from stack.muxers.yamux.counters import Counters
from stack.muxers.yamux.frames import (
    ACK,
    DATA,
    FIN,
    HEADER_BYTES,
    PAYLOAD_BYTES_MAX,
    PING,
    WINDOW_UPDATE,
    GoAwayCode,
    encode_header,
    write_header,
)
from stack.muxers.yamux.stream import State, Stream, nobody

CONTROL_FRAMES_MAX = 1000
"""Frames without payload that wait because the peer does not read; with more, it only makes us hold them (A22)."""

PONGS_MAX = 32
"""Answers to pings that wait; further pings are not answered (go-yamux)."""

FRAGMENT_BYTES_MIN = 4096
"""Room behind other frames that is worth a data frame when the payload would not end in it."""


class Outbox:
    """Commands: `push`, `check`, `answer_ping`, `credit`, `schedule`, `retract`, `forget`, `stop`. Outputs: `write_to`.

    `written` is called when a stream has nothing unwritten left, `settled` when its FIN has been written.
    """

    __slots__ = ("_control", "_counters", "_credits", "_pongs", "_sendable", "_settled", "_written")

    def __init__(
        self, counters: Counters, *, written: Callable[[Stream], None], settled: Callable[[Stream], None]
    ) -> None:
        self._counters = counters
        self._control: list[bytes] = []
        self._pongs: list[int] = []
        self._credits: dict[int, Stream] = {}
        self._sendable: list[Stream] = []
        self._written = written
        self._settled = settled

    @property
    def pending(self) -> bool:
        """There is something to write."""
        return bool(self._control or self._sendable or self._credits or self._pongs)

    def push(self, frame: bytes) -> None:
        """Queue a frame without payload."""
        self._control.append(frame)

    def check(self) -> None:
        """Raises RemoteProtocolError when the peer causes frames, by opening streams, and does not read them."""
        if len(self._control) >= CONTROL_FRAMES_MAX:
            raise RemoteProtocolError(
                f"{CONTROL_FRAMES_MAX} frames wait for a peer that does not read", code=GoAwayCode.PROTOCOL_ERROR
            )

    def answer_ping(self, value: int) -> None:
        """Queue a pong, unless too many wait."""
        if len(self._pongs) < PONGS_MAX:
            self._pongs.append(value)

    def credit(self, stream: Stream) -> None:
        """Hand credit back; how much is decided when it is written, so that there is one frame a stream at most."""
        self._credits[stream.id] = stream

    def schedule(self, stream: Stream) -> None:
        """`stream` has payload or its end to write."""
        if not stream.scheduled:
            stream.scheduled = True
            self._sendable.append(stream)

    def retract(self, stream: Stream) -> None:
        """Let go of the payload of `stream`; it keeps its turn if its end is to be written."""
        stream.retract()
        if stream.scheduled and not _finishing(stream):
            stream.scheduled = False
            self._sendable.remove(stream)

    def forget(self, stream: Stream) -> None:
        """Nothing of `stream` is to be written any more, but for what was pushed."""
        self._credits.pop(stream.id, None)
        stream.retract()
        if stream.scheduled:
            stream.scheduled = False
            self._sendable.remove(stream)

    def stop(self) -> None:
        """The connection is over."""
        self._written = self._settled = nobody

    def write_to(self, out: memoryview, now: float, round_trip: float) -> int:
        """Fill at most `len(out)` bytes; 0 means nothing to send, or no room for the next frame."""
        filled = 0
        room = len(out) - HEADER_BYTES
        if self._control and (count := len(out) // HEADER_BYTES):
            frames = b"".join(self._control[:count])
            del self._control[:count]
            filled = len(frames)
            out[:filled] = frames
        while self._pongs and filled <= room:
            write_header(out, filled, PING, ACK, 0, self._pongs.pop(0))
            filled += HEADER_BYTES
        while self._credits and filled <= room:
            stream = self._credits.pop(next(iter(self._credits)))
            delta = stream.receive_window.take_credit(now, round_trip)
            if not delta:
                continue  # its window was called back meanwhile
            write_header(out, filled, WINDOW_UPDATE, 0, stream.id, delta)
            filled += HEADER_BYTES
        while self._sendable and filled <= room:
            size = self._write_frame(self._sendable[0], out[filled:], alone=not filled)
            if not size:
                break
            filled += size
        return filled

    def _write_frame(self, stream: Stream, out: memoryview, *, alone: bool) -> int:
        """One frame of `stream`, the first in turn; 0 when it is better left to the next buffer."""
        waiting = stream.unwritten
        size = min(waiting, len(out) - HEADER_BYTES, PAYLOAD_BYTES_MAX)
        if size < waiting and (size == 0 or (size < FRAGMENT_BYTES_MIN and not alone)):
            return 0
        self._sendable.pop(0)
        stream.scheduled = False
        if waiting:
            write_header(out, 0, DATA, 0, stream.id, size)
            stream.gather(out[HEADER_BYTES : HEADER_BYTES + size])
            self._counters.copied_out += size
            self._counters.sent += size
            # FIN gets a frame of its own: go-yamux, told of it with the payload, may report the end before the bytes.
            if size < waiting or _finishing(stream):
                self.schedule(stream)
            if size == waiting:
                self._written(stream)
            return HEADER_BYTES + size
        # A stream without payload is scheduled only for its end.
        out[:HEADER_BYTES] = encode_header(DATA, FIN, stream.id, 0)
        stream.settled = True
        self._settled(stream)
        return HEADER_BYTES


def _finishing(stream: Stream) -> bool:
    return stream.state in (State.LOCAL_FINISHED, State.FINISHED)
