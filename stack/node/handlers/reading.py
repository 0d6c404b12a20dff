"""Handlers of requests that read a DAG without writing files."""

from collections.abc import AsyncGenerator
from functools import partial
from operator import attrgetter

import anyio

from stack.dag.unixfs.reader import path_names
from stack.files.events import WaitingForProvider
from stack.files.paths import resolve_path
from stack.files.read import count_below, list_entries, look_at, open_content
from stack.files.sources import read_source
from stack.files.watch import QUIET_SECONDS
from stack.node.api import Cat, DirectoryEntry, GetTotals, ListDirectory, Resolve, Resolved, Totals, WatchWaiting
from stack.node.handlers.naming import session_for
from stack.node.handlers.streaming import streaming
from stack.node.interfaces import Handled


@streaming
async def cat(node: Handled, request: Cat) -> AsyncGenerator[bytes, None]:
    """The bytes of a file, in order."""
    span = partial(open_content, offset=request.offset, length=request.length)
    async with session_for(node, request.source, request.providers, request.timeout) as (session, source):
        async with span(session, session.store, source.root, source.path) as pieces:
            async for piece in pieces:
                yield piece
        if not request.offset and request.length is None:  # who reads a part, as players do, goes on with another
            await session.conclude()


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
