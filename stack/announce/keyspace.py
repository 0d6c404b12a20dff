"""Keys, words, and shards: which part of the key space a peer keeps. Source: docs/announce.md, "Keys", "Shards".

A shard is the set of keys that begin with the same bits. It is written as an integer: a 1, then those bits; 1 alone is
the whole. So its parent is `shard >> 1` and its halves are `shard << 1` and `shard << 1 | 1`.
"""

import hashlib
import hmac
from typing import Final, NewType
from unicodedata import category, normalize

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
TICKET_DOMAIN: Final = b"stack/announce-ticket/1"

WORDS_MAX: Final = 16
"""Words of one name that it is found by."""
WORD_CHARACTERS_MAX: Final = 32
WORD_CHARACTERS_MIN: Final = 2
"""Single letters are in every name."""
FOLDED_CHARACTERS_MAX: Final = 255
"""Of a name that are looked at once it is folded: 255 bytes may become 1,530 letters, and 32 such names are in one record."""
_PIECE: Final = 16
_KEPT: Final = frozenset(("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No"))
"""Categories of letters, marks and digits."""
_ASCII: Final = "".join(chr(code).lower() if chr(code).isalnum() else " " for code in range(128))


def word_key(word: str) -> bytes:
    """The key of a word as `words_of` gives it."""
    return hashlib.sha256(WORD_DOMAIN + word.encode()).digest()[:KEY_BYTES]


def ticket_key(secret: bytes, multihash: bytes) -> bytes:
    """The key of what only tickets with this secret give: who does not know the secret learns nothing from it, though it knows the
    root."""
    return hmac.digest(secret, TICKET_DOMAIN + multihash, "sha256")[:KEY_BYTES]


def words_of(text: str) -> tuple[str, ...]:
    """The words of a name or of a question: NFKC, case folded, runs of letters, digits and
    marks of 2 to 32 characters, each once; of what is longer than 255 characters then, the beginning."""
    if text.isascii():
        runs = text[:FOLDED_CHARACTERS_MAX].translate(_ASCII).split()
    else:
        # Marks are the vowels of many scripts.
        runs = "".join([letter if category(letter) in _KEPT else " " for letter in _folded(text)]).split()
    words = dict.fromkeys(run for run in runs if WORD_CHARACTERS_MIN <= len(run) <= WORD_CHARACTERS_MAX)
    return tuple(words)[:WORDS_MAX]


def word_keys_of(text: str) -> frozenset[bytes]:
    """The keys of the words of a name or of a question."""
    return frozenset(map(word_key, words_of(text)))


def _folded(text: str) -> str:
    """Piece by piece, since one letter may become eighteen. What the cuts part is put together at the end."""
    pieces: list[str] = []
    left = FOLDED_CHARACTERS_MAX
    for at in range(0, len(text), _PIECE):
        piece = normalize("NFKC", text[at : at + _PIECE]).casefold()
        pieces.append(piece[:left])
        left -= len(piece)
        if left <= 0:
            break
    return normalize("NFKC", "".join(pieces))[:FOLDED_CHARACTERS_MAX]


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
