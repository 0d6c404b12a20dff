"""`repo verify`: everything that is wrong is told, and nothing wrong is served."""

import os
import random
import sqlite3
from pathlib import Path

import anyio
import pytest

from stack.blocks import disk
from stack.blocks import verify as verify_module
from stack.blocks.interfaces import Leaf, PinKind, SegmentId
from stack.blocks.packs import scan
from stack.blocks.records import HEAD
from stack.blocks.store import DiskStore
from stack.blocks.verify import Problem, ProblemKind, VerifyReport
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB, RAW
from stack.testing.conformance.stores import block
from tests.blocks.support import Events, flip, leaves_of, noise, packs, stamp, wrapped_leaves
from tests.blocks.test_marking import links, node

pytestmark = pytest.mark.anyio


async def test_a_sound_store_has_no_problems(tmp_path: Path) -> None:
    path = tmp_path / "film"
    path.write_bytes(noise(50_000))
    async with DiskStore.open(tmp_path / "home") as store:
        await store.put([block(number) for number in range(10)])
        await store.add_file(path, stamp(path), wrapped_leaves(path.read_bytes(), 1000))
        report = await store.verify()
    assert (report.blocks, report.problem_count) == (60, 0)
    assert report.bytes == 10 * 1000 + 50_000 + 50 * 11


@pytest.mark.parametrize("verify_first", [True, False])
async def test_A80_a_bit_is_flipped_in_1000_blocks(tmp_path: Path, verify_first: bool) -> None:
    randomness = random.Random(80)
    blocks = [block(number, 200 + number % 700) for number in range(3000)]
    async with DiskStore.open(tmp_path) as store:
        await store.put(blocks)
        [pack] = packs(tmp_path)
        found = list(scan(pack, len(HEAD), search=False))
        victims = randomness.sample(found, 1000)
        for record in victims:
            flip(pack, record.offset + randomness.randrange(record.length), randomness.randrange(8))
        damaged = {record.multihash for record in victims}
        if verify_first:
            report = await store.verify()
        out = memoryview(bytearray(1000))
        served = 0
        for cid, data in blocks:
            [size] = await store.read_into([cid], out)
            assert (size is None) == (cid.multihash in damaged)
            if size is not None:
                assert out[:size] == data
                served += 1
        assert served == 2000
        if not verify_first:
            report = await store.verify()
        assert report.problem_count == 1000
        assert {problem.cid.multihash for problem in report.problems if problem.cid is not None} == damaged
        assert {problem.kind for problem in report.problems} == {ProblemKind.WRONG_BYTES}
        assert {(problem.path, problem.offset) for problem in report.problems} == {
            (pack, record.offset) for record in victims
        }
        assert await store.has([cid for cid, _ in blocks]) == [cid.multihash not in damaged for cid, _ in blocks]


async def test_A80_a_bit_is_flipped_in_1000_blocks_of_a_file_in_place(tmp_path: Path) -> None:
    randomness = random.Random(80)
    path = tmp_path / "film"
    data = noise(2_000_000)
    path.write_bytes(data)
    leaves = leaves_of(data, 1000)
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(path, stamp(path), leaves)
        victims = randomness.sample(leaves, 1000)
        for leaf in victims:
            flip(path, leaf.offset + randomness.randrange(1000), randomness.randrange(8))
        report = await store.verify()
        assert report.problem_count == 1000
        assert {problem.cid for problem in report.problems} == {leaf.cid for leaf in victims}
        out = memoryview(bytearray(2_000_000))
        assert await store.read_into([leaf.cid for leaf in leaves], out) == [None] * 2000


async def test_a_block_that_is_right_again_is_served_again(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        await store.put([block(1)])
        [pack] = packs(tmp_path)
        flip(pack, 500)
        assert (await store.verify()).problem_count == 1
        assert await store.has([block(1)[0]]) == [False]
        flip(pack, 500)
        assert (await store.verify()).problem_count == 0
        assert await store.has([block(1)[0]]) == [True]


async def test_files_that_changed_or_went_are_told_and_withdrawn(tmp_path: Path) -> None:
    changed, gone = tmp_path / "changed", tmp_path / "gone"
    events = Events()
    async with DiskStore.open(tmp_path / "home", trace=events) as store:
        for path, seed in ((changed, 1), (gone, 2)):
            path.write_bytes(noise(3000, seed))
            await store.add_file(path, stamp(path), leaves_of(path.read_bytes(), 1000))
        flip(changed, 1500, keep_stamp=False)
        os.utime(changed, ns=(10**18, 10**18))
        gone.unlink()
        report = await store.verify()
        assert [(problem.kind, problem.path) for problem in report.problems] == [
            (ProblemKind.FILE_CHANGED, changed),
            (ProblemKind.WRONG_BYTES, changed),
            (ProblemKind.FILE_GONE, gone),
        ]
        assert events.names() == ["SourceWithdrawn"] * 2
        assert (await store.verify()).problem_count == 0, "their owner's doing, and told"
        assert len(events.told) == 2


async def test_a_file_that_says_nothing_of_having_changed_is_told_each_time(tmp_path: Path) -> None:
    path = tmp_path / "rotten"
    path.write_bytes(noise(3000))
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(path, stamp(path), leaves_of(path.read_bytes(), 1000))
        flip(path, 1500)
        for _ in range(3):
            assert ProblemKind.WRONG_BYTES in {problem.kind for problem in (await store.verify()).problems}


async def test_a_pin_is_told_as_long_as_a_file_of_it_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "film"
    path.write_bytes(noise(3000))
    leaves = leaves_of(path.read_bytes(), 1000)
    root = node(*(leaf.cid for leaf in leaves))
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(path, stamp(path), leaves)
        await store.put([root])
        await store.add_pin(root[0])
        path.rename(tmp_path / "elsewhere")
        assert (await store.verify(links)).problem_count == 2
        assert [each.kind for each in (await store.verify(links)).problems] == [ProblemKind.PINNED_MISSING]
        (tmp_path / "elsewhere").rename(path)
        await store.check_files()
        assert (await store.verify(links)).problem_count == 0


async def test_what_was_known_of_a_lost_file_is_collected_when_nothing_needs_it(tmp_path: Path) -> None:
    needed, other = (tmp_path / name for name in ("needed", "other"))
    async with DiskStore.open(tmp_path / "home") as store:
        for seed, path in enumerate((needed, other)):
            path.write_bytes(noise(3000, seed))
            await store.add_file(path, stamp(path), leaves_of(path.read_bytes(), 1000))
        root = node(*(leaf.cid for leaf in leaves_of(needed.read_bytes(), 1000)))
        await store.put([root])
        await store.add_pin(root[0])
        needed.unlink()
        other.unlink()
        await store.verify(links)
        assert (await store.collect(links, dry_run=True)).removed == 0
        assert {segment.path for segment in await store.segments()} >= {needed, other}
        report = await store.collect(links)
        assert (report.removed, report.removed_bytes) == (0, 0), "nothing of it was here"
        assert {segment.path for segment in await store.segments()} & {needed, other} == {needed}


async def test_a_short_pack_and_a_lost_pack_are_told(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        await store.put([block(1), block(2)])
        [pack] = packs(tmp_path)
        os.truncate(pack, 1500)
        [problem] = (await store.verify()).problems
        assert (problem.kind, problem.cid) == (ProblemKind.WRONG_BYTES, block(2)[0])
        pack.unlink()
        [problem] = (await store.verify()).problems
        assert (problem.kind, problem.path, problem.cid) == (ProblemKind.FILE_GONE, pack, None)
        assert "2 blocks" in problem.detail


async def test_damage_in_a_file_being_fetched_is_told(tmp_path: Path) -> None:
    data = noise(3000)
    async with DiskStore.open(tmp_path / "home") as store:
        writer = await store.create_file(tmp_path / "film.part", 3000)
        for leaf in leaves_of(data, 1000):
            writer.write(leaf, data[leaf.offset : leaf.offset + 1000])
        await writer.checkpoint()
        flip(tmp_path / "film.part", 1)
        report = await store.verify()
        assert [(problem.kind, problem.offset) for problem in report.problems] == [(ProblemKind.WRONG_BYTES, 0)]
        assert await writer.present() == [(1000, 1000), (2000, 1000)]


@pytest.mark.parametrize("codec", [RAW, DAG_PB], ids=["a leaf", "a node"])
async def test_what_is_pinned_and_missing_is_told(tmp_path: Path, codec: int) -> None:
    """Finding 3: `repo verify` said that all was good when half of a pinned DAG was gone. Equal blocks count once."""
    lost = node(block(1)[0]) if codec == DAG_PB else block(1)
    inner = node(lost[0], block(2)[0], lost[0])
    root = node(inner[0], block(2)[0], lost[0], inner[0].with_codec(RAW))
    async with DiskStore.open(tmp_path) as store:
        await store.put([block(1), block(2), inner, root, lost])
        await store.add_pin(root[0])
        await store.add_pin(block(2)[0])
        assert (await store.verify(links)).problem_count == 0
        await store.delete([lost[0]])
        [problem] = (await store.verify(links)).problems
        assert (problem.kind, problem.cid, problem.path) == (ProblemKind.PINNED_MISSING, root[0], None)
        assert f"1 of its blocks, {lost[0]}" in problem.detail


async def test_of_a_share_that_is_being_fetched_blocks_may_be_missing_and_of_a_finished_one_not(tmp_path: Path) -> None:
    root = node(block(1)[0])
    async with DiskStore.open(tmp_path) as store:
        await store.put([root])
        await store.add_pin(root[0], kind=PinKind.SHARE)
        assert (await store.verify(links)).problem_count == 0
        [problem] = (await store.verify(links, roots=[root[0]])).problems
        assert problem.kind is ProblemKind.PINNED_MISSING


async def test_a_pinned_block_that_is_damaged_is_told_as_wrong_and_as_missing(tmp_path: Path) -> None:
    root = node(block(1)[0])
    async with DiskStore.open(tmp_path) as store:
        await store.put([root])
        await store.add_pin(root[0])
        [pack] = packs(tmp_path)
        flip(pack, pack.stat().st_size - 1)
        report = await store.verify(links)
        assert [each.kind for each in report.problems] == [ProblemKind.WRONG_BYTES, ProblemKind.PINNED_MISSING]


async def test_a_pinned_node_that_is_none_is_told(tmp_path: Path) -> None:
    bad = (Cid.of(b"bad", DAG_PB), b"bad")
    inline = Cid.of(b"bad", DAG_PB, hash="identity")
    root = node(bad[0], inline, block(1)[0])
    async with DiskStore.open(tmp_path) as store:
        await store.put([bad, root])
        await store.add_pin(root[0])
        report = await store.verify(links)
        assert [(each.kind, each.cid) for each in report.problems] == [
            (ProblemKind.NOT_A_NODE, bad[0]),
            (ProblemKind.NOT_A_NODE, root[0]),
            (ProblemKind.PINNED_MISSING, root[0]),
        ]


async def test_leaves_in_frames_below_a_pin_are_not_read_twice(tmp_path: Path) -> None:
    path = tmp_path / "film"
    path.write_bytes(noise(5000))
    leaves = wrapped_leaves(path.read_bytes(), 1000)
    root = node(*(leaf.cid for leaf in leaves))
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(path, stamp(path), leaves)
        await store.put([root])
        await store.add_pin(root[0])
        assert (await store.verify(links)).problem_count == 0
        path.unlink()
        report = await store.verify(links)
        assert [each.kind for each in report.problems] == [ProblemKind.FILE_GONE, ProblemKind.PINNED_MISSING]
        assert "5 of its blocks" in report.problems[1].detail


async def test_a_damaged_index_is_told(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        await store.put([block(number) for number in range(10)])
    index = sqlite3.connect(tmp_path / "blocks" / "index.sqlite", isolation_level=None)
    index.execute("PRAGMA writable_schema = ON")
    index.execute(
        "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'location')"
        " WHERE name = 'pin'"
    )
    index.close()
    async with DiskStore.open(tmp_path) as store:
        report = await store.verify()
    assert {problem.kind for problem in report.problems} >= {ProblemKind.INDEX_DAMAGED}


async def test_the_walk_goes_in_batches_and_misses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "film"
    data = noise(10_000)
    path.write_bytes(data)
    both = [*leaves_of(data, 1000), *wrapped_leaves(data, 1000), *(Leaf(Cid.of(b""), at, 0) for at in (0, 3000))]
    for rows, size in ((3, 1 << 30), (4096, 2500), (2, 1000), (1, 1)):
        monkeypatch.setattr(verify_module, "VERIFY_ROWS", rows)
        monkeypatch.setattr(verify_module, "VERIFY_BYTES", size)
        async with DiskStore.open(tmp_path / "home") as store:
            await store.add_file(path, stamp(path), both)
            report = await store.verify()
        assert (report.blocks, report.problem_count) == (22, 0)


async def test_problems_beyond_the_bound_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_module, "PROBLEMS_MAX", 2)
    report = VerifyReport()
    for _ in range(5):
        report.add(Problem(kind=ProblemKind.FILE_GONE, path=Path("x")))
    assert (report.problem_count, len(report.problems)) == (5, 2)


async def test_what_moves_during_the_walk_is_no_problem(tmp_path: Path) -> None:
    data = noise(3000)
    leaves = leaves_of(data, 1000)
    async with DiskStore.open(tmp_path / "home") as store:
        core = store._core
        await store.put([block(number) for number in range(5)])
        writer = await store.create_file(tmp_path / "film.part", 3000)
        for leaf in leaves:
            writer.write(leaf, data[leaf.offset : leaf.offset + 1000])
        await writer.checkpoint()
        verifier = verify_module.Verifier(core.index, core.locations, core.reader, core.nodes, links)
        open_regular = disk.open_regular

        def seal(path: Path) -> tuple[int, os.stat_result]:
            if path.name == "film.part":
                anyio.from_thread.run(writer.seal, tmp_path / "film")
            return open_regular(path)

        def walk() -> list[int | None]:
            steps = [verifier.check(writer.segment, -1)]
            steps.append(verifier.check(writer.segment, -1))
            return [*steps, verifier.check(SegmentId(99), -1)]

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(disk, "open_regular", seal)
            assert await anyio.to_thread.run_sync(walk) == [-1, None, None]
        assert (verifier.report.blocks, verifier.report.problem_count) == (3, 0)
