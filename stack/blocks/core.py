"""The synchronous half of the disk store: its parts, opened together and closed together. Called from worker threads."""

import fcntl
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stack.blocks import disk
from stack.blocks.commits import Commits
from stack.blocks.database import Database
from stack.blocks.gc import Holds
from stack.blocks.index import FILE, Index
from stack.blocks.interfaces import PageCache, PinKind, Segment, SegmentState
from stack.blocks.locations import Locations
from stack.blocks.packs import Packs
from stack.blocks.partfile import PartFile
from stack.blocks.partopen import open_part
from stack.blocks.reads import Reader
from stack.blocks.rebuild import INDEX_NAME, rebuild, settle
from stack.blocks.recovery import recover
from stack.blocks.reserve import Reserve
from stack.blocks.segments import Files
from stack.blocks.sweeps import Sweeper, pack_uses
from stack.blocks.warm import Warm
from stack.blocks.wholefiles import SmallFiles
from stack.errors import Refused, StoreError
from stack.multiformats.cid import Cid
from stack.platform import available_memory
from stack.trace import Trace
from stack.values import dataclass

CACHED_PART = 2
"""A file larger than this part of the memory that is available is written past it, if nobody has said otherwise."""

_HERE = "location WHERE segment NOT IN (SELECT id FROM segment WHERE state = 'missing')"
"""Of blocks, the places that can be read."""


class StoreLocked(StoreError):
    """Another process has this store open. A node hands over to the one that runs, so its users never see this."""


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """What `repo stat` tells. Bytes are bytes on disk."""

    blocks: int
    """That are here: a block in two places counts once."""
    locations: int
    """Their places: a block in two places counts twice."""
    packs: int
    pack_bytes: int
    live_pack_bytes: int
    """What of the packs is still referred to; the rest goes with a collection."""
    files: int
    """Files in place, those being fetched included."""
    missing_files: int
    file_bytes: int
    """Of the files in place that are not missing."""
    index_bytes: int
    quota: int | None


class StoredNodes:
    """The nodes of a store, for who walks DAGs (`gc.Nodes`)."""

    def __init__(self, index: Index, reader: Reader) -> None:
        self._index = index
        self._reader = reader

    def in_frames(self, cids: Sequence[Cid]) -> list[bool]:
        """See `gc.Nodes`."""
        return self._index.in_frames([cid.multihash for cid in cids])

    def read_nodes(self, cids: Sequence[Cid]) -> list[bytes | None]:
        """See `gc.Nodes`."""
        return self._reader.get_many(cids)

    def is_here(self, cid: Cid) -> bool:
        """See `gc.Nodes`."""
        return self._index.is_packed(cid.multihash)


class StoreCore:
    """Opening recovers; `close` may be called again. The parts are attributes, each with a docstring of its own."""

    def __init__(self, directory: Path, quota: int | None, tell: Trace) -> None:
        """Open, or make, the store in `directory`. Raises CorruptStore, RepoTooNew, StoreLocked, NoSpace, StoreError."""
        self.directory = directory
        self._quota = quota
        with disk.translated(f"opening {directory}"):
            packs = _make(directory)
            self._lock_fd = _lock(directory / "lock")
            self.reserve = Reserve(directory)
            try:
                settle(directory)
                self.reserve.give_up()
                self.database = Database(directory / INDEX_NAME)
                try:
                    self.index = Index(self.database)
                    self.packs = Packs(self.index, packs, quota)
                    recover(self.index, self.packs, tell)
                    self.reserve.set_aside()
                except BaseException:
                    self.database.close()
                    raise
            except BaseException:
                os.close(self._lock_fd)
                raise
        self.holds = Holds()
        self.locations = Locations(self.index)
        self.reader = Reader(self.index, self.locations, packs, tell)
        self.warm = Warm(self.database, self.reader.hashed)
        """For the event loop alone, its `close` too."""
        self.nodes = StoredNodes(self.index, self.reader)
        self.files = Files(self.index, self.holds, tell, self.reader.hashed, self.locations.gone)
        self.small_files = SmallFiles(self.index)
        self.commits = Commits(self.index, self.packs, self.locations, self.holds)
        self.sweeper = Sweeper(self.index, self.packs, self.locations, self.holds, tell)
        self._closing = threading.Lock()
        self._closed = False
        self._parts: dict[Path, PartFile | None] = {}
        self.page_cache = PageCache.AUTO

    @classmethod
    def rebuild(cls, directory: Path, tell: Trace) -> "StoreCore":
        """Open the store with an index that is made anew; see `rebuild.rebuild`. Raises StoreLocked, NoSpace, StoreError."""
        with disk.translated(f"rebuilding the index in {directory}"):
            packs = _make(directory)
            lock = _lock(directory / "lock")
            try:
                rebuild(directory, packs, tell)
            finally:
                os.close(lock)
        return cls(directory, None, tell)

    def open_part(self, part: Path, size: int, base: Path | None = None, adopt: bool = False) -> tuple[PartFile, bool]:
        """See `partopen.open_part`; also refuses a file that is open already."""
        part = Path(os.path.abspath(part))
        with self._closing:
            if part in self._parts:
                raise Refused(f"{part} is being fetched already")
            self._parts[part] = None
        try:
            opened, recheck = open_part(self.index, self.locations, part, size, base, adopt=adopt)
        except BaseException:
            self._parts.pop(part, None)
            raise
        opened.cached = self._stays_cached(size)
        self._parts[part] = opened
        return opened, recheck

    def _stays_cached(self, size: int) -> bool:
        """Whether the system had better remember what is written of a file of `size` bytes."""
        if self.page_cache is not PageCache.AUTO:
            return self.page_cache is PageCache.ALWAYS
        available = available_memory()
        return available is None or size <= available // CACHED_PART

    def seal_part(
        self, part: PartFile, target: Path, mode: int | None, mtime_ns: int | None, over: bool = False
    ) -> None:
        """See `PartFile.seal`."""
        part.seal(target, mode, mtime_ns, over=over)
        self._parts.pop(part.segment.path, None)

    def abandon_part(self, part: PartFile, remove: bool, *, checkpoint: bool = True) -> None:
        """Let go of a part file, whether or not it can be recorded; with `remove` forget it altogether."""
        try:
            part.close(checkpoint=checkpoint, remove=remove)
        finally:
            self._parts.pop(part.segment.path, None)

    def leave_parts(self) -> None:
        """See `DiskStore.leave_parts`."""
        with self.database.reading() as connection:
            found = self.index.fetching(connection)
        left = {each.id for each in found if each.path not in self._parts}
        self.locations.left(left)
        for part in list(self._parts.values()):
            if part is not None:  # opened meanwhile
                self.locations.opened(part.segment.id)

    def delete(self, cids: Sequence[Cid]) -> int:
        """Forget blocks; returns how many were here."""
        gone = 0
        with self.database.writing() as connection:
            for cid in cids:
                gone += self.index.remove(connection, cid.multihash) > 0
        return gone

    def all_pins(self) -> list[tuple[Cid, PinKind, str]]:
        """All pins, ordered by CID."""
        with self.database.reading() as connection:
            return [(Cid.decode(cid), kind, name) for cid, kind, name in self.index.pins(connection)]

    def roots(self, without: Sequence[Cid] = ()) -> list[Cid]:
        """All that is pinned, but for what only shares of `without` pin. Not while a pin is being written: see `StoredMarks.add_pin`."""
        with self.index.database.writing() as connection:
            pins = [(Cid.decode(cid), kind) for cid, kind, _ in self.index.pins(connection)]
        return [cid for cid, kind in pins if kind is not PinKind.SHARE or cid not in without]

    def all_segments(self) -> list[Segment]:
        """All files and packs, in order of their ids; those that compaction is about to remove are none any more."""
        with self.database.reading() as connection:
            found = self.index.segments(connection)
        return [
            replace(each, path=self.reader.path(each))
            for each in found
            if each.kind == FILE or each.state is not SegmentState.MISSING
        ]

    def statistics(self) -> StoreStatistics:
        """Figures about the store. Walks all rows."""
        uses = pack_uses(self.index)
        with self.database.reading() as connection:
            files = self.index.segments(connection, FILE)
            (places,) = connection.execute(f"SELECT count(*) FROM {_HERE}").fetchone()
            (blocks,) = connection.execute(f"SELECT count(*) FROM (SELECT DISTINCT multihash FROM {_HERE})").fetchone()
        there = [segment for segment in files if segment.state is not SegmentState.MISSING]
        return StoreStatistics(
            blocks=blocks,
            locations=places,
            packs=len(uses),
            pack_bytes=sum(use.size for use in uses),
            live_pack_bytes=sum(use.live for use in uses),
            files=len(files),
            missing_files=len(files) - len(there),
            file_bytes=sum(segment.stamp.size for segment in there if segment.stamp is not None),
            index_bytes=self.database.size(),
            quota=self._quota,
        )

    def close(self) -> None:
        """Record what part files hold, then close everything. Raises NoSpace, StoreError of the first that failed."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        failure: StoreError | None = None
        for part in list(self._parts.values()):
            if part is not None:
                try:
                    self.abandon_part(part, remove=False)
                except StoreError as error:
                    failure = failure or error
        self.packs.close()
        self.database.close()
        os.close(self._lock_fd)
        if failure is not None:
            raise failure


def _make(directory: Path) -> Path:
    """The directory of the packs, made when it is not there. Raises OSError."""
    packs = directory / "packs"
    if not packs.is_dir():
        disk.make_private(packs)
        disk.sync_directory(directory)
        disk.sync_directory(directory.parent)
    return packs


def _lock(path: Path) -> int:
    """A descriptor that keeps other processes out as long as it is open. Raises StoreLocked, OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise StoreLocked(f"the block store {path.parent} is in use by another process") from error
    return fd
