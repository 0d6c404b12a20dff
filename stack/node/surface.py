"""What programs do with a node, written once: `Node` runs in this process, `RunningNode` asks the process that holds a home."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from stack.announce.interfaces import FoundName, KnownProvider
from stack.blocks.interfaces import Block
from stack.errors import Refused
from stack.files.events import FetchEvent, FetchFinished
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import (
    Add,
    Added,
    Announce,
    Ask,
    Cat,
    CollectGarbage,
    DirectoryEntry,
    Fetch,
    FindNames,
    FindProviders,
    GarbageReport,
    GetIdentity,
    ImportFlags,
    ListDirectory,
    ListShares,
    ListTopicPeers,
    ListTopics,
    NodeInfo,
    Publish,
    Published,
    Read,
    RemoveShare,
    Share,
    Shared,
    ShareEnded,
    ShareInfo,
    Subscribe,
    TopicMessage,
    Watch,
    Withdraw,
    Write,
)
from stack.node.groups import Blocks, Dag, Peers, Pins, pieces

A = TypeVar("A")


def places(paths: Sequence[Path | str]) -> tuple[Path, ...]:
    """Where they are. Raises Refused for an empty text, as of a setting that is not there: it would be the current directory."""
    if "" in paths:
        raise Refused("an empty name; the current directory is .")
    return tuple(Path(path).absolute() for path in paths)


class BlockSession(Protocol):
    """The exchange of blocks below one root: who has had one is asked for the next. Several `get` may wait at a time."""

    async def get(self, cid: Cid, *, timeout: float | None = None) -> bytes:
        """A block, from here or from peers. Waits without end, or raises BlockNotFound after `timeout` seconds."""
        ...


class AnyNode(ABC):
    """A node, in this process or in another. Whatever raises, raises children of `StackError`; after its context was left, NodeClosed.

    `blocks`, `pins`, `peers` and `dag` are groups of calls; `ask`, `watch`, `read` and `write` take requests of `stack.node.api`, as
    commands do.
    """

    is_elsewhere = False
    """Whether it runs in another process, for commands."""

    @property
    @abstractmethod
    def peer_id(self) -> PeerId:
        """Who this node is."""

    @abstractmethod
    def addresses(self) -> tuple[Multiaddr, ...]:
        """Where others can dial this node, each with `/p2p/`; of a node of another process those it had when it was found."""

    @abstractmethod
    async def ask(self, request: Ask[A]) -> A:
        """One answer."""

    @abstractmethod
    def watch(self, request: Watch[A]) -> AbstractAsyncContextManager[AsyncIterator[A]]:
        """Events; leaving the context ends the work."""

    @abstractmethod
    def read(self, request: Read) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """A byte stream."""

    @abstractmethod
    async def write(self, request: Write[A], data: AsyncIterator[bytes]) -> A:
        """Take a byte stream, give one answer."""

    @abstractmethod
    def session(
        self, source: str | Cid, *, providers: Sequence[Multiaddr] = ()
    ) -> AbstractAsyncContextManager[BlockSession]:
        """The block exchange by itself, for the DAG below a CID or a ticket. `providers` are asked too; each address ends in
        `/p2p/PEER`."""

    @property
    def blocks(self) -> Blocks:
        """Single blocks: `put`, `get`, `has`, `delete`."""
        return Blocks(self)

    @property
    def pins(self) -> Pins:
        """What garbage collection keeps: `add`, `ls`, `rm`."""
        return Pins(self)

    @property
    def peers(self) -> Peers:
        """Who this node is connected to: `ls`, `connect`, `disconnect`."""
        return Peers(self)

    @property
    def dag(self) -> Dag:
        """Values in blocks of dag-cbor, dag-json and dag-pb: `put`, `get`."""
        return Dag(self)

    async def identity(self) -> NodeInfo:
        """Who this node is, where it listens, what it serves, and in which process it runs."""
        return await self.ask(GetIdentity())

    async def connect(self, address: Multiaddr | str) -> PeerId:
        """As `peers.connect`."""
        return await self.peers.connect(address)

    async def put(self, blocks: Sequence[Block]) -> None:
        """As `blocks.put` for many."""
        await self.blocks.put(blocks)

    async def add(self, *paths: Path | str, flags: ImportFlags | None = None, copy: bool = False) -> Cid:
        """Index files in place (or copy them into the store) and return the root's CID; `stack add`.

        Raises Refused, SourceChanged, NoSpace.
        """
        request = Add(paths=places(paths), flags=flags or ImportFlags(), copy=copy)
        async with self.watch(request) as events:
            async for event in events:
                if isinstance(event, Added):
                    return event.cid
        raise AssertionError("an import ends with Added or an error")

    async def share(
        self, *paths: Path | str, open: bool = False, announce: bool = False, public_name: str | None = None
    ) -> str:
        """Share files where they lie; returns the ticket. Only who has it can fetch them, unless they are `open`. With `announce`
        whoever knows the CID finds this node, with a public name everybody finds the CID; both imply `open`. Raises as `add`, and
        LocalProtocolError for a name without a word."""
        async with self.watch(
            Share(paths=places(paths), open=open, announce=announce, public_name=public_name)
        ) as events:
            async for event in events:
                if isinstance(event, Shared):
                    return event.ticket
        raise AssertionError("a share ends with Shared or an error")

    async def shares(self) -> tuple[ShareInfo, ...]:
        """All that the home gives to others, why, to whom it went, and its ticket."""
        return await self.ask(ListShares())

    async def unshare(self, target: str | Cid | Path) -> tuple[ShareEnded, ...]:
        """Stop sharing and announcing what has this CID, name or path; returns what was ended. Files stay as they are. Raises Refused
        when several have that name or path."""
        (path,) = places((target if isinstance(target, Path) else str(target),))
        text = str(path if isinstance(target, Path) else target)
        return (await self.ask(RemoveShare(target=text, path=path))).ended

    @asynccontextmanager
    async def fetch(
        self,
        source: str | Cid,
        directory: Path | str = ".",
        *,
        out: Path | str | None = None,
        providers: Sequence[Multiaddr] = (),
        timeout: float | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        update: bool = False,
        delete: bool = False,
        seed: bool = False,
    ) -> AsyncIterator[AsyncIterator[FetchEvent]]:
        """A fetch that tells of itself; leaving the context cancels it, and the same call resumes it.

        `source` is a ticket, a CID, or either with `/path`. It gives up when nothing has come for `timeout` seconds; without one it waits.
        With `out` "." what is in a tree goes straight into `directory`.
        Of a tree only files that match a pattern of `include`, and none of `exclude`; with `update` a tree that is there, `out`
        itself, becomes this version, and with `delete` loses what is not part of it. `seed` shares it afterwards, as
        `stack get --keep` does.
        Raises FetchErrors, NoSpace, Refused, DecodeError.
        """
        here = Path(directory).absolute()
        request = Fetch(
            source=str(source),
            directory=here,
            target=here / out if out is not None else None,
            contents=str(out) == ".",
            providers=tuple(providers),
            timeout=timeout,
            include=tuple(include),
            exclude=tuple(exclude),
            update=update,
            delete=delete,
            seed=seed,
        )
        async with self.watch(request) as events:
            yield events

    async def get(
        self,
        source: str | Cid,
        directory: Path | str = ".",
        *,
        out: Path | str | None = None,
        providers: Sequence[Multiaddr] = (),
        timeout: float | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        update: bool = False,
        delete: bool = False,
        seed: bool = False,
    ) -> Path:
        """Fetch a file or tree to the end; returns where it is. Arguments and errors as of `fetch`."""
        async with self.fetch(
            source,
            directory,
            out=out,
            providers=providers,
            timeout=timeout,
            include=include,
            exclude=exclude,
            update=update,
            delete=delete,
            seed=seed,
        ) as events:
            async for event in events:
                if isinstance(event, FetchFinished):
                    return event.target
        raise AssertionError("a fetch ends with FetchFinished or an error")

    async def cat(
        self, source: str | Cid, *, offset: int = 0, length: int | None = None, timeout: float | None = None
    ) -> bytes:
        """The bytes of a file, each block checked. Raises FetchErrors, DecodeError."""
        async with self.read(Cat(source=str(source), offset=offset, length=length, timeout=timeout)) as found:
            return b"".join([piece async for piece in found])

    async def ls(self, source: str | Cid, *, timeout: float | None = None) -> tuple[DirectoryEntry, ...]:
        """The entries of a directory; of a file, itself. Raises FetchErrors, DecodeError, LinkNotFound."""
        async with self.watch(ListDirectory(source=str(source), timeout=timeout)) as entries:
            return tuple([entry async for entry in entries])

    async def gc(self, *, dry_run: bool = False) -> GarbageReport:
        """Remove the blocks that no pin and no share needs, or only count them. Raises StoreErrors."""
        return await self.ask(CollectGarbage(dry_run=dry_run))

    async def announce(self, root: Cid, *, public_name: str | None = None, size: int = 0) -> None:
        """Let whoever knows `root` find this node; with a public name, let everybody find `root` by its words. `size` is told
        with the name, in bytes. What is shared is for everybody then. Holds until it is withdrawn, over restarts. Raises
        LocalProtocolError, Refused, StoreErrors."""
        await self.ask(Announce(cid=root, public_name=public_name, size=size))

    async def withdraw(self, root: Cid) -> bool:
        """Take an announcement back; False when there was none. What only tickets gave before is closed again. Raises Refused,
        StoreErrors."""
        return (await self.ask(Withdraw(cid=root))).count > 0

    def find(self, words: str, *, timeout: float = 10.0) -> AbstractAsyncContextManager[AsyncIterator[FoundName]]:
        """What has all these words in its public name: hostile text like any other. Over when those have answered who keep
        the words, or after `timeout` seconds. Raises LocalProtocolError without a word, Refused."""
        return self.watch(FindNames(words=words, timeout=timeout))

    def providers(
        self, root: Cid, *, timeout: float = 10.0
    ) -> AbstractAsyncContextManager[AsyncIterator[KnownProvider]]:
        """Who announces that it has `root`; over as `find` is. Raises Refused."""
        return self.watch(FindProviders(cid=root, timeout=timeout))

    async def publish(self, topic: str, data: bytes) -> Published:
        """Send a message of at most 1020 KiB to everybody who is in a topic; while nobody is known who is, waits for somebody for
        5 seconds. Raises LimitExceeded, Refused."""
        return await self.write(Publish(topic=topic), pieces(data))

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[AsyncIterator[TopicMessage]]:
        """The messages of a topic as they come, from when the context is entered. Raises Refused."""
        async with self.watch(Subscribe(topic=topic)) as events:
            await anext(events)  # Subscribed

            yield events  # type: ignore[misc] # from now on all are messages

    async def topics(self) -> tuple[str, ...]:
        """Topics with a subscriber here. Raises Refused."""
        return tuple(info.topic for info in await self.ask(ListTopics()))

    async def topic_peers(self, topic: str | None = None) -> tuple[PeerId, ...]:
        """Peers that are in a topic, or all that speak gossipsub. Raises Refused."""
        return tuple(PeerId.parse(info.peer_id) for info in await self.ask(ListTopicPeers(topic=topic)))
