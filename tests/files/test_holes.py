"""A disk need not have room for the zeros of a sparse file (use 25): what is asked for is what will be written."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.blocks.memory import MemoryStore
from stack.dag.unixfs.options import ImportOptions, import_options
from stack.dag.unixfs.reader import FilePart, decode_node
from stack.errors import DecodeError, NoSpace
from stack.files import holes, parts, space
from stack.files import target as target_module
from stack.files.add import Adder
from stack.files.directory import part_name
from stack.files.fetch import Fetcher, FetchRequest
from stack.files.holes import Estimate, bytes_to_write
from stack.files.parts import is_hole
from stack.files.small import TreeFile
from stack.files.space import Space
from stack.files.work import Progress
from stack.multiformats.cid import Cid
from tests.files.conftest import FakeExchange, blocks_of, content, open_store

LEAF = 4096
LEAVES = {"chunker": f"size-{LEAF}"}
SHAPES = {
    "one node": import_options("unixfs-v1-2025", LEAVES),
    "nodes below nodes": import_options("unixfs-v1-2025", LEAVES | {"max-file-links": 4}),
    "dag-pb leaves": import_options("unixfs-v0-2015", LEAVES | {"max-file-links": 4}),
    "trickle": import_options("default", LEAVES | {"trickle": True, "max-file-links": 4}),
    "blake3": import_options("unixfs-v1-2025", LEAVES | {"max-file-links": 4, "hash": "blake3"}),
}
DATA = 3 * LEAF + 100
SIZE = 200 * LEAF + 100
ROOM = DATA + 10 * LEAF


def image(path: Path, name: str = "disk.img") -> bytes:
    """A file of 800 KiB with data at three places and at its end, which is no whole leaf."""
    with path.open("wb") as file:
        for place in (0, 60, 150):
            file.seek(place * LEAF)
            file.write(content(f"{name}{place}", LEAF))
        file.seek(SIZE - 100)
        file.write(content(name, 100))
    return path.read_bytes()


async def offered(path: Path, exchange: FakeExchange, options: ImportOptions = SHAPES["nodes below nodes"]) -> Cid:
    store = MemoryStore()
    added = await Adder(store, options).add([path])
    exchange.blocks.update(blocks_of(store))
    return added.cid


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of more bytes than a block may have is a node. So are those of these small files."""
    monkeypatch.setattr(parts, "BLOCK_SIZE_MAX", LEAF)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The bytes that are free, told by the test."""
    free = [ROOM]
    monkeypatch.setattr(target_module.disk, "free_bytes", lambda place: free[0])
    monkeypatch.setattr(space, "RESERVE_MAX", 0)
    yield free


@pytest.mark.anyio
@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES)
async def test_use_25_a_sparse_file_is_fetched_where_its_data_fits(
    tmp_path: Path, exchange: FakeExchange, store_kind: str, options: ImportOptions, room: list[int]
) -> None:
    data = image(tmp_path / "disk.img")
    root = await offered(tmp_path / "disk.img", exchange, options)
    target = tmp_path / "out"
    async with open_store(store_kind, tmp_path / "home") as store:
        await Fetcher(store, exchange).fetch(FetchRequest(root=root, directory=tmp_path, out=target))
    assert target.read_bytes() == data
    assert target.stat().st_blocks * 512 < SIZE // 2


@pytest.mark.anyio
@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES)
async def test_use_25_data_that_does_not_fit_is_told_before_any_of_it_is_fetched(
    tmp_path: Path, exchange: FakeExchange, options: ImportOptions, room: list[int]
) -> None:
    image(tmp_path / "disk.img")
    room[0] = DATA - 1
    root = await offered(tmp_path / "disk.img", exchange, options)
    with pytest.raises(NoSpace, match=r"bytes more; 12,387 bytes are free"):
        await Fetcher(MemoryStore(), exchange).fetch(FetchRequest(root=root, directory=tmp_path, out=Path("out")))
    assert not (tmp_path / "out.part").exists()
    leaves = {Cid.of(content(f"disk.img{place}", LEAF)).multihash for place in (0, 60, 150)}
    assert leaves.isdisjoint(cid.multihash for cid in exchange.sent)


@pytest.mark.anyio
async def test_of_a_file_without_holes_no_more_nodes_are_read_than_show_that_it_does_not_fit(
    tmp_path: Path, exchange: FakeExchange, room: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holes, "NODES_TOGETHER", 1)
    (tmp_path / "film").write_bytes(content("film", 256 * LEAF))
    root = await offered(tmp_path / "film", exchange)
    room[0] = 9 * LEAF
    with pytest.raises(NoSpace):
        await Fetcher(MemoryStore(), exchange).fetch(FetchRequest(root=root, directory=tmp_path, out=Path("out")))
    assert len(exchange.sent) < 30  # of 85


@pytest.mark.anyio
async def test_what_is_left_when_enough_nodes_were_read_counts_in_full(
    tmp_path: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    image(tmp_path / "disk.img")
    root = await offered(tmp_path / "disk.img", exchange)
    node = decode_node(root, exchange.blocks[root.multihash])
    async with exchange.session(root) as session:
        gatherer = holes.Gatherer(session, MemoryStore())
        assert await bytes_to_write(gatherer, node, SIZE) == DATA
        monkeypatch.setattr(holes, "NODES_MAX", 8)
        monkeypatch.setattr(holes, "NODES_TOGETHER", 1)
        assert DATA < await bytes_to_write(gatherer, node, SIZE) < SIZE


@pytest.mark.anyio
async def test_use_25_a_tree_with_sparse_files_is_fetched_where_their_data_fits(
    tmp_path: Path, exchange: FakeExchange, store_kind: str, room: list[int]
) -> None:
    source = tmp_path / "tree"
    (source / "below").mkdir(parents=True)
    images = {place: image(source / place, place) for place in ("a.img", "below/b.img", "c.img")}
    (source / "film").write_bytes(content("film", 20 * LEAF))
    (source / "note").write_bytes(b"note")
    root = await offered(source, exchange)
    room[0] = 3 * DATA + 22 * LEAF
    async with open_store(store_kind, tmp_path / "home") as store:
        await Fetcher(store, exchange).fetch(FetchRequest(root=root, directory=tmp_path, out=Path("out")))
    for place, data in images.items():
        assert (tmp_path / "out" / place).read_bytes() == data
    assert (tmp_path / "out" / "film").read_bytes() == content("film", 20 * LEAF)
    room[0] = 3 * DATA + 18 * LEAF
    with pytest.raises(NoSpace):
        await Fetcher(MemoryStore(), exchange).fetch(FetchRequest(root=root, directory=tmp_path, out=Path("less")))
    assert not (tmp_path / "less").exists()


def test_attack_10_a_tree_that_understates_its_files_gains_nothing_by_it() -> None:
    """The figure is never below what is known to be data, and an understated part hides no other."""
    data = content("leaf", LEAF)
    root = decode_node(Cid.of(data), data)
    estimate = Estimate(root, LEAF)
    assert (estimate.most, estimate.least, estimate.next(5)) == (LEAF, LEAF, [])


def test_a_hole_is_told_by_the_hash_of_its_size() -> None:
    for hash in ("sha2-256", "blake3", "sha2-512"):
        assert is_hole(FilePart(Cid.of(bytes(100), hash=hash), 0, 100))
        assert not is_hole(FilePart(Cid.of(bytes(100), hash=hash), 0, 99))
    assert not is_hole(FilePart(Cid.of(bytes(8), hash="identity"), 0, 8))
    assert not is_hole(FilePart(Cid.v1(0x55, b"\x7f\x01\x00"), 0, 8))


def test_what_an_earlier_fetch_left_of_a_file_of_a_tree_is_not_asked_for_again(tmp_path: Path, room: list[int]) -> None:
    """It is in a part file with a name of its own, not in `NAME.part`."""
    data = content("film", 8 * LEAF)
    file = TreeFile(tmp_path / "film", part_name("film", Cid.of(data)), decode_node(Cid.of(data), data), data)
    room[0] = 2 * LEAF
    with pytest.raises(NoSpace):
        Space(Progress(), tmp_path, Cid.of(b"tree"), None).take([file], [8 * LEAF])
    (tmp_path / file.part).write_bytes(data[: 7 * LEAF])
    with pytest.raises(NoSpace):
        Space(Progress(), tmp_path, Cid.of(b"tree"), None).take([file], [8 * LEAF], {"other"})
    Space(Progress(), tmp_path, Cid.of(b"tree"), None).take([file], [8 * LEAF], {file.part})
    Space(Progress(), tmp_path, Cid.of(b"tree"), None).take([file], [8 * LEAF])


def test_a_node_that_is_not_what_was_announced_ends_the_estimate() -> None:
    data = content("leaf", LEAF)
    estimate = Estimate(decode_node(Cid.of(data), data), LEAF)
    branch = holes._Branch(FilePart(Cid.of(data), 0, LEAF + 1, 1), 1, True)
    with pytest.raises(DecodeError):
        estimate.replace(branch, data)
