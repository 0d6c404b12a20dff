"""CARs into a store and out of it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stack.blocks.memory import MemoryStore
from stack.blocks.store import DiskStore
from stack.dag import links
from stack.dag.car import WrongBlock, header, section
from stack.dag.unixfs.options import import_options
from stack.errors import DecodeError, LimitExceeded
from stack.files import car_io
from stack.files.add import Adder
from stack.files.car_io import CarContent, export_car, import_car, list_car
from stack.multiformats.cid import Cid
from tests.files.conftest import FakeExchange, blocks_of, content, open_store
from tests.files.test_fetch import shared

CARS = Path(__file__).parent.parent / "vectors" / "car"
RECORDS = json.loads((CARS / "index.json").read_text())["files"]


class Pieces:
    """Data that comes in pieces; no generator, so that nothing is left open when it is not read to its end."""

    def __init__(self, data: bytes, size: int = 700) -> None:
        self._pieces = iter([data[start : start + size] for start in range(0, len(data), size)])

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = next(self._pieces, None)
        if piece is None:
            raise StopAsyncIteration
        return piece


async def exported(exchange: FakeExchange, store: object, root: Cid) -> bytes:
    async with exchange.session(root) as session:
        return b"".join([piece async for piece in export_car(session, store, root)])  # type: ignore[arg-type]


@pytest.mark.anyio
@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["file"])
async def test_B15_every_recorded_archive_is_imported_or_refused(record: dict) -> None:
    data = (CARS / record["file"]).read_bytes()
    store = MemoryStore()
    if record["must"] != "ok":
        with pytest.raises(DecodeError):
            await import_car(store, Pieces(data))
        with pytest.raises(DecodeError):
            [entry async for entry in list_car(Pieces(data, 100_000))]
        return
    imported = await import_car(store, Pieces(data))
    assert [str(root) for root in imported.roots] == [str(Cid.parse(root)) for root in record["roots"]]
    listed = [entry async for entry in list_car(Pieces(data))]
    assert len([size for _, size in listed if size is not None]) == imported.blocks
    assert all(block is not None for block in blocks_of(store).values())


@pytest.mark.anyio
async def test_a_dag_survives_export_and_import(tmp_path: Path, exchange: FakeExchange, store_kind: str) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    for number in range(30):
        (tree / "sub" / str(number)).write_bytes(content(str(number % 7), 9000))
    (tree / "large").write_bytes(content("large", 600_000))
    root = await shared(tree, exchange, import_options("unixfs-v1-2025", {"chunker": "size-4096", "max-file-links": 5}))
    async with open_store(store_kind, tmp_path / "home") as store:
        archive = await exported(exchange, store, root)
        other = MemoryStore()
        found = await import_car(other, Pieces(archive, 10_000_000))
        assert blocks_of(other) == exchange.blocks
        assert found == CarContent(
            roots=(root,), blocks=len(exchange.blocks), bytes=sum(map(len, exchange.blocks.values()))
        )
        # what was fetched is kept, so a second export asks nobody
        exchange.sent.clear()
        assert await exported(exchange, store, root) == archive
        assert exchange.sent == []


@pytest.mark.anyio
async def test_blocks_come_depth_first_parents_before_children(tmp_path: Path, exchange: FakeExchange) -> None:
    (tmp_path / "film").write_bytes(content("film", 9000))
    options = import_options("unixfs-v1-2025", {"chunker": "size-1000", "max-file-links": 2})
    root = await shared(tmp_path / "film", exchange, options)
    listed = [cid async for cid, size in list_car(Pieces(await exported(exchange, MemoryStore(), root))) if size]
    assert listed[0] == root and listed[4].codec == 0x55 and listed[5].codec == 0x55
    assert len(listed) == len(exchange.blocks)


@pytest.mark.anyio
async def test_what_is_read_ahead_is_bounded(
    tmp_path: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(car_io, "AHEAD_BYTES", 0)
    monkeypatch.setattr(car_io, "BATCH_BLOCKS", 2)
    (tmp_path / "film").write_bytes(content("film", 90_000))
    options = import_options("unixfs-v1-2025", {"chunker": "size-1000", "max-file-links": 5})
    root = await shared(tmp_path / "film", exchange, options)
    assert len(await exported(exchange, MemoryStore(), root)) > 90_000
    monkeypatch.setattr(car_io, "BLOCKS_MAX", 20)
    with pytest.raises(LimitExceeded):
        await exported(exchange, MemoryStore(), root)


@pytest.mark.anyio
async def test_B15_blocks_before_the_damage_are_kept_and_the_place_is_told(store_kind: str, tmp_path: Path) -> None:
    good, bad = Cid.of(b"good"), Cid.of(b"bad")
    archive = header([good]) + section(good, b"good") + section(bad, b"evil")
    async with open_store(store_kind, tmp_path / "home") as store:
        with pytest.raises(WrongBlock, match="block 1"):
            await import_car(store, Pieces(archive))
        assert await store.has([good, bad]) == [True, False]


@pytest.mark.anyio
async def test_blocks_go_to_the_store_in_batches_and_inline_ones_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(car_io, "BATCH_BYTES", 10)
    inline = Cid.v1(0x55, b"\x00\x02hi")
    blocks = [content(str(number), 7) for number in range(9)]
    archive = header([]) + section(inline, b"hi") + b"".join(section(Cid.of(block), block) for block in blocks)
    store = MemoryStore()
    found = await import_car(store, Pieces(archive))
    assert (found.blocks, len(blocks_of(store))) == (10, 9)


@pytest.mark.anyio
async def test_an_inline_root_makes_an_archive_without_blocks(exchange: FakeExchange) -> None:
    inline = Cid.v1(0x55, b"\x00\x02hi")
    assert await exported(exchange, MemoryStore(), inline) == header([inline])


@pytest.mark.anyio
async def test_an_archive_that_is_not_whole_is_told_and_not_pinned(tmp_path: Path) -> None:
    """A backup that lacks blocks is none (ipfs/kubo issue 10159)."""
    leaves = [b"a" * 100, b"b" * 100, b"a" * 100]
    options = import_options("default", {"chunker": "size-100"})
    (tmp_path / "file").write_bytes(b"".join(leaves))
    made = MemoryStore()
    root = (await Adder(made, options, copy=True).add([tmp_path / "file"])).cid
    cids = [root, *links(root, await made.get(root))]
    blocks = {cid: await made.get(cid) for cid in cids}
    for lacking in ([], [cids[1]], cids[2:3], cids[1:], cids):
        archive = header([root]) + b"".join(section(cid, data) for cid, data in blocks.items() if cid not in lacking)
        async with open_store(
            "disk", tmp_path / f"store{len(lacking)}{cids.index(lacking[0]) if lacking else ''}"
        ) as store:
            assert isinstance(store, DiskStore)
            read = await import_car(store, Pieces(archive, 50), pin=True)
            expected = {cid.multihash for cid in lacking} if cids[0] not in lacking else {root.multihash}
            assert {cid.multihash for cid in read.missing} == expected
            assert [cid for cid, _ in await store.pins()] == ([] if lacking else [root])
            assert (await import_car(store, Pieces(archive, 50))).missing == ()


@pytest.mark.anyio
@pytest.mark.parametrize("data", [b"<html>404</html>", b"\x1f\x8b\x08\x00\x00\x00\x00\x00", b"1\n", b""])
async def test_what_is_no_archive_at_all_is_called_that(data: bytes) -> None:
    """A gateway's error page, and what was compressed: `dag-cbor: a length goes past the end`."""

    async def pieces() -> AsyncIterator[bytes]:
        yield data

    with pytest.raises(DecodeError, match="this is no CAR archive"):
        await import_car(MemoryStore(), pieces())
