"""Many small files of one directory are written in place together: one round of syncs, few transactions. For worker threads.

At each moment a crash leaves what recovery, or a fetch that goes on, knows: rows before part files, syncs before the rows of
blocks, the final name on record before it is given, and the directory synced before the row that says so.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from stack.blocks import disk
from stack.blocks.index import FILE, Index
from stack.blocks.interfaces import FileStamp, SegmentId, SegmentState, WholeFile
from stack.blocks.partfile import REFUSALS, seal_row
from stack.blocks.segments import row_of
from stack.errors import Refused, StackError


class _Begun(NamedTuple):
    """A file on its way to its name."""

    file: WholeFile
    number: SegmentId


def keep_files(index: Index, base: Path, directory: Path, files: Sequence[WholeFile]) -> list[WholeFile]:
    """Write files, each of one block, and give them their names; returns those of which something was there before.

    `directory` lies below `base`, and no link is followed on the way. Raises Refused, NoSpace, StoreError; files that had
    got their names by then keep them, and are on record.
    """
    try:
        within = disk.open_below(base, directory.relative_to(base).parts)
    except OSError as error:
        raise _error(directory, error) from error
    try:
        with disk.translated(f"looking at {directory}"):
            fresh = [file for file in files if not _exists(file.name, within) and not _exists(file.part, within)]
        begun = _begin(index, directory, fresh)
        for each in begun:
            _write(each.file, directory, within)
        stamps = [_finish(each.file, directory, within) for each in begun]
        with index.database.writing() as connection:
            for each, stamp in zip(begun, stamps, strict=True):
                index.add(connection, each.number, [row_of(each.file.leaf, each.file.leaf.length)])
                index.set_stamp(connection, each.number, stamp)
                index.set_target(connection, each.number, directory / each.file.name)
        _name(index, directory, within, begun)
    finally:
        disk.let_go(within)
    begun_names = {file.name for file in fresh}
    return [file for file in files if file.name not in begun_names]


def _begin(index: Index, directory: Path, files: Sequence[WholeFile]) -> list[_Begun]:
    begun = []
    with index.database.writing() as connection:
        for file in files:
            part = directory / file.part
            known = index.segment_at(connection, part)
            if known is not None:
                index.remove_segment(connection, known.id)
            begun.append(_Begun(file, index.add_segment(connection, FILE, part, SegmentState.FETCHING)))
    return begun


def _write(file: WholeFile, directory: Path, within: int) -> None:
    """Make a part file, and begin to bring it to the disk."""
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(file.part, flags, 0o666, dir_fd=within)
        try:
            # Its size first: of an interrupted file only that, or nothing, is expected.
            os.ftruncate(fd, file.leaf.length)
            disk.write_sparse(fd, file.payload, 0)
            # Linux begins to write at once: the first sync then commits the places of all, and the others find it done
            # (ext4: 0.15 ms a file in place of 0.6 to 2.7).
            with suppress(AttributeError, OSError):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            disk.let_go(fd)
    except OSError as error:
        raise _error(directory / file.part, error) from error


def _finish(file: WholeFile, directory: Path, within: int) -> FileStamp:
    """Mode and time, then the sync. Opened anew, because so many handles there may not be; what went wrong with the file
    since it was written is told all the same."""
    with disk.translated(f"finishing {directory / file.part}"):
        fd = os.open(file.part, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=within)
        try:
            disk.set_attributes(fd, file.mode, file.mtime_ns)
            disk.sync_file(fd)
            return disk.stamp_of(os.fstat(fd))
        finally:
            disk.let_go(fd)


def _name(index: Index, directory: Path, within: int, begun: Sequence[_Begun]) -> None:
    """Give the final names, sync them, record them. One that cannot be given does not keep the others from theirs."""
    named: list[_Begun] = []
    failure: StackError | None = None
    for each in begun:
        try:
            disk.name_new(each.file.part, each.file.name, within, within)
            named.append(each)
        except OSError as error:
            failure = failure or _error(directory / each.file.name, error)
    try:
        with disk.translated(f"naming files in {directory}"):
            disk.sync_names(within)
    finally:  # they lie there now; a power cut may take the names, and then those files are fetched anew
        with index.database.writing() as connection:
            for each in named:
                seal_row(index, connection, each.number, directory / each.file.name)
    if failure is not None:
        raise failure


def _exists(name: str, within: int) -> bool:
    try:
        os.stat(name, dir_fd=within, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _error(path: Path, error: OSError) -> StackError:
    if error.errno in REFUSALS:
        return Refused(f"{path}: {error.strerror}")
    return disk.store_error(f"writing {path}", error)
