"""Mark, holds, and the order of a collection, with a store of dictionaries."""

from collections.abc import Sequence

import pytest

from stack.blocks.gc import Collectable, Holds, Links, Marker, Position, SweepStep, collect
from stack.blocks.interfaces import SegmentId
from stack.errors import CorruptStore, DecodeError
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB

SEP = b"|"


def node(*links: Cid, salt: bytes = b"", hash: str = "sha2-256") -> tuple[Cid, bytes]:
    """A block that names others, in a format of this test's own."""
    data = SEP.join([salt, *(str(link).encode() for link in links)])
    return Cid.of(data, DAG_PB, hash=hash), data


def links(cid: Cid, data: bytes) -> list[Cid]:
    """What `node` named."""
    if data.startswith(b"bad"):
        raise DecodeError("bad node")
    return [Cid.parse(text.decode()) for text in data.split(SEP)[1:]]


def run(marker: Marker, blocks: dict[Cid, bytes]) -> None:
    """Give the marker all it asks for."""
    while batch := marker.next_batch(2):
        for cid in batch:
            marker.receive(cid, blocks.get(cid))


LEAF = Cid.of(b"leaf")
OTHER = Cid.of(b"other")


def test_everything_below_a_root_is_marked_and_nothing_else() -> None:
    inner = node(LEAF)
    outer = node(inner[0], OTHER)
    stray = node(Cid.of(b"stray"))
    marker = Marker(links)
    marker.add_root(outer[0])
    run(marker, dict([inner, outer, stray]))
    assert marker.marked == {cid.multihash for cid in (LEAF, OTHER, inner[0], outer[0])}
    assert marker.missing == 0


def test_raw_leaves_are_never_asked_for() -> None:
    marker = Marker(links)
    marker.add_root(LEAF)
    assert marker.next_batch(10) == []
    assert marker.marked == {LEAF.multihash}


def test_a_block_that_many_name_is_asked_for_once() -> None:
    shared = node(LEAF)
    parents = [node(shared[0], salt=bytes([65 + number])) for number in range(5)]
    marker = Marker(links)
    for cid, _ in parents:
        marker.add_root(cid)
    asked = 0
    blocks = dict([shared, *parents])
    while batch := marker.next_batch(3):
        asked += len(batch)
        for cid in batch:
            marker.receive(cid, blocks[cid])
    assert asked == 6


def test_what_is_not_here_is_counted() -> None:
    marker = Marker(links)
    marker.add_root(node(LEAF)[0])
    run(marker, {})
    assert marker.missing == 1


def test_a_node_inside_its_own_name_is_followed() -> None:
    raw_inside = Cid.of(b"raw", hash="identity")
    inline = Cid.of(b"x" + SEP + str(LEAF).encode(), DAG_PB, hash="identity")
    root = node(inline, raw_inside)
    marker = Marker(links)
    marker.add_root(root[0])
    run(marker, dict([root]))
    assert marker.marked == {root[0].multihash, LEAF.multihash}


def test_a_kept_node_that_cannot_be_read_stops_everything() -> None:
    marker = Marker(links)
    bad = (Cid.of(b"bad", DAG_PB), b"bad")
    marker.add_root(bad[0])
    with pytest.raises(CorruptStore, match="nothing was removed"):
        run(marker, dict([bad]))


def test_a_very_deep_chain_is_walked_without_recursion() -> None:
    blocks = dict([node(LEAF)])
    for _ in range(5000):
        cid, data = node(next(reversed(blocks)))
        blocks[cid] = data
    marker = Marker(links)
    marker.add_root(next(reversed(blocks)))
    run(marker, blocks)
    assert len(marker.marked) == 5002


HERE = Position(SegmentId(3), 100, SegmentId(5))
OLD, NEW = (SegmentId(1), 1), (SegmentId(6), 8)


def test_nothing_is_protected_without_a_hold() -> None:
    holds = Holds()
    holds.put_again(b"name")
    assert not holds.protects(b"name", *NEW)


def test_what_is_put_or_put_again_during_a_hold_is_protected() -> None:
    holds = Holds()
    with holds.hold(HERE, []):
        holds.put_again(b"again")
        assert holds.protects(b"again", *OLD)
        assert not holds.protects(b"old", SegmentId(3), 99)
        assert not holds.protects(b"old", SegmentId(5), 1000)
        assert holds.protects(b"new", SegmentId(3), 100)
        assert holds.protects(b"new", *NEW)
    assert not holds.protects(b"again", *OLD)
    assert not holds.protects(b"new", *NEW)


def test_the_oldest_hold_counts() -> None:
    holds = Holds()
    with holds.hold(HERE, []):
        holds.put_again(b"again")
        with holds.hold(Position(SegmentId(6), 500, SegmentId(6)), []):
            assert holds.protects(b"new", SegmentId(6), 400)
        assert holds.protects(b"again", *OLD)


def test_each_new_root_makes_a_new_generation() -> None:
    holds = Holds()
    first = holds.generation
    with holds.hold(HERE, [LEAF]) as hold:
        second = holds.generation
        hold.add(OTHER)
        third = holds.generation
        assert holds.roots() == [LEAF, OTHER]
    assert first < second < third
    assert holds.roots() == []


class DictStore:
    """A Collectable of dictionaries; `during` is called before each sweep."""

    def __init__(self, *blocks: tuple[Cid, bytes]) -> None:
        self.blocks = {cid.multihash: data for cid, data in blocks}
        self.pins: list[Cid] = []
        self.files: set[bytes] = set()
        self.damaged: set[bytes] = set()
        self.holds = Holds()
        self.during: list[Cid] = []
        self.compacted = 0

    async def keep_roots(self) -> list[Cid]:
        return self.pins

    async def leaves(self, cids: Sequence[Cid]) -> list[bool]:
        return [cid.multihash in self.files for cid in cids]

    async def read_nodes(self, cids: Sequence[Cid]) -> list[bytes | None]:
        assert not any(cid.multihash in self.files for cid in cids)
        return [None if cid.multihash in self.damaged else self.blocks.get(cid.multihash) for cid in cids]

    async def is_here(self, cid: Cid) -> bool:
        return cid.multihash in self.blocks

    async def sweep(
        self, after: tuple[bytes, int, int], marked: set[bytes], generation: int, *, dry_run: bool
    ) -> SweepStep | None:
        if self.during:
            self.pins.append(self.during.pop())
            self.holds.changed()
        if generation != self.holds.generation:
            return None
        names = sorted(name for name in self.blocks if name > after[0])[:2]
        gone = [name for name in names if name not in marked]
        size = sum(len(self.blocks[name]) for name in gone)
        for name in gone if not dry_run else []:
            del self.blocks[name]
        return SweepStep((names[-1], 0, 0) if names else None, len(gone), size)

    async def compact(self) -> int:
        self.compacted += 1
        return 7


async def run_collect(store: DictStore, follow: Links = links, *, dry_run: bool = False) -> tuple[int, int, int, int]:
    """The figures of a collection."""
    target: Collectable = store
    report = await collect(target, store.holds, HERE, follow, dry_run=dry_run)
    return report.kept, report.removed, report.removed_bytes, report.freed_bytes


GARBAGE = [(Cid.of(bytes([number]) * 10), bytes([number]) * 10) for number in range(5)]


@pytest.mark.anyio
async def test_only_what_nothing_keeps_is_removed() -> None:
    root = node(LEAF)
    store = DictStore(root, (LEAF, b"leaf"), *GARBAGE)
    store.pins = [root[0]]
    assert await run_collect(store) == (2, 5, 50, 7)
    assert set(store.blocks) == {root[0].multihash, LEAF.multihash}


@pytest.mark.anyio
async def test_a_dry_run_counts_and_removes_nothing() -> None:
    store = DictStore(*GARBAGE)
    assert await run_collect(store, dry_run=True) == (0, 5, 50, 0)
    assert len(store.blocks) == 5
    assert store.compacted == 0


@pytest.mark.anyio
async def test_a_root_that_is_pinned_during_the_sweep_is_kept() -> None:
    store = DictStore(*GARBAGE)
    last = max(cid for cid, _ in GARBAGE)
    store.during = [last]
    await run_collect(store)
    assert set(store.blocks) == {last.multihash}


@pytest.mark.anyio
async def test_a_root_that_is_held_is_kept() -> None:
    root = node(LEAF)
    store = DictStore(root, (LEAF, b"leaf"), *GARBAGE)
    with store.holds.hold(HERE, [root[0]]):
        await run_collect(store)
    assert set(store.blocks) == {root[0].multihash, LEAF.multihash}


@pytest.mark.anyio
async def test_leaves_in_files_are_not_read() -> None:
    wrapped = node(salt=b"a leaf in a frame")
    root = node(wrapped[0])
    store = DictStore(root)
    store.files = {wrapped[0].multihash}
    store.pins = [root[0]]
    await run_collect(store)
    assert set(store.blocks) == {root[0].multihash}


@pytest.mark.anyio
async def test_nothing_is_removed_when_a_kept_node_is_damaged() -> None:
    root = node(LEAF)
    store = DictStore(root, (LEAF, b"leaf"), *GARBAGE)
    store.pins = [root[0]]
    store.damaged = {root[0].multihash}
    with pytest.raises(CorruptStore, match="nothing was removed"):
        await run_collect(store)
    assert len(store.blocks) == 7


@pytest.mark.anyio
async def test_a_fetch_that_has_not_finished_does_not_stop_a_collection() -> None:
    absent = node(OTHER)
    root = node(LEAF, absent[0])
    store = DictStore(root, (LEAF, b"leaf"), *GARBAGE)
    store.pins = [root[0]]
    report = await collect(store, store.holds, HERE, links, dry_run=False)
    assert report.missing == 1
    assert set(store.blocks) == {root[0].multihash, LEAF.multihash}
