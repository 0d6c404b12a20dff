"""One local file becomes a DAG: its leaves recorded where they lie, the nodes above them put into the store."""

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import TaskGroup

from stack.blocks.disk import let_go, open_below, patiently, stamp_of, unchanged
from stack.blocks.hashing import put_verified
from stack.blocks.interfaces import Block, BlockStore, FileStamp, InPlaceStore, Leaf, SourceChanged
from stack.dag.unixfs.builder import FileBuilder, FileRoot
from stack.dag.unixfs.data import UnixTime
from stack.dag.unixfs.options import ImportOptions
from stack.files.cutting import HASHERS, PIECE_BYTES, CutLeaf, OpenFile, Shortened, cut_file, cut_small_file
from stack.files.known import KnownFiles
from stack.files.private import IsPrivate, Private
from stack.files.scan import Below
from stack.files.storage import in_place
from stack.files.tasks import task_group
from stack.multiformats.cid import Cid
from stack.multiformats.multihash import IDENTITY

COPIED_BYTES = 8 * 1024 * 1024
"""Of leaves, kept before their blocks are written and brought to the disk together, while the next are hashed."""

COPIES_AT_ONCE = 4
"""Of these: what the store writes as one group, and as much that comes up meanwhile. A disk that is waited for stands idle else."""

NODE_BYTES = 4 * 1024 * 1024
"""Nodes kept before they go to the store together."""

LEAF_ROWS = 4096
"""Leaves kept before they are recorded together, some 2 MiB of memory."""

FILES_TOGETHER = 16_384
"""Small files that are recorded together, some 16 MiB of memory."""

LEAVES_A_TURN = 128
"""Leaves of a file that is known which are told to the tree in one go: some 2 ms of the event loop."""

_READ = os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


FileRows = tuple[Path, FileStamp, list[CutLeaf]]
"""A whole file that is to be recorded."""


class OpenedFile(NamedTuple):
    """A file that is about to be added."""

    file: OpenFile
    status: os.stat_result
    leaves: list[CutLeaf] | None
    """None when they are to be read."""
    known: bool
    """They were read at another time."""


class Keeper:
    """Where an import keeps what it makes. Commands: `node`, `leaves`, `files`, `flush`, `forget`."""

    def __init__(self, store: BlockStore | None, *, copy: bool) -> None:
        self._store = store
        self._in_place: InPlaceStore | None = None if store is None or copy else in_place(store)
        self.copies = store is not None and self._in_place is None
        """Leaves are kept as blocks."""
        self._copying = anyio.Semaphore(COPIES_AT_ONCE)
        self._nodes: list[Block] = []
        self._node_bytes = 0
        self._files: list[tuple[Path, FileStamp, list[Leaf]]] = []

    async def node(self, cid: Cid, block: bytes) -> None:
        """Keep a node, soon. Raises NoSpace, StoreError."""
        if self._store is not None and cid.hash_code != IDENTITY:
            self._nodes.append((cid, block))
            self._node_bytes += len(block)
            if self._node_bytes >= NODE_BYTES:
                await self._keep_nodes()

    async def flush(self) -> None:
        """Keep all now."""
        await self._record()
        await self._keep_nodes()

    async def _keep_nodes(self) -> None:
        nodes, self._nodes, self._node_bytes = self._nodes, [], 0
        if self._store is not None and nodes:
            await put_verified(self._store)(nodes)

    async def leaves(self, path: Path, stamp: FileStamp, leaves: list[CutLeaf], group: TaskGroup) -> None:
        """Record leaves where they lie, or have their blocks kept by a task of the group. Raises SourceChanged, NoSpace, StoreError."""
        rows = _rows(leaves)
        if self._in_place is not None and rows:
            await self._in_place.add_file(path, stamp, rows)
        elif self.copies and (blocks := _blocks(leaves)):
            await self._copying.acquire()
            group.start_soon(self._copy, blocks)

    async def _copy(self, blocks: Sequence[Block]) -> None:
        assert self._store is not None
        try:
            await put_verified(self._store)(blocks)
        finally:
            self._copying.release()

    async def files(self, files: Sequence[FileRows]) -> None:
        """The same, soon, for several files that were looked at after they were read. Raises Refused, NoSpace, StoreError."""
        if self._in_place is not None:
            self._files += [(path, stamp, rows) for path, stamp, leaves in files if (rows := _rows(leaves))]
            if len(self._files) >= FILES_TOGETHER:
                await self._record()
        elif self._store is not None:
            await put_verified(self._store)([block for _, _, leaves in files for block in _blocks(leaves)])

    async def _record(self) -> None:
        files, self._files = self._files, []
        if self._in_place is not None and files:
            await self._in_place.add_files(files)

    async def forget(self, path: Path) -> None:
        """What was recorded of a file is not so."""
        if self._in_place is not None:
            await self._in_place.forget_file(path)


def _rows(leaves: list[CutLeaf]) -> list[Leaf]:
    return [
        Leaf(leaf.cid, leaf.offset, leaf.length, leaf.prefix, leaf.suffix)
        for leaf in leaves
        if leaf.cid.hash_code != IDENTITY
    ]


def _blocks(leaves: list[CutLeaf]) -> list[Block]:
    return [(leaf.cid, leaf.block) for leaf in leaves if leaf.block is not None and leaf.cid.hash_code != IDENTITY]


class FileAdder:
    """Adds files, several at once if need be. Commands: `add`, `add_root`; `open` is the first step of `add`, in a worker thread, and
    `remember` the last."""

    def __init__(
        self,
        options: ImportOptions,
        keeper: Keeper,
        progress: Callable[[str, int], None],
        known: KnownFiles | None = None,
        private: Private | None = None,
    ) -> None:
        """`progress` is told of the bytes that were read of a path; of less than none when it must be read again. What is known of
        a file that has not changed is not read. What is `private` is not added."""
        self._private = private or Private(None)
        self.known = None if keeper.copies else known
        self._options = options
        self.keeper = keeper
        self._progress = progress
        self._hashers = anyio.CapacityLimiter(HASHERS)
        self.reader = anyio.CapacityLimiter(1)
        """Of small files. Each is five short calls of the system, after which several threads would wait for each other longer than
        for the disk."""

    def add_root(self) -> None:
        """The next file is all that is added: what is found and pinned by its CID is a block."""
        self._options = replace(self._options, inline_root=False)

    async def add(self, base: Path, inside: Below, shown: str) -> FileRoot:
        """The root of a regular file that is `inside` of a tree, or lies at `base` itself.

        Raises SourceChanged when it does not hold still, IsPrivate, OSError, NoSpace, StoreError.
        """
        path = base.joinpath(*inside)
        try:
            return await self._add_once(base, inside, shown)
        except SourceChanged:
            # Somebody was still writing it. Rows of the first try go when it is recorded with its new stamp.
            try:
                return await self._add_once(base, inside, shown)
            except SourceChanged:
                await self.keeper.forget(path)
                raise

    async def _add_once(self, base: Path, inside: Below, shown: str) -> FileRoot:
        path = base.joinpath(*inside)
        opened = await anyio.to_thread.run_sync(patiently, lambda: self._open_in(base, inside))
        file, status, leaves, _ = opened
        try:
            async with task_group() as group:
                run = _Run(self, path, shown, file, stamp_of(status, hashed=leaves is None), group)
                try:
                    if leaves is not None:
                        for start in range(0, len(leaves), LEAVES_A_TURN):
                            await run.take(leaves[start : start + LEAVES_A_TURN])
                            await anyio.lowlevel.checkpoint()
                    else:
                        await cut_file(file, self._hashers, run.take)
                    if not unchanged(stamp_of(status), os.fstat(file.fd)):
                        raise Shortened
                    root = await run.finish()
                except (Shortened, SourceChanged):
                    self._progress(shown, -run.read)
                    raise SourceChanged(path) from None
            self.remember(path, opened, bytes(run.digests))
            return root
        finally:
            os.close(file.fd)

    def remember(self, path: Path, opened: OpenedFile, digests: bytes) -> None:
        """What a file is that was read and looks as it did then."""
        if self.known is not None and digests and not opened.known:
            self.known.remember(path, opened.status, opened.file, digests)

    def _open_in(self, base: Path, inside: Below) -> OpenedFile:
        if not inside:
            return self.open(base, PIECE_BYTES)
        directory = open_below(base, inside[:-1])
        try:
            return self.open(base.joinpath(*inside), PIECE_BYTES, directory)
        finally:
            let_go(directory)

    def open(self, path: Path, small: int, directory: int | None = None) -> OpenedFile:
        """A file and how it looks; its leaves too where it has at most `small` bytes, so that it costs one worker call. With the open
        `directory` in which it lies it is that one's, whatever has become of the path.

        Raises SourceChanged, IsPrivate, OSError.
        """
        fd = os.open(path if directory is None else path.name, _READ, dir_fd=directory)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise SourceChanged(path)
            if status.st_size == 0 and os.pread(fd, 1, 0):
                raise SourceChanged(path)  # as files of procfs, which say 0 and have more
            if self._private.has_file(fd, status):
                raise IsPrivate(path)
            mtime = UnixTime.of_nanoseconds(status.st_mtime_ns)
            mode = stat.S_IMODE(status.st_mode)
            options = self._options.of_file(mode, status.st_size)
            file = OpenFile(
                fd, status.st_size, options, *options.attributes(mode, mtime), keep_blocks=self.keeper.copies
            )
            leaves = self.known.leaves(path, status, file) if self.known is not None else None
            known = leaves is not None
            try:
                if leaves is None and file.size <= small:
                    leaves = cut_small_file(file)
                return OpenedFile(file, status, leaves, known)
            except Shortened:
                raise SourceChanged(path) from None
        except BaseException:
            os.close(fd)
            raise


class _Run:
    """One file while it is added."""

    def __init__(
        self, adder: FileAdder, path: Path, shown: str, file: OpenFile, stamp: FileStamp, group: TaskGroup
    ) -> None:
        self._group = group
        self._adder = adder
        self._keeper = adder.keeper
        self._path = path
        self._shown = shown
        self._file = file
        self._stamp = stamp
        self._builder = FileBuilder(file.options)
        self._leaves: list[CutLeaf] = []
        self._waiting = 0
        """Bytes of these."""
        self.read = 0
        self.digests = bytearray()
        """Of all leaves so far."""

    async def take(self, leaves: list[CutLeaf]) -> None:
        """The next leaves of the file."""
        for leaf in leaves:
            size = len(leaf.prefix) + leaf.length + len(leaf.suffix)
            self._builder.add_leaf(leaf.cid, leaf.length, size, whole_file=leaf.whole_file)
            self.digests += leaf.cid.digest
        length = sum(leaf.length for leaf in leaves)
        self.read += length
        self._adder._progress(self._shown, length)
        self._leaves += leaves
        self._waiting += length
        if len(self._leaves) >= LEAF_ROWS or (self._keeper.copies and self._waiting >= COPIED_BYTES):
            await self._keep_leaves()
        await self._keep_nodes()

    async def finish(self) -> FileRoot:
        """All leaves were told."""
        await self._keep_leaves()
        root = self._builder.finish(mode=self._file.mode, mtime=self._file.mtime)
        await self._keep_nodes()
        return root

    async def _keep_leaves(self) -> None:
        leaves, self._leaves, self._waiting = self._leaves, [], 0
        await self._keeper.leaves(self._path, self._stamp, leaves, self._group)

    async def _keep_nodes(self) -> None:
        while (block := self._builder.next_block()) is not None:
            await self._keeper.node(*block)
