"""Gossipsub and the announcement layer of a node: begun with it, or only when somebody is looked for."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from stack.bitswap.interfaces import Provider
from stack.errors import StackError
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.streams.supervision import supervised
from stack.trace import Trace

if TYPE_CHECKING:  # to load them is what is put off
    from stack.gossipsub.shell.service import PubSub
    from stack.node.announcing import Announcing

ALONE_SECONDS = 0.5
"""So long a fetch does without: most small files are there by then, and a tenth of their time went to loading and beginning this."""

_log = logging.getLogger(__name__)

Both = tuple["PubSub | None", "Announcing | None"]


class Company:
    """Getters: `pubsub`, `announcing`; None where the settings or the role want none, and before it has begun. Command: `begin`. A
    `ProviderSource` of bitswap, and what comes of those that it names is told to the announcement layer."""

    def __init__(self) -> None:
        self.pubsub: PubSub | None = None
        self.announcing: Announcing | None = None
        self.begun: Callable[[], None] = lambda: None
        """Called when it has begun later than the node."""
        self._wanted = anyio.Event()
        self._there = anyio.Event()
        self._left = anyio.Event()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, both: AbstractAsyncContextManager[Both], trace: Trace | None, *, later: bool
    ) -> AsyncIterator["Company"]:
        """`both` as long as the context lasts; `later`: after a while, or once `begin` or a session asks for it. Raises what it
        raises when that is now; later the node does without, and that is logged."""
        company = cls()
        if not later:
            async with both as (company.pubsub, company.announcing):
                company._there.set()
                yield company
            return
        async with supervised(trace) as tasks:
            ended = anyio.Event()

            async def run() -> None:
                try:
                    await company._run(both)
                except StackError as error:
                    _log.warning("nobody is looked for by announcements: %s", error)
                finally:
                    company._there.set()
                    ended.set()

            tasks.start(run, owner="gossipsub and announcements")
            try:
                yield company
            finally:
                company._left.set()
                company._wanted.set()
                with anyio.CancelScope(shield=True):
                    await ended.wait()

    async def begin(self) -> None:
        """Wait until it has begun, and no longer than it takes to fail."""
        self._wanted.set()
        await self._there.wait()

    async def find_providers(self, root: Cid, secret: bytes = b"") -> AsyncIterator[Provider]:
        """See ProviderSource."""
        await self.begin()
        if self.announcing is not None:
            async for provider in self.announcing.layer.find_providers(root, secret):
                yield provider

    def delivered(self, peer: PeerId) -> None:
        """See ProviderJudge."""
        if self.announcing is not None:
            self.announcing.layer.delivered(peer)

    def failed(self, peer: PeerId) -> None:
        """See ProviderJudge."""
        if self.announcing is not None:
            self.announcing.layer.failed(peer)

    async def _run(self, both: AbstractAsyncContextManager[Both]) -> None:
        with anyio.move_on_after(ALONE_SECONDS):
            await self._wanted.wait()
        if self._left.is_set():
            return
        async with both as (self.pubsub, self.announcing):
            self._there.set()
            self.begun()
            await self._left.wait()
