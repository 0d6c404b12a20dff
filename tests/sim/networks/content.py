"""What simulated peers of a root share, how they behave, and what they send each other beside bitswap's own messages."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from stack.multiformats.cid import Cid
from stack.protocols.providers.subscription import SubscriptionId


class Kind(Enum):
    """How a peer behaves."""

    HONEST = "honest"
    DENIES = "denies"
    """Says that it has nothing, whatever it is asked."""
    MUTE = "mute"
    """Takes wants and never answers."""
    WRONG = "wrong bytes"
    UNREACHABLE = "unreachable"
    """Nobody comes to the telephone."""


class Blocks(NamedTuple):
    """A message with blocks, as far as it has come."""

    size: int
    multihashes: tuple[bytes, ...]
    """Of the whole message; empty until its last piece."""
    wrong: bool


class Told(NamedTuple):
    """Messages on a stream of the providers protocol."""

    id: SubscriptionId
    updates: tuple[bytes, ...]
    closed: bool


@dataclass(frozen=True, slots=True)
class Content:
    """What is shared: a root whose leaves all have one size."""

    root: Cid
    leaves: tuple[Cid, ...]
    leaf_size: int

    @classmethod
    def make(cls, leaves: int, leaf_size: int, name: str = "content") -> "Content":
        """Content that does not exist; each leaf has a CID all the same."""
        cids = tuple(Cid.of(b"%s %d" % (name.encode(), index)) for index in range(leaves))
        return cls(Cid.of(name.encode()), cids, leaf_size)

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.leaves) * self.leaf_size
