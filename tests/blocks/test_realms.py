"""For whom blocks are, in both stores that know it: realms, places, what is lost in a crash, what an old index knew."""

import os
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stack.blocks.core import StoreCore
from stack.blocks.disk import stamp_of
from stack.blocks.interfaces import Leaf, RealmState, WholeFile
from stack.blocks.memory import MemoryStore
from stack.blocks.realms import NOBODY
from stack.blocks.rebuild import DAMAGED_NAME
from stack.blocks.records import head_size
from stack.blocks.segments import Addition
from stack.blocks.store import DiskStore
from stack.dag import links
from stack.multiformats.cid import Cid

pytestmark = pytest.mark.anyio

DATA = [bytes([number]) * 3000 for number in range(6)]
CIDS = [Cid.of(data) for data in DATA]
BLOCKS = list(zip(CIDS, DATA, strict=True))
NONE: frozenset = frozenset()

Store = DiskStore | MemoryStore


@pytest.fixture(params=["disk", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    kind = DiskStore if request.param == "disk" else MemoryStore
    async with kind.open(tmp_path) as opened:
        yield opened


async def seen(store: Store, *realms: object, cids: Sequence[Cid] = CIDS) -> list[int]:
    """Which of the blocks a peer sees that was admitted to these realms."""
    sizes = await store.sizes_for(cids, frozenset(getattr(realm, "id", realm) for realm in realms))
    return [number for number, size in enumerate(sizes) if size is not None]


async def test_what_is_put_for_a_realm_is_for_those_who_may_enter_it(store: Store) -> None:
    one, two = await store.add_realm(b"1"), await store.add_realm(b"2")
    await store.put(BLOCKS[:1])
    await store.within(one.id).put(BLOCKS[1:3])
    await store.within(two.id).put(BLOCKS[2:4])
    assert await seen(store) == [0]
    assert await seen(store, one) == [0, 1, 2]
    assert await seen(store, two) == [0, 2, 3]
    assert await seen(store, one, two) == [0, 1, 2, 3]
    assert await store.sizes(CIDS) == [3000] * 4 + [None] * 2  # the node itself sees everything
    assert await store.realms_of(CIDS[2]) == [one.id, two.id]


@pytest.mark.parametrize("closed_first", [False, True])
async def test_a_block_in_an_open_and_a_closed_place_is_open(store: Store, closed_first: bool) -> None:
    realm = await store.add_realm(b"1")
    for into in (store.within(realm.id), store) if closed_first else (store, store.within(realm.id)):
        await into.put(BLOCKS[:1])
    assert await seen(store) == [0]


async def test_a_block_that_was_gone_is_for_whom_it_is_put_next(store: Store) -> None:
    realm = await store.add_realm(b"1")
    await store.put(BLOCKS[:1])
    await store.within(realm.id).put(BLOCKS[1:2])
    await store.delete(CIDS[:2])
    await store.within(realm.id).put(BLOCKS[:1])
    await store.put(BLOCKS[1:2])
    assert await seen(store) == [1]
    assert await seen(store, realm) == [0, 1]


async def test_a_realm_that_is_open_is_for_everybody_and_one_that_has_ended_for_nobody(store: Store) -> None:
    realm = await store.add_realm(b"1")
    await store.within(realm.id).put(BLOCKS[:2])
    await store.change_realm(realm.id, root=CIDS[0], state=RealmState.OPEN)
    assert await seen(store) == [0, 1]
    await store.change_realm(realm.id, root=CIDS[0], state=RealmState.ENDED)
    assert await seen(store) == await seen(store, realm) == []
    assert [(each.root, each.state) for each in await store.realms()] == [(CIDS[0], RealmState.ENDED)]


async def test_what_is_not_for_a_peer_takes_the_index_as_much_as_what_is_absent(tmp_path: Path) -> None:
    """Who asks for a thousand blocks of a file would see a difference."""
    async with DiskStore.open(tmp_path) as store:
        realm = await store.add_realm(b"1")
        await store.within(realm.id).put(BLOCKS[:1])
        statements: list[list[str]] = []
        for cid in (CIDS[0], Cid.of(b"nobody has this")):
            asked: list[str] = []
            with store._core.index.database.reading() as connection:
                connection.set_trace_callback(asked.append)
            assert store._core.locations.sizes_for([cid.multihash], frozenset()) == [None]
            statements.append([statement.partition("x'")[0] for statement in asked])
        assert statements[0] == statements[1] != []


async def test_realms_become_one(store: Store) -> None:
    one, two = await store.add_realm(b"1"), await store.add_realm(b"2")
    await store.within(one.id).put(BLOCKS[:2])
    await store.within(two.id).put(BLOCKS[1:3])
    await store.merge_realms(two.id, one.id)
    assert await seen(store, one) == [0, 1, 2]
    assert await seen(store, two) == []
    assert [realm.id for realm in await store.realms()] == [one.id]


def on_disk(tmp_path: Path, name: str, *datas: bytes) -> tuple[Path, list[Leaf]]:
    path = tmp_path / name
    path.write_bytes(b"".join(datas))
    offsets = [sum(map(len, datas[:number])) for number in range(len(datas))]
    return path, [Leaf(Cid.of(data), offset, len(data)) for data, offset in zip(datas, offsets, strict=True)]


async def test_leaves_in_place_are_for_whom_their_file_is(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path / "home") as store:
        realm = await store.add_realm(b"1")
        path, leaves = on_disk(tmp_path, "closed", DATA[0], DATA[1], DATA[0])
        await store.within(realm.id).add_file(path, stamp_of(path.stat()), leaves)
        path, leaves = on_disk(tmp_path, "open", DATA[2], DATA[1])
        await store.add_file(path, stamp_of(path.stat()), leaves)
        await store.within(realm.id).keep_files(
            tmp_path, [WholeFile("small", ".small.part", Leaf(CIDS[3], 0, 3000), DATA[3])], base=tmp_path
        )
        assert await seen(store) == [1, 2]
        assert await seen(store, realm) == [0, 1, 2, 3]


async def test_what_a_fetch_writes_is_closed_before_and_after_it_is_on_record(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path / "home") as store:
        realm = await store.add_realm(b"1")
        _, leaves = on_disk(tmp_path, "as it will be", *DATA[:3])
        writer = await store.within(realm.id).create_file(tmp_path / "film.part", 9000)
        writer.write(leaves[0], DATA[0])
        assert await seen(store) == [] and await seen(store, realm) == [0]
        await writer.checkpoint()
        assert await seen(store) == [] and await seen(store, realm) == [0]
        await store.put(BLOCKS[1:2])
        writer.write(leaves[1], DATA[1])
        assert await seen(store) == [1] and await seen(store, realm) == [0, 1]
        await writer.seal(tmp_path / "film")
        assert await seen(store) == [1] and await seen(store, realm) == [0, 1]


async def test_it_is_known_after_a_restart_and_kept_by_collection_and_compaction(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        realm = await store.add_realm(b"1", root=CIDS[0])
        await store.within(realm.id).put(BLOCKS[:1])
        await store.within(realm.id).put([(Cid.of(data := os.urandom(9000)), data) for _ in range(9)])
        await store.add_pin(CIDS[0])
        await store.collect(links)
        assert await seen(store) == [] and await seen(store, realm) == [0]
    async with DiskStore.open(tmp_path) as store:
        assert await store.realms() == [realm]
        assert await seen(store) == [] and await seen(store, realm) == [0]


async def test_what_a_crash_left_without_a_row_is_for_nobody(tmp_path: Path) -> None:
    """Its bytes were synced, and then the power went: for whom they were is not known."""
    async with DiskStore.open(tmp_path) as store:
        realm = await store.add_realm(b"1")
        await store.put(BLOCKS[:1])
        await store.within(realm.id).put(BLOCKS[1:2])
    database = sqlite3.connect(tmp_path / "blocks" / "index.sqlite")
    with database:
        [[end]] = database.execute("SELECT max(offset) FROM location").fetchall()
        database.execute("DELETE FROM location WHERE multihash = ?", (CIDS[1].multihash,))
        database.execute("DELETE FROM block_realm")
        database.execute("UPDATE segment SET size = ? WHERE kind = 'pack'", (end - head_size(CIDS[1].multihash),))
    database.close()
    async with DiskStore.open(tmp_path) as store:
        assert await store.has(CIDS[:2]) == [True, True]
        assert await seen(store, realm) == [0]
        assert await store.realms_of(CIDS[1]) == [NOBODY]
        await store.within(realm.id).put(BLOCKS[1:2])
        assert await seen(store) == [0] and await seen(store, realm) == [0, 1]


@asynccontextmanager
async def rebuilt(home: Path, damage: bytes | None) -> AsyncIterator[DiskStore]:
    if damage is not None:
        (home / "blocks" / "index.sqlite").write_bytes(damage)
    await DiskStore.rebuild_index(home)
    async with DiskStore.open(home) as store:
        yield store


async def test_a_rebuilt_index_knows_for_whom_blocks_are_and_gives_nothing_away_when_it_cannot(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        realm = await store.add_realm(b"1", root=CIDS[1])
        await store.put(BLOCKS[:1])
        await store.within(realm.id).put(BLOCKS[1:2])
    async with rebuilt(tmp_path, None) as store:
        assert await seen(store) == [0] and await seen(store, realm) == [0, 1]
        assert await store.realms() == [realm]
    async with rebuilt(tmp_path, b"no database" * 1000) as store:
        assert await store.has(CIDS[:2]) == [True, True]
        assert await seen(store, realm) == []
        await store.put(BLOCKS[:1])
        assert await seen(store) == [0]
    assert (tmp_path / "blocks" / DAMAGED_NAME).exists()


async def test_an_index_of_before_is_all_open_and_knows_realms_from_now_on(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        await store.put(BLOCKS[:2])
    database = sqlite3.connect(tmp_path / "blocks" / "index.sqlite")
    with database:
        database.execute("DROP TABLE realm")
        database.execute("DROP TABLE block_realm")
        database.execute("UPDATE meta SET value = 1 WHERE key = 'schema version'")
    database.close()
    async with DiskStore.open(tmp_path) as store:
        assert await seen(store) == [0, 1]
        realm = await store.add_realm(b"1")
        await store.within(realm.id).put(BLOCKS[1:3])
        assert await seen(store) == [0, 1] and await seen(store, realm) == [0, 1, 2]
    core = StoreCore(tmp_path / "blocks", None, lambda event: None)
    core.close()


async def test_rows_of_blocks_that_are_gone_go_with_a_collection(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        realm = await store.add_realm(b"1")
        await store.within(realm.id).put(BLOCKS)
        await store.collect(links)
        assert await store.has(CIDS) == [False] * len(CIDS)
        assert await store.realms_of(CIDS[0]) == []


async def test_equal_files_of_two_realms_that_are_recorded_together_are_in_both(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one", "two")]
    for path in files:
        path.write_bytes(DATA[0])
    async with DiskStore.open(tmp_path / "home") as store:
        realms = [await store.add_realm(b"1"), await store.add_realm(b"2")]
        for realm, path in zip(realms, files, strict=True):
            addition = Addition(path, stamp_of(path.stat()), [Leaf(CIDS[0], 0, len(DATA[0]))], realm.id)
            store._core.files.submit(addition)
        store._core.files.add_next()
        assert await store.realms_of(CIDS[0]) == [realm.id for realm in realms]
