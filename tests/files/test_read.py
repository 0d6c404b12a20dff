"""Reading files and directories out of blocks."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from stack.blocks.memory import MemoryStore
from stack.dag import dag_pb, links
from stack.dag.unixfs.data import NodeKind, encode_data
from stack.dag.unixfs.options import import_options, profile
from stack.dag.unixfs.reader import LinkNotFound, NotADirectory
from stack.errors import DecodeError, LimitExceeded, LocalProtocolError, NoSpace
from stack.files import read as read_module
from stack.files.add import Adder
from stack.files.car_io import export_car
from stack.files.paths import split_source
from stack.files.read import ListedEntry, list_entries, look_at, open_content
from stack.files.totals import COUNT_MAX, Count, count_below
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB
from tests.files.conftest import FakeExchange, FakeSession, content, open_store
from tests.files.test_fetch import LAYOUTS, RAW_LEAF, node, offer, shared, v1


@asynccontextmanager
async def session_of(exchange: FakeExchange) -> AsyncIterator[FakeSession]:
    async with exchange.session(Cid.of(b"")) as session:
        yield session


async def cat(exchange: FakeExchange, root: Cid, path: str = "", *, store: object = None, **span: int | None) -> bytes:
    async with (
        session_of(exchange) as session,
        open_content(session, store or MemoryStore(), root, path, **span) as pieces,  # type: ignore[arg-type]
    ):
        return b"".join([piece async for piece in pieces])


@pytest.mark.anyio
@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_file_of_any_layout_is_read_whole_and_in_parts(
    tmp_path: Path, exchange: FakeExchange, layout: str
) -> None:
    options, size = LAYOUTS[layout]
    source = tmp_path / "film"
    data = content(layout, size)
    source.write_bytes(data)
    root = await shared(source, exchange, options)
    assert await cat(exchange, root) == data
    for offset, length in ((0, 1), (size // 2, 5000), (size - 1, 10), (size, 10), (size + 10, None), (3, 0)):
        offset = max(offset, 0)
        expected = data[offset:] if length is None else data[offset : offset + length]
        assert await cat(exchange, root, offset=offset, length=length) == expected


@pytest.mark.anyio
@pytest.mark.parametrize("span", [{"offset": -1}, {"length": -1}, {"offset": 5, "length": -5}])
async def test_a_span_that_no_file_has_is_refused(
    tmp_path: Path, exchange: FakeExchange, span: dict[str, int | None]
) -> None:
    """`cat(offset=-1)` gave the whole file."""
    (tmp_path / "film").write_bytes(b"film")
    with pytest.raises(LocalProtocolError, match="0 or more"):
        await cat(exchange, await shared(tmp_path / "film", exchange), **span)


@pytest.mark.anyio
async def test_only_blocks_of_the_asked_part_are_fetched(tmp_path: Path, exchange: FakeExchange) -> None:
    source = tmp_path / "film"
    source.write_bytes(content("film", 1_000_000))
    root = await shared(source, exchange, import_options("unixfs-v1-2025", {"chunker": "size-4096"}))
    assert await cat(exchange, root, offset=500_000, length=3) == content("film", 1_000_000)[500_000:500_003]
    assert len(exchange.sent) == 2


@pytest.mark.anyio
async def test_a_local_file_is_read_from_where_it_lies(tmp_path: Path, exchange: FakeExchange) -> None:
    source = tmp_path / "film"
    source.write_bytes(content("film", 9_000_000))
    async with open_store("disk", tmp_path / "home") as store:
        added = await Adder(store, profile()).add([source])
        assert await cat(exchange, added.cid, store=store) == content("film", 9_000_000)
    assert exchange.sent == []


@pytest.mark.anyio
async def test_what_is_here_is_read_here_and_the_rest_from_peers(
    tmp_path: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_module, "BATCH_BYTES", 4 * 4096)
    data = content("film", 200 * 4096)
    (tmp_path / "film").write_bytes(data)
    root = await shared(tmp_path / "film", exchange, import_options("unixfs-v1-2025", {"chunker": "size-4096"}))
    leaves = [data[at : at + 4096] for at in range(0, len(data), 4096)]
    for here in ([*range(50)], [*range(60, 200)], [*range(0, 200, 3)], [*range(20), *range(90, 120)]):
        store = MemoryStore()
        blocks = [(Cid.of(leaves[number]), leaves[number]) for number in here]
        await store.put(blocks)
        exchange.sent.clear()
        assert await cat(exchange, root, store=store) == data
        assert not {cid.multihash for cid in exchange.sent} & {cid.multihash for cid, _ in blocks}
        assert len(exchange.sent) == 1 + len(leaves) - len(here)


@pytest.mark.anyio
@pytest.mark.parametrize("raw", [True, False])
async def test_nothing_of_what_has_changed_in_a_file_is_given_out(
    tmp_path: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch, raw: bool
) -> None:
    monkeypatch.setattr(read_module, "BATCH_BYTES", 4 * 4096)
    monkeypatch.setattr("stack.files.gather.LOOK_SECONDS", 0.01)
    monkeypatch.setattr(read_module, "LEAVE_SECONDS", 0.01)
    data = content("film", 100 * 4096)
    (tmp_path / "film").write_bytes(data)
    options = import_options("unixfs-v1-2025", {"chunker": "size-4096", "raw-leaves": raw})
    peers = await shared(tmp_path / "film", exchange, options)
    exchange.lost = set(exchange.blocks)
    with anyio.fail_after(20):
        async with open_store("disk", tmp_path / "home") as store:
            root = (await Adder(store, options).add([tmp_path / "film"])).cid
            assert root == peers
            times = (tmp_path / "film").stat()
            with (tmp_path / "film").open("r+b") as file:
                file.seek(50 * 4096)
                file.write(b"changed")
            os.utime(tmp_path / "film", ns=(times.st_atime_ns, times.st_mtime_ns))
            came = b""
            async with session_of(exchange) as session, open_content(session, store, root) as pieces:
                async for piece in pieces:
                    came += piece
                    assert data.startswith(came)
                    exchange.lost.clear()
    assert came == data


@pytest.mark.anyio
async def test_reading_ahead_is_bounded(tmp_path: Path, exchange: FakeExchange) -> None:
    source = tmp_path / "film"
    source.write_bytes(bytes(64) + content("film", 60_000_000))
    root = await shared(source, exchange)
    async with session_of(exchange) as session, open_content(session, MemoryStore(), root) as pieces:
        async for piece in pieces:
            assert piece.startswith(bytes(64))
            break
        await anyio.wait_all_tasks_blocked()
        assert sum(len(exchange.blocks[cid.multihash]) for cid in exchange.sent) < 30_000_000


@pytest.mark.anyio
async def test_a_block_that_a_file_has_in_many_places_is_asked_for_once(
    tmp_path: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Helia gives no block twice within five seconds: `stack cat` of a file with a run of zeros took twelve."""
    monkeypatch.setattr(read_module, "BATCH_BYTES", 4 * 4096)
    source, film = tmp_path / "film", content("film", 90 * 4096)
    data = b"".join(bytes(4096) + film[at : at + 3 * 4096] for at in range(0, len(film), 3 * 4096)) + bytes(50 * 4096)
    source.write_bytes(data)
    root = await shared(source, exchange, import_options("unixfs-v1-2025", {"chunker": "size-4096"}))
    assert await cat(exchange, root) == data
    assert len(exchange.sent) == len(set(exchange.sent))


@pytest.mark.anyio
async def test_paths_lead_to_files_and_what_is_no_file_is_told(tmp_path: Path, exchange: FakeExchange) -> None:
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "film").write_bytes(b"abc")
    root = await shared(tmp_path / "tree", exchange)
    assert await cat(exchange, root, "deep/film") == b"abc"
    with pytest.raises(DecodeError, match="is a directory, not a file"):
        await cat(exchange, root, "deep")
    with pytest.raises(LinkNotFound):
        await cat(exchange, root, "deep/none")


@pytest.mark.anyio
async def test_B18_A57_lying_sizes_and_floods_of_links_end_the_reading(
    exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    liar = node([(RAW_LEAF[0], 1000), (RAW_LEAF[0], 999)])
    offer(exchange, RAW_LEAF, liar)
    with pytest.raises(DecodeError, match="announced"):
        await cat(exchange, liar[0])
    top = RAW_LEAF
    for _ in range(200):
        top = node([(top[0], 1000)])
        offer(exchange, top)
    with pytest.raises(DecodeError, match="levels deep"):
        await cat(exchange, top[0])
    monkeypatch.setattr(read_module, "PARTS_MAX", 5)
    inner = node([(RAW_LEAF[0], 1000)] * 5000)
    wide = node([(inner[0], 5_000_000)] * 5)
    offer(exchange, inner, wide)
    with pytest.raises(LimitExceeded):
        await cat(exchange, wide[0])


@pytest.mark.anyio
@pytest.mark.parametrize("arguments", [{}, {"max-directory-links": 2, "max-hamt-fanout": 8}, {"raw-leaves": False}])
async def test_a_directory_is_listed_with_types_and_sizes(
    tmp_path: Path, exchange: FakeExchange, arguments: dict
) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "file").write_bytes(b"abc")
    (tree / "large").write_bytes(content("large", 3_000_000))
    (tree / "link").symlink_to("x")
    for number in range(100):
        (tree / f"n{number:03}").write_bytes(b"")
    root = await shared(tree, exchange, import_options("unixfs-v1-2025", arguments))
    async with session_of(exchange) as session:
        listed = {entry.name: entry async for entry in list_entries(session, MemoryStore(), root)}
        assert len(listed) == 104
        assert (listed["file"].type, listed["file"].size) == ("file", 3)
        assert (listed["large"].type, listed["large"].size) == ("file", 3_000_000)
        assert (listed["link"].type, listed["link"].size) == ("symlink", None)
        assert (listed["sub"].type, listed["sub"].size) == ("directory", None)
        assert [entry async for entry in list_entries(session, MemoryStore(), root, "sub")] == []
        with pytest.raises(NotADirectory):
            [entry async for entry in list_entries(session, MemoryStore(), root, "file")]


@pytest.mark.anyio
async def test_entries_that_are_not_looked_at_or_no_unixfs_are_unknown(exchange: FakeExchange) -> None:
    block = b"\xa0"
    strange = Cid.of(block, codec=0x71)
    data = encode_data(NodeKind.DIRECTORY)
    root_block = dag_pb.encode(dag_pb.Node(data, (dag_pb.Link("a", 5, strange), dag_pb.Link("b", 7, RAW_LEAF[0]))))
    root = Cid.of(root_block, codec=DAG_PB)
    offer(exchange, (strange, block), (root, root_block))
    for look in (True, False):
        async with session_of(exchange) as session:
            entries = [entry async for entry in list_entries(session, MemoryStore(), root, look=look)]
        assert entries == [
            ListedEntry(name="a", cid=strange, size=None, type="unknown"),
            ListedEntry(name="b", cid=RAW_LEAF[0], size=7, type="file"),
        ]


@pytest.mark.anyio
async def test_an_entry_that_nobody_has_is_unknown_and_the_others_are_told(
    tmp_path: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was lost kept the whole list from being shown."""
    monkeypatch.setattr("stack.files.gather.LOOK_SECONDS", 0.01)
    monkeypatch.setattr(read_module, "LEAVE_SECONDS", 0.01)
    source = tmp_path / "source"
    source.mkdir()
    for number in range(3):
        (source / f"{number}").write_bytes(content(f"{number}", 9000))
    root = await shared(source, exchange, import_options("unixfs-v1-2025", {"chunker": "size-4096"}))
    async with session_of(exchange) as session:
        entries = [entry async for entry in list_entries(session, MemoryStore(), root)]
        assert [(entry.type, entry.size) for entry in entries] == [("file", 9000)] * 3
        exchange.lost = {entries[1].cid.multihash}
        entries = [entry async for entry in list_entries(session, MemoryStore(), root)]
    assert [(entry.type, entry.size) for entry in entries] == [("file", 9000), ("unknown", None), ("file", 9000)]


@pytest.mark.anyio
@pytest.mark.parametrize("lost", ["first leaf", "leaf", "last leaves", "node"])
@pytest.mark.parametrize("at_once", [6, 1000])
async def test_what_comes_before_a_block_that_nobody_has_is_given_out(
    tmp_path: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch, lost: str, at_once: int
) -> None:
    """`stack cat` wrote nothing of the 4 MiB in which a leaf was lost."""
    monkeypatch.setattr("stack.files.gather.LOOK_SECONDS", 0.01)
    monkeypatch.setattr(read_module, "LEAVE_SECONDS", 0.01)
    monkeypatch.setattr(read_module, "BATCH_PARTS", at_once)
    data = content("film", 16 * 4096)
    (tmp_path / "film").write_bytes(data)
    options = import_options("unixfs-v1-2025", {"chunker": "size-4096", "max-file-links": 8})
    root = await shared(tmp_path / "film", exchange, options)
    second = links(root, exchange.blocks[root.multihash])[1].multihash
    leaves = [Cid.of(data[at : at + 4096]).multihash for at in range(0, len(data), 4096)]
    before, missing = {
        "first leaf": (0, {leaves[0]}),
        "leaf": (3, {leaves[3], leaves[9]}),
        "last leaves": (14, {*leaves[14:]}),
        "node": (8, {second}),
    }[lost]
    exchange.lost = set(missing)
    came = b""
    with anyio.fail_after(20):
        async with session_of(exchange) as session, open_content(session, MemoryStore(), root) as pieces:
            if before:
                async for piece in pieces:
                    came += piece
                    if len(came) == before * 4096:
                        break
            exchange.lost.clear()
            async for piece in pieces:
                came += piece
    assert came == data


@pytest.mark.anyio
async def test_leaving_early_stops_the_reading(tmp_path: Path, exchange: FakeExchange) -> None:
    source = tmp_path / "film"
    source.write_bytes(content("film", 3_000_000))
    root = await shared(source, exchange)
    exchange.gate = lambda cid: len(exchange.sent) < 2
    with anyio.fail_after(5):
        async with session_of(exchange) as session, open_content(session, MemoryStore(), root):
            pass


def test_B01_a_source_is_a_cid_with_a_path() -> None:
    cid = Cid.of(b"x")
    for text in (f"{cid}", f" {cid}\n", f"/ipfs/{cid}", f"ipfs://{cid}"):
        assert split_source(text) == (cid, "")
    assert split_source(f"/ipfs/{cid}/a/b c") == (cid, "a/b c")
    for text in ("", "nonsense", "/", "a" * 10_000_000):
        with pytest.raises(DecodeError):
            split_source(text)


@pytest.mark.anyio
async def test_what_can_be_read_is_read_though_nothing_can_be_kept(
    tmp_path: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The home's disk was full, and `stack ls` and `stack cat` said so, of a tree that was there."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "film").write_bytes(content("film", 100_000))
    root = await shared(tmp_path / "tree", exchange, v1(chunker="size-1000"))
    store = MemoryStore()

    async def full(blocks: object) -> None:
        raise NoSpace("the disk is full")

    monkeypatch.setattr(store, "put", full)
    assert await cat(exchange, root, "film", store=store) == content("film", 100_000)
    async with session_of(exchange) as session:
        assert [entry.name async for entry in list_entries(session, store, root)] == ["film"]
        assert (await look_at(session, store, root, "film")).size == 100_000
        pieces = [piece async for piece in export_car(session, store, root)]
    assert len(b"".join(pieces)) > 100_000


def padded(number: int) -> bytes:
    """A part of a file that has one byte of it, in a block of 12 kB."""
    links = [dag_pb.Link(None, 0, Cid.of(b"%d" % number)), *[dag_pb.Link(None, 0, Cid.of(b""))] * 250]
    data = encode_data(NodeKind.FILE, payload=b"%d" % (number % 10), file_size=1, block_sizes=[0] * len(links))
    return dag_pb.encode(dag_pb.Node(data, tuple(links)))


@pytest.mark.anyio
@pytest.mark.parametrize("here", [True, False])
async def test_attack_blocks_that_are_mostly_padding_are_not_all_held(
    exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch, here: bool
) -> None:
    monkeypatch.setattr(read_module, "HELD_BYTES", 500_000)
    store, parts = MemoryStore(), [padded(number) for number in range(1200)]
    links = tuple(dag_pb.Link(None, len(part), Cid.of(part, codec=DAG_PB)) for part in parts)
    data = encode_data(NodeKind.FILE, file_size=len(parts), block_sizes=[1] * len(parts))
    blocks = [dag_pb.encode(dag_pb.Node(data, links)), *parts]
    cids = [Cid.of(block, codec=DAG_PB) for block in blocks]
    if here:
        await store.put(list(zip(cids, blocks, strict=True)))
    else:
        exchange.blocks.update({cid.multihash: block for cid, block in zip(cids, blocks, strict=True)})
    held: list[int] = []
    async with session_of(exchange) as session, open_content(session, store, cids[0]) as pieces:
        await anyio.sleep(0.05)
        position = 0
        async for piece in pieces:
            held.append(sum(len(block) for batch in pieces._last for block in batch.blocks.values()))  # type: ignore[attr-defined]
            assert piece == b"%d" % (position % 10)
            position += len(piece)
    assert position == len(parts)
    assert 400_000 < max(held) <= 500_000


@pytest.mark.anyio
async def test_attack_parts_with_others_below_are_opened_a_few_at_a_time(
    exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all 40,000 of a node in one list, of which each part with others below is the end of a turn, a file of 40 kB took minutes."""
    sizes: list[int] = []
    give = read_module._Reading._give

    async def counted(self: object, batch: object, ready: list) -> None:
        sizes.append(len(ready))
        await give(self, batch, ready)  # type: ignore[arg-type]

    monkeypatch.setattr(read_module._Reading, "_give", counted)
    leaf = Cid.of(b"x"), b"x"
    below = node([(leaf[0], 1)])
    wide = node([(below[0], 1)] * 1500)
    top = node([(wide[0], 1500)])
    store = MemoryStore()
    await store.put([leaf, below, wide, top])
    assert await cat(exchange, top[0], store=store) == b"x" * 1500
    assert max(sizes) == read_module.BATCH_PARTS


@pytest.mark.anyio
async def test_directories_that_list_each_other_are_counted_once_each(exchange: FakeExchange) -> None:
    """Thirteen of them are ten thousand million files, and `stack ls` did not end."""
    store = MemoryStore()
    below, size = Cid.of(b"abc"), 3
    await store.put([(below, b"abc")])
    for _ in range(13):
        links = tuple(dag_pb.Link(f"{number}", size, below) for number in range(10))
        block = dag_pb.encode(dag_pb.Node(encode_data(NodeKind.DIRECTORY), links))
        below = Cid.of(block, codec=DAG_PB)
        await store.put([(below, block)])
    async with session_of(exchange) as session:
        count = await count_below(session, store, below)
    assert count == Count(files=10**13, directories=sum(10**level for level in range(1, 13)), bytes=3 * 10**13)


@pytest.mark.anyio
async def test_no_more_is_counted_than_can_be_told(exchange: FakeExchange) -> None:
    store, below = MemoryStore(), Cid.of(b"abc")
    await store.put([(below, b"abc")])
    for _ in range(30):
        links = tuple(dag_pb.Link(f"{number}", 3, below) for number in range(10))
        block = dag_pb.encode(dag_pb.Node(encode_data(NodeKind.DIRECTORY), links))
        below = Cid.of(block, codec=DAG_PB)
        await store.put([(below, block)])
    async with session_of(exchange) as session:
        assert await count_below(session, store, below) == Count(
            files=COUNT_MAX, directories=COUNT_MAX, bytes=COUNT_MAX
        )


@pytest.mark.anyio
async def test_all_below_a_directory_is_counted(tmp_path: Path, exchange: FakeExchange) -> None:
    for place in ("a/one", "a/deep/two", "b/one", "b/deep/two", "three"):
        (tmp_path / "tree" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / place).write_bytes(b"12345")
    root = await shared(tmp_path / "tree", exchange)
    async with session_of(exchange) as session:
        assert await count_below(session, MemoryStore(), root) == Count(files=5, directories=4, bytes=25)
        assert await count_below(session, MemoryStore(), root, "a") == Count(files=2, directories=1, bytes=10)
        assert await count_below(session, MemoryStore(), root, "three") == Count(files=1, directories=0, bytes=5)
