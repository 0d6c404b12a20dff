"""What is in the way of a fetch that brings a tree to another version: replaced in one step each, deleted at the end, or only told."""

import errno
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio.to_thread

from stack.blocks import disk
from stack.blocks.interfaces import BlockStore
from stack.dag.unixfs.names import printable
from stack.errors import Refused
from stack.files import target
from stack.files.events import EntrySkipped, EntryUpdated
from stack.files.storage import in_place, refusal
from stack.files.target import NO_LINK, Below, CannotLink, opened, status_of
from stack.platform import no_such_characters

NEW = "new"
CHANGED = "changed"
DELETED = "deleted"

WAY_OUT = "--update brings it to this version"
"""What who meets other content may do."""

NOT_TO_GO = "is a directory, and none in the version that is fetched; --delete lets it go"

MOUNTED = "is another file system, or mounted here, and stays"


class Update:
    """An update that is wanted. Commands: `told`, `gone`, `clear`, `make_directory`, `make_symlink`, `sweep`, `check`; `status_of` is for
    worker threads."""

    def __init__(
        self, store: BlockStore, tell: Callable[[EntryUpdated | EntrySkipped], None], *, delete: bool, dry_run: bool
    ) -> None:
        """With `delete` what is not part of the new version goes, once all else is there. A `dry_run` writes nothing."""
        self._files = in_place(store)
        self.delete = delete
        self.dry_run = dry_run
        self.deleted = 0
        self._tell = tell
        self._gone: list[Below] = []
        self._in_the_way: list[Path] = []

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
            await self._take_away(base, below, itself=True)

    def check(self) -> None:
        """All else is there. Raises Refused for the directories that may not go."""
        if self._in_the_way:
            shown, more = printable(str(self._in_the_way[0])), len(self._in_the_way) - 1
            others = f" (and {more:,} more, as said above)" if more else ""
            raise Refused(f"{shown} {NOT_TO_GO}{others}")

    def status_of(self, base: Path, below: Below) -> os.stat_result | None:
        """As `target.status_of`; when nothing is made, what would be in the way of a directory is as good as gone."""
        try:
            return status_of(base, below)
        except Refused:
            if self.dry_run:
                return None
            raise

    async def clear(self, base: Path, below: Below) -> bool:
        """Take away a directory, over which nothing can be renamed. False where it may not go: that is told, and the others go on. Raises
        Refused, StoreError."""
        if not self.delete:
            self._in_the_way.append(base.joinpath(*below))
            self._tell(EntrySkipped(path="/".join(below), reason=NOT_TO_GO))
            return False
        await self._take_away(base, below, itself=False)
        return True

    async def make_directory(self, base: Path, below: Below) -> tuple[list[str] | None, str | None]:
        """As `target.make_directory`, in the place of a file if need be; and what changed."""
        status = await anyio.to_thread.run_sync(self.status_of, base, below)
        is_directory = status is not None and stat.S_ISDIR(status.st_mode)
        if status is not None and not is_directory:
            await self._take_away(base, below, itself=False)
        change = None if is_directory else NEW if status is None else CHANGED
        if not self.dry_run:
            return await anyio.to_thread.run_sync(target.make_directory, base, below), change
        return await anyio.to_thread.run_sync(target.names_in, base, below) if is_directory else None, change

    async def make_symlink(self, base: Path, below: Below, leads_to: str, mtime_ns: int | None) -> str | None:
        """As `target.make_symlink`, in the place of anything else; what changed. Raises Refused, CannotLink."""
        status = await anyio.to_thread.run_sync(self.status_of, base, below)
        kind = 0 if status is None else stat.S_IFMT(status.st_mode)
        if stat.S_ISLNK(kind) and await anyio.to_thread.run_sync(target.link_at, base, below) == leads_to:
            return None
        if stat.S_ISDIR(kind) and not await self.clear(base, below):
            return None
        if self.dry_run:
            pass
        elif status is None:
            await anyio.to_thread.run_sync(target.make_symlink, base, below, leads_to, mtime_ns)
        else:
            await anyio.to_thread.run_sync(_replace_link, base, below, leads_to, mtime_ns)
            await self._forget(base.joinpath(*below))
        return NEW if status is None else CHANGED

    async def _take_away(self, base: Path, below: Below, *, itself: bool) -> None:
        """Remove a name and all below it, or only look; each that goes is told, the name `itself` where nothing else takes its place."""
        lost: list[Below] = []
        stays: list[Below] = []
        try:
            tree = below[:1] if itself else below[:-1]
            take = partial(_take, base, below, lost, stays, tree=tree, remove=not self.dry_run)
            await anyio.to_thread.run_sync(take)
        finally:
            for each in sorted(lost):
                if itself or each != below:
                    self.deleted += 1
                    self.told(each, DELETED)
            for each in stays:
                self._tell(EntrySkipped(path="/".join(each), reason=MOUNTED))
            if lost and not self.dry_run:
                await self._forget(base.joinpath(*below))
        if stays and not itself:
            raise Refused(f"{printable(str(base.joinpath(*stays[0])))} {MOUNTED}, and is in the way")

    async def _forget(self, path: Path) -> None:
        """What was removed is served no longer. Raises StoreError."""
        if self._files is not None:
            await self._files.forget_files([path], ())


def _take(base: Path, below: Below, lost: list[Below], stays: list[Below], *, tree: Below, remove: bool) -> None:
    """Delete a file, a link, or a directory with all that is in it, or only list them; no link is followed. What is made there
    meanwhile stays, and the directory with it, and so does what is in another mount than `tree`. Raises Refused, StoreError."""
    with opened(base, tree) as highest, opened(base, below[:-1]) as parent:
        try:
            mount = mount_of(highest)
            if mount_of(parent) != mount:
                stays.append(below)
                return
            _take_entry(below, parent, mount, lost, stays, remove=remove)
            if remove:
                disk.sync_names(parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise refusal(base.joinpath(*below), error) from error


def _take_entry(below: Below, within: int, mount: int, lost: list[Below], stays: list[Below], *, remove: bool) -> bool:
    """One name in the open directory `within` and all below it; whether all went, or would go. Raises OSError."""
    name, before = below[-1], len(stays)
    if stat.S_ISDIR(os.stat(name, dir_fd=within, follow_symlinks=False).st_mode):
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=within)
        try:
            if mount_of(fd) != mount:
                stays.append(below)
            else:
                for each in os.listdir(fd):
                    _take_entry((*below, each), fd, mount, lost, stays, remove=remove)
        finally:
            disk.let_go(fd)
    if len(stays) > before:
        return False
    try:
        if remove:
            _remove(name, within)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        stays.append(below)  # a file that another one is mounted on
        return False
    lost.append(below)
    return True


def mount_of(fd: int) -> int:
    """Which mount an open directory is in: also of two that show the same file system, where the system tells. Raises OSError."""
    with suppress(OSError, ValueError), open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as facts:
        return next(int(line.split()[1]) for line in facts if line.startswith("mnt_id:"))
    return os.fstat(fd).st_dev


def _remove(name: str, within: int) -> None:
    """A directory only where it is empty."""
    if stat.S_ISDIR(os.stat(name, dir_fd=within, follow_symlinks=False).st_mode):
        os.rmdir(name, dir_fd=within)
    else:
        os.unlink(name, dir_fd=within)


def _replace_link(base: Path, below: Below, leads_to: str, mtime_ns: int | None) -> None:
    """Put a symbolic link in the place of a file or of another link, in one step."""
    with opened(base, below[:-1]) as fd:
        name = f".{secrets.token_hex(8)}"
        try:
            os.symlink(leads_to, name, dir_fd=fd)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno not in NO_LINK:
                raise
            reason = "this system cannot write that down"
            if isinstance(error, UnicodeEncodeError):
                reason = no_such_characters(error)
            raise CannotLink(base.joinpath(*below), reason) from error
        try:
            if mtime_ns is not None:
                disk.set_mtime(name, mtime_ns, dir_fd=fd)
            os.rename(name, below[-1], src_dir_fd=fd, dst_dir_fd=fd)
        except BaseException:
            os.unlink(name, dir_fd=fd)
            raise
        disk.sync_names(fd)
