"""What this node shares: tickets, and a count of what went to whom."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import anyio

from stack.bitswap.events import BlockSent
from stack.blocks.interfaces import PinKind
from stack.blocks.reads import Fault, SourceWithdrawn
from stack.blocks.store import DiskStore
from stack.errors import Refused, StackError
from stack.files.jobs import Jobs
from stack.files.jobs import Share as ShareRow
from stack.files.ranges import whole_ranges
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.protocols.providers.interfaces import RangeBook
from stack.trace import TraceEvent, TraceFan

_log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.25
"""How often counts are written down and told: what `shares ls` shows is at most this old."""

PENDING_MAX = 65_536
"""Blocks sent and not yet counted; at 1,000 a second they are flushed long before."""


LOST_MAX = 4096
"""Files remembered that are no longer as they were shared, for who watches; `shares ls` looks at all of them itself."""


class Shares:
    """Remembers shares and counts what goes out for them. `run` lives as long as the node."""

    def __init__(self, blocks: object, jobs: Jobs, book: RangeBook, trace: TraceFan) -> None:
        self._store = blocks if isinstance(blocks, DiskStore) else None
        self._jobs = jobs
        self._book = book
        self._pending: Counter[tuple[PeerId, Cid]] = Counter()
        self._lost: dict[Path, Fault] = {}
        self._unwritten: Counter[tuple[Cid, PeerId]] = Counter()
        self._failing = False
        """The last counts could not be written, and that was said."""
        self._revision = 0
        self._changed = anyio.Event()
        trace.add(self._trace)

    def _trace(self, event: TraceEvent) -> None:
        if isinstance(event, BlockSent) and len(self._pending) < PENDING_MAX:
            self._pending[event.peer, event.cid] += event.size
        elif isinstance(event, SourceWithdrawn) and len(self._lost) < LOST_MAX:
            self._lost[event.path] = event.fault
            self._tell()

    def _tell(self) -> None:
        self._revision += 1
        self._changed.set()
        self._changed = anyio.Event()

    async def restore(self) -> None:
        """Tell others again of what was shared before; files that changed meanwhile are withdrawn by the store."""
        for share in await self._jobs.shares():
            self._book.add(share.root, whole_ranges())

    async def run(self) -> None:
        """Write counts down, a few times a second, until cancelled. Sharing goes on when they cannot be written."""
        while True:
            await anyio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write down what was sent since the last time, by the file in which each block lies. Where that cannot be, as on a
        full disk, it is kept for the next time."""
        if not (self._pending or self._unwritten):
            return
        try:
            await self._sum_up()
            while self._unwritten:
                (root, peer), amount = self._unwritten.popitem()
                try:
                    await self._jobs.record_sent(root, peer, amount)
                except BaseException:
                    self._unwritten[root, peer] += amount
                    raise
        except StackError as error:
            if not self._failing:
                _log.warning("what was sent cannot be counted: %s", error)
            self._failing = True
        else:
            self._failing = False
        self._tell()

    async def _sum_up(self) -> None:
        pending, self._pending = self._pending, Counter()
        try:
            rows = await self._jobs.shares()
            cids = list({cid for _, cid in pending})
            paths = dict(zip(cids, await self._paths(cids), strict=True))
        except BaseException:
            self._pending.update(pending)
            raise
        for row in rows:
            for (peer, cid), amount in pending.items():
                if any(is_below(path, shared) for path in paths[cid] for shared in row.paths):
                    self._unwritten[row.root, peer] += amount

    async def _paths(self, cids: list[Cid]) -> list[list[Path]]:
        return await self._store.files_of(cids) if self._store is not None else [[] for _ in cids]

    async def wait(self, revision: int) -> int:
        """Return when counts or files have changed since that revision, with the present one; 0 is before all."""
        while revision == self._revision:
            await self._changed.wait()
        return self._revision

    def lost(self, paths: Sequence[Path]) -> dict[Path, Fault]:
        """Files in these places that turned out not to be as they were shared, and how."""
        return {lost: fault for lost, fault in self._lost.items() if any(is_below(lost, path) for path in paths)}

    async def rows(self) -> list[ShareRow]:
        """All shares with counts that are up to date."""
        await self.flush()
        return await self._jobs.shares()

    async def add(self, root: Cid, name: str, paths: tuple[Path, ...], size: int) -> None:
        """Share a root from now on."""
        for path in self.lost(paths):
            del self._lost[path]
        if self._store is not None:
            await self._store.add_pin(root, name, kind=PinKind.SHARE)
        await self._jobs.add_share(root, name, paths, size)
        self._book.add(root, whole_ranges())

    async def remove(self, target: str) -> list[Cid]:
        """Stop sharing a root, or what lies at a path. Returns the roots that are no longer shared."""
        gone = [row for row in await self.rows() if target == str(row.root) or Path(target).absolute() in row.paths]
        kept = [path for row in await self._jobs.shares() if row not in gone for path in row.paths]
        for row in gone:
            await self._jobs.remove_share(row.root)
            self._book.remove(row.root)
            if self._store is not None:
                await self._store.remove_pin(row.root, kind=PinKind.SHARE)
                await self._withdraw(self._store, row, kept)
        return [row.root for row in gone]

    async def _withdraw(self, store: DiskStore, row: ShareRow, kept: list[Path]) -> None:
        """Forget the files of a share, except those that another share still needs."""
        for segment in await store.segments():
            mine = segment.kind == "file" and any(is_below(segment.path, path) for path in row.paths)
            if mine and not any(is_below(segment.path, path) for path in kept):
                try:
                    await store.forget_file(segment.path)
                except Refused as error:  # it is being fetched at this moment and belongs to that fetch
                    raise StackError(f"{segment.path} is in use: {error}") from error


def is_below(path: Path, folder: Path) -> bool:
    """Whether a path is that folder, or lies in it."""
    return path == folder or folder in path.parents
