"""Nodes without `await`: for scripts and notebooks, also where an event loop runs already."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

from anyio.from_thread import start_blocking_portal

from stack.announce.interfaces import FoundName, KnownProvider
from stack.blocks.interfaces import Block
from stack.files.events import FetchEvent
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import (
    DirectoryEntry,
    GarbageReport,
    ImportFlags,
    NodeInfo,
    Published,
    ShareEnded,
    ShareInfo,
    TopicMessage,
)
from stack.node.config import Config
from stack.node.node import Node
from stack.node.surface import AnyNode
from stack.node.sync_groups import Caller, SyncBlocks, SyncDag, SyncPeers, SyncPins, SyncSession

T = TypeVar("T")


async def _all(look: Callable[[], AbstractAsyncContextManager[AsyncIterator[T]]]) -> list[T]:
    async with look() as found:
        return [each async for each in found]


class SyncNode:
    """A node on an event loop in a thread of its own, or one of another process: `SyncNode.open`, `SyncNode.running`.

    Has what every node has (`AnyNode`), but each call waits for its end; Ctrl-C cancels it. Raises what `AnyNode` raises.
    """

    def __init__(self, node: AnyNode, caller: Caller) -> None:
        self._node = node
        self._caller = caller
        self.blocks = SyncBlocks(caller, node.blocks)
        """Single blocks: `put`, `get`, `has`, `delete`."""
        self.pins = SyncPins(caller, node.pins)
        """What garbage collection keeps: `add`, `ls`, `rm`."""
        self.peers = SyncPeers(caller, node.peers)
        """Who this node is connected to: `ls`, `connect`, `disconnect`."""
        self.dag = SyncDag(caller, node.dag)
        """Values in blocks of dag-cbor, dag-json and dag-pb: `put`, `get`."""

    def __repr__(self) -> str:
        return f"<SyncNode {self.peer_id}>"

    @classmethod
    def open(cls, config: Config | None = None, *, backend: str = "asyncio") -> AbstractContextManager["SyncNode"]:
        """A node for as long as the context lasts; see `Node.open`."""
        return cls._of(lambda: Node.open(config), backend)

    @classmethod
    def running(cls, home: Path | None = None, *, backend: str = "asyncio") -> AbstractContextManager["SyncNode"]:
        """The node of the process that holds a home; see `RunningNode.open`."""
        from stack import RunningNode  # by its promised name: it lives below this layer

        return cls._of(lambda: RunningNode.open(home), backend)

    @classmethod
    @contextmanager
    def _of(cls, opened: Callable[[], AbstractAsyncContextManager[AnyNode]], backend: str) -> Iterator["SyncNode"]:
        with start_blocking_portal(backend) as portal:
            caller = Caller(portal)
            with caller.context(opened()) as node:
                try:
                    yield cls(node, caller)
                finally:
                    caller.close()

    @property
    def peer_id(self) -> PeerId:
        """Who this node is."""
        return self._node.peer_id

    def addresses(self) -> tuple[Multiaddr, ...]:
        """See `AnyNode.addresses`."""

        async def addresses() -> tuple[Multiaddr, ...]:
            return self._node.addresses()

        return self._caller.call(addresses)

    def identity(self) -> NodeInfo:
        """See `AnyNode.identity`."""
        return self._caller.call(self._node.identity)

    def connect(self, address: Multiaddr | str) -> PeerId:
        """See `AnyNode.connect`."""
        return self._caller.call(lambda: self._node.connect(address))

    def put(self, blocks: Sequence[Block]) -> None:
        """See `AnyNode.put`."""
        self._caller.call(lambda: self._node.put(blocks))

    @contextmanager
    def session(self, source: str | Cid, *, providers: Sequence[Multiaddr] = ()) -> Iterator[SyncSession]:
        """See `AnyNode.session`."""
        with self._caller.context(self._node.session(source, providers=providers)) as session:
            yield SyncSession(self._caller, session)

    def add(self, *paths: Path | str, flags: ImportFlags | None = None, copy: bool = False) -> Cid:
        """See `AnyNode.add`."""
        return self._caller.call(lambda: self._node.add(*paths, flags=flags, copy=copy))

    def share(
        self, *paths: Path | str, open: bool = False, announce: bool = False, public_name: str | None = None
    ) -> str:
        """See `AnyNode.share`."""
        return self._caller.call(
            lambda: self._node.share(*paths, open=open, announce=announce, public_name=public_name)
        )

    def shares(self) -> tuple[ShareInfo, ...]:
        """See `AnyNode.shares`."""
        return self._caller.call(self._node.shares)

    def unshare(self, target: str | Cid | Path) -> tuple[ShareEnded, ...]:
        """See `AnyNode.unshare`."""
        return self._caller.call(lambda: self._node.unshare(target))

    @contextmanager
    def fetch(
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
    ) -> Iterator[Iterator[FetchEvent]]:
        """See `AnyNode.fetch`."""
        fetch = self._node.fetch(
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
        )
        with self._caller.context(fetch) as events:
            yield self._caller.each(events)

    def get(
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
        """See `AnyNode.get`."""
        return self._caller.call(
            lambda: self._node.get(
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
            )
        )

    def cat(
        self, source: str | Cid, *, offset: int = 0, length: int | None = None, timeout: float | None = None
    ) -> bytes:
        """See `AnyNode.cat`."""
        return self._caller.call(lambda: self._node.cat(source, offset=offset, length=length, timeout=timeout))

    def ls(self, source: str | Cid, *, timeout: float | None = None) -> tuple[DirectoryEntry, ...]:
        """See `AnyNode.ls`."""
        return self._caller.call(lambda: self._node.ls(source, timeout=timeout))

    def gc(self, *, dry_run: bool = False) -> GarbageReport:
        """See `AnyNode.gc`."""
        return self._caller.call(lambda: self._node.gc(dry_run=dry_run))

    def announce(self, root: Cid, *, public_name: str | None = None, size: int = 0) -> None:
        """See `AnyNode.announce`."""
        self._caller.call(lambda: self._node.announce(root, public_name=public_name, size=size))

    def withdraw(self, root: Cid) -> bool:
        """See `AnyNode.withdraw`."""
        return self._caller.call(lambda: self._node.withdraw(root))

    def find(self, words: str, *, timeout: float = 10.0) -> list[FoundName]:
        """See `AnyNode.find`; waits until it is over."""
        return self._caller.call(lambda: _all(lambda: self._node.find(words, timeout=timeout)))

    def providers(self, root: Cid, *, timeout: float = 10.0) -> list[KnownProvider]:
        """See `AnyNode.providers`; waits until it is over."""
        return self._caller.call(lambda: _all(lambda: self._node.providers(root, timeout=timeout)))

    def publish(self, topic: str, data: bytes) -> Published:
        """See `AnyNode.publish`."""
        return self._caller.call(lambda: self._node.publish(topic, data))

    @contextmanager
    def subscribe(self, topic: str) -> Iterator[Iterator[TopicMessage]]:
        """See `AnyNode.subscribe`; each message is waited for."""
        with self._caller.context(self._node.subscribe(topic)) as messages:
            yield self._caller.each(messages)

    def topics(self) -> tuple[str, ...]:
        """See `AnyNode.topics`."""
        return self._caller.call(self._node.topics)

    def topic_peers(self, topic: str | None = None) -> tuple[PeerId, ...]:
        """See `AnyNode.topic_peers`."""
        return self._caller.call(lambda: self._node.topic_peers(topic))
