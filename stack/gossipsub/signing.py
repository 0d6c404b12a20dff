"""Who signs messages, who checks it, and what a message is called. Source: libp2p/specs, pubsub/README.md, "Message Signing"
and "Message Identification".
"""

import hashlib
from collections.abc import Callable
from dataclasses import field
from enum import Enum
from functools import lru_cache

from stack.errors import StackError
from stack.gossipsub.events import RejectReason
from stack.gossipsub.messages import SEQNO_BYTES_MAX, Message, signed_fields
from stack.gossipsub.params import MeshSize
from stack.identity.keys import PrivateKey, PublicKey, decode_public
from stack.identity.peer_id import PeerId
from stack.values import dataclass

SIGN_PREFIX = b"libp2p-pubsub:"
"""pubsub/README.md: "The protobuf blob is prefixed by the string `libp2p-pubsub:` before signing"."""

KEYS_CACHED_MAX = 1024
"""Public keys of authors that are kept ready: reading one takes a third of the time of verifying with it."""


class SignaturePolicy(Enum):
    """What the messages of a topic carry. The lax policies of the specification are legacy and not offered."""

    STRICT_SIGN = "StrictSign"
    """Author and signature; without them a message is invalid."""
    STRICT_NO_SIGN = "StrictNoSign"
    """Neither author nor signature; with them a message is invalid."""


MessageId = Callable[[Message], bytes]
"""Names a message, in at most 256 bytes; all nodes of a topic must agree on it. It is called with what others send and may
not raise."""


def author_and_seqno(message: Message) -> bytes:
    """The default of signed messages."""
    return (message.author or b"") + (message.seqno or b"")


def data_hash(message: Message) -> bytes:
    """The SHA-256 of the data: the default of unsigned messages, which have neither author nor number."""
    return hashlib.sha256(message.data or b"").digest()


@dataclass(frozen=True, slots=True)
class TopicRules:
    """How the messages of a topic are signed and named."""

    policy: SignaturePolicy = SignaturePolicy.STRICT_SIGN
    message_id: MessageId = author_and_seqno
    mesh: MeshSize | None = None
    """A mesh of another size than those of other topics; each node decides that for itself."""

    def violation(self, message: Message) -> RejectReason | None:
        """What is wrong with the fields of a message, the signature itself aside."""
        if self.policy is SignaturePolicy.STRICT_SIGN:
            if message.signature is None:
                return RejectReason.MISSING_SIGNATURE
            if message.seqno is not None and len(message.seqno) > SEQNO_BYTES_MAX:
                return RejectReason.BAD_SEQNO
        elif (message.author, message.seqno, message.signature, message.key) != (None, None, None, None):
            return RejectReason.UNEXPECTED_AUTHOR
        return None


SIGNED = TopicRules()
"""Messages prove who wrote them."""
UNSIGNED = TopicRules(SignaturePolicy.STRICT_NO_SIGN, data_hash)
"""Messages tell nothing of who wrote them; the same data twice is one message."""


@dataclass(frozen=True, slots=True)
class Author:
    """In whose name we write."""

    peer_id: bytes
    sign: Callable[[bytes], bytes] = field(repr=False)
    key: bytes | None = None
    """The public key, when the peer id does not hold it."""

    @staticmethod
    def of(key: PrivateKey) -> "Author":
        """The owner of a key."""
        peer = PeerId.of(key.public)
        return Author(bytes(peer), key.sign, key.public.encode() if peer.public_key() is None else None)

    def write(self, topic: str, data: bytes, seqno: int) -> Message:
        """A signed message."""
        number = seqno.to_bytes(SEQNO_BYTES_MAX, "big")
        unsigned = Message(topic, data, self.peer_id, number)
        signature = self.sign(SIGN_PREFIX + signed_fields(unsigned))
        return Message(topic, data, self.peer_id, number, signature, self.key)


@lru_cache(maxsize=KEYS_CACHED_MAX)
def _author_key(author: bytes, key: bytes | None) -> PublicKey | None:
    peer = PeerId.decode(author)
    if key is None:
        return peer.public_key()
    public = decode_public(key)
    return public if PeerId.of(public) == peer else None


def is_authentic(message: Message) -> bool:
    """Whether the author has signed the message. Takes 120 us for ed25519, most of it without the GIL."""
    if message.author is None or message.signature is None:
        return False
    try:
        key = _author_key(message.author, message.key)
        if key is None:
            return False
        key.verify(SIGN_PREFIX + signed_fields(message), message.signature)
    except StackError:
        return False
    return True
