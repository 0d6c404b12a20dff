"""What of the names in a directory of the user's is a tree's, told before anything is written there."""

import os
from collections.abc import Collection
from pathlib import Path

import anyio.to_thread

from stack.blocks import disk
from stack.dag.unixfs.data import NodeKind
from stack.dag.unixfs.names import collision_key
from stack.dag.unixfs.reader import LinkNotFound, UnixFSNode, list_node
from stack.files.directory import part_name
from stack.files.nodes import LINK_BYTES, list_shard, take_apart
from stack.files.paths import resolve_path
from stack.files.request import FetchRequest
from stack.files.target import PART_SUFFIX
from stack.files.work import Work

SHARDS_TOGETHER = 16
"""Nodes of a large directory that are asked for at a time; all are kept, as the fetch itself needs them."""

SHARDS_MAX = 20_000
"""Of one directory, some three million entries: a hostile one may have any number."""


async def strangers(work: Work, node: UnixFSNode, names: Collection[str], *, folds: bool = False) -> set[str] | None:
    """Of the names in a directory those that neither the directory `node` has nor a fetch of it leaves behind, at least one where there
    are any; None where that cannot be told: nobody has all nodes of it, or there are too many. With `folds` the file system takes
    names for the same that differ in case or in the form of accents. Raises DecodeError, and what the session raises."""
    strange = set(names)
    sharded = node.kind is NodeKind.HAMT_SHARD
    sample = min((name for name in strange if not name.endswith(PART_SUFFIX)), default=None)
    if sharded and sample is not None and not folds and not await _has(work, node, sample):
        return {sample}  # most often the first one tells, and the rest need not be read
    entries, unread = await take_apart(len(node.links) * LINK_BYTES, list_node, node)
    read = 0
    while True:
        if folds:
            keys = {collision_key(entry.name) for entry in entries}
            strange = {name for name in strange if collision_key(name) not in keys}
        for entry in entries:
            strange -= {entry.name, part_name(entry.name, entry.cid)}
        if not strange or not unread:
            return strange
        some, unread = unread[-SHARDS_TOGETHER:], unread[:-SHARDS_TOGETHER]
        blocks = await work.gatherer.nodes([shard.cid for shard in some], work.patience)
        read += len(some)
        if read > SHARDS_MAX or any(shard.cid.multihash not in blocks for shard in some):
            return None
        entries = []
        for shard in some:
            block = blocks[shard.cid.multihash]
            found, below = await take_apart(len(block), list_shard, shard, block)
            entries += found
            unread += below


async def begun_here(work: Work, request: FetchRequest, node: UnixFSNode) -> Path | None:
    """The directory that was named, where all in it is of the tree `node`: an earlier fetch, which nobody knows any more, was cut off
    there. None for any other. Raises DecodeError, and what the session raises."""
    if request.out is None or request.into_directory or request.contents or request.update or not node.is_directory:
        return None
    place = Path(os.path.realpath(request.directory / request.out))
    names = await anyio.to_thread.run_sync(names_there, place)
    return place if names and await strangers(work, node, names) == set() else None


def names_there(place: Path) -> list[str]:
    """The names in a directory; none where it is none, or may not be read. For worker threads. Raises StoreError when they cannot be
    known now: what is fetched would be put among what is somebody else's."""
    with disk.translated(f"looking into {place}"):
        try:
            return disk.patiently(lambda: os.listdir(place))
        except OSError as error:
            if error.errno not in disk.ABSENT:
                raise
            return []


async def _has(work: Work, node: UnixFSNode, name: str) -> bool:
    try:
        await resolve_path(work.gatherer.node, node.cid, [name])
    except LinkNotFound:
        return False
    return True
