"""A block that a session still needs, and in which states its peers are. Pure."""

from enum import Enum
from typing import TYPE_CHECKING

from stack.multiformats.cid import Cid

if TYPE_CHECKING:
    from stack.bitswap.session_peer import SessionPeer


class PeerState(Enum):
    """`KNOWN`: not connected. `DIALLING`: being connected. `READY`: can be asked. `DROPPED`: never asked again."""

    KNOWN = "known"
    DIALLING = "dialling"
    READY = "ready"
    DROPPED = "dropped"


class SessionWant:
    """A block the session still needs."""

    __slots__ = (
        "askers",
        "cid",
        "denied",
        "done",
        "failures",
        "holders",
        "lacks",
        "leaf",
        "multihash",
        "open",
        "rank",
        "rarity",
        "told",
    )

    def __init__(self, cid: Cid, leaf: int | None, rank: float) -> None:
        self.cid = cid
        self.multihash = cid.multihash
        self.leaf = leaf
        """Its number among the leaves of the root, where the caller knows it."""
        self.rank = rank
        """Lower is asked for earlier."""
        self.rarity = 0
        self.open = False
        """In the pool: nobody is being asked."""
        self.done = False
        self.askers: set[SessionPeer] = set()
        """Peers that owe it."""
        self.told: dict[SessionPeer, None] = {}
        """Peers on whose wantlist it stands, also those that said DONT_HAVE or stalled."""
        self.lacks: set[SessionPeer] = set()
        self.failures = 0
        """How many times somebody who owed it has not brought it."""
        self.holders: set[SessionPeer] = set()
        self.denied: frozenset[SessionPeer] = frozenset()
        """Peers that said DONT_HAVE, and nothing else since."""
