"""What the announcement machine tells: effects for its owner to carry out, and trace events for whoever listens."""

from enum import Enum
from typing import NewType

from stack.announce.clocks import ClockOpinion
from stack.announce.keyspace import Shard
from stack.announce.messages import Request
from stack.announce.outcomes import Outcome
from stack.announce.records import Record
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.trace import TraceEvent
from stack.values import dataclass

AskId = NewType("AskId", int)
LookupId = NewType("LookupId", int)
InterestId = NewType("InterestId", int)


class Judgement(Enum):
    """What became of a record that came by gossip."""

    ACCEPT = "accept"
    """It is good and new: pass it on."""
    REJECT = "reject"
    """No honest peer would have passed it on."""
    IGNORE = "ignore"
    """Do not pass it on, and blame nobody: it is old, or too much."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Open a stream to a member and ask; answer with `answered(id, response)`, None when that failed."""

    id: AskId
    peer: PeerId
    addresses: tuple[Multiaddr, ...]
    """From a record that the peer has signed; empty: it is connected."""
    request: Request


@dataclass(frozen=True, slots=True)
class StopAsking:
    """The answer, or what follows it, is of no use any more: end the stream."""

    id: AskId


@dataclass(frozen=True, slots=True)
class Connect:
    """Dial a peer that keeps our shard. Report with `peer_connected`, or `failed`."""

    peer: PeerId
    addresses: tuple[Multiaddr, ...]


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Take part in a topic."""

    topic: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Leave a topic."""

    topic: str


@dataclass(frozen=True, slots=True)
class Publish:
    """Send a record to a topic we are in."""

    topic: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """A record that has what a lookup seeks; an author is told once, and again when its record has changed."""

    lookup: LookupId
    record: Record
    source: PeerId | None
    """Who told it; None: our own table."""


@dataclass(frozen=True, slots=True)
class RoundEnded:
    """Everybody who could be asked has been; a lookup that goes on will ask again after a while."""

    lookup: LookupId
    answers: int
    """How many have answered for the place, we ourselves included; 0: nobody knows."""


@dataclass(frozen=True, slots=True)
class Push:
    """A record for somebody who has kept an interest."""

    interest: InterestId
    data: bytes


@dataclass(frozen=True, slots=True)
class InterestEnded:
    """Nothing more will be pushed."""

    interest: InterestId


@dataclass(frozen=True, slots=True)
class FetchKeys:
    """Fetch the block of further keys of a record, from its author; report with `keys_fetched`."""

    record: Record
    cid: Cid


@dataclass(frozen=True, slots=True)
class KeepKeys:
    """Keep this block where the author's peers can fetch it: a list of further keys of ours."""

    cid: Cid
    data: bytes


@dataclass(frozen=True, slots=True)
class ListsNamed:
    """Records of ours that are out name these lists, and no others: what else was kept may go."""

    cids: frozenset[Cid]


@dataclass(frozen=True, slots=True)
class Save:
    """Our own announcements have changed: keep `AnnounceMachine.saved()` over a restart."""


@dataclass(frozen=True, slots=True)
class ClockWrong:
    """Others say that our clock is wrong: they ignore what we announce, or we what they do. The owner is to be told."""

    opinion: ClockOpinion


Effect = (
    Ask
    | StopAsking
    | Connect
    | Subscribe
    | Unsubscribe
    | Publish
    | Found
    | RoundEnded
    | Push
    | InterestEnded
    | FetchKeys
    | KeepKeys
    | ListsNamed
    | Save
    | ClockWrong
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnounceEvent(TraceEvent):
    """Base of the facts below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardChanged(AnnounceEvent):
    """We keep another shard from now on; None: none before."""

    old: Shard | None
    new: Shard
    load: int
    members: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLoaded(AnnounceEvent):
    """We know what others knew, and answer for our shard."""

    authors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockJumped(AnnounceEvent):
    """The machine slept, or its clock was set."""

    seconds: float
    """Less than 0: back."""


class RefusedBecause(Enum):
    """Why a record was refused before the table saw it."""

    INVALID = "invalid"
    FUTURE = "from the future"
    NEIGHBOUR_BUDGET = "too much from this neighbour"
    GROUP_BUDGET = "too much of this address group"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRefused(AnnounceEvent):
    """A record was not taken from `peer`."""

    peer: PeerId | None
    reason: RefusedBecause | Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordHandedIn(AnnounceEvent):
    """A member has taken a record of ours."""

    peer: PeerId
    shard: Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupAnswered(AnnounceEvent):
    """A member has answered a lookup."""

    peer: PeerId
    records: int
    authoritative: bool
    seconds: float
    """Since the lookup began."""
