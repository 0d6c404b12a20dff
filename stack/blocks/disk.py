"""Bytes at an offset of a file: read, write, sync; and what the operating system's errors mean to a store."""

import errno
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stack.blocks.interfaces import FileStamp
from stack.errors import NoSpace, StoreError
from stack.sansio.interfaces import Buffer

IOVECS_MAX = 1024
"""Buffers in one pwritev: IOV_MAX of Linux and macOS."""

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The disk, the user's quota, or the largest file this file system takes."""

OUT_OF_HANDLES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Our own shortage: says nothing about the file that was to be opened."""


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


def open_regular(path: Path) -> tuple[int, os.stat_result]:
    """Open a regular file for reading; the caller closes it. Raises OSError, also for what is no regular file.

    O_NONBLOCK: a FIFO that was put in the place of a shared file must not hold a worker for ever.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    except BaseException:
        os.close(fd)
        raise
    return fd, status


def stamp_of(status: os.stat_result) -> FileStamp:
    """The stamp of a file."""
    return FileStamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def unchanged(stamp: FileStamp | None, status: os.stat_result) -> bool:
    """Whether a file still looks as it did. Only size and mtime count: device and inode numbers change when some file
    systems are mounted again, and every read is hashed anyway."""
    return stamp is not None and stamp.size == status.st_size and stamp.mtime_ns == status.st_mtime_ns


def read_at(fd: int, out: memoryview, offset: int) -> int:
    """Fill `out` from `offset`; returns less than its length only at the end of the file. Raises OSError."""
    done = 0
    while done < len(out):
        count = os.preadv(fd, [out[done:]], offset + done)
        if not count:
            break
        done += count
    return done


def write_at(fd: int, parts: Sequence[Buffer], offset: int) -> None:
    """Write all parts one behind the other from `offset`, without joining them. Raises OSError."""
    for start in range(0, len(parts), IOVECS_MAX):
        views = [memoryview(part) for part in parts[start : start + IOVECS_MAX]]
        while views:
            written = os.pwritev(fd, views, offset)
            offset += written
            while views and written >= len(views[0]):
                written -= len(views.pop(0))
            if written:
                views[0] = views[0][written:]


def sync_data(fd: int) -> None:
    """Return when the file's data, and what is needed to read it, would survive a power cut. Raises OSError."""
    if sys.platform == "darwin":
        import fcntl

        # fsync(2) of macOS leaves the data in the drive's cache.
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)


def sync_directory(path: Path) -> None:
    """Return when names made or removed in a directory would survive a power cut. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def free_bytes(directory: Path) -> int:
    """Bytes that we may still write to the file system of `directory`. Raises OSError."""
    figures = os.statvfs(directory)
    return figures.f_bavail * figures.f_frsize


def rename_to_new(source: Path, target: Path) -> None:
    """Give a file another name, and return when that would survive a power cut. Raises OSError (EEXIST when it is taken).

    A hard link fails when the name is taken, where a rename would destroy what is there.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
            raise
        # No hard links on this file system (FAT, some network mounts): a name taken within this instant is lost.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(target)) from error
        source.rename(target)
    else:
        source.unlink()
    sync_directory(target.parent)
    if source.parent != target.parent:
        sync_directory(source.parent)
