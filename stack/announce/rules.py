"""How messages of the shards' topics are named. Source: docs/announce.md, "Gossip"."""

import hashlib

from stack.gossipsub.messages import Message
from stack.gossipsub.signing import SignaturePolicy, TopicRules

ID_BYTES = 16
"""Ids are told six times as often as messages travel; who makes two records of one id cheats only itself."""


def record_id(message: Message) -> bytes:
    """The topic is part of it: a record that is published to two shards is two messages."""
    return hashlib.sha256(message.topic.encode() + b"\0" + (message.data or b"")).digest()[:ID_BYTES]


TOPIC_RULES = TopicRules(SignaturePolicy.STRICT_NO_SIGN, record_id)
"""No author, no signature: records carry their own."""
