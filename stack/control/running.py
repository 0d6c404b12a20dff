"""A node of another process, for programs: what it is asked goes over the control socket of its home."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import anyio

from stack.blocks.interfaces import BlockNotFound
from stack.control.client import ControlClient
from stack.control.errors import NodeUnreachable
from stack.errors import NodeClosed
from stack.files.sources import read_source
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import Ask, GetIdentity, NodeInfo, Read, Watch, Write
from stack.node.groups import get_block
from stack.node.home import Home, default_home
from stack.node.surface import AnyNode

A = TypeVar("A")


class RunningNode(AnyNode):
    """The node of the process that holds a home, as of `stack daemon`. Made by `RunningNode.open`, a context; leaving it ends nothing
    there.

    What that node raises has the same type here, where it is one of `stack.errors` or listed beside them in `node.exits`, else
    NodeError. NodeUnreachable when the process has ended.
    """

    is_elsewhere = True

    def __init__(self, client: ControlClient, info: NodeInfo) -> None:
        self._client = client
        self._info = info
        self._closed = False

    def __repr__(self) -> str:
        return f"<RunningNode {self.peer_id}, process {self._info.pid}>"

    @classmethod
    @asynccontextmanager
    async def open(cls, home: Path | None = None) -> AsyncIterator["RunningNode"]:
        """The node that holds this home: `STACK_HOME`, or the one of this user, where none is named. Raises NodeUnreachable when none
        runs, ConfigError."""
        folder = home or default_home()
        address = Home(folder).address()
        if address is None:
            raise NodeUnreachable(f"no node runs in {folder}: start `stack daemon`, or open a `Node` with this home")
        client = ControlClient(address)
        node = cls(client, await client.ask(GetIdentity()))
        try:
            yield node
        finally:
            node._closed = True

    @property
    def peer_id(self) -> PeerId:
        """Who that node is."""
        return PeerId.parse(self._info.peer_id)

    def addresses(self) -> tuple[Multiaddr, ...]:
        """Where others could dial that node when it was found; `identity` tells where they can now."""
        return self._info.addresses

    async def ask(self, request: Ask[A]) -> A:
        """See `AnyNode.ask`."""
        return await self._open().ask(request)

    def watch(self, request: Watch[A]) -> AbstractAsyncContextManager[AsyncIterator[A]]:
        """See `AnyNode.watch`."""
        return self._open().watch(request)

    def read(self, request: Read) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """See `AnyNode.read`."""
        return self._open().read(request)

    async def write(self, request: Write[A], data: AsyncIterator[bytes]) -> A:
        """See `AnyNode.write`."""
        return await self._open().write(request, data)

    @asynccontextmanager
    async def session(
        self, source: str | Cid, *, providers: Sequence[Multiaddr] = ()
    ) -> AsyncIterator["RemoteSession"]:
        """See `AnyNode.session`. Each block is a request of its own."""
        read_source(str(source))
        yield RemoteSession(self, str(source), tuple(providers))

    def _open(self) -> ControlClient:
        if self._closed:
            raise NodeClosed
        return self._client


class RemoteSession:
    """See `surface.BlockSession`."""

    def __init__(self, node: RunningNode, source: str, providers: tuple[Multiaddr, ...]) -> None:
        self._node = node
        self._source = source
        self._providers = providers

    async def get(self, cid: Cid, *, timeout: float | None = None) -> bytes:
        """See `surface.BlockSession.get`."""
        with anyio.move_on_after(timeout):
            return await get_block(self._node, cid, timeout=WITHOUT_END, source=self._source, providers=self._providers)
        raise BlockNotFound(cid)


WITHOUT_END = 365 * 86400.0
"""Seconds: a request without a time limit gives up after some of its own."""
