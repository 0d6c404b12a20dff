"""`Node` without `await`: for scripts and notebooks, also where an event loop runs already."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from stack.announce.interfaces import FoundName, KnownProvider
from stack.files.events import FetchEvent
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import ImportFlags
from stack.node.config import Config
from stack.node.node import Node

if TYPE_CHECKING:
    from stack.gossipsub.shell.subscription import ReceivedMessage

T = TypeVar("T")


async def _all(look: Callable[[], AbstractAsyncContextManager[AsyncIterator[T]]]) -> list[T]:
    async with look() as found:
        return [each async for each in found]


class SyncNode:
    """A node on an event loop in a thread of its own. Made by `SyncNode.open`; each call waits for its end.

    Raises what `Node` raises.
    """

    def __init__(self, node: Node, portal: BlockingPortal) -> None:
        self._node = node
        self._portal = portal

    def __repr__(self) -> str:
        return f"<SyncNode {self.peer_id}>"

    @classmethod
    @contextmanager
    def open(cls, config: Config | None = None, *, backend: str = "asyncio") -> Iterator["SyncNode"]:
        """A node for as long as the context lasts; see `Node.open`."""
        with start_blocking_portal(backend) as portal, portal.wrap_async_context_manager(Node.open(config)) as node:
            yield cls(node, portal)

    @property
    def peer_id(self) -> PeerId:
        """Who this node is."""
        return self._node.peer_id

    @property
    def addresses(self) -> tuple[Multiaddr, ...]:
        """Where others can dial this node."""
        return self._portal.call(self._node.addresses)

    def connect(self, address: Multiaddr | str) -> PeerId:
        """See `Node.connect`."""
        return self._portal.call(self._node.connect, address)

    def add(self, *paths: Path | str, flags: ImportFlags | None = None, copy: bool = False) -> Cid:
        """See `Node.add`."""
        return self._portal.call(lambda: self._node.add(*paths, flags=flags, copy=copy))

    def share(
        self, *paths: Path | str, open: bool = False, announce: bool = False, public_name: str | None = None
    ) -> str:
        """See `Node.share`."""
        return self._portal.call(
            lambda: self._node.share(*paths, open=open, announce=announce, public_name=public_name)
        )

    def announce(self, root: Cid, *, public_name: str | None = None, size: int = 0) -> None:
        """See `Node.announce`."""
        self._portal.call(lambda: self._node.announce(root, public_name=public_name, size=size))

    def withdraw(self, root: Cid) -> bool:
        """See `Node.withdraw`."""
        return self._portal.call(self._node.withdraw, root)

    def find(self, words: str, *, timeout: float = 10.0) -> list[FoundName]:
        """See `Node.find`; waits until it is over."""
        return self._portal.call(_all, lambda: self._node.find(words, timeout=timeout))

    def providers(self, root: Cid, *, timeout: float = 10.0) -> list[KnownProvider]:
        """See `Node.providers`; waits until it is over."""
        return self._portal.call(_all, lambda: self._node.providers(root, timeout=timeout))

    def get(self, source: str | Cid, directory: Path | str = ".", *, providers: Sequence[Multiaddr] = ()) -> Path:
        """See `Node.get`."""
        return self._portal.call(lambda: self._node.get(source, directory, providers=providers))

    @contextmanager
    def fetch(self, source: str | Cid, directory: Path | str = ".") -> Iterator[Iterator[FetchEvent]]:
        """See `Node.fetch`."""
        with self._portal.wrap_async_context_manager(self._node.fetch(source, directory)) as events:

            def each() -> Iterator[FetchEvent]:
                while True:
                    try:
                        yield self._portal.call(events.__anext__)
                    except StopAsyncIteration:
                        return

            yield each()

    def publish(self, topic: str, data: bytes) -> bytes:
        """See `PubSub.publish`."""
        return self._portal.call(lambda: self._node.pubsub.publish(topic, data))

    @contextmanager
    def subscribe(self, topic: str) -> "Iterator[Iterator[ReceivedMessage]]":
        """See `PubSub.subscribe`; each message is waited for."""
        with self._portal.wrap_async_context_manager(self._node.pubsub.subscribe(topic)) as messages:

            def each() -> "Iterator[ReceivedMessage]":
                while True:
                    try:
                        yield self._portal.call(messages.__anext__)
                    except StopAsyncIteration:
                        return

            yield each()

    def topics(self) -> tuple[str, ...]:
        """See `PubSub.topics`."""
        return self._portal.call(lambda: self._node.pubsub.topics())

    def topic_peers(self, topic: str | None = None) -> tuple[PeerId, ...]:
        """See `PubSub.peers`."""
        return self._portal.call(lambda: self._node.pubsub.peers(topic))

    def cat(self, source: str | Cid, *, offset: int = 0, length: int | None = None) -> bytes:
        """See `Node.cat`."""
        return self._portal.call(lambda: self._node.cat(source, offset=offset, length=length))
