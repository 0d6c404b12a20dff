"""The two phases of a WebSocket without I/O, by wsproto: the HTTP upgrade, then binary frames as a stream of bytes."""

from collections import deque

import h11
from wsproto import ConnectionType
from wsproto.connection import Connection, ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason
from wsproto.handshake import H11Handshake
from wsproto.utilities import LocalProtocolError as WsLocalError
from wsproto.utilities import RemoteProtocolError as WsRemoteError

from stack.errors import RemoteProtocolError
from stack.sansio.flood import Flood

_REFUSAL = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
FRAME_BYTES_MAX = 1024 * 1024
"""Payload of one frame (A75). Nothing is allocated by a declared length; more than this is nobody's honest frame."""

EMPTY_FRAMES_MAX = 100
"""Frames in a row within 10 s that bring next to nothing: pings, pongs, empty ones, fragments of a few bytes."""
FRAGMENT_BYTES_MIN = 64
"""A fragment of a message that is smaller, and not its last, brings next to nothing."""
FRAMES_A_CALL = 16
"""Frames that are looked at in one go, some tenths of a millisecond, so that the reader can give way."""

_BAD_PEER = (WsRemoteError, WsLocalError, h11.ProtocolError, ValueError)
"""What wsproto and h11 raise on hostile heads; ValueError from text that does not decode."""
_POLITE = (CloseReason.NORMAL_CLOSURE, CloseReason.GOING_AWAY, CloseReason.NO_STATUS_RCVD)


class Upgrade:
    """The HTTP upgrade, at either end. A head of more than 16 KiB is refused by h11 (A75).

    Facts: `receive_data`. Outputs: `data_to_send`, `frames` (not None when the upgrade is done).
    """

    def __init__(self, *, host: str | None = None, path: str = "/") -> None:
        """With `host` the client's end, which asks for `path` there; else the server's."""
        client = host is not None
        self._machine = H11Handshake(ConnectionType.CLIENT if client else ConnectionType.SERVER)
        self._out = b""
        self.frames: Frames | None = None
        if host is not None:
            self._out = self._machine.send(Request(host=host, target=path))

    def receive_data(self, data: bytes) -> None:
        """Bytes from the peer; `b""` is the end. Raises RemoteProtocolError; `data_to_send` has the answer to it, if any."""
        if not data:
            raise RemoteProtocolError("the connection ended within the HTTP upgrade")
        try:
            self._machine.receive_data(data)
            for event in self._machine.events():
                if isinstance(event, Request):
                    self._accept(event)
                elif isinstance(event, AcceptConnection):
                    self._finish()
                elif isinstance(event, RejectConnection):
                    raise RemoteProtocolError(f"the server answered HTTP {event.status_code}", code=event.status_code)
        except _BAD_PEER as error:
            if not self._machine.client:
                self._out = _REFUSAL
            raise RemoteProtocolError(f"bad HTTP upgrade: {error}") from error

    def data_to_send(self) -> bytes:
        """Bytes to send now; empties what it returns."""
        out, self._out = self._out, b""
        return out

    def _accept(self, request: Request) -> None:
        if any(name in (b"content-length", b"transfer-encoding") for name, _ in request.extra_headers):
            # A body behind an upgrade is read by one party as frames and by another as the next request (A75).
            raise ValueError("a body is not allowed")
        self._out += self._machine.send(AcceptConnection())
        self._finish()

    def _finish(self) -> None:
        connection = self._machine.connection
        assert connection is not None  # wsproto sets it before it reports the acceptance
        self.frames = Frames(connection)


class Frames:
    """Frames as a stream of bytes.

    Facts: `receive_data`, `go_on`, `cut`. Outputs: `read_into`, `data_to_send` (answers to control frames), `ended`, `error`, `offence`.
    Commands: `frame`, `close`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._inbox: deque[memoryview] = deque()
        self._frame_bytes = 0
        self._empty = Flood(EMPTY_FRAMES_MAX)
        self._out = b""
        self.behind = False
        """Not all that came has been looked at: `go_on`, before more is read."""
        self.ended = False
        """The peer sends no more; what waits can still be read."""
        self.error: str | None = None
        """Why it ended, when that was not polite."""
        self.offence: RemoteProtocolError | None = None
        """The same, when the peer broke a rule."""
        self.go_on(0.0)

    @property
    def readable(self) -> bool:
        """Bytes wait to be read."""
        return bool(self._inbox)

    def receive_data(self, data: bytes, now: float) -> None:
        """Bytes from the peer at `now`, in monotonic seconds; `b""` is the end of the connection below."""
        if self.ended:
            return
        if not data:
            self.cut("the connection ended without a close frame")
            return
        self._connection.receive_data(data)
        self.go_on(now)

    def cut(self, reason: str) -> None:
        """The connection below is of no use any more."""
        self.ended = True
        self.error = self.error or reason

    def read_into(self, out: memoryview) -> int:
        """Move received bytes into `out`; returns how many."""
        done = 0
        while self._inbox and done < len(out):
            chunk = self._inbox.popleft()
            size = min(len(chunk), len(out) - done)
            out[done : done + size] = chunk[:size]
            done += size
            if size < len(chunk):
                self._inbox.appendleft(chunk[size:])
        return done

    def data_to_send(self) -> bytes:
        """Pong or close, to be sent before the next frame; empties what it returns."""
        out, self._out = self._out, b""
        return out

    def frame(self, data: memoryview) -> bytes:
        """One binary frame of at most `FRAME_BYTES_MAX` bytes."""
        return self._connection.send(BytesMessage(data=bytes(data)))

    def close(self, code: CloseReason = CloseReason.NORMAL_CLOSURE) -> None:
        """Queue a close frame, unless one has been sent."""
        if self._connection.state in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
            self._out += self._connection.send(CloseConnection(code=code))

    @property
    def open(self) -> bool:
        """Frames may be sent."""
        return self._connection.state is ConnectionState.OPEN

    def go_on(self, now: float) -> None:
        """Look at some of the frames that have come."""
        pong = b""
        self.behind = False
        for count, event in enumerate(self._connection.events(), 1):
            if isinstance(event, BytesMessage):
                self._receive_bytes(event, now)
            elif isinstance(event, Ping):
                # RFC 6455, 5.5.3: a pong for the latest ping is enough, so a flood of pings has one answer a read.
                pong = self._connection.send(Pong(payload=bytes(event.payload)))
                self._nothing_came(now)
            elif isinstance(event, Pong):
                self._nothing_came(now)
            elif isinstance(event, CloseConnection):
                self._closed(event)
            elif isinstance(event, TextMessage):
                self._fail("text frame", CloseReason.UNSUPPORTED_DATA)
            if self.ended:
                break
            if count == FRAMES_A_CALL:
                self.behind = True
                break
        self._out = pong + self._out

    def _receive_bytes(self, event: BytesMessage, now: float) -> None:
        self._frame_bytes += len(event.data)
        if self._frame_bytes > FRAME_BYTES_MAX:
            self._fail("frame too large", CloseReason.MESSAGE_TOO_BIG)
            return
        if event.data:
            self._inbox.append(memoryview(event.data))
        if event.frame_finished:
            if self._frame_bytes >= (1 if event.message_finished else FRAGMENT_BYTES_MIN):
                self._empty.forgive()
            else:
                self._nothing_came(now)
            self._frame_bytes = 0

    def _nothing_came(self, now: float) -> None:
        if self._empty.add(now):
            self._fail("too many frames that bring nothing", CloseReason.POLICY_VIOLATION)

    def _closed(self, event: CloseConnection) -> None:
        self.ended = True
        if event.code not in _POLITE:
            self.error = f"closed with code {int(event.code)}: {event.reason or ''}"
        if self._connection.state is ConnectionState.REMOTE_CLOSING:
            self._out += self._connection.send(event.response())
        elif event.code is CloseReason.PROTOCOL_ERROR:
            self.close(CloseReason.PROTOCOL_ERROR)

    def _fail(self, reason: str, code: CloseReason) -> None:
        self.ended = True
        self.error = reason
        self.offence = RemoteProtocolError(reason, code=code)
        self.close(code)
