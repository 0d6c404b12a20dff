"""The groups of calls of `SyncNode`, and how each call gets from its thread to the node's event loop."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar, overload

from anyio.from_thread import BlockingPortal

from stack.blocks.interfaces import Block
from stack.dag.model import Value
from stack.errors import NodeClosed
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import PeerInfo, Pin
from stack.node.groups import Blocks, Dag, Peers, Pins
from stack.node.surface import BlockSession
from stack.sansio.interfaces import Buffer

T = TypeVar("T")


class Caller:
    """Runs what is asynchronous on the event loop of a portal, from any other thread. Raises NodeClosed after `close`."""

    def __init__(self, portal: BlockingPortal) -> None:
        self._portal = portal
        self._closed = False

    def close(self) -> None:
        """Take nothing more."""
        self._closed = True

    def call(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What it returns or raises. Ctrl-C cancels it."""
        self._check()
        future = self._portal.start_task_soon(function)
        try:
            result: T = future.result()
        except BaseException:
            future.cancel()
            raise
        return result

    @contextmanager
    def context(self, context: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """The same context. It does not hear of what ends its body: a KeyboardInterrupt would end the event loop."""
        self._check()
        entered = self._portal.wrap_async_context_manager(context)
        value = entered.__enter__()
        try:
            yield value
        finally:
            entered.__exit__(None, None, None)

    def each(self, items: AsyncIterator[T]) -> Iterator[T]:
        """The same items; each is waited for."""

        async def step() -> T:
            return await anext(items)

        while True:
            try:
                item = self.call(step)
            except StopAsyncIteration:
                return
            yield item

    def _check(self) -> None:
        if self._closed:
            raise NodeClosed


class SyncBlocks:
    """See `Blocks`."""

    def __init__(self, caller: Caller, blocks: Blocks) -> None:
        self._caller = caller
        self._blocks = blocks

    @overload
    def put(self, data: Buffer, *, codec: str = "raw", hash: str = "sha2-256") -> Cid: ...
    @overload
    def put(self, data: Sequence[Block]) -> None: ...
    def put(self, data: Buffer | Sequence[Block], *, codec: str = "raw", hash: str = "sha2-256") -> Cid | None:
        """See `Blocks.put`."""
        return self._caller.call(lambda: self._blocks.put(data, codec=codec, hash=hash))  # type: ignore[arg-type] # either

    def get(self, cid: Cid, *, timeout: float | None = None, providers: Sequence[Multiaddr] = ()) -> bytes:
        """See `Blocks.get`."""
        return self._caller.call(lambda: self._blocks.get(cid, timeout=timeout, providers=providers))

    @overload
    def has(self, cids: Cid) -> bool: ...
    @overload
    def has(self, cids: Sequence[Cid]) -> list[bool]: ...
    def has(self, cids: Cid | Sequence[Cid]) -> bool | list[bool]:
        """See `Blocks.has`."""
        return self._caller.call(lambda: self._blocks.has(cids))  # type: ignore[return-value] # either

    def delete(self, cid: Cid) -> bool:
        """See `Blocks.delete`."""
        return self._caller.call(lambda: self._blocks.delete(cid))


class SyncPins:
    """See `Pins`."""

    def __init__(self, caller: Caller, pins: Pins) -> None:
        self._caller = caller
        self._pins = pins

    def add(self, source: str | Cid, name: str = "", *, timeout: float | None = None) -> Cid:
        """See `Pins.add`."""
        return self._caller.call(lambda: self._pins.add(source, name, timeout=timeout))

    def ls(self) -> tuple[Pin, ...]:
        """See `Pins.ls`."""
        return self._caller.call(self._pins.ls)

    def rm(self, cid: Cid) -> bool:
        """See `Pins.rm`."""
        return self._caller.call(lambda: self._pins.rm(cid))


class SyncPeers:
    """See `Peers`."""

    def __init__(self, caller: Caller, peers: Peers) -> None:
        self._caller = caller
        self._peers = peers

    def ls(self) -> tuple[PeerInfo, ...]:
        """See `Peers.ls`."""
        return self._caller.call(self._peers.ls)

    def connect(self, address: Multiaddr | str) -> PeerId:
        """See `Peers.connect`."""
        return self._caller.call(lambda: self._peers.connect(address))

    def disconnect(self, peer: PeerId | str) -> bool:
        """See `Peers.disconnect`."""
        return self._caller.call(lambda: self._peers.disconnect(peer))


class SyncDag:
    """See `Dag`."""

    def __init__(self, caller: Caller, dag: Dag) -> None:
        self._caller = caller
        self._dag = dag

    def put(self, value: Value, *, codec: str = "dag-cbor", hash: str = "sha2-256") -> Cid:
        """See `Dag.put`."""
        return self._caller.call(lambda: self._dag.put(value, codec=codec, hash=hash))

    def get(self, source: str | Cid, *, timeout: float | None = None) -> Value:
        """See `Dag.get`."""
        return self._caller.call(lambda: self._dag.get(source, timeout=timeout))


class SyncSession:
    """See `BlockSession`."""

    def __init__(self, caller: Caller, session: BlockSession) -> None:
        self._caller = caller
        self._session = session

    def get(self, cid: Cid, *, timeout: float | None = None) -> bytes:
        """See `BlockSession.get`."""
        return self._caller.call(lambda: self._session.get(cid, timeout=timeout))
