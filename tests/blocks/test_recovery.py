"""Torn packs, packs without rows, rows without packs: what the next start makes of them."""

import os
import sqlite3
from pathlib import Path

import pytest

from stack.blocks import index as index_module
from stack.blocks.interfaces import Leaf, Segment, SegmentState
from stack.blocks.packs import scan
from stack.blocks.records import HEAD, encode_head
from stack.blocks.recovery import Repair, StoreRepaired
from stack.blocks.store import DiskStore
from stack.multiformats.cid import Cid
from stack.testing.conformance.stores import Block, block
from tests.blocks.support import Events, flip, leaves_of, noise, packs, stamp

pytestmark = pytest.mark.anyio

BLOCKS = [block(number, 1000 + number) for number in range(10)]


def record(one: Block) -> bytes:
    """A block as it lies in a pack."""
    cid, data = one
    return encode_head(cid.multihash, len(data)) + data


async def make(home: Path) -> Path:
    """A store with BLOCKS in one pack; the pack."""
    async with DiskStore.open(home) as store:
        await store.put(BLOCKS)
    return packs(home)[0]


def repairs(events: Events) -> list[tuple[Repair, int]]:
    """What was put right, and how much of it."""
    return [(event.repair, event.amount) for event in events.told if isinstance(event, StoreRepaired)]


async def check(home: Path, expected: list[Block]) -> list[tuple[Repair, int]]:
    """Open the store: all of `expected` is there, more can be put, nothing is wrong. What was repaired."""
    events = Events()
    async with DiskStore.open(home, trace=events) as store:
        assert [await store.get(cid) for cid, _ in expected] == [data for _, data in expected]
        await store.put([block(99)])
        assert await store.get(block(99)[0]) == block(99)[1]
        assert (await store.verify()).problem_count == 0
    async with DiskStore.open(home) as store:
        assert [await store.get(cid) for cid, _ in expected] == [data for _, data in expected]
    return repairs(events)


async def test_a_clean_store_needs_no_repair(tmp_path: Path) -> None:
    await make(tmp_path)
    assert await check(tmp_path, BLOCKS) == []


@pytest.mark.parametrize("cut", [1, 4, 9, 46, 47, 48, 500, 1019])
async def test_a_torn_record_behind_the_valid_part_is_cut_off(tmp_path: Path, cut: int) -> None:
    pack = await make(tmp_path)
    size = pack.stat().st_size
    torn = record(block(20, 1000))[:cut] if cut < 1019 else bytes(1019)
    with pack.open("ab") as file:
        file.write(torn)
    events = Events()
    async with DiskStore.open(tmp_path, trace=events):
        assert pack.stat().st_size == size
    assert repairs(events) == [(Repair.END_CUT, len(torn))]
    assert await check(tmp_path, BLOCKS) == []


async def test_whole_records_behind_the_valid_part_are_adopted(tmp_path: Path) -> None:
    pack = await make(tmp_path)
    with pack.open("ab") as file:
        file.write(record(block(20)) + record(BLOCKS[0]) + record(block(21)) + record(block(22))[:-1])
    assert await check(tmp_path, [*BLOCKS, block(20), block(21)]) == [
        (Repair.END_CUT, 1046),
        (Repair.RECORDS_ADOPTED, 3),
    ]


async def test_rows_that_point_past_the_end_are_dropped(tmp_path: Path) -> None:
    pack = await make(tmp_path)
    with pack.open("r+b") as file:
        file.truncate(pack.stat().st_size - 1100)
    assert await check(tmp_path, BLOCKS[:8]) == [(Repair.ROWS_DROPPED, 2)]
    async with DiskStore.open(tmp_path) as store:
        assert await store.has([cid for cid, _ in BLOCKS[8:]]) == [False, False]


async def test_a_pack_that_is_gone_takes_its_rows_with_it(tmp_path: Path) -> None:
    pack = await make(tmp_path)
    pack.unlink()
    assert await check(tmp_path, []) == [(Repair.ROWS_DROPPED, 10)]


async def test_a_pack_without_rows_is_adopted(tmp_path: Path) -> None:
    await make(tmp_path / "one")
    async with DiskStore.open(tmp_path / "two"):
        pass
    source = packs(tmp_path / "one")[0]
    source.rename(tmp_path / "two" / "blocks" / "packs" / source.name)
    assert await check(tmp_path / "two", BLOCKS) == [(Repair.RECORDS_ADOPTED, 10)]


async def test_a_pack_whose_number_is_taken_is_adopted_under_another(tmp_path: Path) -> None:
    await make(tmp_path / "one")
    async with DiskStore.open(tmp_path / "two") as store:
        path = tmp_path / "film"
        path.write_bytes(b"film")
        assert await store.add_file(path, stamp(path), leaves_of(b"film", 4)) == 1
    source = packs(tmp_path / "one")[0]
    source.rename(tmp_path / "two" / "blocks" / "packs" / source.name)
    assert await check(tmp_path / "two", [*BLOCKS, (Cid.of(b"film"), b"film")]) == [(Repair.RECORDS_ADOPTED, 10)]
    assert packs(tmp_path / "two")[0].name == "000002.pack"


async def test_b14_a_corrupt_pack_costs_only_what_is_damaged_even_without_an_index(tmp_path: Path) -> None:
    pack = await make(tmp_path)
    heads = [found.offset - 47 for found in scan(pack, len(HEAD), search=False)]
    flip(pack, heads[2] + 1)
    flip(pack, heads[5] + 200)
    (tmp_path / "blocks" / "index.sqlite").unlink()
    kept = [one for number, one in enumerate(BLOCKS) if number not in (2, 5)]
    assert await check(tmp_path, kept) == [(Repair.RECORDS_ADOPTED, 8)]


async def test_what_looks_like_a_record_inside_a_block_is_read_as_part_of_it(tmp_path: Path) -> None:
    inner = record(block(50))
    outer = (Cid.of(b"pack in a pack" + inner), b"pack in a pack" + inner)
    async with DiskStore.open(tmp_path) as store:
        await store.put([BLOCKS[0], outer, BLOCKS[1]])
    flip(packs(tmp_path)[0], 1047 + 8 + 47 + 3)
    (tmp_path / "blocks" / "index.sqlite").unlink()
    async with DiskStore.open(tmp_path) as store:
        assert await store.has([BLOCKS[0][0], outer[0], BLOCKS[1][0], block(50)[0]]) == [True, False, True, False]


async def test_a_damaged_place_is_searched_across_the_borders_of_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = await make(tmp_path)
    heads = [found.offset - 47 for found in scan(pack, len(HEAD), search=False)]
    flip(pack, heads[0])
    for size in (5, 64, 1000, heads[1] - heads[0] + 1, 1 << 20):
        monkeypatch.setattr("stack.blocks.packs.SEARCH_BYTES", size)
        assert len(list(scan(pack, len(HEAD), search=True))) == 9
    assert list(scan(pack, len(HEAD), search=False)) == []


async def test_a_pack_that_is_only_noise_gives_nothing(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path):
        pass
    (tmp_path / "blocks" / "packs" / "000007.pack").write_bytes(noise(100_000))
    (tmp_path / "blocks" / "packs" / "readme.txt").write_bytes(b"not a pack")
    (tmp_path / "blocks" / "packs" / "000008.pack").write_bytes(b"")
    assert await check(tmp_path, []) == [(Repair.RECORDS_ADOPTED, 0), (Repair.RECORDS_ADOPTED, 0)]


async def test_of_several_growing_packs_the_last_goes_on(tmp_path: Path) -> None:
    await make(tmp_path)
    async with DiskStore.open(tmp_path) as store:
        store._core.packs.close()
        await store.put([block(20)])
    async with DiskStore.open(tmp_path) as store:
        states = [each.state for each in await store.segments()]
        assert states == [SegmentState.SEALED, SegmentState.FETCHING]
        await store.put([block(21)])
        assert len(packs(tmp_path)) == 2


async def test_a_pack_that_compaction_was_about_to_remove_goes(tmp_path: Path) -> None:
    pack = await make(tmp_path)
    index = sqlite3.connect(tmp_path / "blocks" / "index.sqlite", isolation_level=None)
    index.execute("UPDATE segment SET state = 'missing'")
    index.execute("DELETE FROM location")
    index.close()
    assert await check(tmp_path, []) == []
    assert pack not in packs(tmp_path)[1:]


async def test_a_row_of_a_pack_that_was_never_made_is_forgotten(tmp_path: Path) -> None:
    await make(tmp_path)
    index = sqlite3.connect(tmp_path / "blocks" / "index.sqlite", isolation_level=None)
    index.execute("INSERT INTO segment (kind, path, state) VALUES ('pack', '000002.pack', 'fetching')")
    index.close()
    assert await check(tmp_path, BLOCKS) == []
    async with DiskStore.open(tmp_path) as store:
        assert len(await store.segments()) == 1


async def test_a_start_looks_at_no_file_that_was_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 100,000 files shared each command would begin two seconds later."""
    for number in range(5):
        (tmp_path / f"f{number}").write_bytes(b"%d" % number)
    files = [(path, stamp(path), [Leaf(Cid.of(path.read_bytes()), 0, 1)]) for path in tmp_path.iterdir()]
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_files(files)
        writer = await store.create_file(tmp_path / "part", 9)
        writer.write(Leaf(Cid.of(b"part"), 0, 4), b"part")
    looked: set[Path] = set()
    real = index_module.segment_of

    def look(row: index_module.SegmentColumns) -> Segment:
        looked.add(Path(os.fsdecode(row[2])))
        return real(row)

    monkeypatch.setattr(index_module, "segment_of", look)
    async with DiskStore.open(tmp_path / "home") as store:
        await store.leave_parts()
    assert looked == {tmp_path / "part"}
