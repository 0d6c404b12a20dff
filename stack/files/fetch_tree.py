"""A directory of a fetch: listed while it is fetched, its files written into their places.

A tree of any size takes bounded memory: a directory is read node by node, and of its entries as many blocks are asked for at
a time as fit a few MiB. What has one block is written from it; what has more becomes a `fetch_file` of its own. Of a
directory nothing is remembered when all that is in it is there.
"""

from collections.abc import Collection
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from stack.blocks.interfaces import BLOCK_SIZE_MAX
from stack.dag.unixfs.data import NodeKind
from stack.dag.unixfs.directory import Entry
from stack.dag.unixfs.names import LEADS_OUT, collision_key, leads_out, printable, safe_name
from stack.dag.unixfs.reader import LinkNotFound, Shard, UnixFSNode, list_node
from stack.errors import DecodeError, LimitExceeded, Refused
from stack.files import target
from stack.files.chosen import Chosen
from stack.files.compare import not_there
from stack.files.directory import Directory, part_name
from stack.files.fetch_file import fetch_file
from stack.files.gather import Want
from stack.files.holes import to_write
from stack.files.inline import Firsts, is_no_directory
from stack.files.leaves import Lacking
from stack.files.listing import names_there, strangers
from stack.files.making import Making
from stack.files.nodes import LINK_BYTES, read_node, take_apart
from stack.files.parts import WrongSize
from stack.files.paths import DEPTH_MAX
from stack.files.repeats import Repeats
from stack.files.small import TreeFile, keep_small
from stack.files.space import Space
from stack.files.target import Claim
from stack.files.tasks import task_group
from stack.files.update import WAY_OUT
from stack.files.work import AGAIN_SECONDS, AGAIN_SECONDS_MAX, Work
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import RAW
from stack.multiformats.multihash import IDENTITY
from stack.sansio.interfaces import Buffer
from stack.streams.turns import Turn

LEFT_MAX = 10_000
"""Entries left for the end, because nobody has them; beyond it they are waited for where they are met."""

WAITING_MAX = 10_000
"""Directories found and not read: beyond it the reading of one with more pauses until those below it are there."""

BATCH_ENTRIES = 256
BATCH_BYTES = 8 * 1024 * 1024
"""Entries asked for together."""

ENTRIES_UNDER_WAY = 16 * BATCH_ENTRIES
BYTES_UNDER_WAY = 4 * BATCH_BYTES
"""Entries at a time, of one directory or of many: 32 MiB of single-block files in memory at the most. Half of them are on their way while
the others wait for the disk together."""


class TreeFetch:
    """Fetches one directory. Used once: `run`."""

    def __init__(
        self,
        work: Work,
        path: Path,
        chosen: Chosen,
        *,
        told: int | None = None,
        unsafe_links: bool = False,
        beside: bool = False,
    ) -> None:
        """`path` is what the directory becomes, `chosen` what is wanted below it, `told` how large the tree says to be, where it does.
        Symbolic links that lead out of the tree are made with `unsafe_links` only: who writes through one writes elsewhere. With
        `beside` more may be there than is fetched."""
        self._work = work
        self._base = path.parent
        self._chosen = chosen
        self._counts = bool(chosen) and not work.progress.total
        """How much is chosen was too much to look at beforehand: it is learnt on the way."""
        self._unsafe_links = unsafe_links
        self._beside = beside
        self._claim = Claim(shared=beside or work.update is not None)
        self._making = Making(work, self._base, self._claim, whole=not chosen)
        self._waiting: list[Directory] = []
        self._name = path.name
        self._told = told
        self._repeats = Repeats()
        self._running = 0
        self._changed = anyio.Event()
        self._entries_under_way = 0
        self._bytes_under_way = 0
        self._folds = False
        self._left: list[Directory] = []
        self._left_entries = 0
        self._again = AGAIN_SECONDS
        self._done = -1
        """Bytes there when it was last begun again."""
        work.comes_back = True

    async def run(self, root: UnixFSNode) -> None:
        """Returns when the tree is there. Entries that cannot be kept are told and counted by `work.skip`.

        Raises Refused for anything that is in the way, NoSpace, DecodeError (also WrongSize: a tree or file larger than it
        says), LimitExceeded, LinkNotFound where no file matches, and what the session raises.
        """
        self._folds = await anyio.to_thread.run_sync(target.folds_names, self._base)
        if self._work.update is None and not self._beside and not self._chosen:
            place = self._base / self._name
            names = await anyio.to_thread.run_sync(names_there, place)
            if strange := names and await strangers(self._work, root, names, folds=self._folds):
                raise _not_of_it(place, strange)
        self._space = Space(self._work.progress, self._base, root.cid, self._told)
        self._waiting.append(Directory(root.cid, (self._name,), None))
        with self._claim:
            async with task_group() as group:
                while self._waiting or self._running or self._left:
                    if self._waiting:
                        await self._read_directory(group, self._waiting.pop())
                    elif self._running:
                        self._changed = anyio.Event()
                        await self._changed.wait()
                    else:
                        self._come_back()
        if (nothing := self._chosen.nothing("; `stack ls` shows them")) is not None:
            raise LinkNotFound(self._name, root.cid, nothing)
        if self._work.update is not None:
            await self._work.update.sweep(self._base)

    def _leave(self, directory: Directory, what: Shard | list[Entry] | None) -> None:
        """Nobody has this: it is for the end, when all else is there."""
        if not directory.left:
            directory.unfinished += 1
            self._left.append(directory)
        directory.left.append(what)
        self._left_entries += len(what) if isinstance(what, list) else 1
        for name in [entry.name for entry in what] if isinstance(what, list) else [""]:
            self._work.lost[_shown(directory, name)] = None
        if self._left_entries >= LEFT_MAX:
            self._work.patience = None

    def _come_back(self) -> None:
        """Nothing else is to be done. While nothing comes, longer each time: a file that is begun again is read, as far as it is there."""
        work, before = self._work, self._done
        self._done = work.progress.done
        self._again = min(2 * self._again, AGAIN_SECONDS_MAX) if self._done == before else AGAIN_SECONDS
        work.patience, work.told_resumed, self._left_entries = self._again, True, 0
        for directory in self._left:
            directory.unread, directory.left = directory.left[::-1], []
        self._waiting, self._left = self._left[::-1], []

    async def _read_directory(self, group: TaskGroup, directory: Directory) -> None:
        """Start to fetch all entries of a directory, or so many that others should be finished first."""
        floor = len(self._waiting)
        batch: list[Entry] = []
        cost, turn = 0, Turn()
        while directory.unread:
            shard = directory.unread.pop()
            listed = (shard, []) if isinstance(shard, list) else await self._list(directory, shard)
            if listed is None:
                self._leave(directory, shard)
                continue
            entries, more = listed
            for position in range(directory.position, len(entries)):
                await turn.give_way()
                entry = entries[position]
                if directory.strange:
                    directory.strange -= {entry.name, part_name(entry.name, entry.cid)}
                if self._is_wanted(directory, entry):
                    batch.append(entry)
                    cost += _cost(entry)
                if len(batch) == BATCH_ENTRIES or cost >= BATCH_BYTES:
                    await self._start(group, directory, batch, cost)
                    batch, cost = [], 0
                    if len(self._waiting) > WAITING_MAX:
                        directory.unread.append(shard)
                        directory.position = position + 1
                        self._waiting.insert(floor, directory)  # what was found in it comes first
                        return
            directory.position = 0
            directory.unread += reversed(more)
        is_listed = all(isinstance(each, list) for each in directory.left)
        if is_listed and directory.keys:  # the file system has one name for both
            directory.strange = {name for name in directory.strange if collision_key(name) not in directory.keys}
        if is_listed and directory.strange and self._work.update is None and not self._beside:
            raise _not_of_it(self._base.joinpath(*directory.below), directory.strange)
        if is_listed and self._work.update is not None:
            for name in directory.strange:
                self._work.update.gone(directory.below, name)
            directory.strange.clear()
        if batch:
            await self._start(group, directory, batch, cost)
        await self._making.finished(directory)

    async def _list(self, directory: Directory, shard: Shard | None) -> tuple[list[Entry], list[Shard]] | None:
        """The entries in a node of a directory, and the nodes below it; None when nobody has it. Its first node says what the
        directory is like."""
        cid = directory.cid if shard is None else shard.cid
        block = (await self._work.gatherer.nodes([cid], self._work.patience)).get(cid.multihash)
        if block is None:
            return None
        self._work.lost.pop(_shown(directory, ""), None)
        node = await read_node(cid, block)
        if shard is None and not directory.position:
            # The tree itself is not counted when it is shared, nor what holds several that are shared together.
            if len(directory.below) > DEPTH_MAX + 2:
                raise LimitExceeded("depth of a tree", DEPTH_MAX)
            directory.mode = node.mode
            directory.mtime_ns = None if node.mtime is None else node.mtime.in_nanoseconds
            if not self._chosen:
                await self._making.directory(directory)
        entries, more = await take_apart(len(block), list_node, node, shard)
        if not directory.position:
            self._repeats.listed(cid, len(entries))
        return entries, more

    def _is_wanted(self, directory: Directory, entry: Entry) -> bool:
        """Whether an entry can be kept, and may be part of what is wanted."""
        below = (*directory.below, entry.name)
        shown = "/".join(below[1:])
        is_leaf = bool(self._chosen) and (
            entry.cid.codec == RAW or entry.cid.multihash in self._work.no_directories or is_no_directory(entry.cid)
        )
        if not self._chosen.may_hold(below[1:]) or (is_leaf and not self._chosen.matches(below[1:])):
            self._chosen.passed(1)
            return False
        try:
            safe_name(entry.name)
        except DecodeError as error:
            self._work.skip(shown, str(error))
            return False
        if (why := target.unwritable(entry.name)) is not None:
            self._work.skip(shown, why)
            return False
        if self._folds:
            other = directory.keys.setdefault(collision_key(entry.name), entry.name)
            if other != entry.name:
                self._work.skip(shown, f"on this file system it is the same name as {printable(other)}")
                return False
        return True

    async def _start(self, group: TaskGroup, directory: Directory, batch: list[Entry], cost: int) -> None:
        while self._entries_under_way and (
            self._entries_under_way + len(batch) > ENTRIES_UNDER_WAY or self._bytes_under_way + cost > BYTES_UNDER_WAY
        ):
            self._changed = anyio.Event()
            await self._changed.wait()
        self._entries_under_way += len(batch)
        self._bytes_under_way += cost
        self._running += 1
        directory.unfinished += 1
        group.start_soon(self._fetch_batch, group, directory, batch, cost)

    async def _fetch_batch(self, group: TaskGroup, directory: Directory, batch: list[Entry], cost: int) -> None:
        try:
            await self._fetch_entries(group, directory, batch)
        finally:
            self._entries_under_way -= len(batch)
            self._bytes_under_way -= cost
        await self._ended(directory)

    async def _fetch_entries(self, group: TaskGroup, directory: Directory, batch: list[Entry]) -> None:
        """Returns when files of one block are written and the others have begun; what nobody has is left for the end."""
        batch, there = await not_there(self._work, self._base, self._making, self._chosen, directory, batch)
        firsts = await take_apart(LINK_BYTES * len(batch), Firsts, batch, there)
        wanted = {(cid := firsts.cid(entry)).multihash: (cid, entry) for entry in batch}
        blocks: dict[bytes, bytes] = {}

        def receive(cid: Cid, entry: Entry, block: Buffer) -> None:
            firsts.check(entry, len(block))
            blocks[cid.multihash] = bytes(block)

        async def take(_sent: set[bytes]) -> None:
            came = {key: blocks.pop(key) for key in list(blocks)}
            some = [(entry, block) for entry in batch if (block := came.get(firsts.cid(entry).multihash)) is not None]
            if some:
                await self._begin(group, directory, firsts, some)

        wants = [Want(cid, partial(receive, cid, entry)) for cid, entry in wanted.values()]
        left = await self._work.gatherer.gather(wants, take, self._work.patience)
        if left:
            self._leave(directory, [entry for entry in batch if firsts.cid(entry).multihash in left])

    async def _begin(
        self, group: TaskGroup, directory: Directory, firsts: Firsts, batch: list[tuple[Entry, bytes]]
    ) -> None:
        """Have these entries, whose first blocks have come."""
        size = sum(len(block) for entry, block in batch if firsts.cid(entry).codec != RAW)
        nodes = await take_apart(size, lambda: [(entry, firsts.node(entry, block)) for entry, block in batch])
        blocks = {firsts.cid(entry).multihash: block for entry, block in batch}
        # Files of one block first: they are in memory already.
        nodes.sort(key=lambda item: bool(item[1].links))
        await self._work.store.put(
            [
                (node.cid, blocks[node.cid.multihash])
                for _, node in nodes
                if node.cid.hash_code != IDENTITY and (node.links or not node.is_file)
            ]
        )
        place = directory.below[1:]
        included = [(entry, node) for entry, node in nodes if self._chosen.matches((*place, entry.name))]
        files = [(entry, node) for entry, node in included if node.is_file]
        if self._chosen:
            took = sum(not node.is_directory for _, node in included)
            self._chosen.took(took)
            self._chosen.passed(sum(not node.is_directory for _, node in nodes) - took)
        if self._counts:
            self._work.progress.total += sum(
                node.file_size for entry, node in files if entry.name not in directory.begun
            )
        for entry, node in files:
            if 0 < entry.dag_size < node.file_size:
                raise WrongSize(entry.cid, entry.dag_size, node.file_size)
        where = self._base.joinpath(*directory.below)
        begun = [
            TreeFile(where / entry.name, part_name(entry.name, entry.cid), node, blocks[node.cid.multihash])
            for entry, node in files
        ]
        fresh = [file for file in begun if file.path.name not in directory.begun]
        sizes = [await to_write(self._work, file.node) for file in fresh]
        names = directory.there if directory.made and not self._chosen else None
        await anyio.to_thread.run_sync(self._space.take, fresh, sizes, names)
        if any(node.is_file or node.kind is NodeKind.SYMLINK for _, node in included):
            await self._making.directory(directory)
        small_files = [file for file in begun if not file.node.links]
        alone = await keep_small(self._work, small_files, self._base) if self._work.writes else small_files
        async with task_group() as small:
            for file in alone:
                await self._start_file(small, directory, file)
            for file in begun:
                if file.node.links:
                    await self._start_file(group, directory, file)
        alone_later = {entry.name for entry, node in files if node.links}
        for entry, node in nodes:
            if entry.name not in alone_later:
                self._work.lost.pop(_shown(directory, entry.name), None)
            if node.is_directory and not self._chosen.excludes((*place, entry.name), is_directory=True):
                directory.unfinished += 1
                self._waiting.append(Directory(entry.cid, (*directory.below, entry.name), directory))
        for entry, node in included:
            if node.kind is NodeKind.SYMLINK and not self._unsafe_links and leads_out(node.target, len(place)):
                self._work.skip("/".join((*place, entry.name)), f"{LEADS_OUT}, to {printable(node.target)}")
            elif node.kind is NodeKind.SYMLINK:
                await self._making.link((*directory.below, entry.name), node)
            elif not node.is_file and not node.is_directory:
                self._work.skip("/".join((*directory.below[1:], entry.name)), f"{node.kind.noun} is no file")

    async def _start_file(self, group: TaskGroup, directory: Directory, file: TreeFile) -> None:
        """Start to fetch a file; waits while many are under way, so that neither tasks nor blocks pile up."""
        await self._work.open_files.acquire()
        self._running += 1
        directory.unfinished += 1
        group.start_soon(self._fetch_file, directory, file)

    async def _fetch_file(self, directory: Directory, file: TreeFile) -> None:
        try:
            part = file.path.with_name(file.part)
            await fetch_file(self._work, file.node, file.block, file.path, part, self._base, adopt=True)
            self._work.lost.pop(_shown(directory, file.path.name), None)
        except Lacking:
            directory.begun.add(file.path.name)
            size = max(file.node.file_size, len(file.block))
            self._leave(directory, [Entry(file.path.name, file.node.cid, size)])
        finally:
            self._work.open_files.release()
        await self._ended(directory)

    async def _ended(self, directory: Directory) -> None:
        """A task that did something in a directory is over."""
        await self._making.finished(directory)
        self._running -= 1
        self._changed.set()


def _not_of_it(place: Path, strange: Collection[str]) -> Refused:
    return Refused(
        f"{place} exists with other content: {printable(min(strange))} is not part of what is fetched; {WAY_OUT}"
    )


def _shown(directory: Directory, name: str) -> str:
    return "/".join((*directory.below[1:], name))


def _cost(entry: Entry) -> int:
    """Bytes that the entry's first block may have. A claim of 0 says nothing."""
    return min(entry.dag_size or BLOCK_SIZE_MAX, BLOCK_SIZE_MAX)
