"""Keys, words, and shards: which part of the key space a peer keeps. Source: docs/announce.md, "Keys", "Shards".

A shard is the set of keys that begin with the same bits. It is written as an integer: a 1, then those bits; 1 alone is
the whole. So its parent is `shard >> 1` and its halves are `shard << 1` and `shard << 1 | 1`.
"""

import hashlib
import unicodedata
from typing import Final, NewType

from stack.identity.peer_id import PeerId
from stack.protocols.providers.interfaces import KEY_BYTES as KEY_BYTES
from stack.protocols.providers.interfaces import announce_key as announce_key

Shard = NewType("Shard", int)
Home = NewType("Home", Shard)
"""A shard of the greatest depth: where one key, or one peer, is."""

WHOLE: Final = Shard(1)
LEVEL_MAX: Final = 16
"""Bits of the deepest shard: 65,536 shards are more than peers one can know."""
SHARD_MAX: Final = (2 << LEVEL_MAX) - 1

TOPIC_PREFIX: Final = "/stack/announce/1/"
WORD_DOMAIN: Final = b"stack/announce-word/1"
HOME_DOMAIN: Final = b"stack/announce-home/1"

WORDS_MAX: Final = 16
"""Words of one name that it is found by."""
WORD_CHARACTERS_MAX: Final = 32
WORD_CHARACTERS_MIN: Final = 2
"""Single letters are in every name."""


def word_key(word: str) -> bytes:
    """The key of a word as `words_of` gives it."""
    return hashlib.sha256(WORD_DOMAIN + word.encode()).digest()[:KEY_BYTES]


def words_of(text: str) -> tuple[str, ...]:
    """The words of a name or of a question: NFKC, case folded, runs of letters, digits and
    marks of 2 to 32 characters, each once."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    # Marks are the vowels of many scripts.
    runs = "".join(letter if unicodedata.category(letter)[0] in "LMN" else " " for letter in folded).split()
    words = dict.fromkeys(run for run in runs if WORD_CHARACTERS_MIN <= len(run) <= WORD_CHARACTERS_MAX)
    return tuple(words)[:WORDS_MAX]


def home_of_key(key: bytes) -> Home:
    """Where a key is."""
    return Home(Shard(1 << LEVEL_MAX | int.from_bytes(key[:2], "big")))


def home_of_peer(peer: PeerId) -> Home:
    """Where a peer is: the shard it keeps is the one around this."""
    digest = hashlib.sha256(HOME_DOMAIN + bytes(peer)).digest()
    return Home(Shard(1 << LEVEL_MAX | int.from_bytes(digest[:2], "big")))


def level_of(shard: int) -> int:
    """How many bits the keys of a shard share."""
    return shard.bit_length() - 1


def shard_at(home: Home, level: int) -> Shard:
    """The shard of this depth around a place."""
    return Shard(home >> (LEVEL_MAX - level))


def covers(outer: int, inner: int) -> bool:
    """Every key of `inner` is one of `outer`."""
    shift = inner.bit_length() - outer.bit_length()
    return shift >= 0 and inner >> shift == outer


def compatible(one: int, other: int) -> bool:
    """One covers the other: shards either do, or have no key in common."""
    return covers(one, other) or covers(other, one)


def common_bits(one: Home, other: Home) -> int:
    """How many leading bits two places share: the more, the nearer."""
    return LEVEL_MAX - (one ^ other).bit_length()


def key_range(shard: int) -> tuple[bytes, bytes | None]:
    """The first key of a shard, and the first behind it (None: there is none)."""
    level = level_of(shard)
    first = (shard - (1 << level)) << (LEVEL_MAX - level)
    behind = first + (1 << (LEVEL_MAX - level))
    zeros = bytes(KEY_BYTES - 2)
    return first.to_bytes(2, "big") + zeros, None if behind >> LEVEL_MAX else behind.to_bytes(2, "big") + zeros


def topic_of(shard: Shard) -> str:
    """The gossip topic of a shard: its bits as text."""
    return TOPIC_PREFIX + format(shard, "b")[1:]


def shard_of_topic(topic: str) -> Shard | None:
    """The shard that a topic is about; None for any other topic."""
    bits = topic.removeprefix(TOPIC_PREFIX)
    if not topic.startswith(TOPIC_PREFIX) or len(bits) > LEVEL_MAX or bits.strip("01"):
        return None
    return Shard(int("1" + bits, 2))
