"""Handlers of requests that read a DAG without writing files."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from stack.errors import DecodeError
from stack.files.read import list_entries, open_file, open_node
from stack.node.api import Cat, DirectoryEntry, ListDirectory
from stack.node.handlers.files import providers_of, read_source
from stack.node.handlers.streaming import streaming

if TYPE_CHECKING:
    from stack.node.node import Node


@streaming
async def cat(node: "Node", request: Cat) -> AsyncGenerator[bytes, None]:
    """The bytes of a file, in order."""
    root, path, _, providers = read_source(request.source)
    providers += providers_of(request.providers, "user")
    async with node.patient_session(root, providers, request.timeout) as session:
        file = await open_node(session, root, path)
        if file.is_directory:
            raise DecodeError(f"{request.source} is a directory; `stack ls` lists it, `stack get` fetches it")
        async with open_file(session.get, file, request.offset, request.length) as pieces:
            async for piece in pieces:
                yield piece


@streaming
async def list_directory(node: "Node", request: ListDirectory) -> AsyncGenerator[DirectoryEntry, None]:
    """The entries of a directory."""
    root, path, _, providers = read_source(request.source)
    providers += providers_of(request.providers, "user")
    async with node.patient_session(root, providers, request.timeout) as session:
        directory = await open_node(session, root, path)
        async with aclosing(list_entries(session.get, directory, session.get)) as entries:
            async for entry in entries:
                yield DirectoryEntry(name=entry.name, cid=entry.cid, size=entry.size, type=entry.kind)
