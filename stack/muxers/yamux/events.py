"""What a yamux connection reports. Payload is never part of an event."""

from stack.sansio.interfaces import StreamId
from stack.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOpened:
    """The peer opened a stream; `accept` or `reset` it."""

    stream: StreamId


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamReadable:
    """There is something to read, after there was nothing."""

    stream: StreamId


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamWritten:
    """All payload that was taken has been written; its memory may change again."""

    stream: StreamId


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowOpened:
    """The peer's window was used up, and is open again."""

    stream: StreamId


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnded:
    """The peer sends no more on this stream; what came before can still be read."""

    stream: StreamId


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamReset:
    """The stream is gone: reset by the peer, or by us when its memory did not fit into the budget."""

    stream: StreamId
    remote: bool
    """The peer did it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BacklogOpened:
    """The peer acknowledged streams: `open` is possible again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PongReceived:
    """A ping was answered."""

    ping: int
    """As returned by `ping`."""
    round_trip: float
    """Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoAwayReceived:
    """The peer accepts no more streams; with another code than 0 it has given up the connection."""

    code: int


Event = (
    StreamOpened
    | StreamReadable
    | StreamWritten
    | WindowOpened
    | StreamEnded
    | StreamReset
    | BacklogOpened
    | PongReceived
    | GoAwayReceived
)
