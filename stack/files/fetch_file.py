"""One file of a fetch: compared where it exists, else written in place beside its final name, checked, and named."""

import errno
import os
import stat
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread

from stack.blocks import disk
from stack.blocks.disk import stamp_of
from stack.blocks.interfaces import BLOCK_SIZE_MAX, FileWriter, Leaf
from stack.dag.unixfs.directory import Entry
from stack.dag.unixfs.reader import FilePart, UnixFSNode
from stack.errors import Refused
from stack.files.events import FileFinished
from stack.files.found import LEAVES_TOGETHER, Found
from stack.files.inline import inline_file
from stack.files.leaves import LeafWalk
from stack.files.parts import (
    has_attributes,
    has_bytes,
    is_in_place,
    is_whole_leaf,
    no_keeping,
    place_leaf,
    take_from,
)
from stack.files.storage import create_file
from stack.files.target import status_of
from stack.files.tasks import task_group
from stack.files.update import CHANGED, NEW, WAY_OUT, Update
from stack.files.work import Work
from stack.platform import umask
from stack.sansio.interfaces import Buffer

CHECKPOINT_SECONDS = 1.0
"""How often what was written is put on record while nothing more comes; while blocks come the writer does it itself."""

CLOSING_SECONDS = 10.0
"""A cancelled fetch syncs what it has, at most for this long: a disk that hangs must not hold a Ctrl-C."""


_SOMETHING_ELSE = frozenset(
    {errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ENXIO, errno.EISDIR}
)
"""What opening a file says when it is not there, or is no file of ours. All other errors say nothing about it."""


class _Different(Exception):
    """The file that exists is another one."""


async def fetch_file(
    work: Work, node: UnixFSNode, block: bytes, target: Path, part: Path, base: Path, *, adopt: bool = False
) -> None:
    """Have the file at `target`, by way of `part`; `node` is its root, `block` the root's bytes. With `adopt` the name of the part file
    tells of what it is, and one that is there is gone on with, whoever began it.

    Below `base`, a directory above both (or their own), no link is followed. Raises Refused when something else is there
    that no update may replace, NoSpace, DecodeError (also WrongSize), and what the session raises. When it is cancelled, or
    fails, what came stays in the part file.
    """
    below = target.relative_to(base).parts
    look = status_of if work.update is None else work.update.status_of
    status = await anyio.to_thread.run_sync(look, base, below)
    if status is None or not await _is_there(work, node, block, target, base):
        if status is not None and work.update is None:
            raise Refused(f"{target} exists with other content; {WAY_OUT}")
        is_directory = status is not None and stat.S_ISDIR(status.st_mode)
        if is_directory and work.update is not None and not await work.update.clear(base, below):
            return
        if work.writes:
            await _write(work, node, block, target, part, base, over=status is not None, adopt=adopt)
        if work.update is not None:  # now that it is so: what somebody has lost is begun again and again
            work.update.told(below, NEW if status is None else CHANGED)
        work.files_written += 1
    elif work.update is not None and await anyio.to_thread.run_sync(_set_attributes, work.update, node, target, base):
        if work.writes and node.mtime is not None:
            # What was found is on record for a file with the time that it had.
            work.found.drop(target)
            await _is_the_same(work, node, block, target, base)
        work.update.told(below, CHANGED)
        work.files_written += 1
    work.files += 1
    work.tell(FileFinished(path=target, size=node.file_size))


def _set_attributes(update: Update, node: UnixFSNode, target: Path, base: Path) -> bool:
    """Give a file with the right bytes the mode and time of this version; whether it has others now. A file system may keep neither as
    they were asked for: ext4 has no dates beyond 2446, FAT none that are odd. Raises StoreError."""
    mtime_ns = None if node.mtime is None else node.mtime.in_nanoseconds
    with _reading(target, base) as fd:
        if fd is None:
            return False
        with disk.translated(f"looking at {target}"):
            status = os.fstat(fd)
            if node.mode is not None:
                mode = node.mode & 0o777 & ~umask()
            elif mtime_ns is not None:  # who tells times tells what is executable
                mode = stat.S_IMODE(status.st_mode) & ~0o111
            else:
                mode = None
            if mode in (None, stat.S_IMODE(status.st_mode)) and mtime_ns in (None, status.st_mtime_ns):
                return False
            if not update.dry_run:
                return _changes(fd, mode, mtime_ns)
            from tempfile import TemporaryFile  # here: it takes 3 ms to load

            # A file without a name shows what this file system would keep.
            with suppress(OSError), TemporaryFile(dir=target.parent) as probe:
                disk.set_attributes(probe.fileno(), stat.S_IMODE(status.st_mode), status.st_mtime_ns)
                return _changes(probe.fileno(), mode, mtime_ns)
            return True


def _changes(fd: int, mode: int | None, mtime_ns: int | None) -> bool:
    """Set mode and time; whether the file has others now. Raises OSError."""
    before = os.fstat(fd)
    disk.set_attributes(fd, mode, mtime_ns)
    now = os.fstat(fd)
    return (before.st_mode, before.st_mtime_ns) != (now.st_mode, now.st_mtime_ns)


async def _is_there(work: Work, node: UnixFSNode, block: bytes, target: Path, base: Path) -> bool:
    """Whether an existing file is this one, told from its bytes; nothing but nodes is asked for."""
    if not await _is_the_same(work, node, block, target, base):
        work.found.drop(target)
        return False
    work.progress.add(node.file_size, written=False)
    await work.found.keep(LEAVES_TOGETHER)
    return True


async def _is_the_same(work: Work, node: UnixFSNode, block: bytes, target: Path, base: Path) -> bool:
    """The same, uncounted."""
    try:
        with _reading(target, base) as fd:
            if fd is None or _size(fd, target) != node.file_size:
                return False
            keep = partial(work.found.add, target, stamp_of(os.fstat(fd))) if work.writes else no_keeping

            def check(part: FilePart) -> bool | None:
                with disk.translated(f"reading {target}"):
                    found = is_in_place(fd, part, keep)
                if found is False:
                    raise _Different
                return found

            def compare(leaf: Leaf, payload: Buffer) -> None:
                with disk.translated(f"reading {target}"):
                    found = os.pread(fd, leaf.length, leaf.offset)
                if found != payload:
                    raise _Different
                keep(leaf)

            if node.links:
                await LeafWalk(work, node, compare, check, counted=False).run()
            else:
                await anyio.to_thread.run_sync(place_leaf, FilePart(node.cid, 0, node.file_size), block, compare)
    except _Different:
        return False
    return True


class Same(NamedTuple):
    """Entries of a directory that are there."""

    files: dict[str, int]
    """Those with the mode and time of their root, and their sizes."""
    bytes: set[str]
    """Those that may have others."""


def same_leaves(base: Path, directory: Path, entries: Sequence[Entry], kept: Found | None) -> Same:
    """Of these entries of a directory below `base`, the files that are there and are just that one block; `kept` is told of them."""
    found = Same({}, set())
    for entry in entries:
        path, root = directory / entry.name, inline_file(entry.cid)
        with _reading(path, base) as fd:
            if fd is not None and (size := _size(fd, path)) <= BLOCK_SIZE_MAX:
                keep = no_keeping if kept is None else partial(kept.add, path, stamp_of(os.fstat(fd)))
                with disk.translated(f"reading {path}"):
                    if root is None:
                        is_same = is_whole_leaf(fd, entry.cid, entry.dag_size, keep)
                    elif is_same := has_bytes(fd, root, keep):
                        found.bytes.add(entry.name)
                        is_same = has_attributes(fd, root)
                if is_same:
                    found.files[entry.name] = size
    return found


async def _write(
    work: Work, node: UnixFSNode, block: bytes, target: Path, part: Path, base: Path, *, over: bool, adopt: bool
) -> None:
    """Write the part file and give it its name, `over` a file that is there: what that one has in common is not asked for."""
    left = await anyio.to_thread.run_sync(status_of, base, part.relative_to(base).parts) if adopt else None
    async with _writer(work, part, node.file_size, base, adopt=adopt) as writer:
        if not node.links:
            await anyio.to_thread.run_sync(place_leaf, FilePart(node.cid, 0, node.file_size), block, writer.write)
            work.progress.add(node.file_size)
        else:
            present = _Ranges(await writer.present())
            if present.total:
                work.resumed(present.total)
            unrecorded = left is not None and left.st_blocks > 0 and not present.total
            with _reading(part, base) as fd, _reading(target, base) if over else nullcontext() as old:

                def check(leaf: FilePart) -> bool | None:
                    # Whatever the record says, the bytes decide: it may be that of another content of the same name.
                    if present.has(leaf.offset, leaf.size) and fd is not None and is_in_place(fd, leaf):
                        return True
                    with disk.translated(f"reading {part}"):
                        if unrecorded and fd is not None and take_from(fd, leaf, writer.write):
                            return True
                    with disk.translated(f"reading {target}"):
                        return old is not None and take_from(old, leaf, writer.write)

                known = present.total or over or unrecorded
                await LeafWalk(work, node, writer.write, check if known else None).run()
        mtime_ns = None if node.mtime is None else node.mtime.in_nanoseconds
        await writer.seal(target, mode=node.mode, mtime_ns=mtime_ns, over=over)


@asynccontextmanager
async def _writer(work: Work, part: Path, size: int, base: Path, *, adopt: bool) -> AsyncIterator[FileWriter]:
    """A writer whose record is kept up to date, and that is closed properly also by an error or a cancellation."""
    writer = await create_file(work.store, part, size, base=base, adopt=adopt)
    try:
        async with task_group() as group:
            group.start_soon(_checkpoints, writer)
            yield writer
            group.cancel_scope.cancel()
    finally:
        with anyio.move_on_after(CLOSING_SECONDS, shield=True):
            await writer.aclose()


async def _checkpoints(writer: FileWriter) -> None:
    while True:
        await anyio.sleep(CHECKPOINT_SECONDS)
        await writer.checkpoint()


class _Ranges:
    """What is on record of a file, as ranges that do not touch; many leaves become few ranges."""

    def __init__(self, leaves: list[tuple[int, int]]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.total = 0
        for offset, length in leaves:
            if self._ends and offset <= self._ends[-1]:
                self.total += max(offset + length - self._ends[-1], 0)
                self._ends[-1] = max(self._ends[-1], offset + length)
            else:
                self._starts.append(offset)
                self._ends.append(offset + length)
                self.total += length

    def has(self, offset: int, size: int) -> bool:
        """Whether all of this is on record."""
        index = bisect_right(self._starts, offset) - 1
        return index >= 0 and offset + size <= self._ends[index]


def _size(fd: int, path: Path) -> int:
    with disk.translated(f"reading {path}"):
        return os.fstat(fd).st_size


@contextmanager
def _reading(path: Path, base: Path) -> Iterator[int | None]:
    """A descriptor of a regular file; None for anything else, a symbolic link too. Raises StoreError."""
    fd = None
    try:
        directory = disk.open_below(base, path.parent.relative_to(base).parts)
        try:
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(path.name, flags, dir_fd=directory)
        finally:
            disk.let_go(directory)
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError as error:
        if fd is not None or error.errno not in _SOMETHING_ELSE:
            if fd is not None:
                disk.let_go(fd)
            raise disk.store_error(f"reading {path}", error) from error
        regular = False
    try:
        yield fd if regular else None
    finally:
        if fd is not None:
            disk.let_go(fd)
