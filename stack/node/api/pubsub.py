"""Topics: messages to everybody who is in one."""

from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api.interfaces import Ask, Watch, Write
from stack.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A message went out."""

    id: str
    """Of the message, in hexadecimal."""
    peers: int
    """Peers of the topic that we know of; 0: nobody heard it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish(Write[Published]):
    """`stack pubsub pub TOPIC`: all of the bytes are one message, at most 1020 KiB."""

    topic: str
    connect: tuple[Multiaddr, ...] = ()
    """Peers to be connected to before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribed:
    """From now on messages come. The first event of `Subscribe`."""

    topic: str
    peers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicMessage:
    """A message of a topic."""

    topic: str
    author: PeerId | None
    """Who signed it."""
    seqno: int | None
    """Grows with each message of an author."""
    id: str
    """Hexadecimal."""
    data: bytes
    """In base64 where it is JSON."""
    dropped: int
    """Messages that this subscriber has missed so far, because it read too slowly."""


TopicEvent = Subscribed | TopicMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe(Watch[TopicEvent]):
    """`stack pubsub sub TOPIC`, until the context is left."""

    topic: str
    connect: tuple[Multiaddr, ...] = ()
    """Peers to be connected to before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicInfo:
    """A topic with a subscriber here."""

    topic: str
    peers: int
    """Connected peers that are in it."""
    mesh: int
    """Those of them that messages are exchanged with directly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListTopics(Ask[tuple[TopicInfo, ...]]):
    """`stack pubsub ls`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicPeer:
    """A peer that speaks gossipsub."""

    peer_id: str
    mesh: bool
    """Messages of the topic are exchanged with it directly; of any topic, where none was named."""
    score: float
    """What we think of it; below 0 is bad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListTopicPeers(Ask[tuple[TopicPeer, ...]]):
    """`stack pubsub peers [TOPIC]`: those in a topic, or all."""

    topic: str | None = None
