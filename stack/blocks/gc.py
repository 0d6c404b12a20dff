"""What garbage collection keeps, and the order of its steps. Pure: what it reads and removes, it asks of the store.

Mark walks from the pins, the shares and what running fetches hold; sweep removes from the packs what was not marked. Blocks in
users' files are never touched. A block that is put, or put again, while somebody holds anything, is kept as well.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from stack.blocks.interfaces import SegmentId
from stack.errors import CorruptStore, DecodeError
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import RAW
from stack.multiformats.multihash import IDENTITY

Links = Callable[[Cid, bytes], Sequence[Cid]]
"""The CIDs that a block refers to. Raises DecodeError."""

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


class Collectable(Protocol):
    """What garbage collection asks of a store."""

    async def keep_roots(self) -> list[Cid]:
        """All pins, of every kind."""
        ...

    async def leaves(self, cids: Sequence[Cid]) -> list[bool]:
        """Which of these lie in a file in place, and so have no links."""
        ...

    async def read_nodes(self, cids: Sequence[Cid]) -> list[bytes | None]: ...

    async def is_here(self, cid: Cid) -> bool:
        """Whether there are bytes for this block, be they right or wrong."""
        ...

    async def sweep(
        self, after: tuple[bytes, int, int], marked: set[bytes], generation: int, *, dry_run: bool
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

    Getters: `generation`, `roots`, `protects`. Commands: `hold`. Facts: `changed`, `put_again`.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._holds: list[Hold] = []
        self._put_again: set[bytes] = set()

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

    def changed(self) -> None:
        """There is a new root: what was marked so far is not all."""
        self.generation += 1

    def put_again(self, multihash: bytes) -> None:
        """A block that was here already has been acknowledged once more."""
        if self._holds:
            self._put_again.add(multihash)

    def roots(self) -> list[Cid]:
        """All roots that are held."""
        return [root for hold in list(self._holds) for root in hold.roots]

    def protects(self, multihash: bytes, segment: SegmentId, offset: int) -> bool:
        """Whether a block must stay though it was not marked."""
        return multihash in self._put_again or any(hold.since.precedes(segment, offset) for hold in list(self._holds))


class Marker:
    """Walks DAGs without reading a block itself.

    Commands: `add_root`. Outputs: `next_batch`. Facts: `receive`. Getters: `marked`, `missing`.
    """

    def __init__(self, links: Links) -> None:
        self.marked: set[bytes] = set()
        self.missing = 0
        self._links = links
        self._unread: list[Cid] = []

    def add_root(self, cid: Cid) -> None:
        """Walk from here too."""
        if cid.hash_code == IDENTITY:
            # The block is in its name: there is nothing to keep but what it refers to.
            self._follow(cid, cid.digest)
        elif cid.multihash not in self.marked:
            self.marked.add(cid.multihash)
            if cid.codec != RAW:
                self._unread.append(cid)

    def next_batch(self, limit: int) -> list[Cid]:
        """Blocks to be read next; none when the walk has ended. Depth first, so that little waits."""
        batch = self._unread[-limit:]
        del self._unread[-limit:]
        return batch

    def receive(self, cid: Cid, data: bytes | None) -> None:
        """A block that was asked for, None when it is not here. Raises CorruptStore when its links cannot be read."""
        if data is None:
            self.missing += 1
        else:
            self._follow(cid, data)

    def _follow(self, cid: Cid, data: bytes) -> None:
        if cid.codec == RAW:
            return
        # Identity CIDs nest at most as deep as their 128 bytes allow.
        try:
            links = self._links(cid, data)
        except DecodeError as error:
            raise CorruptStore(
                f"nothing was removed: {cid} is kept, but what it refers to cannot be read ({error}); remove its pin"
            ) from error
        for link in links:
            self.add_root(link)


async def collect(store: Collectable, holds: Holds, since: Position, links: Links, *, dry_run: bool) -> CollectReport:
    """Remove what no root reaches. May be cancelled at any time; what was removed until then is garbage all the same.

    `since` is where the packs ended before anything was read. Raises CorruptStore when a kept node is damaged: what lies
    below it would look like garbage.
    """
    marker = Marker(links)
    removed = removed_bytes = 0
    after: tuple[bytes, int, int] | None = (b"", -1, -1)
    with holds.hold(since, ()):
        while after is not None:
            generation = holds.generation
            for root in [*await store.keep_roots(), *holds.roots()]:
                marker.add_root(root)
            await _mark(store, marker)
            while after is not None:
                step = await store.sweep(after, marker.marked, generation, dry_run=dry_run)
                if step is None:
                    break
                after = step.after
                removed += step.removed
                removed_bytes += step.removed_bytes
    freed = 0 if dry_run else await store.compact()
    return CollectReport(len(marker.marked) - marker.missing, marker.missing, removed, removed_bytes, freed)


async def _mark(store: Collectable, marker: Marker) -> None:
    while batch := marker.next_batch(READ_BATCH):
        leaves = await store.leaves(batch)
        nodes = [cid for cid, leaf in zip(batch, leaves, strict=True) if not leaf]
        for cid, data in zip(nodes, await store.read_nodes(nodes), strict=True):
            if data is None and await store.is_here(cid):
                raise CorruptStore(f"nothing was removed: {cid} is kept, but damaged; `stack repo verify` says more")
            marker.receive(cid, data)
