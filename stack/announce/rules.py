"""How messages of the shards' topics are named. Source: docs/announce.md, "Gossip"."""

import hashlib

from stack.gossipsub.messages import Message
from stack.gossipsub.params import MeshSize
from stack.gossipsub.signing import SignaturePolicy, TopicRules

ID_BYTES = 16
"""Ids are told six times as often as messages travel; who makes two records of one id cheats only itself."""


def record_id(message: Message) -> bytes:
    """The topic is part of it: a record that is published to two shards is two messages."""
    return hashlib.sha256(message.topic.encode() + b"\0" + (message.data or b"")).digest()[:ID_BYTES]


MESH = MeshSize(d=4, d_low=3, d_high=6, d_score=2, d_out=1)
"""Two thirds of the usual: nobody waits for a record to spread, tables are compared anyway, and each member more is a copy more."""

TOPIC_RULES = TopicRules(SignaturePolicy.STRICT_NO_SIGN, record_id, MESH)
"""No author, no signature: records carry their own."""
