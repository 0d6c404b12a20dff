"""Garbage collection of the disk store: what goes, what stays, and what a crash in the middle leaves."""

import os
import threading
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from stack.blocks import disk, sweeps
from stack.blocks.interfaces import BlockNotFound, Leaf, PinKind
from stack.blocks.packs import Pack
from stack.blocks.store import DiskStore
from stack.errors import CorruptStore, NoSpace
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import RAW
from stack.testing.conformance.stores import Block, block
from tests.blocks.support import Events, flip, noise, packs, stamp, wrapped_leaves
from tests.blocks.test_marking import links, node

pytestmark = pytest.mark.anyio

LEAVES = [block(number, 2000) for number in range(20)]
ROOT = node(*(cid for cid, _ in LEAVES[:5]))
GARBAGE = LEAVES[5:]


async def fill(store: DiskStore) -> None:
    """A pinned DAG of six blocks, and fifteen blocks nobody needs."""
    await store.put([*LEAVES, ROOT])
    await store.add_pin(ROOT[0])


async def here(store: DiskStore, blocks: list[Block]) -> list[bool]:
    """Which of the blocks can be read."""
    found = []
    for cid, data in blocks:
        try:
            found.append(await store.get(cid) == data)
        except BlockNotFound:
            found.append(False)
    return found


async def test_garbage_goes_and_its_space_comes_back(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        await fill(store)
        [before] = packs(tmp_path)
        size = before.stat().st_size
        report = await store.collect(links)
        assert (report.kept, report.missing, report.removed, report.removed_bytes) == (6, 0, 15, 30_000)
        [after] = packs(tmp_path)
        assert after != before
        assert report.freed_bytes == size - after.stat().st_size
        assert await here(store, [*LEAVES[:5], ROOT]) == [True] * 6
        assert await here(store, GARBAGE) == [False] * 15
        await store.put(GARBAGE)
        assert (await store.verify(links)).problem_count == 0
    async with DiskStore.open(tmp_path) as store:
        assert await here(store, [*LEAVES, ROOT]) == [True] * 21


async def test_a_dry_run_tells_the_same_and_changes_nothing(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        await fill(store)
        report = await store.collect(links, dry_run=True)
        assert (report.removed, report.removed_bytes, report.freed_bytes) == (15, 30_000, 0)
        assert await here(store, LEAVES) == [True] * 20


async def test_shares_are_kept_like_pins(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        await store.put([*LEAVES, ROOT])
        await store.add_pin(ROOT[0], "film.mkv", kind=PinKind.SHARE)
        assert (await store.collect(links)).removed == 15
        await store.remove_pin(ROOT[0], kind=PinKind.SHARE)
        assert (await store.collect(links)).removed == 6
        assert packs(tmp_path) == []


async def test_files_in_place_are_neither_read_nor_touched_and_given_to_nobody_once_nothing_needs_them(
    tmp_path: Path,
) -> None:
    path = tmp_path / "film"
    path.write_bytes(noise(10_000))
    leaves = wrapped_leaves(path.read_bytes(), 1000)
    root = node(*(leaf.cid for leaf in leaves))
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(path, stamp(path), leaves)
        await store.put([root, *GARBAGE])
        await store.add_pin(root[0], kind=PinKind.SHARE)
        assert (await store.collect(links)).removed == 15
        assert all(await store.has([leaf.cid for leaf in leaves]))
        await store.remove_pin(root[0], kind=PinKind.SHARE)
        report = await store.collect(links)
        assert (report.removed, report.removed_bytes) == (11, len(root[1]))
        assert not any(await store.has([leaf.cid for leaf in leaves]))
        assert await store.segments() == []
    assert path.read_bytes() == noise(10_000)


async def test_what_a_running_fetch_holds_is_kept(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        await store.put([*LEAVES, ROOT])
        with store.hold(ROOT[0]):
            assert (await store.collect(links)).removed == 15
        assert (await store.collect(links)).removed == 6


async def test_what_is_put_during_a_hold_is_kept_unnamed(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        await store.put(LEAVES[:2])
        with store.hold() as hold:
            await store.put(LEAVES[1:4])
            hold.add(Cid.of(b"not here yet"))
            assert (await store.collect(links)).removed == 1
            assert await here(store, LEAVES[:4]) == [False, True, True, True]
            assert (await store.collect(links)).removed == 0
        assert (await store.collect(links)).removed == 3


async def test_what_is_put_while_the_collection_runs_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "ROWS_BATCH", 2)
    async with DiskStore.open(tmp_path) as store:
        await store.put(LEAVES)
        sweep = store._core.sweeper.sweep
        puts: list[int] = []

        def slow(*args: object) -> object:
            if not puts:
                puts.append(1)
                anyio.from_thread.run(store.put, LEAVES[:10])
            return sweep(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(store._core.sweeper, "sweep", slow)
        assert (await store.collect(links)).removed == 10
        assert await here(store, LEAVES) == [True] * 10 + [False] * 10


async def test_two_collections_take_turns(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        await fill(store)
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(store.collect, links)
        assert await here(store, [*LEAVES[:5], ROOT]) == [True] * 6


async def test_readers_and_writers_go_on_during_collections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "COMPACT_LIVE_MAX", 0.99)
    monkeypatch.setattr("stack.blocks.packs.PACK_BYTES_MAX", 8000)
    async with DiskStore.open(tmp_path) as store:
        await fill(store)
        done = False

        async def read() -> None:
            while not done:
                assert await here(store, [*LEAVES[:5], ROOT]) == [True] * 6

        async def write() -> None:
            nonlocal done
            for number in range(100, 115):
                await store.put([block(number)])
                await store.collect(links)
            done = True

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            tasks.start_soon(read)
            tasks.start_soon(write)
        assert (await store.verify(links)).problem_count == 0


async def test_packs_that_are_mostly_alive_are_left_alone(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        await store.put([*LEAVES, ROOT])
        for cid, _ in LEAVES[:15]:
            await store.add_pin(cid)
        before = packs(tmp_path)
        assert (await store.collect(links)).freed_bytes == 0
        assert packs(tmp_path) == before


async def test_nothing_goes_when_a_kept_node_is_damaged(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        await fill(store)
        [pack] = packs(tmp_path)
        flip(pack, pack.stat().st_size - 1)
        with pytest.raises(CorruptStore, match="nothing was removed"):
            await store.collect(links)
        assert await here(store, LEAVES) == [True] * 20


async def test_damaged_blocks_are_not_carried_over(tmp_path: Path) -> None:
    events = Events()
    async with DiskStore.open(tmp_path, trace=events) as store:
        await fill(store)
        flip(packs(tmp_path)[0], 8 + 47 + 1)
        await store.collect(links)
        assert events.names() == ["BlockDamaged"]
        assert await here(store, LEAVES[:5]) == [False, True, True, True, True]
        await store.put(LEAVES[:1])
        assert await here(store, LEAVES[:5]) == [True] * 5


async def test_compaction_that_finds_no_space_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Pack, entries: object) -> list[int]:
        raise OSError(28, "No space left on device")

    async with DiskStore.open(tmp_path) as store:
        await fill(store)
        before = packs(tmp_path)
        with monkeypatch.context() as patched:
            patched.setattr(Pack, "append", fail)
            patched.setattr("stack.blocks.sweeps.punch_hole", lambda fd, offset, size: False)
            with pytest.raises(NoSpace):
                await store.collect(links)
        assert packs(tmp_path) == before
        assert await here(store, [*LEAVES[:5], ROOT]) == [True] * 6
        assert (await store.collect(links)).freed_bytes > 0


class PowerCut(BaseException):
    """Everything ends here."""


@pytest.mark.parametrize(
    "moment", ["while copying", "before the rows move", "before the old pack goes", "before its row goes"]
)
async def test_a_crash_in_compaction_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def cut(*args: object, **names: object) -> None:
        raise PowerCut

    home, after = tmp_path / "home", tmp_path / "after"
    async with DiskStore.open(home) as store:
        await fill(store)
        sweeper = store._core.sweeper
        with monkeypatch.context() as patched:
            # What the disk holds at that moment is copied aside before anything is tidied up.
            def freeze(*args: object, **names: object) -> None:
                for path in sorted((home / "blocks").rglob("*")):
                    target = after / path.relative_to(home)
                    if path.is_file():
                        target.parent.mkdir(parents=True, exist_ok=True)
                        target.write_bytes(path.read_bytes())
                raise PowerCut

            if moment == "while copying":
                patched.setattr(Pack, "append", freeze)
            elif moment == "before the rows move":
                patched.setattr(sweeps, "pack_stamp", freeze)
            elif moment == "before the old pack goes":
                unlink = Path.unlink
                patched.setattr(Path, "unlink", freeze)
            else:
                patched.setattr(disk, "sync_directory", lambda path: freeze() if len(packs(home)) == 1 else None)
            with pytest.raises(PowerCut):
                await store.collect(links)
            if moment == "before the old pack goes":
                patched.setattr(Path, "unlink", unlink)
        del sweeper
    async with DiskStore.open(after) as store:
        if moment.startswith(("before the old pack", "before its row")):
            assert len(packs(after)) == 1
        assert await here(store, [*LEAVES[:5], ROOT]) == [True] * 6
        assert (await store.verify(links)).problem_count == 0
        await store.collect(links)
        assert await here(store, [*LEAVES[:5], ROOT]) == [True] * 6
        assert sum(os.path.getsize(path) for path in packs(after)) < 15_000


async def test_a_pin_during_the_sweep_makes_it_mark_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "ROWS_BATCH", 2)
    async with DiskStore.open(tmp_path) as store:
        await store.put(LEAVES)
        last = max(LEAVES, key=lambda one: one[0].multihash)
        sweep = store._core.sweeper.sweep
        pinned: list[Cid] = []

        def slow(*args: object) -> object:
            if not pinned:
                pinned.append(last[0])
                anyio.from_thread.run(store.add_pin, last[0])
            return sweep(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(store._core.sweeper, "sweep", slow)
        assert (await store.collect(links)).removed == 19
        assert await here(store, [last]) == [True]


async def test_compaction_of_a_pack_that_is_gone_frees_nothing(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        assert await anyio.to_thread.run_sync(store._core.sweeper.compact, 99) == 0


async def test_large_packs_are_copied_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "COPY_BYTES", 5000)
    async with DiskStore.open(tmp_path) as store:
        await fill(store)
        assert (await store.collect(links)).freed_bytes > 0
        assert await here(store, [*LEAVES[:5], ROOT]) == [True] * 6


async def test_a_reader_finds_a_block_that_compaction_moves_under_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with DiskStore.open(tmp_path) as store:
        await fill(store)
        open_regular = disk.open_regular
        moved: list[int] = []

        def late(path: Path) -> tuple[int, os.stat_result]:
            if not moved:
                moved.append(1)
                anyio.from_thread.run(store.collect, links)
            return open_regular(path)

        monkeypatch.setattr("stack.blocks.reads.disk.open_regular", late)
        assert await store.get(LEAVES[0][0]) == LEAVES[0][1]
        assert moved


async def test_garbage_of_an_earlier_run_goes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.blocks.packs.PACK_BYTES_MAX", 8000)
    async with DiskStore.open(tmp_path) as store:
        for one in LEAVES:
            await store.put([one])
        assert len(packs(tmp_path)) > 3
    async with DiskStore.open(tmp_path) as store:
        assert (await store.collect(links)).removed == 20
        assert packs(tmp_path) == []


@pytest.mark.parametrize("way", ["raw pin", "raw leaf of a pinned node", "file in place", "share that is gone"])
async def test_a_node_whose_bytes_are_also_a_leaf_keeps_what_is_below_it(tmp_path: Path, way: str) -> None:
    """Finding 3, attack 1: a file of some 200 bytes that holds the root block of a pinned DAG."""
    below = LEAVES[:3]
    inner = node(*(cid for cid, _ in below))
    root = node(inner[0], LEAVES[3][0])
    async with DiskStore.open(tmp_path / "home") as store:
        await store.put([*LEAVES, inner, root])
        await store.add_pin(root[0])
        for cid, data in (inner, root):
            raw = cid.with_codec(RAW)
            if way == "raw pin":
                await store.add_pin(raw)
            elif way == "raw leaf of a pinned node":
                holder = node(raw)
                await store.put([holder])
                await store.add_pin(holder[0])
            else:
                path = tmp_path / f"harmless {cid}"
                path.write_bytes(data)
                await store.add_file(path, stamp(path), [Leaf(raw, 0, len(data))])
                if way == "share that is gone":
                    path.unlink()
        assert (await store.collect(links)).removed == len(LEAVES) - 4
        assert await here(store, [*LEAVES[:4], inner, root]) == [True] * 6


async def test_below_a_node_that_is_put_during_the_sweep_everything_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetch of something that is held has the node's leaves already, from before the collection."""
    late = node(*(cid for cid, _ in LEAVES[:5]))
    root = node(late[0])
    async with DiskStore.open(tmp_path) as store:
        await store.put([*LEAVES, root])
        sweep = store._core.sweeper.sweep

        def slow(*args: object) -> object:
            anyio.from_thread.run(store.put, [late])
            return sweep(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(store._core.sweeper, "sweep", slow)
        with store.hold(root[0]):
            assert (await store.collect(links)).removed == 15
        assert await here(store, [*LEAVES[:5], root, late]) == [True] * 7


async def test_what_is_pinned_while_a_collection_reads_its_roots_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finding 8's kind: `add` has put its blocks, a collection begins just before the pin is written, and goes on after it."""
    begun, over, looked = threading.Event(), threading.Event(), threading.Event()
    async with DiskStore.open(tmp_path) as store, anyio.create_task_group() as tasks:
        add_pin, pins, sweep = store._core.index.add_pin, store._core.index.pins, store._core.sweeper.sweep

        async def collect() -> None:
            begun.set()
            await store.collect(links)

        def pinning(*args: object) -> None:
            anyio.from_thread.run_sync(tasks.start_soon, collect)
            begun.wait(10)
            looked.wait(0.3)  # it looks at once, or waits for us
            add_pin(*args)  # type: ignore[arg-type]

        def looking(*args: object) -> object:
            found = list(pins(*args))  # type: ignore[arg-type]
            looked.set()
            return found

        def sweeping(*args: object) -> object:
            over.wait(10)
            return sweep(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(store._core.index, "add_pin", pinning)
        monkeypatch.setattr(store._core.index, "pins", looking)
        monkeypatch.setattr(store._core.sweeper, "sweep", sweeping)
        with store.hold():
            await fill(store)
        over.set()
    async with DiskStore.open(tmp_path) as store:
        assert await here(store, [*LEAVES[:5], ROOT]) == [True] * 6


@pytest.mark.parametrize("way", ["collect", "withdraw"])
async def test_what_somebody_begins_to_hold_while_a_sweep_is_written_is_back(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pin add` found all of it here, in the moment before it was gone."""
    async with DiskStore.open(tmp_path) as store, AsyncExitStack() as work:
        await store.put([*LEAVES, ROOT])
        if way == "withdraw":
            await store.add_pin(ROOT[0], kind=PinKind.SHARE)
        protects = store._core.holds.protects
        found: list[bool] = []

        async def begin() -> None:
            work.enter_context(store.hold(ROOT[0]))
            found.extend(await store.has([ROOT[0], *(cid for cid, _ in LEAVES[:5])]))

        def asked(*args: object) -> bool:
            if not found:
                anyio.from_thread.run(begin)
            return protects(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(store._core.holds, "protects", asked)
        if way == "collect":
            assert (await store.collect(links)).removed == 15
        else:
            await store.withdraw([ROOT[0]], links)
        assert found == [True] * 6
        assert await here(store, [*LEAVES[:5], ROOT]) == found
