"""A directory of a fetch: listed while it is fetched, files written into their places, links made last.

A tree of any size takes bounded memory: a directory is read node by node, and of its entries as many blocks are asked for at
a time as fit a few MiB. What has one block is written from it; what has more becomes a `fetch_file` of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from stack.blocks.interfaces import BLOCK_SIZE_MAX
from stack.dag.unixfs.data import NodeKind, UnixTime
from stack.dag.unixfs.directory import Entry
from stack.dag.unixfs.names import collision_key, printable, safe_name
from stack.dag.unixfs.reader import Shard, UnixFSNode, decode_node, list_node
from stack.errors import DecodeError, LimitExceeded, Refused
from stack.files import target
from stack.files.fetch_file import fetch_file
from stack.files.gather import Want
from stack.files.parts import WrongSize
from stack.files.target import Below, part_path
from stack.files.tasks import task_group
from stack.files.work import Work
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import RAW
from stack.sansio.interfaces import Buffer

ENTRIES_MAX = 1_000_000
"""Entries of a tree: ten directories that each list the next one ten times are ten blocks and ten thousand million files."""

DEPTH_MAX = 512
"""Directories below each other; a path of 4,096 bytes, the most that Linux takes, rarely has as many."""

BATCH_ENTRIES = 256
BATCH_BYTES = 8 * 1024 * 1024
BATCHES = 4
"""Entries asked for at a time: 32 MiB of single-block files in memory at the most."""


@dataclass(frozen=True, slots=True)
class _Directory:
    """A directory still to be read."""

    cid: Cid
    below: Below


@dataclass(frozen=True, slots=True)
class _Link:
    """A symbolic link, made when all files are there so that nothing is ever written through it."""

    below: Below
    leads_to: str
    mtime: UnixTime | None


class TreeFetch:
    """Fetches one directory. Used once: `run`."""

    def __init__(self, work: Work, path: Path, include: Sequence[str] = ()) -> None:
        """`path` is what the directory becomes. `include` are patterns of paths below it; all is fetched without any."""
        self._work = work
        self._base = path.parent
        self._include = tuple(include)
        self._pending: list[_Directory] = []
        self._root: Below = (path.name,)
        self._entries = 0
        self._running = 0
        self._changed = anyio.Event()
        self._batches = anyio.Semaphore(BATCHES)
        self._made: dict[Below, list[str] | None] = {}
        self._attributes: list[tuple[Below, int | None, UnixTime | None]] = []
        self._links: list[_Link] = []
        self._folds = False

    async def run(self, root: UnixFSNode) -> None:
        """Returns when the tree is there. Entries that cannot be kept are told and counted by `work.skip`.

        Raises Refused for anything that is in the way, NoSpace, DecodeError, LimitExceeded, and what the session raises.
        """
        self._folds = await anyio.to_thread.run_sync(target.folds_names, self._base)
        async with task_group() as group:
            await self._read_directory(group, _Directory(root.cid, self._root), root)
            while self._pending or self._running:
                if self._pending:
                    directory = self._pending.pop()
                    node = decode_node(directory.cid, await self._work.gatherer.get(directory.cid))
                    await self._read_directory(group, directory, node)
                else:
                    self._changed = anyio.Event()
                    await self._changed.wait()
        await anyio.to_thread.run_sync(self._finish)

    async def _read_directory(self, group: TaskGroup, directory: _Directory, node: UnixFSNode) -> None:
        """Start to fetch all entries of a directory."""
        if len(directory.below) > DEPTH_MAX:
            raise LimitExceeded("depth of a tree", DEPTH_MAX)
        there = None if self._include else await self._make_directory(directory.below)
        expected: set[str] = set()
        keys: dict[str, str] = {}
        self._attributes.append((directory.below, node.mode, node.mtime))
        entries, shards = list_node(node)
        batch: list[tuple[Entry, Below]] = []
        cost = 0
        while True:
            self._entries += len(entries)
            if self._entries > ENTRIES_MAX:
                raise LimitExceeded("entries of a tree", ENTRIES_MAX)
            for entry in entries:
                below = self._place(directory.below, entry, keys)
                if below is None:
                    continue
                if there is not None:
                    expected |= {entry.name, _part(Path(entry.name), entry.cid).name}
                batch.append((entry, below))
                cost += _cost(entry)
                if len(batch) == BATCH_ENTRIES or cost >= BATCH_BYTES:
                    await self._start(group, batch)
                    batch, cost = [], 0
            if not shards:
                break
            shard: Shard = shards.pop()
            block = await self._work.gatherer.node(shard.cid)
            entries, more = list_node(decode_node(shard.cid, block), shard)
            shards += reversed(more)
        strange = sorted(set(there or ()) - expected)
        if strange:
            place = self._base.joinpath(*directory.below)
            raise Refused(f"{place} exists with other content: {printable(strange[0])} is not part of what is fetched")
        if batch:
            await self._start(group, batch)

    def _place(self, directory: Below, entry: Entry, keys: dict[str, str]) -> Below | None:
        """Where an entry belongs; None when it is left out."""
        below = (*directory, entry.name)
        shown = "/".join(below[1:])
        if entry.cid.codec == RAW and not self._is_included(below):
            return None
        try:
            safe_name(entry.name)
        except DecodeError as error:
            self._work.skip(shown, str(error))
            return None
        if self._folds:
            other = keys.setdefault(collision_key(entry.name), entry.name)
            if other != entry.name:
                self._work.skip(shown, f"on this file system it is the same name as {printable(other)}")
                return None
        return below

    def _is_included(self, below: Below) -> bool:
        """Whether the path, or a directory above it, matches a pattern; one without a slash matches names at any depth."""
        if not self._include:
            return True
        names = below[1:]
        paths = ["/".join(names[: count + 1]) for count in range(len(names))]
        return any(
            fnmatchcase(path, pattern) or ("/" not in pattern and fnmatchcase(path.rpartition("/")[2], pattern))
            for pattern in self._include
            for path in paths
        )

    async def _start(self, group: TaskGroup, batch: list[tuple[Entry, Below]]) -> None:
        await self._batches.acquire()
        self._running += 1
        group.start_soon(self._fetch_batch, group, batch)

    async def _fetch_batch(self, group: TaskGroup, batch: list[tuple[Entry, Below]]) -> None:
        blocks: dict[bytes, bytes] = {}

        def receive(entry: Entry, block: Buffer) -> None:
            # A link tells the size of all below it. One that tells less than its first block would fill our memory.
            if 0 < entry.dag_size < len(block):
                raise WrongSize(entry.cid, entry.dag_size, len(block))
            blocks[entry.cid.multihash] = bytes(block)

        try:
            wanted = {entry.cid.multihash: entry for entry, _ in batch}
            sent = await self._work.gatherer.fetch(
                [Want(entry.cid, partial(receive, entry)) for entry in wanted.values()]
            )
            nodes = [(entry, below, decode_node(entry.cid, blocks[entry.cid.multihash])) for entry, below in batch]
            # Files of one block first: they are in memory already.
            nodes.sort(key=lambda item: bool(item[2].links))
            await self._work.store.put(
                [
                    (node.cid, blocks[node.cid.multihash])
                    for _, _, node in nodes
                    if node.cid.multihash in sent and (node.links or not node.is_file)
                ]
            )
            async with task_group() as files:
                for entry, below, node in nodes:
                    if node.is_directory:
                        self._pending.append(_Directory(entry.cid, below))
                    elif not self._is_included(below):
                        continue
                    elif node.kind is NodeKind.SYMLINK:
                        await self._make_directory(below[:-1])
                        self._links.append(_Link(below, node.target, node.mtime))
                    elif node.is_file:
                        await self._make_directory(below[:-1])
                        await self._start_file(
                            files if not node.links else group, below, node, blocks[node.cid.multihash]
                        )
                    else:
                        self._work.skip("/".join(below[1:]), f"a {node.kind.name} is no file")
        finally:
            self._batches.release()
        self._running -= 1
        self._changed.set()

    async def _start_file(self, group: TaskGroup, below: Below, node: UnixFSNode, block: bytes) -> None:
        """Start to fetch a file; waits while many are under way, so that neither tasks nor blocks pile up."""
        await self._work.open_files.acquire()
        self._running += 1
        group.start_soon(self._fetch_file, below, node, block)

    async def _fetch_file(self, below: Below, node: UnixFSNode, block: bytes) -> None:
        try:
            path = self._base.joinpath(*below)
            await fetch_file(self._work, node, block, path, _part(path, node.cid))
        finally:
            self._work.open_files.release()
        self._running -= 1
        self._changed.set()

    async def _make_directory(self, below: Below) -> list[str] | None:
        """Make a directory and those above it; what was in it before this fetch, None if it is new."""
        if below in self._made:
            return self._made[below]
        if len(below) > 1:
            await self._make_directory(below[:-1])
        there = await anyio.to_thread.run_sync(target.make_directory, self._base, below)
        self._made[below] = there
        return there

    def _finish(self) -> None:
        """Links, then attributes of directories, the deepest first: each of these changes the time of what is above it."""
        for link in self._links:
            mtime_ns = None if link.mtime is None else link.mtime.in_nanoseconds
            if target.make_symlink(self._base, link.below, link.leads_to, mtime_ns):
                self._work.files_written += 1
            self._work.files += 1
        for below, mode, mtime in sorted(self._attributes, key=lambda item: -len(item[0])):
            if below in self._made and (mode is not None or mtime is not None):
                target.set_attributes(self._base, below, mode, None if mtime is None else mtime.in_nanoseconds)


def _part(path: Path, cid: Cid) -> Path:
    """Where a file of a tree is while it is being fetched. The tree may have a `NAME.part` of its own, hardly this one."""
    return part_path(path.with_name(f"{path.name[:200]}.{str(cid)[-8:]}"))


def _cost(entry: Entry) -> int:
    """Bytes that the entry's first block may have. A claim of 0 says nothing."""
    return min(entry.dag_size or BLOCK_SIZE_MAX, BLOCK_SIZE_MAX)
