"""What the network tells to a trace."""

from enum import Enum

from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.interfaces import Direction
from stack.net.limits import Refusal
from stack.trace import TraceEvent
from stack.values import dataclass


class DialOutcome(Enum):
    """How an attempt ended."""

    CONNECTED = "connected"
    TRANSPORT = "the transport failed"
    SECURITY = "the other end is not who it should be"
    NEGOTIATION = "no protocol in common"
    LIMIT = "a limit of ours"
    FAULT = "a fault of ours"


class CloseReason(Enum):
    """Why a connection ended."""

    REMOTE = "the peer closed it, or it broke"
    REQUESTED = "disconnected on request"
    TRIMMED = "there were too many connections"
    CROWDED = "it did little, and another came from its address, all places of which were taken"
    DUPLICATE = "there is a better one to the same peer"
    UNRESPONSIVE = "no answer to a probe"
    FLOODING = "it opened streams without end that nobody takes"
    MISBEHAVED = "it went on to break the rules of a protocol"
    SHUTDOWN = "the host is closing"


@dataclass(frozen=True, slots=True, kw_only=True)
class DialAttempted(TraceEvent):
    """One address has been dialled."""

    peer: PeerId | None
    address: Multiaddr
    outcome: DialOutcome
    seconds: float
    reason: str = ""
    """Why it failed, in words for users."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOpened(TraceEvent):
    """A connection is ready for streams."""

    peer: PeerId
    address: Multiaddr
    direction: Direction


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionClosed(TraceEvent):
    """A connection has ended."""

    peer: PeerId
    address: Multiaddr
    direction: Direction
    reason: CloseReason
    seconds: float
    """For how long it stood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundRefused(TraceEvent):
    """A connection was dropped as it arrived."""

    address: Multiaddr
    reason: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOpened(TraceEvent):
    """A protocol has been agreed (or assumed) on a stream."""

    peer: PeerId
    protocol: str
    direction: Direction
