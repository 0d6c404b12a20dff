"""What the announcement layer asks of the node it is part of, and what it tells."""

from typing import Protocol

from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.values import dataclass


class AnnouncementStore(Protocol):
    """Keeps a few kilobytes over a restart; called in a worker thread."""

    def load(self) -> bytes | None:
        """What was saved last; None when there is nothing."""
        ...

    def save(self, data: bytes) -> None:
        """Keep this in place of what was there. Raises OSError."""
        ...


class KeyLists(Protocol):
    """Moves blocks of further keys, of authors with more than 256 files in a shard."""

    async def put(self, cid: Cid, data: bytes) -> None:
        """Keep a block of ours where peers can fetch it by its CID, until `retain` leaves it out."""
        ...

    async def retain(self, cids: frozenset[Cid]) -> None:
        """Of all that was put, these are needed still; the others may go."""
        ...

    async def get(self, cid: Cid, author: PeerId, addresses: tuple[Multiaddr, ...]) -> bytes | None:
        """Fetch a block, of at most 1 MiB, from its author; None when it cannot be had. The hash has been checked."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownProvider:
    """Somebody who says that it has a root."""

    peer: PeerId
    addresses: tuple[Multiaddr, ...]
    """By its own signature."""
    told_by: PeerId | None
    """Who has told us; None: we keep its record ourselves."""
    age: float
    """Seconds since it said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundName:
    """Something with a public name."""

    name: str
    """As its author wrote it: hostile input."""
    size: int
    """Bytes, as the author says."""
    cid: Cid
    author: PeerId
    addresses: tuple[Multiaddr, ...]
    age: float
    """Seconds since the author said so."""
    directory: Cid | None
    """All public names of the author, a UnixFS directory."""
