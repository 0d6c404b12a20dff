"""Handlers of requests about the announcement layer."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

import anyio

from stack.announce.clocks import ADVICE
from stack.announce.interfaces import FoundName, KnownProvider
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.node.api import (
    Announce,
    Announced,
    Announcements,
    Done,
    FindNames,
    FindProviders,
    GetAnnouncements,
    Withdraw,
)
from stack.node.handlers.streaming import streaming
from stack.node.interfaces import Handled

if TYPE_CHECKING:
    from stack.announce.shell.questions import Finding

T = TypeVar("T")


async def _until(finding: "Finding[T]", seconds: float) -> AsyncGenerator[T, None]:
    """What is found in this time."""
    deadline = anyio.current_time() + seconds
    async with aclosing(finding):
        while True:
            found = None
            with anyio.CancelScope(deadline=deadline):
                found = await anext(finding, None)
            if found is None:
                return
            yield found


@streaming
async def find_names(node: Handled, request: FindNames) -> AsyncGenerator[FoundName, None]:
    """Public names, each root of each author once."""
    told: set[tuple[PeerId, Cid, str]] = set()
    async with aclosing(_until(node.announcing.layer.search(request.words), request.timeout)) as found:
        async for each in found:
            if (each.author, each.cid, each.name) not in told:
                told.add((each.author, each.cid, each.name))
                yield each


@streaming
async def find_providers(node: Handled, request: FindProviders) -> AsyncGenerator[KnownProvider, None]:
    """Providers, each once."""
    told: set[PeerId] = set()
    async with aclosing(_until(node.announcing.layer.known_providers(request.cid), request.timeout)) as found:
        async for each in found:
            if each.peer not in told:
                told.add(each.peer)
                yield each


async def get_announcements(node: Handled, request: GetAnnouncements) -> Announcements:
    """What this node announces."""
    announcing = node.announcing
    return Announcements(
        items=tuple(Announced(cid=item.root, public_name=item.name, size=item.size) for item in announcing.items()),
        directory=announcing.layer.directory,
        clock=f"{clock}: {ADVICE}" if (clock := announcing.layer.clock) is not None and clock.is_wrong else None,
        waiting=announcing.layer.waiting,
    )


async def announce(node: Handled, request: Announce) -> Done:
    """What is shared is for everybody then. Holds until it is withdrawn, over restarts."""
    await node.access.open(request.cid)
    await node.announcing.announce(request.cid, request.public_name, request.size)
    return Done(count=1)


async def withdraw(node: Handled, request: Withdraw) -> Done:
    """Take an announcement back."""
    return Done(count=int(await node.end_announcing(request.cid)))
