"""What the block exchange asks of others, and what others ask of it."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import field
from enum import Enum
from typing import Protocol, runtime_checkable

from stack.blocks.interfaces import RealmId
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.protocols.providers.interfaces import SwarmListener
from stack.values import dataclass


class Order(Enum):
    """In which order a session asks for blocks."""

    FILE = "file"
    """As given: somebody watches or pipes."""
    SPREAD = "spread"
    """Random within a bounded look-ahead, seeded by our peer id, rarest first where that is known."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A peer that is said to have something, where it can be dialled, and who said so (`ticket`, `user`, `announced`, ...)."""

    peer: PeerId
    addresses: tuple[Multiaddr, ...]
    source: str


class ProviderSource(Protocol):
    """Knows, or finds out, who has a root."""

    def find_providers(self, root: Cid, secret: bytes = b"") -> AsyncIterator[Provider]:
        """Providers as they become known; goes on until the caller stops asking. With the `secret` of a ticket also those who have it
        for who knows that."""
        ...


@runtime_checkable
class ProviderJudge(Protocol):
    """A source that wants to know what came of those it named: one word for each, at most once in a session."""

    def delivered(self, peer: PeerId) -> None:
        """It sent a block."""
        ...

    def failed(self, peer: PeerId) -> None:
        """It could not be reached, or had nothing of what it was named for."""
        ...


class Answered(Protocol):
    """An `anyio.Event` that is set when a question is over."""

    def is_set(self) -> bool: ...
    async def wait(self) -> object: ...


class Swarm(Protocol):
    """Knows the other peers of a root, and which leaves each has (`stack/protocols/providers`)."""

    def join(self, root: Cid, listener: SwarmListener) -> Callable[[], None]:
        """Tell `listener` of them until the returned function is called."""
        ...

    def ask(self, root: Cid, peer: PeerId) -> Answered:
        """This connected peer may know more; asked as long as `root` is joined. What is returned is set once it has said something, or
        will say nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Enclosure:
    """What is fetched is for those who know a secret, as its ticket says, and so is what is kept of it."""

    realm: RealmId
    secret: bytes = field(repr=False)


class Access(Protocol):
    """Knows which connected peers have proved to know which secrets (`stack/protocols/access`)."""

    def listen(self, listener: Callable[[PeerId, frozenset[RealmId]], None]) -> None:
        """Tell of each peer that may enter realms from now on, before it hears of it itself."""
        ...

    def admitted(self, peer: PeerId) -> frozenset[RealmId]:
        """The realms a connected peer may enter."""
        ...

    async def prove(self, peer: PeerId, secret: bytes, *, anew: bool = False) -> bool:
        """Prove to a connected peer that we know this, and have it prove the same; False when it does not. `anew`: also where it has."""
        ...


BlockSink = Callable[[Cid, memoryview], None]
"""Keeps one verified block. Called in a worker thread, several at once; the view is valid until it returns.
An exception fails the session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerReport:
    """What one peer did for a session, for progress lines and for `stack jobs`."""

    peer: PeerId
    blocks: int
    bytes: int
    arriving: int = 0
    """Bytes of blocks that are not whole yet, and may be kept."""
    misses: int = 0
    """Blocks that it was asked for and did not have, or did not send in time, since the last that it sent."""
    denials: int = 0
    """Of those, the ones that it said it does not have."""
    broken: int = 0
    """How often a block that came from it broke off, its connection lost or not, since the last that came whole."""
    duplicate_bytes: int
    wrong_blocks: int
    rate: float
    """Bytes a second, smoothed."""
    stalled: bool
    dropped: str | None
    """Why the session no longer asks this peer, or None."""
    awaited: bool = False
    """It is just being connected, and was not dialled in vain before."""
    unproved: bool = False
    """It has not proved to know the secret of what is fetched: as far as it says, that is not there."""
    ended: bool = False
    """It had proved it, and does not know the secret any more: its share has ended."""
    source: str = "connected"
    """Who named it first, see `Provider`; `connected`: nobody, it was asked because it was there."""


class Session(Protocol):
    """The fetch of one DAG from many peers. Made by `Exchange.session`, a context: leaving it cancels all its wants."""

    def add_provider(self, provider: Provider) -> None:
        """Somebody who may have it; dialled when needed."""
        ...

    async def get(self, cid: Cid) -> bytes:
        """One block: from the local store if it is there, else from peers, then kept in the store unless a sink is set.

        Raises NoProvider / Stalled only when the session has such limits; cancellation withdraws the want.
        """
        ...

    async def fetch(
        self, cids: Sequence[Cid], sink: BlockSink | None = None, *, leaves: Sequence[int] | None = None
    ) -> None:
        """Fetch many blocks; returns when each has been verified and handed to `sink` (or put into the store).

        `leaves` says which leaf of the root each CID is, counted from 0 in the order of the file: with it, peers are asked
        for what they are known to have, the rarest first. May be called again while an earlier call runs: wants join one
        queue. Raises what a sink raised, and what the store raised (NoSpace); the session is of no use after that.
        """
        ...

    def lacking(self, multihashes: Iterable[bytes]) -> bool:
        """Whether each of these is waited for, and everybody who could be asked says that it has not got it, and nobody is just being
        connected who may have it; asked again every few seconds all the same."""
        ...

    def reports(self) -> list[PeerReport]: ...


class Exchange(Protocol):
    """The block exchange as apps and the rest of the node see it."""

    def session(
        self,
        root: Cid,
        *,
        providers: Sequence[Provider] = (),
        order: Order = Order.SPREAD,
        broadcast: bool = False,
        head_start: float = 0.0,
        seek: float | None = None,
        enclosure: Enclosure | None = None,
    ) -> AbstractAsyncContextManager[Session]:
        """A session for the DAG below `root`. When nothing has come for `seek` seconds, or no known provider gives hope any more,
        others are asked by a key that tells them nothing: the exchange's sources of providers, and connected peers who speak
        `/stack/providers`. With None, nobody is.

        With `broadcast`, these are asked at once, and connected peers are asked for the CID itself (WANT_HAVE) while no provider
        is known; that tells strangers what we seek, so it is off unless asked for. They hear it only after `head_start` seconds.

        With an `enclosure` only peers are asked who have proved to know its secret, and those who are known to have the root from
        elsewhere: the user named them, or they announced it."""
        ...
