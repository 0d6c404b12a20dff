"""Where a fetch writes: names made safe, nothing overwritten, nothing followed out of the place that was named.

Attacks: CVE-2020-26279 (names like `../x`), symbolic links inside a tree (A59). Directories of a tree are opened one below the
other without following links, and files are made and named within the descriptor of their directory.
"""

import errno
import os
import stat
import unicodedata
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from stack.blocks import disk
from stack.blocks.claims import claim
from stack.dag.unixfs.names import NAME_BYTES_MAX, is_visible, safe_name
from stack.errors import DecodeError, NoSpace, Refused
from stack.files.storage import refusal
from stack.multiformats.cid import Cid
from stack.platform import no_such_characters, umask

PART_SUFFIX = ".part"

NO_LINK = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.ENAMETOOLONG, errno.ENOENT, errno.EINVAL, errno.EILSEQ}
)
"""The file system has no links (FAT), or none like this: too long, empty, not text that it takes."""

Below = tuple[str, ...]
"""Names that lead from a directory of the user's to something in a tree."""


class CannotLink(Refused):
    """A symbolic link that cannot be made here, whoever tries."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} cannot be a symbolic link to what its author says: {reason}")
        self.reason = reason


def unwritable(name: str) -> str | None:
    """Why no file of this process can have that name: the character set of its locale lacks something in it. None where it can."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError as error:
        return no_such_characters(error)
    return None


def file_name(name: str, root: Cid) -> str:
    """A name out of a ticket as a file name in the user's own directory; the CID where nothing is left of it.

    Separators, control characters and what the locale lacks become `_`, and so does a leading dot, hyphen or tilde: nobody else may
    create the likes of `.bash_profile`, or what a shell's `*` turns into an option, or what a shell takes for somebody's home.
    """
    cleaned = "".join(
        "_" if character in '/\\:*?"<>|' or not is_visible(character) or unwritable(character) else character
        for character in name
    )
    cleaned = cleaned.strip()
    if cleaned.startswith((".", "-", "~")):
        cleaned = "_" + cleaned[1:]
    while len(cleaned.encode("utf-8", "surrogateescape")) > NAME_BYTES_MAX - len(PART_SUFFIX):
        stem, dot, suffix = cleaned.rpartition(".")
        cleaned = stem[:-1] + dot + suffix if len(stem) > 1 and len(suffix) < 16 else cleaned[:-1]
    try:
        return safe_name(cleaned)
    except DecodeError:
        return str(root)


def choose_target(
    directory: Path, out: Path | None, name: str, root: Cid, *, into: bool = False, earlier: Collection[Path] = ()
) -> Path:
    """The path that is to be made: `directory/NAME`, or `out`, or `out/NAME` where `out` is a directory already or `into`.

    `earlier` are targets of earlier fetches of the same content: one of them is continued where it is, though it may be a
    directory by now. Raises Refused for a directory that another fetch is just making: which of both is meant nobody knows.
    """
    if out is None:
        return Path(os.path.abspath(directory / file_name(name, root)))
    path = Path(os.path.abspath(directory / out))
    if (why := unwritable(str(path))) is not None:
        raise Refused(f"{path}: {why}")
    if into or (path not in earlier and path.is_dir()):
        if not into:
            with Claim(shared=True) as looked_at:
                looked_at.take(path)
        return path / file_name(name, root)
    return path


class Claim:
    """A directory that one fetch has to itself, or shares with those that go into it too. Command, once, within its context: `take`."""

    def __init__(self, *, shared: bool) -> None:
        self._shared = shared
        self._fd: int | None = None

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            disk.let_go(self._fd)

    def take(self, path: Path) -> None:
        """Raises Refused while another fetch has it."""
        try:
            self._fd = disk.open_directory(path)
        except OSError as error:
            raise refusal(path, error) from error
        if not claim(self._fd, shared=self._shared):
            raise Refused(f"{path} is being written by another fetch: wait for it, or fetch to another name")


def part_path(target: Path) -> Path:
    """Where the file is while it is being fetched."""
    room = NAME_BYTES_MAX - len(PART_SUFFIX)
    name = os.fsencode(target.name)[:room]
    return target.with_name(os.fsdecode(name) + PART_SUFFIX)


def make_parents(target: Path) -> None:
    """Make the directories above the target, so that their names survive a power cut. Raises Refused, NoSpace."""
    if target.is_dir():  # nothing is made beside it
        return
    try:
        missing = [parent for parent in (target.parent, *target.parent.parents) if not parent.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        for made in reversed(missing):
            disk.sync_directory(made.parent)
    except OSError as error:
        raise refusal(target.parent, error) from error
    if not os.access(target.parent, os.W_OK | os.X_OK):
        read_only = os.statvfs(target.parent).f_flag & getattr(os, "ST_RDONLY", 1)
        raise Refused(
            f"{target.parent} cannot be written: {'it is on a read-only file system' if read_only else 'permission denied'}"
        )


def free_beside(target: Path) -> int:
    """Bytes that may be written beside the target. Raises StoreError."""
    with disk.translated(f"looking at {target.parent}"):
        return disk.free_bytes(target.parent)


def check_space(target: Path, needed: int) -> None:
    """Raises NoSpace, with both figures, when `needed` bytes more do not fit beside the target."""
    free = free_beside(target)
    if needed > free:
        raise NoSpace(f"{target} needs {needed:,} bytes more; {free:,} bytes are free on that disk")


def bytes_there(target: Path, part: Path | None) -> int:
    """Bytes that are on the disk already, below the target and in its part file, whoever put them there. Follows no link."""
    total = 0
    paths = [target] if part is None else [target, part]
    while paths:
        path = paths.pop()
        try:
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode):
                paths += path.iterdir()
            elif stat.S_ISREG(status.st_mode):
                # a part file has its final size from the start, without blocks
                total += min(status.st_size, status.st_blocks * 512)
        except OSError:
            continue  # gone, or not ours to see: then it does not help either
    return total


@contextmanager
def opened(base: Path, below: Below) -> Iterator[int]:
    """A descriptor of the directory `below` a directory of the user's; no link is followed on the way down.

    Raises Refused.
    """
    try:
        fd = disk.open_below(base, below)
        try:
            yield fd
        finally:
            disk.let_go(fd)
    except OSError as error:
        raise refusal(base.joinpath(*below), error) from error


def status_of(base: Path, below: Below) -> os.stat_result | None:
    """What is there, without following it; None for nothing."""
    with opened(base, below[:-1]) as fd:
        try:
            return os.stat(below[-1], dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return None


def names_in(base: Path, below: Below) -> list[str]:
    """The names in a directory."""
    with opened(base, below) as fd:
        return os.listdir(fd)


def link_at(base: Path, below: Below) -> str:
    """What a symbolic link leads to."""
    with opened(base, below[:-1]) as fd:
        return os.readlink(below[-1], dir_fd=fd)


def make_directory(base: Path, below: Below) -> list[str] | None:
    """Make a directory; the names in it if it was there already, None if it is new. Raises Refused for anything else there.

    Its own name would survive a power cut then, also when it was made by a fetch that was cut off before it had seen to that:
    without it all that is fetched into it would be gone.
    """
    with opened(base, below[:-1]) as fd:
        try:
            os.mkdir(below[-1], dir_fd=fd)
            new = True
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(below[-1], dir_fd=fd, follow_symlinks=False).st_mode):
                raise Refused(f"{base.joinpath(*below)} exists and is no directory") from None
            new = False
        disk.sync_names(fd)
    return None if new else names_in(base, below)


def make_symlink(base: Path, below: Below, target: str, mtime_ns: int | None) -> bool:
    """Make a symbolic link; False if the very same is there already. Raises Refused for anything else there, CannotLink."""
    path = base.joinpath(*below)
    with opened(base, below[:-1]) as fd:
        try:
            os.symlink(target, below[-1], dir_fd=fd)
            disk.sync_names(fd)
        except FileExistsError:
            status = os.stat(below[-1], dir_fd=fd, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode) and os.readlink(below[-1], dir_fd=fd) == target:
                return False
            raise Refused(f"{path} exists with other content") from None
        except UnicodeEncodeError as error:
            raise CannotLink(path, no_such_characters(error)) from None
        except ValueError:
            raise CannotLink(path, "no system can write that down") from None
        except OSError as error:
            if error.errno not in NO_LINK:
                raise
            raise CannotLink(path, str(error.strerror)) from error
        if mtime_ns is not None:
            disk.set_mtime(below[-1], mtime_ns, dir_fd=fd)
        return True


def set_attributes(base: Path, below: Below, mode: int | None, mtime_ns: int | None) -> None:
    """Mode and time of a directory. Its owner may always enter it, whatever its author says."""
    with opened(base, below) as fd:
        if mode is not None:
            os.fchmod(fd, (mode & 0o777 & ~umask()) | 0o700)
        if mtime_ns is not None:
            disk.set_mtime(fd, mtime_ns)


def folds_names(directory: Path) -> bool:
    """Whether this file system takes names for the same that differ in case or in the form of accents. Tries it out."""
    accented = "\u00e4" if unwritable("\u00e4") is None else "a"
    probe = directory / f".stack-probe-{os.getpid()}-{accented}"
    others = {probe.name.upper(), unicodedata.normalize("NFD", probe.name)} - {probe.name}
    try:
        probe.touch(exist_ok=False)
    except OSError:
        return False  # then nothing else can be made there either, and that is told when it is tried
    try:
        return any((directory / other).exists() for other in others if unwritable(other) is None)
    finally:
        probe.unlink(missing_ok=True)
