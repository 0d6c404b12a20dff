"""What is in the way of a fetch that brings a tree to another version: replaced in one step each, deleted at the end, or only told."""

import os
import secrets
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import anyio.to_thread

from stack.blocks import disk
from stack.blocks.interfaces import BlockStore
from stack.dag.unixfs.names import printable
from stack.errors import Refused
from stack.files import target
from stack.files.events import EntryUpdated
from stack.files.storage import in_place, refusal
from stack.files.target import NO_LINK, Below, CannotLink, opened, status_of

NEW = "new"
CHANGED = "changed"
DELETED = "deleted"

WAY_OUT = "--update brings it to this version"
"""What who meets other content may do."""


class Update:
    """An update that is wanted. Commands: `told`, `gone`, `sweep`, `forget`; the others are for worker threads: they tell nothing
    themselves, and `forget` comes before anything is written in the place of what they removed."""

    def __init__(self, store: BlockStore, tell: Callable[[EntryUpdated], None], *, delete: bool, dry_run: bool) -> None:
        """With `delete` what is not part of the new version goes, once all else is there. A `dry_run` writes nothing."""
        self._files = in_place(store)
        self._removed: list[Path] = []
        self.delete = delete
        self.dry_run = dry_run
        self.deleted = 0
        self._tell = tell
        self._gone: list[Below] = []

    def told(self, below: Below, change: str | None) -> None:
        """A name is, or would be, another one's; None for no change."""
        if change is not None:
            self._tell(EntryUpdated(path="/".join(below), change=change))

    def gone(self, below: Below, name: str) -> None:
        """A name is not part of the new version."""
        if self.delete:
            self._gone.append((*below, name))

    async def sweep(self, base: Path) -> None:
        """Delete what is not part of the new version. Raises Refused, StoreError."""
        for below in sorted(self._gone):
            if not self.dry_run:
                await anyio.to_thread.run_sync(self._remove, base, below)
            self.deleted += 1
            self.told(below, DELETED)
        await self.forget()

    async def forget(self) -> None:
        """What was removed is served no longer. Raises StoreError."""
        removed, self._removed = self._removed, []
        if removed and self._files is not None:
            await self._files.forget_files(removed, ())

    def status_of(self, base: Path, below: Below) -> os.stat_result | None:
        """As `target.status_of`; when nothing is made, what would be in the way of a directory is as good as gone."""
        try:
            return status_of(base, below)
        except Refused:
            if self.dry_run:
                return None
            raise

    def make_way(self, base: Path, below: Below, status: os.stat_result) -> None:
        """For what cannot be renamed over what is there. Raises Refused for a directory that may not go."""
        if stat.S_ISDIR(status.st_mode) and not self.delete:
            shown = printable(str(base.joinpath(*below)))
            raise Refused(f"{shown} is a directory, and none in the version that is fetched; --delete lets it go")
        if not self.dry_run:
            self._remove(base, below)

    def make_directory(self, base: Path, below: Below) -> tuple[list[str] | None, str | None]:
        """As `target.make_directory`, in the place of a file if need be; and what changed."""
        status = self.status_of(base, below)
        is_directory = status is not None and stat.S_ISDIR(status.st_mode)
        if status is not None and not is_directory:
            self.make_way(base, below, status)
        change = None if is_directory else NEW if status is None else CHANGED
        if not self.dry_run:
            return target.make_directory(base, below), change
        return target.names_in(base, below) if is_directory else None, change

    def make_symlink(self, base: Path, below: Below, leads_to: str, mtime_ns: int | None) -> str | None:
        """As `target.make_symlink`, in the place of anything else; what changed. Raises Refused, CannotLink."""
        status = self.status_of(base, below)
        if status is not None and stat.S_ISLNK(status.st_mode) and target.link_at(base, below) == leads_to:
            return None
        if self.dry_run:
            pass
        elif status is None:
            target.make_symlink(base, below, leads_to, mtime_ns)
        else:
            if stat.S_ISDIR(status.st_mode):
                self.make_way(base, below, status)
            _replace_link(base, below, leads_to, mtime_ns)
            self._removed.append(base.joinpath(*below))
        return NEW if status is None else CHANGED

    def _remove(self, base: Path, below: Below) -> None:
        _remove(base, below)
        self._removed.append(base.joinpath(*below))


def _remove(base: Path, below: Below) -> None:
    """Delete a file, a link, or a directory with all that is in it; no link is followed. Raises Refused, StoreError."""
    with opened(base, below[:-1]) as fd:
        try:
            if stat.S_ISDIR(os.stat(below[-1], dir_fd=fd, follow_symlinks=False).st_mode):
                shutil.rmtree(below[-1], dir_fd=fd)
            else:
                os.unlink(below[-1], dir_fd=fd)
            disk.sync_names(fd)
        except FileNotFoundError:
            return
        except OSError as error:
            raise refusal(base.joinpath(*below), error) from error


def _replace_link(base: Path, below: Below, leads_to: str, mtime_ns: int | None) -> None:
    """Put a symbolic link in the place of a file or of another link, in one step."""
    with opened(base, below[:-1]) as fd:
        name = f".{secrets.token_hex(8)}"
        try:
            os.symlink(leads_to, name, dir_fd=fd)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno not in NO_LINK:
                raise
            raise CannotLink(base.joinpath(*below), "this system cannot write that down") from error
        try:
            if mtime_ns is not None:
                disk.set_mtime(name, mtime_ns, dir_fd=fd)
            os.rename(name, below[-1], src_dir_fd=fd, dst_dir_fd=fd)
        except BaseException:
            os.unlink(name, dir_fd=fd)
            raise
        disk.sync_names(fd)
