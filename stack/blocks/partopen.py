"""Files that are fetched in place are begun, or found again after an interruption. Called from worker threads."""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from stack.blocks import disk
from stack.blocks.claims import adopted, claim, in_the_way
from stack.blocks.index import FILE, Index
from stack.blocks.interfaces import Segment, SegmentId, SegmentState
from stack.blocks.locations import Locations
from stack.blocks.partfile import REFUSALS, PartFile
from stack.errors import Refused, StoreError


def open_part(
    index: Index, locations: Locations, part: Path, size: int, base: Path | None = None, *, adopt: bool = False
) -> tuple[PartFile, bool]:
    """Make a part file of `size` bytes, or go on with one; whether its rows must be rechecked first. With `adopt` one that lies there
    without a row is taken over.

    Below `base`, a directory above it (or its own), no link is followed. The row comes before the file, so that a file
    without a row is none of this store. Raises NoSpace, Refused, StoreError.
    """
    part = Path(os.path.abspath(part))
    base = part.parent if base is None else Path(os.path.abspath(base))
    try:
        directory = disk.open_below(base, part.parent.relative_to(base).parts)
    except OSError as error:
        raise _refused(part, error) from error
    try:
        with index.database.reading() as connection:
            known = index.segment_at(connection, part)
        if known is not None and known.state is SegmentState.FETCHING:
            opened = _go_on(index, known, directory, size)
            if opened is not None:
                fd, recheck = opened
                return PartFile(index, locations, _writing(known.id, part), fd, directory, size), recheck
        number, fd = _make(index, part, directory, size, adopt=adopt)
        return PartFile(index, locations, _writing(number, part), fd, directory, size), False
    except BaseException:
        disk.let_go(directory)
        raise


def _make(index: Index, part: Path, directory: int, size: int, *, adopt: bool) -> tuple[SegmentId, int]:
    """A new part file and its row."""
    taken = None
    with disk.translated(f"{part}"):
        try:
            os.stat(part.name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            taken = adopted(part, directory, size) if adopt else None
            if taken is None:
                raise in_the_way(part, directory)
    try:
        return _record(index, part, directory, size, taken)
    except BaseException:
        if taken is not None:
            disk.let_go(taken)
        raise


def _record(index: Index, part: Path, directory: int, size: int, taken: int | None) -> tuple[SegmentId, int]:
    """The row, and the file where none was `taken` over."""
    with index.database.writing() as connection:
        known = index.segment_at(connection, part)
        if known is not None:
            index.remove_segment(connection, known.id)
        number = index.add_segment(connection, FILE, part, SegmentState.FETCHING)
    try:
        if taken is not None:
            _stretch(taken, directory, size)
            return number, taken
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(part.name, flags, 0o666, dir_fd=directory)
        try:
            claim(fd)
            _stretch(fd, directory, size)
        except BaseException:
            disk.let_go(fd)
            with suppress(OSError):  # the first error is the one to tell
                os.unlink(part.name, dir_fd=directory)
            raise
    except OSError as error:
        with suppress(StoreError), index.database.writing() as connection:
            index.remove_segment(connection, number)
        raise _refused(part, error) from error
    return number, fd


def _go_on(index: Index, known: Segment, directory: int, size: int) -> tuple[int, bool] | None:
    """Open a part file of an earlier run; None when it is not there any more."""
    part = known.path
    try:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(part.name, flags, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EISDIR, errno.ELOOP, errno.ENXIO):
            raise in_the_way(part, directory) from error
        raise _refused(part, error) from error
    try:
        with disk.translated(f"going on with {part}"):
            status = os.fstat(fd)
        # A crash between making the file and stretching it leaves it empty.
        empty = known.stamp is None and status.st_size == 0
        if not stat.S_ISREG(status.st_mode) or not claim(fd):
            raise in_the_way(part, directory)
        if status.st_size != size and not empty:
            raise Refused(
                f"{part} exists with {status.st_size} bytes, and is no unfinished file of {size} bytes; remove it, or fetch to another name"
            )
        if status.st_size != size:
            with disk.translated(f"going on with {part}"):
                _stretch(fd, directory, size)
        with index.database.writing() as connection:
            index.set_stamp(connection, known.id, None)
    except BaseException:
        disk.let_go(fd)
        raise
    return fd, not disk.unchanged(known.stamp, status)


def _stretch(fd: int, directory: int, size: int) -> None:
    """Give the file its size, without blocks (sparse), and its name a place on the disk."""
    os.ftruncate(fd, size)
    disk.sync_file(fd)
    disk.sync_names(directory)


def _writing(number: SegmentId, part: Path) -> Segment:
    return Segment(number, FILE, part, SegmentState.FETCHING, None)


def _refused(part: Path, error: OSError) -> Refused | StoreError:
    if error.errno in REFUSALS or error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
        return Refused(f"{part}: {error.strerror}")
    return disk.store_error(f"making {part}", error)
