"""A file that is being fetched in place: written at any offset, by several threads, and recorded in steps.

The data is synced before its rows are written, so a row never speaks of bytes that a power cut could take. What is not
recorded yet is at most `UNRECORDED_BYTES_MAX` or, while blocks arrive or the owner calls `checkpoint`, 2 s.
"""

import errno
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from sqlite3 import Connection

from stack.blocks import disk
from stack.blocks.index import ROWS_BATCH, Index
from stack.blocks.interfaces import Leaf, ReadFailed, RealmId, Segment, SegmentId
from stack.blocks.locations import Location, Locations
from stack.blocks.named import check_part, has_name
from stack.blocks.reads import fill
from stack.blocks.segments import row_of
from stack.blocks.sparse import write_sparse
from stack.errors import Refused, StoreError
from stack.sansio.interfaces import Buffer

CHECKPOINT_BYTES = 32 * 1024 * 1024
"""A checkpoint begins when this much is not recorded; meanwhile the other threads go on writing."""

UNRECORDED_BYTES_MAX = 64 * 1024 * 1024
"""Nobody writes on when this much is not recorded: what a crash costs at most (design, "two durability classes")."""

CHECKPOINT_SECONDS = 1.0
"""A checkpoint begins when something has waited this long; with its own duration that stays below 2 s."""

CHECKPOINT_ROWS = 8192
"""The same by number: a foreign DAG may have leaves of one byte, and each is remembered until its row is written."""

REFUSALS = frozenset({errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS})
"""The name is taken, or the place not ours to write to."""

RECHECK_BYTES = 16 * 1024 * 1024
"""Read in one worker call when an interrupted file is looked at again."""


class PartFile:
    """The writing half of a file in place. Everything is synchronous: `DiskFileWriter` puts it off the event loop.

    Commands: `write` (any number of threads), `checkpoint`, `present`, `recheck`, `seal`, `close`. Made by `partopen.open_part`.
    """

    def __init__(
        self, index: Index, locations: Locations, segment: Segment, fd: int, directory: int, size: int
    ) -> None:
        self.segment = segment
        self.size = size
        self.realm: RealmId | None = None
        """For whom it is fetched; told before the first write."""
        self.cached = True
        """Whether what is written is to stay in the system's memory; likewise."""
        self._index = index
        self._locations = locations
        self._fd = fd
        self._directory = directory
        self._lock = threading.Condition()
        self._writing = 0
        self._closed = False
        self._released = False
        self._fresh: list[Location] = []
        self._fresh_since = 0.0
        self._unrecorded = 0
        self._failed_syncs = 0
        self._lost: set[int] = set()
        self._named: Path | None = None
        self._checkpointing = threading.Lock()
        self._ending = threading.Lock()
        locations.opened(segment.id)

    def __repr__(self) -> str:
        return f"<PartFile {self.segment.path}, {self._unrecorded} bytes not recorded>"

    def write(self, leaf: Leaf, payload: Buffer) -> None:
        """Put a verified leaf's payload in its place. Raises NoSpace, StoreError, ValueError.

        It may be written again after a sync that failed.
        """
        multihash, offset, length, prefix, suffix = row_of(leaf, self.size)
        if len(payload) != length:
            raise ValueError(f"a leaf of {length} bytes was given {len(payload)}")
        with self._lock:
            if self._closed:
                raise StoreError(f"{self.segment.path} is no longer being written")
            self._writing += 1
            failed_syncs = self._failed_syncs
        try:
            with disk.translated(f"writing {self.segment.path}"):
                write_sparse(self._fd, payload, offset, cached=self.cached)
            location = Location(multihash, self.segment, offset, length, prefix, suffix, self.realm)
            with self._lock:
                if failed_syncs != self._failed_syncs:
                    raise StoreError(f"writing {self.segment.path}: a sync failed meanwhile, and may have taken this")
                self._lost.discard(offset)
                if not self._fresh:
                    self._fresh_since = time.monotonic()
                self._fresh.append(location)
                self._unrecorded += length
                due = (
                    self._unrecorded >= CHECKPOINT_BYTES
                    or len(self._fresh) >= CHECKPOINT_ROWS
                    or time.monotonic() - self._fresh_since >= CHECKPOINT_SECONDS
                )
                full = self._unrecorded >= UNRECORDED_BYTES_MAX
            self._locations.written(location)
            if due and self._checkpointing.acquire(blocking=full):
                try:
                    self._checkpoint()
                finally:
                    self._checkpointing.release()
        finally:
            with self._lock:
                self._writing -= 1
                self._lock.notify_all()

    def checkpoint(self) -> int:
        """Sync what was written, then record it; returns bytes newly on record. Raises NoSpace, StoreError."""
        with self._checkpointing:
            return self._checkpoint()

    def _checkpoint(self) -> int:
        with self._lock:
            taken, self._fresh = self._fresh, []
        if not taken:
            return 0
        try:
            with disk.translated(f"syncing {self.segment.path}"):
                disk.sync_data(self._fd)
        except BaseException:
            self._give_up(taken)
            raise
        try:
            with self._index.database.writing() as connection:
                for each in taken:
                    self._index.realms.enclose(connection, each.multihash, self.realm)
                self._index.add(
                    connection,
                    self.segment.id,
                    ((each.multihash, each.offset, each.length, each.prefix, each.suffix) for each in taken),
                )
        except BaseException:
            with self._lock:
                self._fresh = taken + self._fresh
            raise
        size = sum(location.length for location in taken)
        for location in taken:
            self._locations.recorded(location)
        with self._lock:
            self._unrecorded -= size
        return size

    def _give_up(self, taken: list[Location]) -> None:
        """The system tells once that it could not write, and forgets what: all since the last sync is to be written anew.

        The next sync would say that all is well, and a read still see it, from memory, until the power goes.
        """
        with self._lock:
            self._failed_syncs += 1
            taken, self._fresh = taken + self._fresh, []
            self._unrecorded = 0
            self._lost.update(location.offset for location in taken)
        for location in taken:
            self._locations.recorded(location)

    def present(self) -> list[tuple[int, int]]:
        """(offset, length) of each leaf on record, in order."""
        with self._index.database.reading() as connection:
            return [
                (row[0], row[1])
                for row in connection.execute(
                    "SELECT DISTINCT offset, length FROM location WHERE segment = ? ORDER BY offset", (self.segment.id,)
                )
            ]

    def recheck(self, after: int) -> int | None:
        """Hash some recorded leaves behind offset `after` and forget the wrong ones; where to go on, None at the end.

        Needed after a crash only: somebody else may have written to the file since.
        """
        done = 0
        wrong = []
        with self._index.database.reading() as connection:
            rows = self._index.rows(connection, self.segment.id, after, ROWS_BATCH)
        for multihash, offset, length, prefix, suffix in rows:
            location = Location(multihash, self.segment, offset, length, prefix, suffix)
            size = location.size if location.plausible else 0
            try:
                right = fill(self._fd, location, memoryview(bytearray(size)))
            except ReadFailed:
                right = False  # fetched again and written anew: the disk may give it a better place
            if not right:
                wrong.append(location)
            after = offset
            done += length
            if done >= RECHECK_BYTES:
                break
        if wrong:
            with self._index.database.writing() as connection:
                for location in wrong:
                    self._index.remove(connection, location.multihash, self.segment.id)
        return after if rows else None

    def seal(self, target: Path, mode: int | None, mtime_ns: int | None, *, over: bool = False) -> None:
        """Record everything, then give the file its final name. Raises Refused when that exists; the file stays then. With `over`
        a file that is there is replaced, in one step."""
        self._finish_writing()
        with self._ending:
            self._seal(Path(os.path.abspath(target)), mode, mtime_ns, over)

    def _seal(self, target: Path, mode: int | None, mtime_ns: int | None, over: bool) -> None:
        part = self.segment.path
        if self._released:
            raise StoreError(f"{part} is no longer being written")
        try:
            if self._named is None:
                self.checkpoint()
                if self._lost:
                    raise StoreError(f"a sync of {part} has failed: some of it is to be fetched again")
                with disk.translated(f"finishing {part}"):
                    check_part(self._fd, part, self._directory, self.size)
                    disk.set_attributes(self._fd, mode, mtime_ns)
                    disk.sync_file(self._fd)
                    stamp = disk.stamp_of(os.fstat(self._fd))
                with self._index.database.writing() as connection:
                    self._index.set_written(connection, self.segment.id, stamp, target)
                self._rename(target, over)
            self._record_name()
        except BaseException:
            self._closed = False
            raise
        self._release()

    def _rename(self, target: Path, over: bool) -> None:
        part = self.segment.path
        try:
            directory = self._directory if target.parent == part.parent else disk.open_directory(target.parent)
            try:
                if over:
                    os.rename(part.name, target.name, src_dir_fd=self._directory, dst_dir_fd=directory)
                else:
                    disk.name_new(part.name, target.name, self._directory, directory)
            finally:
                if directory != self._directory:
                    disk.let_go(directory)
        except OSError as error:
            if error.errno in REFUSALS:
                with self._index.database.writing() as connection:
                    self._index.set_target(connection, self.segment.id, None)
                raise Refused(f"{target}: {error.strerror}; what was fetched is in {part}") from error
            raise disk.store_error(f"naming {target}", error) from error
        self._named = target

    def _record_name(self) -> None:
        """The file has its final name: make that last, then record it. Until then recovery looks for it under both."""
        assert self._named is not None
        self._sync_name()
        record_sealed(self._index, self.segment.id, self._named)

    def _sync_name(self) -> None:
        assert self._named is not None
        with disk.translated(f"naming {self._named}"):
            disk.sync_names(self._directory)
            if self._named.parent != self.segment.path.parent:
                disk.sync_directory(self._named.parent)

    def close(self, *, checkpoint: bool, remove: bool = False) -> None:
        """Let go of the file; with `checkpoint` it can be trusted as it is next time. May be called again.

        With `remove` forget its rows, then remove it from the disk.
        """
        self._finish_writing()
        with self._ending:  # who cancelled a close does not wait for it, and may close again
            if self._released:
                return
            try:
                if remove:
                    self._remove()
                elif self._named is not None:
                    try:
                        self._sync_name()
                    finally:  # it lies there now; a power cut may take the name, and then the file is fetched anew
                        record_sealed(self._index, self.segment.id, self._named)
                elif checkpoint:
                    self.checkpoint()
                    with disk.translated(f"closing {self.segment.path}"):
                        stamp = disk.stamp_of(os.fstat(self._fd))
                    with self._index.database.writing() as connection:
                        self._index.set_stamp(connection, self.segment.id, stamp)
            finally:
                self._release()

    def _remove(self) -> None:
        with self._index.database.writing() as connection:
            self._index.remove_segment(connection, self.segment.id)
        name = self.segment.path.name
        with disk.translated(f"removing {self.segment.path}"), suppress(FileNotFoundError):
            if has_name(self._fd, name, self._directory):
                os.unlink(name, dir_fd=self._directory)

    def _finish_writing(self) -> None:
        """Let no more writes in and wait for those on their way: a descriptor that is closed under them may be another
        file's by the time they write."""
        with self._lock:
            self._closed = True
            self._lock.wait_for(lambda: not self._writing)

    def _release(self) -> None:
        self._released = True
        for location in self._fresh:
            self._locations.recorded(location)
        disk.let_go(self._fd)
        disk.let_go(self._directory)


def record_sealed(index: Index, number: SegmentId, target: Path) -> None:
    """The file has its final name now."""
    with index.database.writing() as connection:
        seal_row(index, connection, number, target)


def seal_row(index: Index, connection: Connection, number: SegmentId, target: Path | str) -> None:
    """The same, in a transaction; what was known under that name before is gone from the disk."""
    known = index.segment_at(connection, target)
    if known is not None and known.id != number:
        index.remove_segment(connection, known.id)
    index.set_sealed(connection, number, target)
