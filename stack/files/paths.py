"""From `CID/path` to what it names."""

from collections.abc import Awaitable, Callable, Sequence

from stack.dag.unixfs.reader import BlockReader, resolve
from stack.errors import DecodeError
from stack.files.nodes import take_apart
from stack.multiformats.cid import Cid

DEPTH_MAX = 512
"""Directories below each other in a tree that is fetched or shared; a path of 4,096 bytes, the most that Linux takes, rarely has as
many."""

INCOMING = "incoming"
"""The folder of a home in which input from pipes lies until it is read."""

GetBlock = Callable[[Cid], Awaitable[bytes]]


async def resolve_path(get: GetBlock, root: Cid, names: Sequence[str]) -> Cid:
    """The CID that these names lead to below `root`; symbolic links are not followed. Raises LinkNotFound, DecodeError."""
    return await drive(resolve(root, "/".join(names)), get)


async def drive(reader: BlockReader[Cid], get: GetBlock) -> Cid:
    """Run a reader, giving it each block it asks for."""
    cid, found = _go_on(reader, None)
    while not found:
        block = await get(cid)
        cid, found = await take_apart(len(block), _go_on, reader, block)
    return cid


def _go_on(reader: BlockReader[Cid], block: bytes | None) -> tuple[Cid, bool]:
    """The block that is asked for next, or what was looked for and True."""
    try:
        return (next(reader) if block is None else reader.send(block)), False
    except StopIteration as stop:
        return stop.value, True


def split_source(text: str) -> tuple[Cid, str]:
    """The CID and the path in `CID`, `CID/path`, `/ipfs/CID/path` or `ipfs://CID/path`. Raises DecodeError."""
    if len(text) > SOURCE_MAX:
        raise DecodeError(f"this is no CID: it has {len(text)} characters")
    bare = text.strip()
    for prefix in ("ipfs://", "/ipfs/"):
        bare = bare.removeprefix(prefix)
    name, _, path = bare.partition("/")
    return Cid.parse(name), path


SOURCE_MAX = 8192
"""Characters of a CID with a path: a path of 4,096 bytes, and what is needed around it."""
