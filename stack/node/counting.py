"""A count of what went to whom, and of who has all of it."""

import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Container, Sequence
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from stack.bitswap.events import BlockSent
from stack.blocks.gone import Fault
from stack.blocks.reads import SourceWithdrawn
from stack.blocks.store import DiskStore
from stack.errors import StoreError
from stack.files.jobs import Jobs
from stack.files.jobs import Share as ShareRow
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.node.tally import BLOCKS_REMEMBERED_MAX, Received, Shared, is_below, sum_up
from stack.protocols.providers.service import ReceiverTold
from stack.streams.supervision import Supervisor
from stack.trace import TraceEvent, TraceFan

_log = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
"""How often counts are written down and told: what `shares ls` shows is at most this old."""

PENDING_MAX = 65_536
"""Blocks sent and not yet counted, and counts not yet written; at 1,000 a second they are flushed long before."""

LOST_MAX = 4096
"""Files remembered that are no longer as they were shared, for who watches; `shares ls` looks at all of them itself."""

LATELY_SECONDS = 120.0
"""A block of 2 MiB takes so long on a line of 17 KB/s: a receiver that asks nothing about a share (Kubo) and was sent nothing meanwhile
has given up, though he is connected."""

PENDING_AT_ONCE = 4096
"""Blocks summed up in one turn: those that cannot be go back, and the loop looks at each."""

TOLD_MAX = 4096
"""Receivers remembered that tell what they have, and those of one share; copies that went out lately."""


K = TypeVar("K")
V = TypeVar("V")
ReadBy = Callable[[PeerId], Awaitable[bool]]
"""Waits until a peer has read all blocks that were sent to it; False when that cannot be known."""


class Counting:
    """Counts what goes out for shares.

    It is best effort: it takes no time of the event loop, and what cannot be looked up or written down stays in memory for a while.
    """

    def __init__(self, blocks: object, jobs: Jobs, trace: TraceFan, read_by: ReadBy | None) -> None:
        self._store = blocks if isinstance(blocks, DiskStore) else None
        self._jobs = jobs
        self.read_by = read_by
        self._shared = Shared([])
        self._pending: Counter[tuple[PeerId, Cid]] = Counter()
        self._unwritten: Counter[tuple[Cid, PeerId]] = Counter()
        self._failing = False
        self._flushing = anyio.Lock()
        self._received = Received()
        self._needed: dict[Cid, int | None] = {}
        self._touched: dict[tuple[Cid, PeerId], None] = {}
        """Who was sent something that is yet to be compared with all of the share."""
        self._sent_all: dict[tuple[Cid, PeerId], None] = {}
        """Who was sent all of a share and does not say what it has."""
        self._done: dict[tuple[Cid, PeerId], None] = {}
        """Who says that it has all that it wanted: that was all of it where all was sent."""
        self._telling: dict[tuple[Cid, PeerId], None] = {}
        self._receiving: dict[Cid, dict[PeerId, float | None]] = {}
        """Who has begun to fetch a share, and when something last went to each; None when it has all that it wanted."""
        self._whole: set[tuple[Cid, PeerId]] = set()
        self._ends: deque[tuple[int, Cid, PeerId, bool]] = deque(maxlen=TOLD_MAX)
        """Who has got all that it wanted, and whether that is all of a share."""
        self._lost: dict[Path, Fault] = {}
        self._revision = 0
        self._changed = anyio.Event()
        self._wake = anyio.Event()
        trace.add(self._trace)

    def _trace(self, event: TraceEvent) -> None:
        if isinstance(event, BlockSent):
            if len(self._pending) < PENDING_MAX and self._shared.roots:
                self._pending[event.peer, event.cid] += event.size
        elif isinstance(event, ReceiverTold):
            if event.root in self._shared.roots:
                self._receiver_told(event)
        elif isinstance(event, SourceWithdrawn) and len(self._lost) < LOST_MAX:
            self._lost[event.path] = event.fault
            self._tell()

    def _receiver_told(self, event: ReceiverTold) -> None:
        if event.complete or not event.finished:
            self._begun(event.root, event.peer, done=False)
        if event.complete:
            self._copy_went(event.root, event.peer)
        elif event.finished:
            self._begun(event.root, event.peer, done=True)
            self._ends.append((self._revision + 1, event.root, event.peer, False))
            _remember(self._done, (event.root, event.peer), None)
            self._tell()
            self._wake.set()
        else:
            _remember(self._telling, (event.root, event.peer), None)

    def _begun(self, root: Cid, peer: PeerId, *, done: bool) -> None:
        _remember(self._receiving.setdefault(root, {}), peer, None if done else anyio.current_time())

    def _copy_went(self, root: Cid, peer: PeerId) -> None:
        """A peer has all of a share."""
        self._begun(root, peer, done=True)
        if len(self._whole) < PENDING_MAX:
            self._whole.add((root, peer))
        self._ends.append((self._revision + 1, root, peer, True))
        self._tell()
        self._wake.set()

    def _forget(self, root: Cid) -> None:
        """It is shared no longer."""
        self._needed.pop(root, None)
        self._receiving.pop(root, None)
        for book in (self._telling, self._touched, self._done, self._sent_all):
            for pair in [pair for pair in book if pair[0] == root]:
                del book[pair]

    def _tell(self) -> None:
        self._revision += 1
        self._changed.set()
        self._changed = anyio.Event()

    async def count(self, supervisor: Supervisor) -> None:
        """Write counts down when it is time."""
        with anyio.move_on_after(FLUSH_SECONDS):
            await self._wake.wait()
        self._wake = anyio.Event()
        await self.flush()
        sent_all, self._sent_all = self._sent_all, {}
        for root, peer in sent_all:
            supervisor.start(self._acknowledge, root, peer, owner="the end of a copy")

    async def flush(self) -> None:
        """Write down what was sent since the last time, by the file in which each block lies. What cannot be counted now is counted at
        the next look."""
        async with self._flushing:
            if not any((self._pending, self._touched, self._whole, self._unwritten, self._done)):
                return
            try:
                for _ in range(0, len(self._pending), PENDING_AT_ONCE):
                    await self._sum_up()
                await self._compare(self._touched, self._was_sent)
                await self._compare(self._done, self._has_all)
                await self._write()
                self._failing = False
            except StoreError as error:
                if not self._failing:  # said once, until it works again
                    self._failing = True
                    _log.warning("what was sent cannot be written down: %s", error)
            self._tell()

    async def _sum_up(self) -> None:
        pending = Counter(dict(self._pending.popitem() for _ in range(min(len(self._pending), PENDING_AT_ONCE))))
        try:
            cids = list({cid for _, cid in pending})
            files = dict(zip(cids, await self._store.files_of(cids), strict=True)) if self._store is not None else {}
            counts, blocks = await anyio.to_thread.run_sync(sum_up, pending, files, self._shared)
            silent = [block for block in blocks if block[:2] not in self._telling]
            # Nobody else uses it: a flush is alone.
            touched = await anyio.to_thread.run_sync(self._received.add, silent)
        except BaseException:
            self._pending.update(pending)
            raise
        for root, peer in counts:
            if (root, peer) in self._telling:  # it is still here
                _remember(self._telling, (root, peer), None)
            if self._receiving.get(root, {}).get(peer, 0.0) is not None:
                self._begun(root, peer, done=False)
        if len(self._unwritten) < PENDING_MAX:
            self._unwritten += counts
        for pair in touched:
            _remember(self._touched, pair, None)

    async def _compare(
        self, waiting: dict[tuple[Cid, PeerId], None], sent_all: Callable[[Cid, PeerId], object]
    ) -> None:
        """Tell `sent_all` which of those that are `waiting` were sent all of a share; of whom that cannot be told now goes on to wait."""
        for root, peer in list(waiting):
            del waiting[root, peer]
            try:
                if await self._was_sent_all(root, peer):
                    sent_all(root, peer)
            except BaseException:
                _remember(waiting, (root, peer), None)
                raise

    def _was_sent(self, root: Cid, peer: PeerId) -> None:
        _remember(self._sent_all, (root, peer), None)

    def _has_all(self, root: Cid, peer: PeerId) -> None:
        self._received.forget(root, peer)
        self._copy_went(root, peer)

    async def _was_sent_all(self, root: Cid, peer: PeerId) -> bool:
        needed = await self._count_blocks(root)
        return needed is not None and self._received.count(root, peer) >= needed

    async def _count_blocks(self, root: Cid) -> int | None:
        """How many different blocks a share is, the nodes of its tree not counted; None where that cannot be told."""
        if root not in self._needed and self._store is not None:
            places = self._shared.roots.get(root, ())
            self._needed[root] = await self._store.count_blocks(root, places, BLOCKS_REMEMBERED_MAX)
        return self._needed.get(root)

    async def _write(self) -> None:
        counts, whole = self._unwritten.copy(), set(self._whole)
        if counts:
            await self._jobs.record_sent(counts)
            self._unwritten -= counts
        for root, peer in whole:
            await self._jobs.record_copy(root, peer)
            self._whole.discard((root, peer))

    async def _acknowledge(self, root: Cid, peer: PeerId) -> None:
        """All blocks were sent to a peer that does not say what it has: a copy has gone when it has read them."""
        if self.read_by is None or not await self.read_by(peer) or (root, peer) in self._telling:
            return
        try:
            if await self._was_sent_all(root, peer):  # it has not said so itself meanwhile
                self._has_all(root, peer)
        except StoreError:
            _remember(self._touched, (root, peer), None)

    async def wait(self, revision: int) -> int:
        """Return when counts or files have changed since that revision, with the present one; 0 is before all."""
        while revision == self._revision:
            await self._changed.wait()
        return self._revision

    def ends_since(self, revision: int, root: Cid) -> dict[PeerId, bool]:
        """Who has got all that it wanted of a share since that revision, and whether that is all of it; it is forgotten after `TOLD_MAX`
        others."""
        return {peer: whole for at, found, peer, whole in self._ends if at > revision and found == root}

    def ends_so_far(self, root: Cid) -> dict[PeerId, bool]:
        """The same since it is shared."""
        receiving = self._receiving.get(root, {})
        return {peer: whole for peer, whole in self.ends_since(0, root).items() if receiving.get(peer, 0.0) is None}

    def is_over(self, root: Cid, is_here: Callable[[PeerId], bool], asks: Container[PeerId] = ()) -> bool:
        """Whether somebody has got all that he wanted of a share, and nobody else who is here is at it: who has begun, not finished, and
        `asks` about it still or was sent something lately. A daemon that has only looked at it stays connected."""
        receiving = self._receiving.get(root, {})
        since = anyio.current_time() - LATELY_SECONDS
        begun = {peer: at for peer, at in receiving.items() if at is not None}
        at_it = any(is_here(peer) and (peer in asks or at > since) for peer, at in begun.items())
        return len(begun) < len(receiving) and not at_it

    @property
    def revision(self) -> int:
        """Grows with each change."""
        return self._revision

    def lost(self, paths: Sequence[Path]) -> dict[Path, Fault]:
        """Files in these places that turned out not to be as they were shared, and how."""
        return {lost: fault for lost, fault in self._lost.items() if any(is_below(lost, path) for path in paths)}

    async def rows(self) -> list[ShareRow]:
        """All shares with counts that are up to date."""
        await self.flush()
        return [row for row in await self._jobs.shares() if row.owners]

    async def row(self, root: Cid) -> ShareRow | None:
        """One share with the counts that were told last; None when it is none."""
        return await self._jobs.share(root) if root in self._shared.roots else None


def _remember(book: dict[K, V], key: K, value: V) -> None:
    """Note something in a book of at most `TOLD_MAX`; what was noted longest ago is forgotten."""
    book.pop(key, None)
    book[key] = value
    if len(book) > TOLD_MAX:
        del book[next(iter(book))]
