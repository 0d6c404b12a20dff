"""What garbage collection keeps, and the order of its steps. Pure: what it reads and removes, it asks of the store.

Mark walks from the pins, the shares and what running fetches hold; sweep removes what was not marked: from the packs, and of users'
files what is known of them, so that nobody gets it any more. The files themselves are never touched. A block that is put, or put
again, while somebody holds anything, is kept as well.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Protocol

from stack.blocks.interfaces import SegmentId
from stack.blocks.names import NameSet
from stack.blocks.walk import Links, Walk
from stack.errors import CorruptStore, DecodeError
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB
from stack.values import dataclass

READ_BATCH = 16
"""Blocks read in one worker call: DAG nodes of a few KiB to 2 MiB, so 32 MiB at the very most."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far the packs have come: to the offset `end` of the pack `growing`, and to the pack numbered `last`."""

    growing: SegmentId
    end: int
    last: SegmentId

    def precedes(self, segment: SegmentId, offset: int) -> bool:
        """Whether a place was written later. What compaction has moved since counts as later too: that errs on the safe side."""
        return segment > self.last or (segment == self.growing and offset >= self.end)


@dataclass(frozen=True, slots=True)
class CollectReport:
    """What a collection found, and removed unless it was a dry run."""

    kept: int
    """Blocks that are reachable, or held."""
    missing: int
    """Blocks below a root that are not here: a fetch that has not finished."""
    removed: int
    removed_bytes: int
    freed_bytes: int
    """By how much the packs have shrunk; 0 in a dry run."""


@dataclass(frozen=True, slots=True)
class SweepStep:
    """One batch of a sweep. `after` is where the next begins, None at the end."""

    after: tuple[bytes, int, int] | None
    removed: int
    removed_bytes: int


class Nodes(Protocol):
    """What marking asks of a store, in a worker thread."""

    def in_frames(self, cids: Sequence[Cid]) -> list[bool]:
        """Which of these are recorded as leaves of a file in place, in a frame of dag-pb without links."""
        ...

    def read_nodes(self, cids: Sequence[Cid]) -> list[bytes | None]:
        """Blocks, None for each that is absent or damaged. Raises ReadFailed for one that cannot be read now."""
        ...

    def is_here(self, cid: Cid) -> bool:
        """Whether there are bytes for this block, be they right or wrong."""
        ...


class Markable(Protocol):
    """What marking asks of a store."""

    async def mark(self, marker: "Marker") -> bool:
        """`Marker.step` with the nodes of this store, in a worker thread."""
        ...


class Collectable(Markable, Protocol):
    """What garbage collection asks of a store."""

    async def keep_roots(self) -> list[Cid]:
        """All pins, of every kind."""
        ...

    async def sweep(
        self, after: tuple[bytes, int, int], marked: NameSet, generation: int, *, dry_run: bool
    ) -> SweepStep | None:
        """Remove one batch of what is not marked and not held; None when the generation of roots is another by now."""
        ...

    async def compact(self) -> int:
        """Give the space of removed blocks back to the disk; returns how much."""
        ...


class Hold:
    """Something that is being worked on. `add` names a root; what is put meanwhile is kept without being named."""

    def __init__(self, holds: "Holds", since: Position) -> None:
        self.since = since
        self.roots: list[Cid] = []
        self._holds = holds

    def add(self, cid: Cid) -> None:
        """Keep what is below this root as long as the hold lasts."""
        self.roots.append(cid)
        self._holds.changed()


class Holds:
    """Who is at work, so that a sweep passes by what they need. Any thread may ask and tell.

    Getters: `generation`, `roots`, `protects`, `protects_file`. Commands: `hold`, `wait_for`. Facts: `changed`, `put_again`,
    `file_added`, `came`.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._generations = count(1)
        self._holds: list[Hold] = []
        self._put_again: set[bytes] = set()
        self._added: set[SegmentId] = set()
        self._missing: set[bytes] = set()

    @contextmanager
    def hold(self, since: Position, roots: Sequence[Cid]) -> Iterator[Hold]:
        """Keep `roots`, and everything that is put, until the context ends. `since` is where the packs end now."""
        hold = Hold(self, since)
        hold.roots.extend(roots)
        self._holds.append(hold)
        self.changed()
        try:
            yield hold
        finally:
            self._holds.remove(hold)
            if not self._holds:
                self._put_again.clear()
                self._added.clear()
                self._missing.clear()

    def changed(self) -> None:
        """There is a new root: what was marked so far is not all."""
        self.generation = next(self._generations)

    def put_again(self, multihash: bytes) -> None:
        """A block that was here already has been acknowledged once more."""
        if self._holds:
            self._put_again.add(multihash)

    def file_added(self, segment: SegmentId) -> None:
        """Blocks of a file in place have been recorded, perhaps once more."""
        if self._holds:
            self._added.add(segment)

    def wait_for(self, multihashes: Iterable[bytes]) -> bool:
        """What was missing when it should have been marked; whether that is news."""
        known = len(self._missing)
        self._missing.update(multihashes)
        return len(self._missing) > known

    def came(self, multihashes: Iterable[bytes]) -> None:
        """Blocks were put. Below one that was missing there may be blocks that were here before, and are needed now."""
        if not self._missing.isdisjoint(multihashes):
            self.changed()

    def roots(self) -> list[Cid]:
        """All roots that are held."""
        return [root for hold in list(self._holds) for root in hold.roots]

    def protects(self, multihash: bytes, segment: SegmentId, offset: int) -> bool:
        """Whether a block in a pack must stay though it was not marked."""
        return multihash in self._put_again or any(hold.since.precedes(segment, offset) for hold in list(self._holds))

    def protects_file(self, segment: SegmentId) -> bool:
        """Whether the blocks of a file in place must stay though they were not marked."""
        return segment in self._added


class Marker:
    """Walks the DAGs of all roots.

    Commands: `add_root`, `step`, `look_again`. Getters: `marked`, `missing`.
    """

    def __init__(self, links: Links) -> None:
        self._walk = Walk(links, leaves=False)
        self.marked = self._walk.met
        self.missing: list[Cid] = []
        """Nodes that are not here."""
        self._again: list[Cid] = []

    def add_root(self, cid: Cid) -> None:
        """Walk from here too."""
        self._walk.add(cid)

    def look_again(self) -> None:
        """Some of what was missing may have come."""
        self._again += self.missing
        self.missing = []

    def step(self, nodes: Nodes) -> bool:
        """Read some nodes; False when there are no more. Raises CorruptStore for one that is damaged, ReadFailed."""
        batch, self._again = self._again[:READ_BATCH], self._again[READ_BATCH:]
        if not batch:
            with _translated():
                batch = [visit.cid for visit in self._walk.next_batch(READ_BATCH)]
        if not batch:
            return False
        framed = nodes.in_frames(batch)
        # A frame of dag-pb is a leaf to dag-pb alone.
        batch = [cid for cid, leaf in zip(batch, framed, strict=True) if not (leaf and cid.codec == DAG_PB)]
        for cid, data in zip(batch, nodes.read_nodes(batch), strict=True):
            if data is not None:
                with _translated(cid):
                    self._walk.receive(cid, data)
            elif nodes.is_here(cid):
                raise CorruptStore(f"nothing was removed: {cid} is kept, but damaged; `stack repo verify` says more")
            else:
                self.missing.append(cid)
        return True


@contextmanager
def _translated(cid: Cid | None = None) -> Iterator[None]:
    try:
        yield
    except DecodeError as error:
        what = "a node in its own name" if cid is None else str(cid)
        raise CorruptStore(
            f"nothing was removed: {what} is kept, but what it refers to cannot be read ({error}); remove its pin"
        ) from error


async def collect(store: Collectable, holds: Holds, since: Position, links: Links, *, dry_run: bool) -> CollectReport:
    """Remove what no root reaches. May be cancelled at any time; what was removed until then is garbage all the same.

    `since` is where the packs ended before anything was read. Raises CorruptStore when a kept node is damaged and ReadFailed when
    one cannot be read now: what lies below it would look like garbage.
    """
    marker = Marker(links)
    removed = removed_bytes = 0
    after: tuple[bytes, int, int] | None = (b"", -1, -1)
    with holds.hold(since, ()):
        while after is not None:
            generation = holds.generation
            for root in [*await store.keep_roots(), *holds.roots()]:
                marker.add_root(root)
            await mark_all(store, holds, marker)
            while after is not None:
                step = await store.sweep(after, marker.marked, generation, dry_run=dry_run)
                if step is None:
                    break
                after = step.after
                removed += step.removed
                removed_bytes += step.removed_bytes
    freed = 0 if dry_run else await store.compact()
    missing = len(marker.missing)
    return CollectReport(len(marker.marked) - missing, missing, removed, removed_bytes, freed)


async def mark_all(store: Markable, holds: Holds, marker: Marker) -> None:
    """Mark everything below the roots, and let `holds` know what was missing: once more until nothing new is."""
    marker.look_again()
    while True:
        while await store.mark(marker):
            pass
        if not holds.wait_for(cid.multihash for cid in marker.missing):
            return
        marker.look_again()
