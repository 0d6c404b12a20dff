"""Nodes of a DAG are taken apart beside the event loop: the largest block holds 40,000 links, a tenth of a second's work."""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple, Unpack

import anyio.to_thread

from stack.dag.unixfs.directory import Entry
from stack.dag.unixfs.reader import Shard, UnixFSNode, decode_node, list_node
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import RAW

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

BYTES_QUICK = 16 * 1024
"""Nodes of so many bytes have 400 links, a millisecond's work; a worker thread would cost a tenth of that for each small one."""


LINK_BYTES = 40
"""About, of one link."""


async def take_apart(size: int, work: Callable[[Unpack[Ts]], T], *arguments: *Ts) -> T:
    """What `work` makes of nodes of `size` bytes: called here when they are small, else in a worker thread."""
    if size <= BYTES_QUICK:
        return work(*arguments)
    return await anyio.to_thread.run_sync(work, *arguments)


async def read_node(cid: Cid, block: bytes) -> UnixFSNode:
    """As `decode_node`. Raises DecodeError."""
    return await take_apart(0 if cid.codec == RAW else len(block), decode_node, cid, block)


def list_shard(shard: Shard, block: bytes) -> tuple[list[Entry], list[Shard]]:
    """The entries in the block of a shard, and the shards below it. Raises DecodeError."""
    return list_node(decode_node(shard.cid, block), shard)
