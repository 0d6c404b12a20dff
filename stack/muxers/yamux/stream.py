"""One stream of a yamux connection: what is legal, and what it holds."""

from collections import deque
from enum import Enum

from stack.errors import LocalProtocolError, RemoteProtocolError
from stack.muxers.yamux.frames import GoAwayCode
from stack.muxers.yamux.inbox import Inbox
from stack.muxers.yamux.windows import ReceiveWindow, SendWindow
from stack.sansio.budget import Reservation


class State(Enum):
    """Which halves are finished."""

    __hash__ = object.__hash__  # as that of `Resource`

    OPEN = "open"
    LOCAL_FINISHED = "finished by us"
    REMOTE_FINISHED = "finished by the peer"
    FINISHED = "finished by both"
    RESET = "reset"


class Input(Enum):
    """What happens to a stream."""

    __hash__ = object.__hash__  # as that of `Resource`

    SEND_DATA = "send data"
    SEND_FIN = "send FIN"
    SEND_RST = "send RST"
    RECEIVE_DATA = "receive data"
    RECEIVE_WINDOW = "receive a window update"
    RECEIVE_FIN = "receive FIN"
    RECEIVE_RST = "receive RST"


TRANSITIONS: dict[tuple[State, Input], State] = {
    (State.OPEN, Input.SEND_DATA): State.OPEN,
    (State.OPEN, Input.SEND_FIN): State.LOCAL_FINISHED,
    (State.OPEN, Input.SEND_RST): State.RESET,
    (State.OPEN, Input.RECEIVE_DATA): State.OPEN,
    (State.OPEN, Input.RECEIVE_WINDOW): State.OPEN,
    (State.OPEN, Input.RECEIVE_FIN): State.REMOTE_FINISHED,
    (State.OPEN, Input.RECEIVE_RST): State.RESET,
    (State.LOCAL_FINISHED, Input.SEND_RST): State.RESET,
    (State.LOCAL_FINISHED, Input.RECEIVE_DATA): State.LOCAL_FINISHED,
    (State.LOCAL_FINISHED, Input.RECEIVE_WINDOW): State.LOCAL_FINISHED,
    (State.LOCAL_FINISHED, Input.RECEIVE_FIN): State.FINISHED,
    (State.LOCAL_FINISHED, Input.RECEIVE_RST): State.RESET,
    (State.REMOTE_FINISHED, Input.SEND_DATA): State.REMOTE_FINISHED,
    (State.REMOTE_FINISHED, Input.SEND_FIN): State.FINISHED,
    (State.REMOTE_FINISHED, Input.SEND_RST): State.RESET,
    (State.REMOTE_FINISHED, Input.RECEIVE_WINDOW): State.REMOTE_FINISHED,
    # Said twice by some, harmless: nothing was promised in between.
    (State.REMOTE_FINISHED, Input.RECEIVE_FIN): State.REMOTE_FINISHED,
    (State.REMOTE_FINISHED, Input.RECEIVE_RST): State.RESET,
    (State.FINISHED, Input.SEND_RST): State.RESET,
    (State.FINISHED, Input.RECEIVE_WINDOW): State.FINISHED,
    (State.FINISHED, Input.RECEIVE_FIN): State.FINISHED,
    (State.FINISHED, Input.RECEIVE_RST): State.RESET,
}
"""What is legal. A missing pair is an error of whoever caused it. A stream that is reset is forgotten."""

_LOCAL = (Input.SEND_DATA, Input.SEND_FIN, Input.SEND_RST)


class Stream:
    """The record of one stream; owned by the connection.

    `move` applies an input. `offer`, `gather` and `retract` hold payload of the application until it is written, without
    a copy; `deliver`, `post`, `collect` and `withdraw` bring received payload to it.
    """

    __slots__ = (
        "_filled",
        "_posted",
        "acknowledged",
        "announced",
        "id",
        "inbox",
        "outbound",
        "outgoing",
        "reading",
        "receive_window",
        "remote_finished",
        "reservation",
        "scheduled",
        "send_window",
        "settled",
        "spent",
        "state",
        "unwritten",
    )

    def __init__(self, id: int, *, outbound: bool, window: ReceiveWindow, reservation: Reservation) -> None:
        self.id = id
        self.outbound = outbound
        self.state = State.OPEN
        self.acknowledged = False
        self.settled = False
        """Our FIN has been written."""
        self.remote_finished = False
        self.reading = True
        """The application has not closed the stream."""
        self.scheduled = False
        """It waits for its turn to write."""
        self.announced = False
        """It has been told that there is something to read."""
        self.spent = False
        """We have sent payload since the peer's last credit."""
        self.send_window = SendWindow()
        self.receive_window = window
        self.reservation = reservation
        self.inbox = Inbox()
        self.outgoing: deque[memoryview] | None = None
        self.unwritten = 0
        self._posted: memoryview | None = None
        self._filled = 0

    def __repr__(self) -> str:
        waiting = f"{self.receive_window.unread} unread, {self.unwritten} unwritten"
        return f"<Stream {self.id} {'out' if self.outbound else 'in'}bound {self.state.value}, {waiting}>"

    def move(self, input: Input) -> None:
        """Apply `input`. Raises LocalProtocolError or RemoteProtocolError, and changes nothing, when it is not legal."""
        following = TRANSITIONS.get((self.state, input))
        if following is None:
            text = f"stream {self.id} is {self.state.value}: cannot {input.value}"
            if input in _LOCAL:
                raise LocalProtocolError(text)
            raise RemoteProtocolError(text, code=GoAwayCode.PROTOCOL_ERROR)
        self.state = following

    @property
    def over(self) -> bool:
        """Nothing will be sent or received any more, and nothing is left to be read."""
        finished = self.state is State.RESET or (self.state is State.FINISHED and self.settled)
        return finished and not (self.reading and self.receive_window.unread)

    def offer(self, data: memoryview) -> int:
        """Hold as much of `data` as the peer's window takes; says how much."""
        taken = self.send_window.take(len(data))
        if taken:
            if self.outgoing is None:
                self.outgoing = deque()
            self.outgoing.append(data[:taken])
            self.unwritten += taken
        return taken

    def gather(self, out: memoryview) -> None:
        """Fill `out`, which is no longer than what is unwritten: the one copy of a byte on its way out."""
        assert self.outgoing is not None  # it is unwritten, so it is there
        self.spent = True
        size = len(out)
        filled = 0
        while filled < size:
            first = self.outgoing.popleft()
            room = size - filled
            if len(first) > room:
                self.outgoing.appendleft(first[room:])
                first = first[:room]
            out[filled : filled + len(first)] = first
            filled += len(first)
        self.unwritten -= size
        if not self.unwritten:
            self.outgoing = None

    def retract(self) -> None:
        """Let go of everything unwritten; the window gets it back."""
        self.send_window.credit += self.unwritten
        self.unwritten = 0
        self.outgoing = None

    def deliver(self, data: memoryview) -> None:
        """Payload has arrived: into the posted buffer, the rest into the inbox.

        Raises LimitExceeded when the inbox may not grow; the stream is of no use then.
        """
        if self._posted is not None:
            size = min(len(data), len(self._posted) - self._filled)
            self._posted[self._filled : self._filled + size] = data[:size]
            self._filled += size
            data = data[size:]
            if not data:
                return
        self.receive_window.keep(len(self.inbox) + len(data))
        self.inbox.append(data)

    def read_into(self, out: memoryview) -> int:
        """Move waiting payload to `out`; says how much."""
        size = self.inbox.read_into(out)
        if size:
            self.receive_window.read(size, len(self.inbox))
        return size

    def post(self, buffer: memoryview) -> None:
        """Fill `buffer` with what comes next. The inbox must be empty, and nothing posted."""
        if self._posted is not None or self.inbox:
            raise LocalProtocolError(f"stream {self.id} has a posted buffer, or bytes to read")
        self._posted = buffer
        self._filled = 0

    def collect(self) -> int:
        """Take the posted buffer back; what is in it counts as read. Says how much that is."""
        filled = self._filled
        self._posted = None
        self._filled = 0
        if filled:
            self.receive_window.read(filled, len(self.inbox))
        return filled

    def withdraw(self) -> None:
        """Take the posted buffer back unread: what is in it goes to the front of the inbox (charged with what follows)."""
        if self._posted is not None:
            self.inbox.put_back(bytes(self._posted[: self._filled]))
            self._posted = None
            self._filled = 0

    def drop(self) -> None:
        """Forget all received payload that waits."""
        self._posted = None
        self._filled = 0
        self.inbox.clear()
        self.receive_window.unread = 0


def nobody(stream: Stream) -> None:
    """Is told of a stream when its connection is over: who was told before refers to whoever tells."""
