"""What the machine tells: effects for its owner to carry out, and trace events for whoever listens."""

from enum import Enum
from typing import Self

from stack.gossipsub.messages import Message, Rpc
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.trace import TraceEvent
from stack.values import dataclass


class Verdict(Enum):
    """What validation found."""

    ACCEPT = "accept"
    """Deliver and forward it."""
    REJECT = "reject"
    """It is invalid: neither, and whoever sent it loses score (P4)."""
    IGNORE = "ignore"
    """Neither, and nobody is blamed."""
    BAD_SIGNATURE = "bad signature"
    """As REJECT; but another message may still come under the same id, for this one was not its author's."""
    THROTTLED = "throttled"
    """There was no time to look: as if it had never come."""


@dataclass(frozen=True, slots=True)
class SendRpc:
    """Send this to a connected peer. One RPC for several peers is one object."""

    peer: PeerId
    rpc: Rpc


@dataclass(frozen=True, slots=True)
class Validate:
    """Find out whether a message is good; answer with `validation_result(token, ...)`, in any order."""

    token: int
    peer: PeerId
    """Who sent it to us."""
    message: Message
    verify: bool
    """Its signature has not been verified either."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """A message for the subscribers of its topic."""

    peer: PeerId | None
    """Who sent it to us; None: we published it."""
    message: Message
    message_id: bytes


@dataclass(frozen=True, slots=True)
class Connect:
    """Dial a peer. Nothing needs to be reported when it fails."""

    peer: PeerId
    addresses: tuple[Multiaddr, ...]
    """From a record that the peer has signed; empty: whatever is known."""
    direct: bool
    """It is one of our direct peers; else somebody who pruned us named it (PX)."""


@dataclass(frozen=True, slots=True)
class Protect:
    """Keep the connection to a peer, or do not mind any more: it has joined its first mesh, or left its last."""

    peer: PeerId
    keep: bool


Effect = SendRpc | Validate | Deliver | Connect | Protect


class PruneReason(Enum):
    """Why a peer left a mesh."""

    NEGATIVE_SCORE = "negative score"
    OVERSUBSCRIBED = "more than d_high"
    LEFT_TOPIC = "we left the topic"
    BY_PEER = "the peer pruned us"
    PEER_LEFT_TOPIC = "the peer left the topic"
    DISCONNECTED = "disconnected"


class RejectReason(Enum):
    """Why a message was not taken."""

    MISSING_SIGNATURE = "missing signature"
    INVALID_SIGNATURE = "invalid signature"
    UNEXPECTED_AUTHOR = "author or signature where none may be"
    BAD_SEQNO = "sequence number longer than 8 bytes"
    SELF_ORIGIN = "in our name, but not ours"
    VALIDATION_FAILED = "validation failed"
    VALIDATION_IGNORED = "validation ignored it"
    VALIDATION_THROTTLED = "too much to validate"


class IgnoreReason(Enum):
    """Why a control message, or part of it, was not acted upon."""

    LOW_SCORE = "score below the threshold"
    TOO_MANY = "more than allowed in a heartbeat"
    TOO_LARGE = "control over 256 KiB"
    BACKOFF = "graft during back-off"
    FULL = "graft at d_high from a peer that dialled us"
    DIRECT = "graft from a direct peer"
    FLOODSUB = "control from a floodsub peer"


@dataclass(frozen=True, slots=True, kw_only=True)
class GossipsubEvent(TraceEvent):
    """Base of the facts below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAdded(GossipsubEvent):
    """A peer can be sent to."""

    peer: PeerId
    protocol: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRemoved(GossipsubEvent):
    """A peer is gone."""

    peer: PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicJoined(GossipsubEvent):
    """We have subscribed."""

    topic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicLeft(GossipsubEvent):
    """We have unsubscribed."""

    topic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSubscribed(GossipsubEvent):
    """A peer has told that it is in a topic."""

    peer: PeerId
    topic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerUnsubscribed(GossipsubEvent):
    """A peer has told that it left a topic."""

    peer: PeerId
    topic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Grafted(GossipsubEvent):
    """A peer has joined our mesh."""

    peer: PeerId
    topic: str
    by_peer: bool
    """It asked; else we did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned(GossipsubEvent):
    """A peer has left our mesh."""

    peer: PeerId
    topic: str
    reason: PruneReason


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagePublished(GossipsubEvent):
    """We have written a message."""

    topic: str
    message_id: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDelivered(GossipsubEvent):
    """A message is new and good."""

    peer: PeerId
    topic: str
    message_id: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDuplicate(GossipsubEvent):
    """A message has come again."""

    peer: PeerId
    topic: str
    message_id: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRejected(GossipsubEvent):
    """A message was not taken."""

    peer: PeerId
    topic: str
    reason: RejectReason


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlIgnored(GossipsubEvent):
    """A control message of `kind` (ihave, iwant, graft, ...) had no effect, or not all of it."""

    peer: PeerId
    kind: str
    reason: IgnoreReason


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcGraylisted(GossipsubEvent):
    """An RPC was not looked at, since its sender's score is below the graylist threshold."""

    peer: PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class PromisesBroken(GossipsubEvent):
    """A peer told of messages and did not deliver when asked."""

    peer: PeerId
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersExchanged(GossipsubEvent):
    """A peer that pruned us has named others; `taken` of them are dialled."""

    peer: PeerId
    topic: str
    taken: int
    refused: int
    """Records that are not what they should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcEvent(GossipsubEvent):
    """What is told of an RPC."""

    peer: PeerId
    size: int
    """Bytes on the wire."""
    messages: int
    control: bool
    unwanted: int
    """Messages that its sender declines (IDONTWANT)."""

    @classmethod
    def of(cls, peer: PeerId, rpc: Rpc, size: int) -> Self:
        """The event of an RPC."""
        control = rpc.control
        return cls(
            peer=peer,
            size=size,
            messages=len(rpc.publish),
            control=control is not None,
            unwanted=len(control.idontwant) if control is not None else 0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcReceived(RpcEvent):
    """An RPC has come; its size is without the length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcSent(RpcEvent):
    """An RPC waits to be written; its size is with the length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcDropped(GossipsubEvent):
    """A peer reads too slowly: an RPC for it, or gossip that waited, was dropped."""

    peer: PeerId
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageUndeliverable(GossipsubEvent):
    """A subscriber of ours reads too slowly and has missed a message."""

    topic: str
