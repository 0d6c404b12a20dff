"""Mark, holds, and the order of a collection, with a store of dictionaries."""

from collections.abc import Iterable, Sequence

import pytest

from stack.blocks.gc import Collectable, Holds, Marker, Position, SweepStep, collect
from stack.blocks.interfaces import SegmentId
from stack.blocks.names import NameSet
from stack.blocks.walk import Links
from stack.errors import CorruptStore, DecodeError
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_CBOR, DAG_PB

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


class Nodes:
    """What marking reads: blocks by multihash. `frames` are leaves of dag-pb in files, `damaged` has other bytes."""

    def __init__(self, *blocks: tuple[Cid, bytes]) -> None:
        self.blocks = {cid.multihash: data for cid, data in blocks}
        self.frames: set[bytes] = set()
        self.damaged: set[bytes] = set()
        self.read: list[Cid] = []

    def in_frames(self, cids: Sequence[Cid]) -> list[bool]:
        return [cid.multihash in self.frames for cid in cids]

    def read_nodes(self, cids: Sequence[Cid]) -> list[bytes | None]:
        self.read += cids
        return [None if cid.multihash in self.damaged else self.blocks.get(cid.multihash) for cid in cids]

    def is_here(self, cid: Cid) -> bool:
        return cid.multihash in self.blocks


def run(marker: Marker, nodes: Nodes) -> None:
    """Let the marker read all it wants."""
    while marker.step(nodes):
        pass


def marked(marker: Marker, *cids: Cid) -> bool:
    """Whether exactly these are marked."""
    return len(marker.marked) == len(cids) and all(cid.multihash in marker.marked for cid in cids)


LEAF = Cid.of(b"leaf")
OTHER = Cid.of(b"other")


def test_everything_below_a_root_is_marked_and_nothing_else() -> None:
    inner = node(LEAF)
    outer = node(inner[0], OTHER)
    stray = node(Cid.of(b"stray"))
    marker = Marker(links)
    marker.add_root(outer[0])
    run(marker, Nodes(inner, outer, stray))
    assert marked(marker, LEAF, OTHER, inner[0], outer[0])
    assert marker.missing == []


def test_raw_leaves_are_never_read() -> None:
    marker = Marker(links)
    marker.add_root(LEAF)
    nodes = Nodes()
    run(marker, nodes)
    assert nodes.read == []
    assert marked(marker, LEAF)


def test_what_is_not_here_is_known_and_looked_for_again() -> None:
    root = node(LEAF)
    marker = Marker(links)
    marker.add_root(root[0])
    run(marker, Nodes())
    assert marker.missing == [root[0]]
    marker.look_again()
    run(marker, Nodes(root))
    assert marker.missing == []
    assert marked(marker, root[0], LEAF)


def test_a_leaf_in_a_frame_is_not_read_unless_another_codec_names_it() -> None:
    """Finding 3: a frame of dag-pb says nothing of the same bytes as dag-cbor."""
    wrapped = node(LEAF)
    nodes = Nodes(wrapped)
    nodes.frames = {wrapped[0].multihash}
    marker = Marker(links)
    marker.add_root(wrapped[0])
    run(marker, nodes)
    assert nodes.read == []
    marker.add_root(wrapped[0].with_codec(DAG_CBOR))
    run(marker, nodes)
    assert marked(marker, wrapped[0], LEAF)


@pytest.mark.parametrize("inside", [b"bad", b""])
def test_a_kept_node_that_cannot_be_read_stops_everything(inside: bytes) -> None:
    marker = Marker(links)
    bad = (Cid.of(b"bad", DAG_PB), b"bad")
    marker.add_root(Cid.of(b"bad", DAG_PB, hash="identity") if inside else bad[0])
    with pytest.raises(CorruptStore, match="nothing was removed"):
        run(marker, Nodes(bad))


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


class DictStore(Nodes):
    """A Collectable of dictionaries; what is in `during` is pinned before each sweep, what is in `late` put."""

    def __init__(self, *blocks: tuple[Cid, bytes]) -> None:
        super().__init__(*blocks)
        self.pins: list[Cid] = []
        self.holds = Holds()
        self.during: list[Cid] = []
        self.late: list[tuple[Cid, bytes]] = []
        self.compacted = 0

    async def keep_roots(self) -> list[Cid]:
        return self.pins

    async def mark(self, marker: Marker) -> bool:
        return marker.step(self)

    async def sweep(
        self, after: tuple[bytes, int, int], marked: NameSet, generation: int, *, dry_run: bool
    ) -> SweepStep | None:
        if self.during:
            self.pins.append(self.during.pop())
            self.holds.changed()
        while self.late:
            cid, data = self.late.pop()
            self.blocks[cid.multihash] = data
            self.holds.came([cid.multihash])
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
    store.frames = {wrapped[0].multihash}
    store.pins = [root[0]]
    await run_collect(store)
    assert set(store.blocks) == {root[0].multihash}
    assert store.read == [root[0]]


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


@pytest.mark.anyio
async def test_below_a_node_that_comes_during_the_sweep_everything_is_kept() -> None:
    """A fetch has seen the leaf, which is not named by anything kept before the node above it comes."""
    late = node(LEAF, OTHER)
    root = node(late[0])
    store = DictStore(root, (LEAF, b"leaf"), (OTHER, b"other"), *GARBAGE)
    store.pins = [root[0]]
    store.late = [late]
    report = await collect(store, store.holds, HERE, links, dry_run=False)
    assert (report.missing, report.removed) == (0, 5)
    assert set(store.blocks) == {root[0].multihash, late[0].multihash, LEAF.multihash, OTHER.multihash}


@pytest.mark.anyio
async def test_a_node_that_comes_while_the_missing_ones_are_counted_is_read() -> None:
    late = node(LEAF)
    root = node(late[0])
    store = DictStore(root, (LEAF, b"leaf"), *GARBAGE)
    store.pins = [root[0]]

    def come(names: Iterable[bytes]) -> bool:
        if late[0].multihash not in store.blocks:
            store.blocks[late[0].multihash] = late[1]
            store.holds.came([late[0].multihash])
        return Holds.wait_for(store.holds, names)

    store.holds.wait_for = come  # type: ignore[method-assign]
    await run_collect(store)
    assert set(store.blocks) == {root[0].multihash, late[0].multihash, LEAF.multihash}
