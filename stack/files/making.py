"""Directories and links of a tree that is fetched: made when something goes into them, complete when all in them is there."""

from pathlib import Path

import anyio
import anyio.to_thread

from stack.dag.unixfs.reader import UnixFSNode
from stack.files import target
from stack.files.directory import Directory
from stack.files.target import Below, CannotLink, Claim
from stack.files.update import NEW
from stack.files.work import Work


class Making:
    """Commands: `directory`, `link`. Fact: `finished`."""

    def __init__(self, work: Work, base: Path, claim: Claim, *, whole: bool) -> None:
        """`claim` is taken on the highest directory once it is there; `whole` says that all of the tree is wanted."""
        self._work = work
        self._base = base
        self._claim = claim
        self._whole = whole
        self._lock = anyio.Lock()

    async def directory(self, directory: Directory) -> None:
        """Make a directory, and those above it, which others below them may be about to make. Raises Refused, StoreError."""
        async with self._lock:
            for each in directory.unmade():
                await self._make(each)

    async def _make(self, directory: Directory) -> None:
        update = self._work.update
        if update is None:
            there = await anyio.to_thread.run_sync(target.make_directory, self._base, directory.below)
            change = NEW if there is None else None
        else:
            there, change = await update.make_directory(self._base, directory.below)
            update.told(directory.below, change)
        if directory.parent is None and self._work.writes:
            await anyio.to_thread.run_sync(self._claim.take, self._base.joinpath(*directory.below))
        directory.made = True
        self._work.directories += 1
        self._work.directories_made += change is not None
        if self._whole:
            directory.there = frozenset(there or ())
            directory.strange.update(directory.there)

    async def link(self, below: Below, node: UnixFSNode) -> None:
        """Make a symbolic link; one that cannot be made here is told. Raises Refused, StoreError."""
        try:
            await make_link(self._work, self._base, below, node)
        except CannotLink as error:
            self._work.skip("/".join(below[1:]), error.reason)

    async def finished(self, directory: Directory | None) -> None:
        """Something in a directory is complete. If it was the last, so is the directory, and perhaps the one above it."""
        while directory is not None:
            directory.unfinished -= 1
            if directory.unfinished:
                return
            attributes = directory.mode is not None or directory.mtime_ns is not None
            if directory.made and attributes and self._work.writes:
                await anyio.to_thread.run_sync(
                    target.set_attributes, self._base, directory.below, directory.mode, directory.mtime_ns
                )
            directory = directory.parent


async def make_link(work: Work, base: Path, below: Below, node: UnixFSNode) -> None:
    """Make a symbolic link. Raises Refused, CannotLink, StoreError."""
    mtime_ns = None if node.mtime is None else node.mtime.in_nanoseconds
    if work.update is None:
        made = await anyio.to_thread.run_sync(target.make_symlink, base, below, node.target, mtime_ns)
    else:
        change = await work.update.make_symlink(base, below, node.target, mtime_ns)
        work.update.told(below, change)
        made = change is not None
    work.files_written += made
    work.files += 1
