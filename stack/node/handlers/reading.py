"""Handlers of requests that read a DAG without writing files."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from operator import attrgetter

import anyio

from stack.dag.unixfs.reader import path_names
from stack.files.events import WaitingForProvider
from stack.files.paths import resolve_path
from stack.files.read import list_entries, look_at, open_content
from stack.files.sources import read_source
from stack.files.totals import count_below
from stack.files.watch import QUIET_SECONDS
from stack.node.api import Cat, DirectoryEntry, GetTotals, ListDirectory, Resolve, Resolved, Totals, WatchWaiting
from stack.node.handlers.naming import session_for
from stack.node.handlers.streaming import streaming
from stack.node.interfaces import Handled
from stack.node.patience import PatientSession


@asynccontextmanager
async def cat(node: Handled, request: Cat) -> AsyncIterator[AsyncIterator[bytes]]:
    """The bytes of a file, in order."""
    span = partial(open_content, offset=request.offset, length=request.length)
    async with (
        session_for(node, request.source, request.providers, request.timeout) as (session, source),
        span(session, session.store, source.root, source.path) as pieces,
    ):
        # Who reads a part, as players do, goes on with another; and who looks at one file of a tree may want all of it.
        is_part = source.path or request.offset or request.length is not None
        yield pieces if is_part else _Concluded(pieces, session)


class _Concluded:
    """All of something, and the word that it has come. No generator: one that is left early cannot leave a task group."""

    def __init__(self, pieces: AsyncIterator[bytes], session: PatientSession) -> None:
        self._pieces = pieces
        self._session = session

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._pieces)
        except StopAsyncIteration:
            await self._session.conclude()
            raise


@streaming
async def list_directory(node: Handled, request: ListDirectory) -> AsyncGenerator[DirectoryEntry, None]:
    """The entries of a directory; of anything else itself."""
    async with session_for(node, request.source, request.providers, request.timeout) as (session, source):
        itself = await look_at(session, session.store, source.root, source.path)
        if itself.type != "directory":
            name = itself.name or (source.ticket.name if source.ticket is not None else "")
            yield DirectoryEntry(name=name, cid=itself.cid, size=itself.size, type=itself.type)
            return
        async for entry in list_entries(session, session.store, source.root, source.path):
            yield DirectoryEntry(name=entry.name, cid=entry.cid, size=entry.size, type=entry.type)


async def get_totals(node: Handled, request: GetTotals) -> Totals:
    """How much there is below a root."""
    async with session_for(node, request.source, request.providers, request.timeout) as (session, source):
        counted = await count_below(session, session.store, source.root, source.path)
    return Totals(files=counted.files, directories=counted.directories, bytes=counted.bytes)


async def resolve(node: Handled, request: Resolve) -> Resolved:
    """The CID at the end of a path."""
    async with session_for(node, request.source, request.providers, request.timeout) as (session, source):
        return Resolved(cid=await resolve_path(session.get, source.root, path_names(source.path)))


@streaming
async def watch_waiting(node: Handled, request: WatchWaiting) -> AsyncGenerator[WaitingForProvider, None]:
    """Why nothing comes; of several readers, to whom the longest."""
    root = read_source(request.source).root
    while True:
        waits = [each.waits for each in node.reading if each.root == root and each.waits is not None]
        if waits:
            yield max(waits, key=attrgetter("seconds"))
        await anyio.sleep(QUIET_SECONDS)
