"""Small files are written in place together, whatever directory they go to: few syncs and transactions for hundreds. For worker threads.

At each moment a crash leaves what recovery, or a fetch that goes on, knows: rows before part files, syncs before the rows of
blocks, the final name on record before it is given, and the names synced before the row that says so.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from stack.blocks import disk
from stack.blocks.index import FILE, Index
from stack.blocks.interfaces import FileStamp, RealmId, SegmentId, SegmentState, WholeFile
from stack.blocks.named import has_stamped, replaced
from stack.blocks.partfile import REFUSALS, seal_row
from stack.blocks.requests import Line, Request
from stack.blocks.segments import record_rows, row_of
from stack.blocks.sparse import write_sparse
from stack.errors import Refused, StackError, StoreError
from stack.multiformats.multihash import IDENTITY
from stack.platform import can_sync_file_system, sync_file_system, umask

GROUP_FILES_MAX = 4096
"""Files of one group: some 600 ms of work and at most a dozen syncs, however long the disk takes for one."""

GROUP_HELD_MAX = 128
"""The same without an index: each may be in a directory of its own, which is held open."""


class _Begun:
    """A file on its way to its name."""

    __slots__ = ("file", "made", "number", "stamp")

    def __init__(self, file: WholeFile) -> None:
        self.file = file
        self.made = False
        """Its part file is there, and ours."""
        self.number = SegmentId(-1)
        self.stamp: FileStamp | None = None


class Keeping(Request):
    """Files of one directory that are to be written. When it is done, `left` are those of which something was there before."""

    __slots__ = ("base", "begun", "device", "directory", "held", "left", "named", "realm")

    def __init__(self, base: Path, directory: Path, files: Sequence[WholeFile], realm: RealmId | None = None) -> None:
        """For a realm, or for everybody."""
        super().__init__(len(files))
        self.realm = realm
        self.base = base
        self.directory = directory
        self.device = 0
        self.held: int | None = None
        self.begun = [_Begun(file) for file in files]
        self.left: list[WholeFile] = []
        self.named: list[_Begun] = []

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Its directory. No link is followed on the way down from `base`. Raises OSError."""
        if self.held is not None:
            yield self.held
            return
        fd = disk.open_below(self.base, self.directory.relative_to(self.base).parts)
        try:
            yield fd
        finally:
            disk.let_go(fd)

    def path(self, name: str) -> str:
        """Of something in its directory. As text: there may be a million."""
        return os.path.join(self.directory, name)

    def hold(self, within: int) -> None:
        """Keep the directory open, to take things away again whatever happens."""
        self.held = os.dup(within)

    def let_go(self) -> None:
        """Take away what has not got its name, and close the directory."""
        if self.held is None:
            return
        for each in self.begun:
            if each.made and each not in self.named:
                with suppress(OSError):
                    if each.stamp is None or has_stamped(each.stamp, each.file.part, self.held):
                        os.unlink(each.file.part, dir_fd=self.held)
        disk.let_go(self.held)


class SmallFiles:
    """Commands: `submit`, then `keep_next` until the request is done, one thread at a time."""

    def __init__(self, index: Index | None) -> None:
        """Without an index nothing is on record: what does not get its name is removed, and what a crash leaves is nobody's."""
        self._index = index
        self._line: Line[Keeping] = Line(GROUP_FILES_MAX if index is not None else GROUP_HELD_MAX)

    def submit(self, keeping: Keeping) -> None:
        """Wait in line."""
        self._line.submit(keeping)

    def keep_next(self) -> None:
        """Write the next group. Of one that fails, the files that had got their names by then keep them, and are on record."""
        group = self._line.take()
        error: BaseException | None = None
        try:
            self._keep(group)
        except StoreError as caught:
            error = caught
        except BaseException as caught:
            error = caught
            raise
        finally:
            for keeping in group:
                keeping.let_go()
                keeping.settle(error)

    def _keep(self, group: Sequence[Keeping]) -> None:
        with _FileSystems() as systems:
            if self._index is None:
                _each(group, Keeping.hold)
            _each(group, systems.look)
            self._begin(group)
            _each(group, systems.write)
            systems.sync()
            _each(group, systems.sync_files)
            self._record(group)
            _each(group, _name)
            try:
                systems.sync()
                _each(group, systems.sync_names)
            finally:  # they lie there now; a power cut may take the names, and then those files are fetched anew
                self._seal(group)

    def _begin(self, group: Sequence[Keeping]) -> None:
        parts: dict[str, _Begun] = {}
        for keeping in group:
            fresh, keeping.begun = keeping.begun if keeping.error is None else [], []
            for each in fresh:
                if parts.setdefault(keeping.path(each.file.part), each) is each:
                    keeping.begun.append(each)
                else:  # two fetches of the same, to the same place
                    keeping.left.append(each.file)
        if self._index is None:
            return
        with self._index.database.writing() as connection:
            for part, each in parts.items():
                known = self._index.segment_at(connection, part)
                if known is not None:
                    self._index.remove_segment(connection, known.id)
                each.number = self._index.add_segment(connection, FILE, part, SegmentState.FETCHING)

    def _record(self, group: Sequence[Keeping]) -> None:
        if self._index is None:
            return
        rows = []
        with self._index.database.writing() as connection:
            for keeping in group:
                for each in keeping.begun if keeping.error is None else ():
                    leaf = each.file.leaf
                    if leaf.cid.hash_code != IDENTITY:
                        rows.append((each.number, row_of(leaf, leaf.length), keeping.realm))
                    self._index.set_written(connection, each.number, each.stamp, keeping.path(each.file.name))
            record_rows(self._index, connection, rows)

    def _seal(self, group: Sequence[Keeping]) -> None:
        if self._index is None:
            return
        with self._index.database.writing() as connection:
            for keeping in group:
                for each in keeping.named:
                    seal_row(self._index, connection, each.number, keeping.path(each.file.name))


def _each(group: Sequence[Keeping], step: Callable[[Keeping, int], None]) -> None:
    """Go on with each request in its directory; one that fails is over, and the others are not."""
    for keeping in group:
        if keeping.error is None and keeping.begun:
            try:
                with keeping.opened() as within:
                    step(keeping, within)
            except OSError as error:
                keeping.error = _error(keeping.directory, error)
            except StackError as error:
                keeping.error = error


class _FileSystems:
    """Those that a group writes to, each by a descriptor from before: it tells of what goes wrong from then on."""

    def __init__(self) -> None:
        self._open: dict[int, int | None] = {}

    def __enter__(self) -> "_FileSystems":
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._open.values():
            if fd is not None:
                disk.let_go(fd)

    def look(self, keeping: Keeping, within: int) -> None:
        """What is there before; nothing is written yet."""
        fresh = []
        for each in keeping.begun:
            if _exists(each.file.name, within) or _exists(each.file.part, within):
                keeping.left.append(each.file)
            else:
                fresh.append(each)
        keeping.begun = fresh
        keeping.device = os.fstat(within).st_dev
        if keeping.device not in self._open:
            self._open[keeping.device] = os.dup(within) if can_sync_file_system(within) else None

    def write(self, keeping: Keeping, within: int) -> None:
        begin_sync, mask = self._open[keeping.device] is None, umask()
        for each in keeping.begun:
            try:
                each.stamp = _write(each, within, mask, begin_sync=begin_sync)
            except OSError as error:
                raise disk.store_error(f"writing {keeping.path(each.file.part)}", error) from error

    def sync(self) -> None:
        """Bring all that was written to the disks, where a whole file system can be synced. Raises NoSpace, StoreError."""
        for fd in self._open.values():
            if fd is not None:
                with disk.translated("bringing files to the disk"):
                    sync_file_system(fd)

    def sync_files(self, keeping: Keeping, within: int) -> None:
        """The same file by file where it cannot. Opened anew, because so many handles there may not be; what went wrong with
        a file since it was written is told all the same."""
        for each in keeping.begun if self._open[keeping.device] is None else ():
            with disk.translated(f"syncing {keeping.directory / each.file.part}"):
                fd = os.open(each.file.part, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=within)
                try:
                    disk.sync_file(fd)
                finally:
                    disk.let_go(fd)

    def sync_names(self, keeping: Keeping, within: int) -> None:
        """The same of names."""
        if self._open[keeping.device] is None:
            with disk.translated(f"naming files in {keeping.directory}"):
                disk.sync_names(within)


def _write(begun: _Begun, within: int, mask: int, *, begin_sync: bool) -> FileStamp:
    """Make a part file, all but synced. `mask` is the user's umask. Raises OSError."""
    file = begun.file
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(file.part, flags, 0o666, dir_fd=within)
    begun.made = True
    try:
        # Its size first: of an interrupted file only that, or nothing, is expected.
        os.ftruncate(fd, file.leaf.length)
        write_sparse(fd, file.payload, 0)
        disk.set_attributes(fd, file.mode, file.mtime_ns, mask)
        if begin_sync:
            # Linux begins to write at once: the first sync then commits the places of all, and the others find it done
            # (ext4: 0.15 ms a file in place of 0.6 to 2.7).
            with suppress(AttributeError, OSError):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return disk.stamp_of(os.fstat(fd))
    finally:
        disk.let_go(fd)


def _name(keeping: Keeping, within: int) -> None:
    """Give the final names. One that cannot be given does not keep the others from theirs."""
    failure: StackError | None = None
    for each in keeping.begun:
        try:
            assert each.stamp is not None
            if not has_stamped(each.stamp, each.file.part, within):
                failure = failure or replaced(keeping.directory / each.file.part)
                continue
            disk.name_new(each.file.part, each.file.name, within, within)
            keeping.named.append(each)
        except OSError as error:
            failure = failure or _error(keeping.directory / each.file.name, error)
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
