"""The main store: an SQLite index over packs of ours and over files in place. This is the asynchronous front of it.

`<home>/blocks/index.sqlite`, `<home>/blocks/packs/NNNNNN.pack`, `<home>/blocks/lock`. What does the work is synchronous, in
the files beside, and runs in worker threads of limiters of the store's own; nothing here touches the disk on the event loop.
"""

import copy
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeVar, TypeVarTuple, Unpack

from anyio import CapacityLimiter, Lock, to_thread

from stack.blocks.commits import puts_of
from stack.blocks.core import StoreCore, StoreLocked, StoreStatistics
from stack.blocks.ending import let_go_with
from stack.blocks.gc import CollectReport, Hold, Marker, SweepStep, collect
from stack.blocks.hashing import check_blocks, check_sizes
from stack.blocks.index import ROWS_BATCH
from stack.blocks.interfaces import (
    Block,
    FileStamp,
    Leaf,
    PageCache,
    PinKind,
    ReadFailed,
    RealmId,
    Segment,
    SegmentId,
    WholeFile,
)
from stack.blocks.marks import StoredMarks
from stack.blocks.names import NameSet
from stack.blocks.rebuild import INDEX_NAME
from stack.blocks.requests import Request
from stack.blocks.segments import Addition
from stack.blocks.sends import StoredSends
from stack.blocks.verify import Verifier, VerifyReport
from stack.blocks.walk import Links
from stack.blocks.wholefiles import Keeping
from stack.blocks.withdraw import Below, withdraw
from stack.blocks.writer import DiskFileWriter
from stack.dag import links as dag_links
from stack.errors import NoSpace
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import RAW
from stack.trace import Trace, TraceEvent

__all__ = ["DiskFileWriter", "DiskStore", "StoreLocked", "StoreStatistics"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

READ_WORKERS = 4
"""Reading calls at once: each hashes on a core of its own, more than the cores only to keep a disk's queue filled."""

WRITE_WORKERS = 4
"""Writing calls at once. They take turns at the index; apart from the readers, so that a long compaction stops no server."""


class DiskStore(StoredMarks, StoredSends):
    """Implements BlockStore, DirectReads, ReadsMany, ReadsToSend, InPlaceStore, WholeFiles, PinStore, RealmStore. Opened with `open`,
    an async context.

    Besides: `hold` (what runs must not be collected), `collect` (garbage), `withdraw` and
    `leave_parts` (what is not to be had here any more), `verify`, `statistics`, `rebuild_index`.
    """

    def __init__(self, core: StoreCore, events: deque[TraceEvent], trace: Trace | None) -> None:
        self._core = core
        self._events = events
        self._trace = trace
        self._reads = CapacityLimiter(READ_WORKERS)
        self._writes = CapacityLimiter(WRITE_WORKERS)
        self._putting = Lock()
        self._adding = Lock()
        self._keeping = Lock()
        self._collecting = Lock()
        self._realm: RealmId | None = None

    def __repr__(self) -> str:
        return f"<DiskStore {self._core.directory}>"

    @classmethod
    @asynccontextmanager
    async def open(
        cls, home: Path, *, quota: int | None = None, trace: Trace | None = None
    ) -> AsyncIterator["DiskStore"]:
        """The store in `<home>/blocks`, made when it is not there; what a crash has left is put right first. `quota` is the most bytes
        of packs. Trace events are told on the event loop. Raises CorruptStore, RepoTooNew, StoreLocked, NoSpace, StoreError."""
        events: deque[TraceEvent] = deque()
        store = cls(await to_thread.run_sync(StoreCore, home / "blocks", quota, events.append), events, trace)
        try:
            store._tell()
            yield store
        finally:
            await store.aclose()

    @classmethod
    async def rebuild_index(cls, home: Path, *, trace: Trace | None = None) -> int:
        """Make a new index (`rebuild.rebuild`); returns how many blocks it has. Files in place must be shared again. Raises StoreError."""
        events: deque[TraceEvent] = deque()
        store = cls(await to_thread.run_sync(StoreCore.rebuild, home / "blocks", events.append), events, trace)
        try:
            return (await store.statistics()).locations
        finally:
            await store.aclose()

    # BlockStore, DirectReads

    async def has(self, cids: Sequence[Cid]) -> list[bool]:
        """For each CID whether its block is here. Does not touch block data."""
        return [size is not None for size in await self.sizes(cids)]

    async def sizes(self, cids: Sequence[Cid]) -> list[int | None]:
        """The size of each block in bytes, None where it is absent. Does not touch block data."""
        names = [cid.multihash for cid in cids]
        found: list[int | None] = []
        for start in range(0, len(names), ROWS_BATCH):
            found += await self._run(self._reads, self._core.locations.sizes, names[start : start + ROWS_BATCH])
        return found

    async def get(self, cid: Cid) -> bytes:
        """The block, re-hashed. Raises BlockNotFound, BlockMismatch, SourceChanged, StoreError."""
        return await self._run(self._reads, self._core.reader.get, cid)

    async def read_into(self, cids: Sequence[Cid], out: memoryview) -> list[int | None]:
        """Read blocks one behind the other into `out`, each re-hashed, in one worker call; see `DirectReads`."""
        return await self._run(self._reads, self._core.reader.read_into, [cid.multihash for cid in cids], out)

    async def put(self, blocks: Sequence[Block]) -> None:
        """Keep blocks; returns when they would survive a power cut. What waits meanwhile is written together. Raises BlockMismatch,
        LimitExceeded (nothing is kept then), NoSpace (of more than 16 MiB some may be), StoreError."""
        await self._run(self._reads, check_blocks, blocks)
        await self.put_verified(blocks)

    async def put_verified(self, blocks: Sequence[Block]) -> None:
        """See KeepsVerified."""
        check_sizes(blocks)
        for put in puts_of(blocks, self._realm):
            self._core.commits.submit(put)
            await self._settled(put, self._putting, self._core.commits.commit_next)

    async def delete(self, cids: Sequence[Cid]) -> int:
        """Forget blocks, wherever they lie; returns how many were here. Their space comes back with `collect`."""
        gone = 0
        for start in range(0, len(cids), ROWS_BATCH):
            gone += await self._run(self._writes, self._core.delete, cids[start : start + ROWS_BATCH])
        return gone

    async def cids(self) -> AsyncIterator[Cid]:
        """Every block as a CIDv1 with the raw codec, in order, then those a running fetch has just written. Raises CorruptStore,
        StoreError."""
        after = b""
        pending = set(self._core.locations.pending())
        while found := await self._run(self._reads, self._core.index.multihashes, after, ROWS_BATCH):
            for multihash in found:
                pending.discard(multihash)
                yield Cid.v1(RAW, multihash)
            after = found[-1]
        for multihash in pending:
            yield Cid.v1(RAW, multihash)

    async def aclose(self) -> None:
        """Close the files of the store; a part file that is still being written is recorded first. May be called again."""
        self._core.warm.close()
        await let_go_with(self._core.close, limiter=self._writes)
        self._tell()

    # InPlaceStore

    async def add_file(self, path: Path, stamp: FileStamp, leaves: Sequence[Leaf]) -> SegmentId:
        """Record where the leaves of a file lie; nothing is copied. May be called several times for one file.

        Raises SourceChanged when the file does not look like `stamp` any more, Refused while it is being fetched, NoSpace.
        """
        addition = Addition(path, stamp, leaves, self._realm)
        self._core.files.submit(addition)
        await self._settled(addition, self._adding, self._core.files.add_next)
        return addition.number

    async def add_files(self, files: Sequence[tuple[Path, FileStamp, Sequence[Leaf]]]) -> None:
        """The same for several files, together; see `InPlaceStore`. Raises Refused, NoSpace, StoreError."""
        additions = [Addition(*file, self._realm, checked=True) for file in files]
        for addition in additions:
            self._core.files.submit(addition)
        await self._served(additions, self._adding, self._core.files.add_next)
        for addition in additions:
            if addition.error is not None:
                raise addition.error

    async def create_file(
        self, part: Path, size: int, *, base: Path | None = None, adopt: bool = False
    ) -> DiskFileWriter:
        """See `InPlaceStore.create_file`. After a crash what is on record is hashed first. Raises NoSpace, Refused, StoreError."""
        opened, recheck = await self._run(self._writes, self._core.open_part, part, size, base, adopt)
        opened.realm = self._realm
        after: int | None = -1 if recheck else None
        try:
            while after is not None:
                after = await self._run(self._reads, opened.recheck, after)
        except BaseException:
            # Without a checkpoint it will be hashed next time; closing a descriptor does not wait for the disk.
            self._core.abandon_part(opened, remove=False, checkpoint=False)
            raise
        return DiskFileWriter(self._core, opened, self._writes)

    def set_page_cache(self, policy: PageCache) -> None:
        """See RemembersPages."""
        self._core.page_cache = policy

    async def keep_files(self, directory: Path, files: Sequence[WholeFile], *, base: Path) -> list[WholeFile]:
        """Write small files in place together; see `WholeFiles`. Raises Refused, NoSpace, StoreError."""
        keeping = Keeping(base, directory, files, self._realm)
        self._core.small_files.submit(keeping)
        await self._settled(keeping, self._keeping, self._core.small_files.keep_next)
        return keeping.left

    async def segments(self) -> list[Segment]:
        """All files and packs, in order of their ids."""
        return await self._run(self._reads, self._core.all_segments)

    async def files_of(self, cids: Sequence[Cid]) -> list[list[Path]]:
        """For each block the user's files in which it can be read: what a share is made of."""
        return await self._run(self._reads, self._core.locations.files_of, [cid.multihash for cid in cids])

    async def forget_file(self, path: Path) -> int:
        """Withdraw all blocks that lie in this file; returns how many rows went. Raises Refused while it is being fetched."""
        return await self._run(self._writes, self._core.files.forget, path)

    async def forget_files(self, places: Sequence[Path], kept: Sequence[Path]) -> int:
        """Withdraw all files that are or lie below `places`, but for those below `kept`; returns how many rows went."""
        return await self._run(self._writes, self._core.files.forget_below, places, kept)

    async def count_blocks(self, root: Cid, places: Sequence[Path], most: int) -> int | None:
        """How many different blocks lie in the files below `places`, with the root; None for more than `most`."""
        return await self._run(self._reads, self._core.files.count_blocks, root.multihash, places, most)

    async def check_files(self) -> list[Segment]:
        """Compare each file's stamp with the disk; those that changed or went are withdrawn and returned.

        Those that were gone and are back as they were are served again.
        """
        withdrawn: list[Segment] = []
        after: SegmentId | None = SegmentId(-1)
        while after is not None:
            found, after = await self._run(self._writes, self._core.files.check, after)
            withdrawn += found
        return withdrawn

    # RealmStore

    def within(self, realm: RealmId) -> "DiskStore":
        """See RealmStore."""
        view = copy.copy(self)
        view._realm = realm
        return view

    # Garbage, verification, figures

    def hold(self, *roots: Cid) -> AbstractContextManager[Hold]:
        """While the context lasts, no collection removes what is below these roots, nor anything that is put."""
        return self._core.holds.hold(self._core.packs.position, roots)

    async def collect(self, links: Links, *, dry_run: bool = False) -> CollectReport:
        """Remove from the packs what no pin, share or hold reaches, and give its space back. One at a time.

        `links` tells what a block refers to (`stack.dag.links`). Raises CorruptStore, NoSpace, StoreError.
        """
        async with self._collecting:
            await self._run(self._writes, self._core.reserve.give_up)
            return await collect(_Collection(self), self._core.holds, self._core.packs.position, links, dry_run=dry_run)

    async def withdraw(self, roots: Sequence[Cid], links: Links = dag_links) -> None:
        """Forget all below `roots` that no other pin and nobody at work keeps, in packs and in files in place, and then their pins as
        shares. May be cancelled; the pins then stay, and it can be begun again. One at a time.

        Raises CorruptStore (nothing was removed then), StoreError.
        """
        async with self._collecting:
            await withdraw(_Collection(self), self._core.holds, self._core.packs.position, links, roots)
            await self._run(self._writes, self._core.sweeper.remove_empty_files)
        for root in roots:
            await self.remove_pin(root, kind=PinKind.SHARE)

    async def lacks_some(self, root: Cid) -> bool:
        """Whether a block below a root is not here. Reads the nodes. Raises ReadFailed, StoreError when that cannot be told now."""
        below = Below(dag_links, [root])
        while (leaves := await self._run(self._reads, below.step, self._core.nodes)) is not None:
            if None in await self._run(self._reads, self._core.locations.sizes, leaves):
                return True
        return None in await self._run(self._reads, self._core.locations.sizes, below.nodes)

    async def leave_parts(self) -> None:
        """Whatever unfinished files hold is not here for anybody until they are fetched on: an interrupted fetch serves nobody."""
        await self._run(self._reads, self._core.leave_parts)

    async def verify(self, links: Links = dag_links, *, roots: Sequence[Cid] = ()) -> VerifyReport:
        """Read and hash every block in every place, and check the index; then whether all below the user's pins, and below
        `roots`, is here. What is wrong is withdrawn. May be cancelled.
        """
        verifier = Verifier(self._core.index, self._core.locations, self._core.reader, self._core.nodes, links)
        await self._run(self._reads, verifier.check_index, self._core.directory / INDEX_NAME)
        if verifier.report.problem_count:
            roots = ()  # nothing that a damaged index says of them would help
        else:
            roots = [*(cid for cid, _ in await self.pins()), *roots]
        for number in await self._run(self._reads, verifier.segments):
            after: int | None = -1
            while after is not None:
                after = await self._run(self._reads, verifier.check, number, after)
        with self.hold(*roots):
            for root in roots:
                verifier.start(root)
                while await self._run(self._reads, verifier.check_below):
                    pass
            while await self._run(self._reads, verifier.check_lost):
                pass
        return verifier.report

    async def statistics(self) -> StoreStatistics:
        """Figures about the store. Walks all rows."""
        return await self._run(self._reads, self._core.statistics)

    async def _settled(self, request: Request, turn: Lock, serve_next: Callable[[], None]) -> None:
        """Wait until a request that stands in line is over. Raises what it failed with."""
        await self._served([request], turn, serve_next)
        if request.error is not None:
            raise request.error

    async def _served(self, requests: Sequence[Request], turn: Lock, serve_next: Callable[[], None]) -> None:
        """Wait until requests that stand in line are over; whoever is first in line serves a whole group."""
        try:
            async with turn:
                while not all(request.done for request in requests):
                    await self._run(self._writes, serve_next)
        finally:
            for request in requests:
                request.given_up = True

    async def _run(self, limiter: CapacityLimiter, function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        try:
            return await to_thread.run_sync(function, *args, limiter=limiter)
        finally:
            self._tell()

    async def _read(self, function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        return await self._run(self._reads, function, *args)

    async def _change(self, function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        return await self._run(self._writes, function, *args)

    def _tell(self) -> None:
        while self._events:
            event = self._events.popleft()
            if self._trace is not None:
                self._trace(event)


class _Collection:
    """What garbage collection and withdrawal ask of a disk store (`gc.Collectable`, `withdraw.Withdrawable`)."""

    def __init__(self, store: DiskStore) -> None:
        self._store = store
        self._core = store._core

    async def keep_roots(self, without: Sequence[Cid] = ()) -> list[Cid]:
        return await self._store._run(self._store._writes, self._core.roots, without)

    async def walk(self, below: Below) -> list[bytes] | None:
        return await self._store._run(self._store._reads, below.step, self._core.nodes)

    async def remove(self, names: Sequence[bytes], kept: NameSet, generation: int) -> bool:
        return await self._store._run(self._store._writes, self._core.sweeper.remove, names, kept, generation)

    async def mark(self, marker: Marker) -> bool:
        return await self._store._run(self._store._reads, marker.step, self._core.nodes)

    async def sweep(
        self, after: tuple[bytes, int, int], marked: NameSet, generation: int, *, dry_run: bool
    ) -> SweepStep | None:
        return await self._store._run(self._store._writes, self._core.sweeper.sweep, after, marked, generation, dry_run)

    async def compact(self) -> int:
        freed, full = 0, None
        for number in await self._store._run(self._store._writes, self._core.sweeper.compactable):
            async with self._store._putting:
                await self._store._run(self._store._writes, self._core.sweeper.retire, number)
            try:
                freed += await self._store._run(self._store._writes, self._core.sweeper.compact, number)
            except NoSpace as error:
                full = error
                freed += await self._store._run(self._store._writes, self._core.sweeper.punch, number)
            except ReadFailed:
                continue  # the pack stays as it is, with all that is in it; another time
        if full is not None and not freed:
            raise full
        return freed
