"""Bytes at an offset of a file: read, write, sync; and what the operating system's errors mean to a store."""

import errno
import os
import secrets
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from stack.blocks.hashed import look_of
from stack.blocks.interfaces import FileStamp
from stack.errors import NoSpace, StoreError
from stack.platform import umask, write_uncached
from stack.sansio.interfaces import Buffer

T = TypeVar("T")

IOVECS_MAX = 1024
"""Buffers in one pwritev: IOV_MAX of Linux and macOS."""

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The disk, the user's quota, or the largest file this file system takes."""

OUT_OF_HANDLES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Our own shortage: says nothing about the file that was to be opened."""

SHORTAGE_SECONDS = 0.01
SHORTAGES_MAX = 200
"""So often, and so long each time, what wants a handle is tried again where there is none: others give theirs back."""

ABSENT = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EISDIR,
        errno.ENXIO,
        errno.EINVAL,
        errno.EACCES,
        errno.EPERM,
    }
)
"""What opening a file says when its owner has moved or closed it, or put something else there (EINVAL: `open_regular`). Every other
error is of the disk, or of the network below it, and says nothing about the file."""

NOT_THERE = ABSENT - {errno.EACCES, errno.EPERM}
"""There is no such file, whoever looks."""

NOT_SYNCED = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})
"""What fsync says of a directory that it cannot do anything for."""

TEMPORARY = ".new-"
"""How the name of a file begins that is to replace another, or to be new, and is not whole yet."""

TIME_NS_MAX = 2**63 - 1
"""The years 1677 to 2262: what an index, a database or a language with 64-bit integers can hold."""

O_PATH = getattr(os, "O_PATH", 0)
"""Linux only: a directory to open files below, without the right to list it."""


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn OSError into NoSpace or StoreError with a sentence: `doing` is what was tried."""
    try:
        yield
    except OSError as error:
        raise store_error(doing, error) from error


def store_error(doing: str, error: OSError) -> StoreError:
    """NoSpace or StoreError for an error of the operating system."""
    message = f"{doing}: {error.strerror or error}"
    return NoSpace(message) if error.errno in NO_SPACE else StoreError(message)


def patiently(call: Callable[[], T], relieve: Callable[[], object] = lambda: None) -> T:
    """What `call` returns; a moment's want of handles is waited out, after `relieve`. For worker threads. Raises OSError."""
    for _ in range(SHORTAGES_MAX):
        try:
            return call()
        except OSError as error:
            if error.errno not in OUT_OF_HANDLES:
                raise
        relieve()
        time.sleep(SHORTAGE_SECONDS)
    return call()


def status_at(path: Path) -> os.stat_result | None:
    """What is there, without following it; None for nothing. Raises OSError where that cannot be told: what is not seen may be there."""
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def open_regular(path: Path) -> tuple[int, os.stat_result]:
    """Open a regular file for reading; the caller closes it. Raises OSError, also for what is no regular file.

    O_NONBLOCK: a FIFO that was put in the place of a shared file must not hold a worker for ever.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    except BaseException:
        os.close(fd)
        raise
    return fd, status


def read_regular(path: Path, length: int = -1) -> bytes:
    """The bytes of a small file, or its first ones. Raises as `open_regular`."""
    fd, _ = open_regular(path)
    with open(fd, "rb") as file:
        return file.read(length)


def stamp_of(status: os.stat_result, *, hashed: bool = False) -> FileStamp:
    """The stamp of a file; `hashed` says that the look is of now, and that it is read and hashed after it. A time that does not fit
    into 64 bits of nanoseconds counts as the nearest that does: files may be dated 1601 or 9999, and what is compared is only
    whether the date is the same."""
    mtime_ns = max(-TIME_NS_MAX, min(status.st_mtime_ns, TIME_NS_MAX))
    ctime_ns = status.st_ctime_ns if hashed and look_of(status) is not None else None
    return FileStamp(status.st_dev, status.st_ino, status.st_size, mtime_ns, ctime_ns)


def unchanged(stamp: FileStamp | None, status: os.stat_result) -> bool:
    """Whether a file still looks as it did. Only size and mtime count: device and inode numbers change when some file
    systems are mounted again, and every read is hashed anyway."""
    now = stamp_of(status)
    return stamp is not None and (stamp.size, stamp.mtime_ns) == (now.size, now.mtime_ns)


def set_attributes(fd: int, mode: int | None, mtime_ns: int | None, mask: int | None = None) -> None:
    """What the author of a file or directory says of it, as far as it is wanted here. Raises OSError.

    Of the mode only the permissions, less the user's umask (`mask`, for who knows it already); a time that the system cannot keep is
    left out.
    """
    if mode is not None:
        os.fchmod(fd, mode & 0o777 & ~(umask() if mask is None else mask))
    if mtime_ns is not None:
        set_mtime(fd, mtime_ns)


def set_mtime(path: int | str, mtime_ns: int, *, dir_fd: int | None = None) -> None:
    """Set the time of an open file, or of a name below a directory (a link is not followed). Raises OSError."""
    try:
        if isinstance(path, int):
            os.utime(path, ns=(mtime_ns, mtime_ns))
        else:
            os.utime(path, ns=(mtime_ns, mtime_ns), dir_fd=dir_fd, follow_symlinks=False)
    except OverflowError:
        pass
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOVERFLOW, errno.ENOSYS, errno.ENOTSUP):
            raise


def read_at(fd: int, out: memoryview, offset: int) -> int:
    """Fill `out` from `offset`; returns less than its length only at the end of the file. Raises OSError."""
    done = 0
    while done < len(out):
        count = os.preadv(fd, [out[done:]], offset + done)
        if not count:
            break
        done += count
    return done


def write_at(fd: int, parts: Sequence[Buffer], offset: int, *, cached: bool = True) -> None:
    """Write all parts one behind the other from `offset`, without joining them; the system need not remember what is not `cached`.
    Raises OSError."""
    write = os.pwritev if cached else write_uncached
    for start in range(0, len(parts), IOVECS_MAX):
        views = [memoryview(part) for part in parts[start : start + IOVECS_MAX]]
        while views:
            written = write(fd, views, offset)
            if not written and any(views):
                raise OSError(errno.EIO, "the system takes no bytes, and does not say why")
            offset += written
            while views and written >= len(views[0]):
                written -= len(views.pop(0))
            if written:
                views[0] = views[0][written:]


def sync_data(fd: int) -> None:
    """Return when the file's data, and what is needed to read it, would survive a power cut. Raises OSError."""
    if sys.platform == "darwin":
        sync_file(fd)
    else:
        os.fdatasync(fd)


def sync_file(fd: int) -> None:
    """The same of its mode and times too. Raises OSError."""
    if sys.platform == "darwin":
        import fcntl

        # fsync(2) of macOS leaves the data in the drive's cache.
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)


def let_go(fd: int) -> None:
    """Close a descriptor of which nothing is expected any more: what had to last has been synced, the rest was only read."""
    with suppress(OSError):
        os.close(fd)


def open_directory(path: Path) -> int:
    """A directory, for making, naming and syncing what lies in it whatever becomes of its path. Raises OSError.

    One that may be searched and written to but not read (mode 0300) serves as well, except that it cannot be synced.
    """
    return _open_directory(path, 0, None)


def open_below(base: Path, names: Sequence[str]) -> int:
    """The same of a directory below one of the user's. Others may write there: no link is followed on the way down."""
    fd = open_directory(base)
    try:
        for name in names:
            above, fd = fd, _open_directory(name, os.O_NOFOLLOW, fd)
            let_go(above)
    except BaseException:
        let_go(fd)
        raise
    return fd


def _open_directory(path: Path | str, flags: int, within: int | None) -> int:
    flags |= os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        return os.open(path, flags, dir_fd=within)
    except PermissionError:
        if not O_PATH:
            raise
        return os.open(path, flags | O_PATH, dir_fd=within)


def sync_names(directory: int) -> None:
    """Return when names made or removed in an open directory would survive a power cut. Raises OSError.

    Where directories cannot be synced (some FUSE and network mounts, `open_directory` without the right to read) that is
    left to the system: the name has been given, and failing now would only deny it.
    """
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno not in NOT_SYNCED:
            raise


def sync_directory(path: Path) -> None:
    """`sync_names` of the directory at `path`. Raises OSError."""
    fd = open_directory(path)
    try:
        sync_names(fd)
    finally:
        let_go(fd)


@contextmanager
def replacing(path: Path, mode: int = 0o600, *, new: bool = False) -> Iterator[int]:
    """Give a descriptor to write to; what was written is at `path`, durably, when the context ends. Raises OSError.

    An error or a crash leaves what was there before, or the new file, whole; an error leaves nothing else behind, a crash
    a file whose name begins with `TEMPORARY`. Only when the directory's sync is what fails is the new file there already.
    With `new` nothing is replaced: FileExistsError when the name is taken.
    """
    temporary = TEMPORARY + secrets.token_hex(8)
    directory = open_directory(path.parent)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(temporary, flags, mode, dir_fd=directory)
        try:
            try:
                yield fd
                sync_file(fd)
            finally:
                let_go(fd)
            if new:
                name_new(temporary, path.name, directory, directory)
            else:
                os.rename(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with suppress(OSError):  # the first error is the one to tell
                os.unlink(temporary, dir_fd=directory)
            raise
        sync_names(directory)
    except OSError as error:
        if error.filename in (None, temporary):
            error.filename = os.fspath(path)  # what is not named, or is of no use to know
        raise
    finally:
        let_go(directory)


def write_whole(path: Path, data: Buffer, mode: int = 0o600, *, new: bool = False) -> None:
    """Replace a small file (with `new`, make it) in one step, as `replacing` does. Raises OSError."""
    with replacing(path, mode, new=new) as fd:
        write_at(fd, [data], 0)


def make_private(directory: Path) -> None:
    """Make a directory, and what is missing above it, for this user alone; one that is there is left as it is. Raises OSError."""
    try:
        directory.mkdir(mode=0o700)
    except FileNotFoundError:
        make_private(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:
        if not directory.is_dir():
            raise


def free_bytes(directory: Path | int) -> int:
    """Bytes that we may still write beside a directory, given by its path or open; /proc counts none and refuses itself. Raises OSError."""
    figures = os.statvfs(directory)
    return figures.f_bavail * figures.f_frsize if figures.f_blocks else sys.maxsize


def rename_to(source: Path, target: Path, directory: int | None = None, *, over: bool = False) -> None:
    """Give a file another name, and return when that would survive a power cut. Raises OSError (EEXIST when it is taken; what is
    there is replaced with `over`).

    `directory` is that of `source`, where it is open already.
    """
    old = open_directory(source.parent) if directory is None else directory
    try:
        new = open_directory(target.parent) if source.parent != target.parent else old
        try:
            if over:
                os.rename(source.name, target.name, src_dir_fd=old, dst_dir_fd=new)
            else:
                name_new(source.name, target.name, old, new)
            sync_names(new)
            if new != old:
                sync_names(old)
        finally:
            if new != old:
                let_go(new)
    finally:
        if directory is None:
            let_go(old)


def name_new(source: str, target: str, old: int, new: int) -> None:
    """Rename a file from one open directory to another, if the name is free there. Raises OSError (EEXIST when it is taken).

    A hard link fails when the name is taken, where a rename would destroy what is there.
    """
    try:
        os.link(source, target, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
            raise
        # No hard links on this file system (FAT, some network mounts): a name taken within this instant is lost.
        with suppress(FileNotFoundError):
            os.stat(target, dir_fd=new, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from error
        os.rename(source, target, src_dir_fd=old, dst_dir_fd=new)
    else:
        try:
            os.unlink(source, dir_fd=old)
        except OSError:
            with suppress(OSError):
                os.unlink(target, dir_fd=new)
            raise
