"""Trace events of the block exchange."""

from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.trace import TraceEvent
from stack.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSent(TraceEvent):
    """A block went to a peer. Summed up by segment, this says to whom a shared file went."""

    peer: PeerId
    cid: Cid
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockReceived(TraceEvent):
    """A block that was wanted came, verified."""

    peer: PeerId
    cid: Cid
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnwantedBlock(TraceEvent):
    """A block came that nobody wanted: a second copy (`late`), or wrong bytes, or never asked for."""

    peer: PeerId
    size: int
    late: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCut(TraceEvent):
    """A peer sent so much that was not wanted that it has been disconnected."""

    peer: PeerId
    blocks: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPeerDropped(TraceEvent):
    """A session will not ask this peer again."""

    peer: PeerId
    root: Cid
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlocksNotKept(TraceEvent):
    """A session ended before the store had taken what it had fetched."""

    root: Cid
    bytes: int
