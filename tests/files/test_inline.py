"""Small files with mode and time: their root is in the entry of their directory, and nothing is asked for to know what they are."""

import os
import stat
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from stack.blocks.memory import MemoryStore
from stack.blocks.walk import Walk
from stack.dag import dag_pb, links
from stack.dag.unixfs.builder import FileBuilder, leaf_block
from stack.dag.unixfs.data import NodeKind, UnixTime, encode_data
from stack.dag.unixfs.options import ImportOptions, inline_cid, profile
from stack.dag.unixfs.reader import decode_node
from stack.errors import DecodeError
from stack.files.add import Adder
from stack.files.car_io import export_car, import_car
from stack.files.dag import missing_below
from stack.files.fetch import Fetcher
from stack.files.parts import WrongSize
from stack.files.read import list_entries, open_content
from stack.files.request import FetchRequest
from stack.multiformats import multihash
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB, RAW
from tests.files.conftest import FakeExchange, blocks_of, content, open_store
from tests.files.test_fetch_tree import get, share, snapshot
from tests.files.test_lost import until, whole
from tests.files.test_update import get as update

SMALL = replace(profile(), chunker="size-4096", keep_executable=True, keep_times=True)
NEW = replace(SMALL, inline_root=True)
FORMS = {
    "new": NEW,
    "old": SMALL,
    "new, sharded": replace(NEW, max_directory_links=4, max_hamt_fanout=8),
    "old, sharded": replace(SMALL, max_directory_links=4, max_hamt_fanout=8),
}
forms = pytest.mark.parametrize("form", FORMS)


def plant(root: Path) -> None:
    """Small files of all kinds, some of the chosen names; a few large ones."""
    for number in range(20):
        directory = root / f"sub {number % 3}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{number}.jpg").write_bytes(content(f"jpg {number}", 3_000))
        (directory / f"{number}.txt").write_bytes(content(f"txt {number}", 700))
    (root / "empty").mkdir()
    (root / "none.txt").write_bytes(b"")
    (root / "none.jpg").write_bytes(b"")
    (root / "large.txt").write_bytes(content("large", 30_000))
    (root / "large.jpg").write_bytes(content("picture", 30_000))
    (root / "run.txt").write_bytes(b"#!/bin/sh")
    (root / "run.txt").chmod(0o755)
    (root / "link.txt").symlink_to("run.txt")
    (root / "link.jpg").symlink_to("large.jpg")
    for number, path in enumerate(sorted(path for path in root.rglob("*") if not path.is_symlink())):
        os.utime(path, ns=(10**18 + number, 10**18 + number))


def attributes(root: Path) -> dict[str, tuple[int, int]]:
    """Permission to execute, and time, of all files."""
    found = {}
    for path in root.rglob("*"):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            found[str(path.relative_to(root))] = status.st_mode & 0o111, status.st_mtime_ns
    return found


def received(exchange: FakeExchange) -> int:
    return sum(len(exchange.blocks[cid.multihash]) for cid in exchange.sent)


def bytes_of_directories(exchange: FakeExchange, sent: Sequence[Cid]) -> int:
    blocks = ((cid, exchange.blocks[cid.multihash]) for cid in set(sent))
    return sum(len(block) for cid, block in blocks if cid.codec == DAG_PB and not decode_node(cid, block).is_file)


@pytest.mark.parametrize("code", sorted(multihash.ALLOWED - {multihash.IDENTITY}))
def test_every_root_of_one_leaf_fits_into_its_cid(code: int) -> None:
    """The longest digest, the largest block, a mode with all bits and a time of ten bytes."""
    options = replace(profile(), hash=multihash.name_of(code), inline_root=True, chunker="size-2000000")
    builder = FileBuilder(options)
    builder.add_leaf(options.cid(RAW, b"x"), 2_000_000, 2_000_000)
    root = builder.finish(mode=0o7777, mtime=UnixTime(-(2**63), 999_999_999))
    assert root.cid.hash_code == multihash.IDENTITY and builder.next_block() is None
    assert len(bytes(root.cid)) <= 128


@pytest.mark.anyio
async def test_only_roots_are_other_blocks_than_without(tmp_path: Path) -> None:
    """Raw leaves are those that `add` makes, and a file that is all that is shared has a block as its root."""
    plant(tmp_path / "tree")
    plain, inline = MemoryStore(), MemoryStore()
    await Adder(plain, replace(profile(), chunker="size-4096"), copy=True).add([tmp_path / "tree"])
    await Adder(inline, NEW, copy=True).add([tmp_path / "tree"])
    small = {
        Cid.of(path.read_bytes()).multihash
        for path in (tmp_path / "tree").rglob("*")
        if not path.is_symlink() and path.is_file() and 0 < path.stat().st_size <= 4096
    }
    assert small <= blocks_of(plain).keys() and small <= blocks_of(inline).keys()
    alone = await Adder(MemoryStore(), NEW).add([tmp_path / "tree" / "run.txt"])
    assert alone.cid == (await Adder(MemoryStore(), SMALL).add([tmp_path / "tree" / "run.txt"])).cid
    several = await Adder(MemoryStore(), NEW).add([tmp_path / "tree" / "run.txt", tmp_path / "tree" / "none.txt"])
    assert (
        several.cid
        != (await Adder(MemoryStore(), SMALL).add([tmp_path / "tree" / "run.txt", tmp_path / "tree" / "none.txt"])).cid
    )


@pytest.mark.anyio
@forms
async def test_a_tree_arrives_with_times_and_permissions_and_is_found_again(
    tmp_path: Path, exchange: FakeExchange, store_kind: str, form: str
) -> None:
    plant(tmp_path / "tree")
    root = await share(tmp_path / "tree", exchange, FORMS[form])
    here = tmp_path / "here"
    here.mkdir()
    async with open_store(store_kind, tmp_path / "home") as store:
        await get(store, exchange, root, here)
        assert snapshot(here / "tree") == snapshot(tmp_path / "tree")
        assert attributes(here / "tree") == attributes(tmp_path / "tree")
        if form.startswith("new"):
            small = {Cid.of(path.read_bytes()) for path in (here / "tree").rglob("*.txt") if path.stat().st_size < 4096}
            wanted = [cid for cid in small if cid != Cid.of(b"")]
            assert all(await store.has(wanted)) or store_kind == "memory", "they are given on"
        exchange.sent.clear()
        await get(store, exchange, root, here)
    assert not [cid for cid in exchange.sent if cid.codec == RAW]


@pytest.mark.anyio
@forms
async def test_of_chosen_files_come_their_bytes_and_directories(
    tmp_path: Path, exchange: FakeExchange, form: str
) -> None:
    """14.4 MiB came where 4.5 were chosen: the first block of a small file was all of it."""
    plant(tmp_path / "tree")
    root = await share(tmp_path / "tree", exchange, FORMS[form])
    here = tmp_path / "here"
    here.mkdir()
    await get(MemoryStore(), exchange, root, here, "*.txt")
    expected = {name: data for name, data in snapshot(tmp_path / "tree").items() if name.endswith(".txt")}
    assert {name: data for name, data in snapshot(here / "tree").items() if data is not None} == expected
    assert len(exchange.sent) == len(set(exchange.sent)) or form.startswith("old")
    if form.startswith("new"):
        different = {data for data in expected.values() if isinstance(data, bytes)}
        nodes = bytes_of_directories(exchange, exchange.sent)
        # of the two large files the roots tell their sizes
        assert received(exchange) - nodes <= sum(map(len, different)) + 2 * 1024


@pytest.mark.anyio
async def test_files_that_are_there_are_told_without_asking(
    tmp_path: Path, exchange: FakeExchange, store_kind: str
) -> None:
    """Also where only times and permissions have changed: the new ones are in the directory."""
    tree, here = tmp_path / "tree", tmp_path / "here"
    plant(tree)
    here.mkdir()
    async with open_store(store_kind, tmp_path / "home") as store:
        await get(store, exchange, await share(tree, exchange, NEW), here)
        for path in tree.rglob("*.txt"):
            os.utime(path, ns=(10**18 + 77, 10**18 + 77), follow_symlinks=False)
        (tree / "sub 1" / "1.txt").chmod(0o755)
        (tree / "sub 1" / "1.jpg").write_bytes(b"another")
        os.utime(tree / "sub 1" / "1.jpg", ns=(10**18, 10**18))
        second = await share(tree, exchange, NEW)
        exchange.sent.clear()
        _, told = await update(store, exchange, second, here, dry_run=True)
        raw = [cid for cid in exchange.sent if cid.codec == RAW]
        assert raw == [], "to show what would be done no content is needed"
        _, changes = await update(store, exchange, second, here)
        assert told == changes
        assert changes["tree/sub 1/1.jpg"] == "changed" and "tree/sub 1/4.jpg" not in changes
        assert [cid for cid in exchange.sent if cid.codec == RAW] == [Cid.of(b"another")]
        assert snapshot(here / "tree") == snapshot(tree)
        assert attributes(here / "tree") == attributes(tree)


@pytest.mark.anyio
async def test_it_is_listed_read_walked_and_archived(tmp_path: Path, exchange: FakeExchange) -> None:
    plant(tmp_path / "tree")
    store = MemoryStore()
    added = await Adder(store, NEW, copy=True).add([tmp_path / "tree"])
    exchange.blocks.update(blocks_of(store))
    async with exchange.session(added.cid) as session:
        reader = MemoryStore()
        entries = {entry.name: entry async for entry in list_entries(session, reader, added.cid, "sub 1", look=False)}
        assert {entry.type for entry in entries.values()} == {"file"}
        assert entries["1.jpg"].size == 3_000 and entries["1.txt"].size == 700
        assert all(cid.codec == DAG_PB for cid in exchange.sent)
        async with open_content(session, reader, added.cid, "sub 1/1.jpg") as pieces:
            assert b"".join([piece async for piece in pieces]) == content("jpg 1", 3_000)
        walk = Walk(links, leaves=False)
        walk.add(added.cid)
        while batch := walk.next_batch(100):
            for visit in batch:
                if visit.opens:
                    walk.receive(visit.cid, await store.get(visit.cid))
        assert {multihash for multihash in blocks_of(store) if multihash in walk.met} == set(blocks_of(store))
        archive = [piece async for piece in export_car(session, MemoryStore(), added.cid)]
    other = MemoryStore()

    async def data() -> AsyncIterator[bytes]:
        for piece in archive:
            yield piece

    assert not (await import_car(other, data())).missing
    assert await missing_below(other, added.cid) == [] and blocks_of(other) == blocks_of(store)


def file_node(leaf: Cid, announced: int, told: int) -> tuple[Cid, int]:
    """A root in its own CID with one link."""
    node = dag_pb.Node(
        encode_data(NodeKind.FILE, file_size=announced, block_sizes=[announced], mode=0o644),
        (dag_pb.Link("", told, leaf),),
    )
    return inline_cid(DAG_PB, dag_pb.encode(node)), told


def offered(exchange: FakeExchange, *entries: tuple[str, Cid, int]) -> Cid:
    node = dag_pb.Node(
        encode_data(NodeKind.DIRECTORY), tuple(dag_pb.Link(name, size, cid) for name, cid, size in entries)
    )
    block = dag_pb.encode(node)
    cid = Cid.of(block, DAG_PB)
    exchange.blocks[cid.multihash] = block
    return cid


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("announced", "told"), [(10, 5_000), (5_000, 10), (3 << 20, 4 << 20), (10, 10), (5_001, 6_000)]
)
async def test_a_root_that_lies_about_its_leaf_is_refused(
    tmp_path: Path, exchange: FakeExchange, announced: int, told: int
) -> None:
    leaf = content("leaf", 5_000)
    exchange.blocks[Cid.of(leaf).multihash] = leaf
    cid, size = file_node(Cid.of(leaf), announced, told)
    root = offered(exchange, ("honest", Cid.of(leaf), len(leaf)), ("lies", cid, size))
    with pytest.raises(DecodeError):
        await get(MemoryStore(), exchange, root, tmp_path)
    root = offered(exchange, ("lies", cid, size))
    (tmp_path / "here").mkdir()
    with pytest.raises(WrongSize if announced < 3 << 20 else DecodeError):
        await get(MemoryStore(), exchange, root, tmp_path / "here")


@pytest.mark.anyio
@pytest.mark.parametrize("digest", [b"", b"\x0a\x02\x08\x09", b"\xff" * 20])
async def test_what_is_no_node_is_told_where_it_is_wanted(
    tmp_path: Path, exchange: FakeExchange, digest: bytes
) -> None:
    leaf = content("leaf", 5_000)
    exchange.blocks[Cid.of(leaf).multihash] = leaf
    root = offered(exchange, ("good.txt", Cid.of(leaf), len(leaf)), ("odd", inline_cid(DAG_PB, digest), 0))
    with pytest.raises(DecodeError):
        await get(MemoryStore(), exchange, root, tmp_path)


def test_a_raw_leaf_needs_a_root_where_no_inline_one_is_made() -> None:
    options: ImportOptions = profile()
    cid, *_ = leaf_block(options, b"x")
    builder = FileBuilder(replace(options, inline_root=True))
    builder.add_leaf(cid, 1, 1)
    root = builder.finish(mode=0o755)
    node = decode_node(root.cid, root.cid.digest)
    assert (node.mode, node.file_size, node.links[0].cid) == (0o755, 1, cid)
    assert root.dag_size == 1 + len(root.cid.digest) and builder.next_block() is None


@pytest.mark.anyio
async def test_one_of_them_is_fetched_by_its_path(tmp_path: Path, exchange: FakeExchange, store_kind: str) -> None:
    plant(tmp_path / "tree")
    root = await share(tmp_path / "tree", exchange, NEW)
    here = tmp_path / "here"
    here.mkdir()
    async with open_store(store_kind, tmp_path / "home") as store:
        for name in ("run.txt", "none.txt"):
            request = FetchRequest(root=root, path=name, name=name, directory=here)
            await Fetcher(store, exchange).fetch(request)  # type: ignore[arg-type]
            assert not [cid async for cid in store.cids() if cid.hash_code == multihash.IDENTITY]
    original, copy = tmp_path / "tree", here
    assert (copy / "run.txt").read_bytes() == (original / "run.txt").read_bytes()
    assert attributes(copy) == {name: attributes(original)[name] for name in ("run.txt", "none.txt")}


@pytest.mark.anyio
async def test_leaves_that_nobody_has_are_named_and_left_for_the_end(tmp_path: Path, exchange: FakeExchange) -> None:
    plant(tmp_path / "tree")
    root = await share(tmp_path / "tree", exchange, NEW)
    exchange.lost = {Cid.of(content("jpg 1", 3_000)).multihash, Cid.of(content("txt 2", 700)).multihash}
    here = tmp_path / "here"
    here.mkdir()
    request = FetchRequest(root=root, name="tree", directory=here, unsafe_links=True)
    lost = {"sub 1/1.jpg", "sub 2/2.txt"}
    others = {name: data for name, data in snapshot(tmp_path / "tree").items() if name not in lost}
    async with Fetcher(MemoryStore(), exchange).open(request) as fetch:  # type: ignore[arg-type]
        await until(
            lambda: whole(here / "tree") == others and fetch._work is not None and set(fetch._work.lost) == lost
        )
    exchange.lost.clear()
    await Fetcher(MemoryStore(), exchange).fetch(request)  # type: ignore[arg-type]
    assert snapshot(here / "tree") == snapshot(tmp_path / "tree")
