"""Handlers of requests that read a DAG without writing files."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from stack.files.read import list_entries, open_content
from stack.files.ticket import is_ticket
from stack.node.api import Cat, DirectoryEntry, ListDirectory
from stack.node.handlers.files import providers_of, read_source
from stack.node.handlers.streaming import streaming
from stack.node.interfaces import Handled


@asynccontextmanager
async def cat(node: Handled, request: Cat) -> AsyncIterator[AsyncIterator[bytes]]:
    """The bytes of a file, in order."""
    root, path, _, providers = read_source(request.source)
    providers += providers_of(request.providers, "user")
    async with (
        node.patient_session(root, providers, request.timeout, public=not is_ticket(request.source)) as session,
        open_content(session, node.blocks, root, path, offset=request.offset, length=request.length) as pieces,
    ):
        yield pieces


@streaming
async def list_directory(node: Handled, request: ListDirectory) -> AsyncGenerator[DirectoryEntry, None]:
    """The entries of a directory."""
    root, path, _, providers = read_source(request.source)
    providers += providers_of(request.providers, "user")
    async with node.patient_session(root, providers, request.timeout, public=not is_ticket(request.source)) as session:
        async for entry in list_entries(session, node.blocks, root, path):
            yield DirectoryEntry(name=entry.name, cid=entry.cid, size=entry.size, type=entry.type)
