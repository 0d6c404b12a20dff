"""gossipsub RPCs: frozen values -> bytes, and how ours are kept small. `decoding` is the way back.

Sources: libp2p/specs, pubsub/README.md and pubsub/gossipsub/gossipsub-v1.0.md to -v1.3.md. Of the last there is nothing to
encode: it is a place for extensions, of which we have none; whoever has none says nothing, and passes over those of others.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from typing import TypeVar

from stack.errors import LocalProtocolError
from stack.multiformats import varint
from stack.values import dataclass

T = TypeVar("T")

PROTOCOL_1_3 = "/meshsub/1.3.0"
PROTOCOL_1_2 = "/meshsub/1.2.0"
PROTOCOL_1_1 = "/meshsub/1.1.0"
PROTOCOL_1_0 = "/meshsub/1.0.0"
PROTOCOL_FLOODSUB = "/floodsub/1.0.0"

PROTOCOLS = (PROTOCOL_1_3, PROTOCOL_1_2, PROTOCOL_1_1, PROTOCOL_1_0, PROTOCOL_FLOODSUB)
"""In order of preference."""
WITH_MESH = frozenset({PROTOCOL_1_3, PROTOCOL_1_2, PROTOCOL_1_1, PROTOCOL_1_0})
"""Peers that take control messages; floodsub knows none."""
WITH_PX = frozenset({PROTOCOL_1_3, PROTOCOL_1_2, PROTOCOL_1_1})
"""Peers that read back-off and other peers in a PRUNE."""
WITH_IDONTWANT = frozenset({PROTOCOL_1_3, PROTOCOL_1_2})

RPC_BYTES_MAX = 1024 * 1024
"""pubsub/README.md suggests 1 MiB for a message; go-libp2p-pubsub takes RPCs of that size."""
TOPIC_BYTES_MAX = 1024
"""No specification says; a peer may name a hundred topics, and each is kept."""
SEQNO_BYTES_MAX = 8
"""pubsub/README.md: "a 64-bit big-endian uint". Longer ones would be kept as part of the message id."""
OVERHEAD_BYTES = 16
"""More than key, length and enclosing headers of one field add."""
ID_OVERHEAD_BYTES = 4
"""More than key and length of one message id add."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it travels. Absent fields are None; what may be absent depends on the signing policy."""

    topic: str
    data: bytes | None = field(default=None, repr=False)
    author: bytes | None = None
    """`from` on the wire: the peer id of who wrote it, not of who passed it on."""
    seqno: bytes | None = None
    signature: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)
    """The author's public key, where the peer id does not hold it."""
    unknown: bytes = field(default=b"", repr=False)
    """Fields newer than this program; they are signed and passed on."""

    @property
    def size(self) -> int:
        """About how many bytes it takes on the wire, never less."""
        return (
            6 * OVERHEAD_BYTES
            + 4 * len(self.topic)
            + len(self.data or b"")
            + len(self.author or b"")
            + len(self.seqno or b"")
            + len(self.signature or b"")
            + len(self.key or b"")
            + len(self.unknown)
        )


@dataclass(frozen=True, slots=True)
class IHave:
    """Messages the sender has in a topic."""

    topic: str
    message_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A peer one could connect to instead (PX), unverified."""

    peer_id: bytes
    signed_peer_record: bytes | None = None


@dataclass(frozen=True, slots=True)
class Prune:
    """The sender takes us out of its mesh."""

    topic: str
    peers: tuple[PeerInfo, ...] = ()
    backoff: int | None = None
    """Seconds until we may graft again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The control part of an RPC. The ids of several IWANT or IDONTWANT entries are one list: entries mean nothing."""

    ihave: tuple[IHave, ...] = ()
    iwant: tuple[bytes, ...] = ()
    graft: tuple[str, ...] = ()
    prune: tuple[Prune, ...] = ()
    idontwant: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rpc:
    """All that travels between two peers."""

    subscriptions: tuple[tuple[bool, str], ...] = ()
    """(joined or left, topic)."""
    publish: tuple[Message, ...] = ()
    control: Control | None = None
    skipped_bytes: int = 0
    """Received control bytes that were over the limit and not looked at."""


def signed_fields(message: Message) -> bytes:
    """What is signed, without the prefix: everything but signature and key, in the order of the numbers."""
    return b"".join(_unsigned(message)) + message.unknown


def encode_message(message: Message) -> bytes:
    """The message in the order of the field numbers, unknown fields last, as go-libp2p-pubsub writes it."""
    parts = _unsigned(message)
    if message.signature is not None:
        parts += (b"\x2a", varint.encode(len(message.signature)), message.signature)
    if message.key is not None:
        parts += (b"\x32", varint.encode(len(message.key)), message.key)
    parts.append(message.unknown)
    return b"".join(parts)


def _unsigned(message: Message) -> list[bytes]:
    parts: list[bytes] = []
    if message.author is not None:
        parts += (b"\x0a", varint.encode(len(message.author)), message.author)
    if message.data is not None:
        parts += (b"\x12", varint.encode(len(message.data)), message.data)
    if message.seqno is not None:
        parts += (b"\x1a", varint.encode(len(message.seqno)), message.seqno)
    topic = message.topic.encode()
    parts += (b"\x22", varint.encode(len(topic)), topic)
    return parts


def encode_rpc(rpc: Rpc) -> bytes:
    """The RPC, without its length."""
    parts = [
        _field(b"\x0a", bytes((8, joined)) + _field(b"\x12", topic.encode())) for joined, topic in rpc.subscriptions
    ]
    parts += [_field(b"\x12", encode_message(message)) for message in rpc.publish]
    if rpc.control is not None:
        parts.append(_field(b"\x1a", _encode_control(rpc.control)))
    return b"".join(parts)


def _field(key: bytes, data: bytes) -> bytes:
    return key + varint.encode(len(data)) + data


def _encode_control(control: Control) -> bytes:
    parts = [
        _field(b"\x0a", _field(b"\x0a", entry.topic.encode()) + b"".join(_field(b"\x12", i) for i in entry.message_ids))
        for entry in control.ihave
    ]
    if control.iwant:
        parts.append(_field(b"\x12", b"".join([_field(b"\x0a", i) for i in control.iwant])))
    parts += [_field(b"\x1a", _field(b"\x0a", topic.encode())) for topic in control.graft]
    parts += [_field(b"\x22", _encode_prune(prune)) for prune in control.prune]
    if control.idontwant:
        parts.append(_field(b"\x2a", b"".join([_field(b"\x0a", i) for i in control.idontwant])))
    return b"".join(parts)


def _encode_prune(prune: Prune) -> bytes:
    parts = [_field(b"\x0a", prune.topic.encode())]
    for peer in prune.peers:
        record = peer.signed_peer_record
        parts.append(
            _field(b"\x12", _field(b"\x0a", peer.peer_id) + (b"" if record is None else _field(b"\x12", record)))
        )
    if prune.backoff is not None:
        parts.append(b"\x18" + varint.encode(prune.backoff))
    return b"".join(parts)


def pack(items: Sequence[T], size: Callable[[T], int], limit: int) -> Iterator[tuple[T, ...]]:
    """The items in groups whose sizes add up to at most `limit`; one that alone is larger is a group by itself."""
    group: list[T] = []
    total = 0
    for item in items:
        bytes_of_item = size(item)
        total += bytes_of_item
        if group and total > limit:
            yield tuple(group)
            group, total = [], bytes_of_item
        group.append(item)
    if group:
        yield tuple(group)


def topic_size(topic: str) -> int:
    """Bytes that a topic takes in a subscription or a graft, at most."""
    return 4 * len(topic) + OVERHEAD_BYTES


def id_size(message_id: bytes) -> int:
    """Bytes that an id takes in IHAVE, IWANT or IDONTWANT, at most."""
    return len(message_id) + ID_OVERHEAD_BYTES


def ihave_size(entry: IHave) -> int:
    """Bytes that an IHAVE takes, at most."""
    return topic_size(entry.topic) + OVERHEAD_BYTES + sum(map(id_size, entry.message_ids))


def message_size(message: Message) -> int:
    """Bytes that a message takes, at most."""
    return message.size


def prune_size(prune: Prune) -> int:
    """Bytes that a PRUNE takes, at most."""
    peers = (len(p.peer_id) + len(p.signed_peer_record or b"") + 2 * OVERHEAD_BYTES for p in prune.peers)
    return topic_size(prune.topic) + OVERHEAD_BYTES + sum(peers)


def check_topic(topic: str) -> None:
    """Raises LocalProtocolError when this is no name of a topic."""
    try:
        size = len(topic.encode())
    except UnicodeEncodeError as error:
        raise LocalProtocolError("the name of a topic is text") from error
    if not 0 < size <= TOPIC_BYTES_MAX:
        raise LocalProtocolError(f"the name of a topic has 1 to {TOPIC_BYTES_MAX} bytes")
