"""Packs, their index, and what a put promises."""

import fcntl
import os
import sqlite3
import sys
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest

from stack.blocks import commits, core, database, disk
from stack.blocks import packs as packs_module
from stack.blocks.core import StoreLocked
from stack.blocks.database import Database
from stack.blocks.interfaces import BlockMismatch, BlockNotFound, Leaf, SegmentState
from stack.blocks.packs import PACK_BYTES_MAX
from stack.blocks.store import DiskStore
from stack.errors import CorruptStore, NoSpace, RepoTooNew, StoreError
from stack.multiformats.cid import Cid
from stack.testing.conformance.stores import block
from tests.blocks.support import Events, flip, noise, packs, stamp

pytestmark = pytest.mark.anyio

FULL = 2
"""SQLite syncs its log at each commit."""


async def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path):
        with pytest.raises(StoreLocked):
            async with DiskStore.open(tmp_path):
                raise AssertionError("opened twice")
    async with DiskStore.open(tmp_path):
        pass


async def test_a_put_is_synced_before_its_rows_and_both_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[int, int] = {}
    sync = disk.sync_data

    def watch(fd: int) -> None:
        sync(fd)
        synced[os.fstat(fd).st_ino] = os.fstat(fd).st_size

    monkeypatch.setattr(disk, "sync_data", watch)
    async with DiskStore.open(tmp_path) as store:
        index = sqlite3.connect(tmp_path / "blocks" / "index.sqlite")
        assert store._core.database._writer.execute("PRAGMA synchronous").fetchone() == (FULL,)
        for number in range(5):
            await store.put([block(number)])
            [pack] = packs(tmp_path)
            rows = index.execute("SELECT max(offset + length), count(*) FROM location").fetchone()
            assert rows == (synced[pack.stat().st_ino], number + 1)
        index.close()


async def test_puts_that_wait_are_written_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = 0
    sync = disk.sync_data

    def count(fd: int) -> None:
        nonlocal syncs
        syncs += 1
        sync(fd)

    monkeypatch.setattr(disk, "sync_data", count)
    async with DiskStore.open(tmp_path) as store:
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(store.put, [block(number)])
        assert all(await store.has([block(number)[0] for number in range(100)]))
    assert syncs < 50


async def test_a_group_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "GROUP_BYTES_MAX", 2500)
    assert [put.weight for put in commits.puts_of([block(number) for number in range(5)])] == [2000, 2000, 1000]
    assert [put.weight for put in commits.puts_of([block(1, 9000), block(2)])] == [9000, 1000]
    assert commits.puts_of([]) == []


async def test_a_full_pack_is_closed_and_another_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs_module, "PACK_BYTES_MAX", 3000)
    async with DiskStore.open(tmp_path) as store:
        for number in range(6):
            await store.put([block(number)])
        states = [(each.path.name, each.state) for each in await store.segments()]
        assert states[:-1] == [(f"{number:06d}.pack", SegmentState.SEALED) for number in (1, 2)]
        assert states[-1] == ("000003.pack", SegmentState.FETCHING)
        for number in range(6):
            assert await store.get(block(number)[0]) == block(number)[1]
    assert len(packs(tmp_path)) == 3
    assert PACK_BYTES_MAX == 256 * 1024 * 1024


async def test_the_next_run_goes_on_with_the_same_pack(tmp_path: Path) -> None:
    for number in range(3):
        async with DiskStore.open(tmp_path) as store:
            await store.put([block(number)])
    assert len(packs(tmp_path)) == 1


async def test_damage_in_a_pack_is_told_once_and_healed_by_a_put(tmp_path: Path) -> None:
    cid, data = block(1)
    events = Events()
    async with DiskStore.open(tmp_path, trace=events) as store:
        await store.put([(cid, data)])
        [pack] = packs(tmp_path)
        flip(pack, pack.stat().st_size - 1)
        with pytest.raises(BlockMismatch) as caught:
            await store.get(cid)
        assert str(pack) == caught.value.source
        assert events.names() == ["BlockDamaged"]
        assert await store.has([cid]) == [False]
        with pytest.raises(BlockNotFound):
            await store.get(cid)
        await store.put([(cid, data)])
        assert await store.has([cid]) == [True]
        assert await store.get(cid) == data
        assert (await store.verify()).problem_count == 0
    assert events.names() == ["BlockDamaged"]


@pytest.mark.parametrize("cut", [False, True])
async def test_damage_that_nobody_has_read_yet_is_healed_by_a_put(tmp_path: Path, cut: bool) -> None:
    cid, data = block(1)
    async with DiskStore.open(tmp_path) as store:
        await store.put([(cid, data)])
    [pack] = packs(tmp_path)
    if cut:
        pack.unlink()
    else:
        flip(pack, pack.stat().st_size - 1)
    async with DiskStore.open(tmp_path) as store:
        await store.put([(cid, data)])
        assert await store.get(cid) == data
    async with DiskStore.open(tmp_path) as store:
        assert await store.get(cid) == data
        assert (await store.verify()).problem_count == 0


async def test_damage_is_never_read_into_a_buffer(tmp_path: Path) -> None:
    one, two = block(1), block(2)
    async with DiskStore.open(tmp_path) as store:
        await store.put([one, two])
        [pack] = packs(tmp_path)
        flip(pack, 100)
        out = bytearray(1000)
        assert await store.read_into([one[0], two[0]], memoryview(out)) == [None, 1000]
        assert out == two[1]


async def test_a_file_that_cannot_be_opened_for_want_of_handles_withdraws_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = block(1)

    def refuse(path: Path) -> tuple[int, os.stat_result]:
        raise OSError(24, "Too many open files", str(path))

    async with DiskStore.open(tmp_path) as store:
        await store.put([one])
        with monkeypatch.context() as patched:
            patched.setattr(disk, "open_regular", refuse)
            with pytest.raises(StoreError, match="Too many open files"):
                await store.get(one[0])
        assert await store.get(one[0]) == one[1]


async def test_a_put_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three = block(1), block(2), block(3)

    def fail(fd: int) -> None:
        raise OSError(28, "No space left on device")

    async with DiskStore.open(tmp_path) as store:
        with monkeypatch.context() as patched:
            patched.setattr(disk, "sync_data", fail)
            with pytest.raises(NoSpace):
                await store.put([one])
            assert packs(tmp_path) == []
        await store.put([two])
        [pack] = packs(tmp_path)
        size = pack.stat().st_size
        with monkeypatch.context() as patched:
            patched.setattr(disk, "sync_data", fail)
            with pytest.raises(NoSpace):
                await store.put([three])
        assert pack.stat().st_size == size
        assert await store.has([one[0], two[0], three[0]]) == [False, True, False]
        await store.put([one, three])
        assert [await store.get(cid) for cid, _ in (one, two, three)] == [one[1], two[1], three[1]]
        assert (await store.verify()).problem_count == 0


async def test_after_a_failed_sync_the_pack_is_not_written_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = block(1), block(2)

    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    async with DiskStore.open(tmp_path) as store:
        await store.put([one])
        with monkeypatch.context() as patched:
            patched.setattr(disk, "sync_data", fail)
            with pytest.raises(StoreError, match="Input/output error"):
                await store.put([two])
        await store.put([two])
        assert len(packs(tmp_path)) == 2
        assert await store.get(two[0]) == two[1]
    async with DiskStore.open(tmp_path) as store:
        assert await store.has([one[0], two[0]]) == [True, True]


async def test_a_bug_in_a_commit_reaches_everyone_who_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise ZeroDivisionError("a bug")

    failures = []
    async with DiskStore.open(tmp_path) as store:
        with monkeypatch.context() as patched:
            patched.setattr(disk, "sync_data", fail)

            async def put(number: int) -> None:
                try:
                    await store.put([block(number)])
                except (ZeroDivisionError, StoreError) as error:
                    failures.append(str(error))

            async with anyio.create_task_group() as tasks:
                for number in range(10):
                    tasks.start_soon(put, number)
        assert failures == ["a bug"] * 10
        await store.put([block(1)])


async def test_the_figures_add_up(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path, quota=10**6) as store:
        await store.put([block(number) for number in range(10)])
        await store.delete([block(1)[0]])
        figures = await store.statistics()
        assert (figures.locations, figures.packs, figures.files, figures.missing_files) == (9, 1, 0, 0)
        assert figures.pack_bytes == packs(tmp_path)[0].stat().st_size == 8 + 10 * (47 + 1000)
        assert figures.live_pack_bytes == 9 * (47 + 1000)
        assert figures.quota == 10**6
        assert figures.index_bytes > 0


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        await store.aclose()
        with pytest.raises(StoreError, match="closed"):
            await store.has([block(1)[0]])
        with pytest.raises(StoreError, match="closed"):
            await store.put([block(1)])


async def test_b14_an_index_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        await store.put([block(1)])
    index = sqlite3.connect(tmp_path / "blocks" / "index.sqlite", isolation_level=None)
    index.execute("UPDATE meta SET value = 99")
    index.close()
    before = (tmp_path / "blocks" / "index.sqlite").read_bytes()
    with pytest.raises(RepoTooNew, match="version 99"):
        async with DiskStore.open(tmp_path):
            raise AssertionError("opened")
    assert (tmp_path / "blocks" / "index.sqlite").read_bytes() == before


@pytest.mark.parametrize("damage", ["head", "schema", "page"])
async def test_b14_a_corrupt_index_is_told_and_can_be_rebuilt(tmp_path: Path, damage: str) -> None:
    blocks = [block(number) for number in range(300)]
    async with DiskStore.open(tmp_path) as store:
        await store.put(blocks)
        await store.add_pin(blocks[0][0], "kept")
    path = tmp_path / "blocks" / "index.sqlite"
    data = bytearray(path.read_bytes())
    if damage == "head":
        data[:100] = bytes(100)
    elif damage == "schema":
        data[100:4096] = b"\xff" * 3996
    else:
        data[4096 * 6 : 4096 * 20] = b"\xa5" * len(data[4096 * 6 : 4096 * 20])
    path.write_bytes(data)
    with pytest.raises(CorruptStore, match="stack repo rebuild"):
        async with DiskStore.open(tmp_path) as store:
            async for _ in store.cids():
                pass
    assert await DiskStore.rebuild_index(tmp_path) == 300
    assert (tmp_path / "blocks" / "index.sqlite.damaged").exists()
    async with DiskStore.open(tmp_path) as store:
        assert [await store.get(cid) for cid, _ in blocks] == [data for _, data in blocks]
        assert await store.pins() in ([], [(blocks[0][0], "kept")])


async def test_rebuilding_a_sound_index_keeps_the_pins(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        await store.put([block(1)])
        await store.add_pin(block(1)[0], "kept")
    assert await DiskStore.rebuild_index(tmp_path) == 1
    async with DiskStore.open(tmp_path) as store:
        assert await store.pins() == [(block(1)[0], "kept")]


async def test_an_index_without_a_version_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    Database(path).close()
    index = sqlite3.connect(path, isolation_level=None)
    index.execute("DELETE FROM meta")
    index.close()
    with pytest.raises(CorruptStore, match="version"):
        Database(path)


async def test_the_index_of_a_shared_file_takes_less_than_one_percent(tmp_path: Path) -> None:

    path = tmp_path / "film"
    size, leaf = 1 << 30, 256 * 1024
    with path.open("wb") as file:
        file.truncate(size)
    leaves = [
        Leaf(Cid.of(number.to_bytes(4, "big")), offset, leaf) for number, offset in enumerate(range(0, size, leaf))
    ]
    async with DiskStore.open(tmp_path / "home") as store:
        for start in range(0, len(leaves), 64):
            await store.add_file(path, stamp(path), leaves[start : start + 64])
        used = sum(file.stat().st_size for file in (tmp_path / "home").rglob("*") if file.is_file())
    assert used < size // 100


async def test_noise_is_the_same_in_each_run() -> None:
    assert noise(8) == noise(8) != noise(8, seed=1)


async def test_a_bug_while_files_are_added_reaches_everyone_who_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise ZeroDivisionError("a bug")

    path = tmp_path / "film"
    path.write_bytes(b"film")
    failures = []
    async with DiskStore.open(tmp_path / "home") as store:
        with monkeypatch.context() as patched:
            patched.setattr(store._core.index, "segment_at", fail)

            async def add() -> None:
                try:
                    await store.add_file(path, stamp(path), [])
                except (ZeroDivisionError, StoreError) as error:
                    failures.append(str(error))

            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(add)
        assert failures == ["a bug"] * 5
        assert await store.add_file(path, stamp(path), []) == 1


async def test_a_pack_that_cannot_be_begun_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise OSError(28, "No space left on device")

    async with DiskStore.open(tmp_path) as store:
        with monkeypatch.context() as patched:
            patched.setattr(disk, "sync_directory", fail)
            with pytest.raises(NoSpace):
                await store.put([block(1)])
        assert packs(tmp_path) == []
        assert await store.segments() == []
        await store.put([block(1)])


async def test_an_end_that_cannot_be_cut_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    async with DiskStore.open(tmp_path) as store:
        await store.put([block(1)])
        with monkeypatch.context() as patched:
            patched.setattr(disk, "sync_data", fail)
            patched.setattr(os, "ftruncate", fail)
            with pytest.raises(NoSpace):
                await store.put([block(2, 5000)])
        await store.put([block(3)])
        assert (await store.verify()).problem_count == 0
    async with DiskStore.open(tmp_path) as store:
        assert await store.has([block(number)[0] for number in (1, 2, 3)]) == [True, False, True]


async def test_a_store_that_cannot_recover_lets_go_of_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(core, "recover", fail)
        with pytest.raises(StoreError, match="opening"):
            async with DiskStore.open(tmp_path):
                raise AssertionError("opened")
    async with DiskStore.open(tmp_path) as store:
        assert repr(store).endswith("blocks>")
        assert repr(store._core.database).endswith("index.sqlite>")


async def test_an_index_that_is_lost_altogether_is_rebuilt_too(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        await store.put([block(1)])
    (tmp_path / "blocks" / "index.sqlite").unlink()
    assert await DiskStore.rebuild_index(tmp_path) == 1


async def test_an_index_that_another_process_keeps_locked_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_MS", 10)
    async with DiskStore.open(tmp_path) as store:
        foreign = sqlite3.connect(tmp_path / "blocks" / "index.sqlite", isolation_level=None)
        foreign.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            await store.add_pin(block(1)[0])
        foreign.execute("ROLLBACK")
        foreign.close()
        await store.add_pin(block(1)[0])


async def test_a_new_index_that_cannot_be_written_is_made_another_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(database, "_SCHEMA", "CREATE TABLE meta (key);\nCREATE NONSENSE")
        with pytest.raises(StoreError):
            Database(tmp_path / "index.sqlite")
    Database(tmp_path / "index.sqlite").close()


async def test_more_readers_than_are_kept_open_are_closed(tmp_path: Path) -> None:
    opened = Database(tmp_path / "index.sqlite")
    with ExitStack() as readers:
        for _ in range(database.IDLE_READERS_MAX + 2):
            readers.enter_context(opened.reading())
    assert len(opened._idle) == database.IDLE_READERS_MAX
    with opened.reading() as connection:
        opened.close()
        assert connection.execute("SELECT 1").fetchone() == (1,)
    opened.close()
    with pytest.raises(StoreError, match="closed"), opened.reading():
        pass


async def test_data_is_synced_through_the_drives_cache_on_macos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda fd, command: calls.append((fd, command)))
    disk.sync_data(7)
    assert calls == [(7, 51)]


async def test_short_writes_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwritev = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, views, offset: pwritev(fd, [bytes(views[0][:7])], offset))
    monkeypatch.setattr(disk, "IOVECS_MAX", 3)
    path = tmp_path / "file"
    parts = [bytes([number]) * (number * 5) for number in range(1, 9)]
    with path.open("w+b") as file:
        disk.write_at(file.fileno(), parts, 4)
    assert path.read_bytes() == bytes(4) + b"".join(parts)


async def test_a_put_that_was_cancelled_in_line_is_not_written(tmp_path: Path) -> None:
    one, two = block(1), block(2)
    async with DiskStore.open(tmp_path) as store:
        async with store._putting, anyio.create_task_group() as tasks:
            tasks.start_soon(store.put, [one])
            with anyio.fail_after(10):
                while not store._core.commits._line._waiting:
                    await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        await store.put([two])
        assert await store.has([one[0], two[0]]) == [False, True]
