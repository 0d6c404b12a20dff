"""Users' own files: what happens when they change, vanish, move, or lie (bad input B4 and B5, at the level of the store)."""

import errno
import os
import shutil
import sqlite3
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from stack.blocks import disk, reads
from stack.blocks.database import Database
from stack.blocks.gone import Fault
from stack.blocks.hashing import STORED_BLOCK_MAX
from stack.blocks.index import FRAME_BYTES_MAX
from stack.blocks.interfaces import BlockMismatch, BlockNotFound, Leaf, SegmentState, SourceChanged
from stack.blocks.locations import TRIES_MAX
from stack.blocks.reads import SourceWithdrawn
from stack.blocks.store import DiskStore
from stack.errors import LimitExceeded, Refused
from stack.multiformats.cid import Cid
from stack.testing.conformance.stores import block
from tests.blocks.support import Events, flip, leaves_of, noise, stamp, wrapped_leaves

pytestmark = pytest.mark.anyio

DATA = noise(100_000)
SIZE = 16_384
LEAVES = leaves_of(DATA, SIZE)


def film(directory: Path, name: str = "film") -> Path:
    """A file of a user's."""
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_bytes(DATA)
    return path


async def test_b4_a_file_that_is_longer_is_withdrawn_with_a_message_that_names_it(tmp_path: Path) -> None:
    path = film(tmp_path)
    events = Events()
    async with DiskStore.open(tmp_path / "home", trace=events) as store:
        await store.add_file(path, stamp(path), LEAVES)
        with path.open("ab") as file:
            file.write(b"more")
        with pytest.raises(SourceChanged, match=str(path)):
            await store.get(LEAVES[0].cid)
        assert events.told == [SourceWithdrawn(path=path, fault=Fault.CHANGED)]
        assert await store.has([leaf.cid for leaf in LEAVES]) == [False] * len(LEAVES)
        with pytest.raises(BlockNotFound):
            await store.get(LEAVES[0].cid)
        assert [each.state for each in await store.segments()] == [SegmentState.MISSING]


async def test_b4_bytes_that_changed_behind_an_unchanged_stamp_are_not_served(tmp_path: Path) -> None:
    path = film(tmp_path)
    events = Events()
    async with DiskStore.open(tmp_path / "home", trace=events) as store:
        await store.add_file(path, stamp(path), LEAVES)
        flip(path, SIZE + 5)
        assert await store.get(LEAVES[0].cid) == DATA[:SIZE]
        out = bytearray(SIZE)
        assert await store.read_into([LEAVES[1].cid], memoryview(out)) == [None]
        assert events.told == [SourceWithdrawn(path=path, fault=Fault.WRONG_BYTES)]
        assert await store.has([LEAVES[0].cid]) == [False]
        assert await store.check_files() == []
        assert await store.has([LEAVES[0].cid]) == [False]


async def test_b4_of_many_blocks_what_stands_before_the_wrong_one_is_given_out(tmp_path: Path) -> None:
    path = film(tmp_path)
    events = Events()
    cids = [leaf.cid for leaf in LEAVES]
    async with DiskStore.open(tmp_path / "home", trace=events) as store:
        await store.add_file(path, stamp(path), LEAVES)
        flip(path, 2 * SIZE + 5)
        found = await store.get_many(cids, len(DATA))
        assert found == [DATA[:SIZE], DATA[SIZE : 2 * SIZE], *[None] * (len(LEAVES) - 2)]
        assert events.told == [SourceWithdrawn(path=path, fault=Fault.WRONG_BYTES)]


async def test_b4_a_truncated_file_is_withdrawn(tmp_path: Path) -> None:
    path = film(tmp_path)
    async with DiskStore.open(tmp_path / "home") as store:
        before = stamp(path)
        await store.add_file(path, before, LEAVES)
        os.truncate(path, 1000)
        os.utime(path, ns=(before.mtime_ns, before.mtime_ns))
        with pytest.raises(SourceChanged):
            await store.get(LEAVES[-1].cid)


async def test_b4_a_changed_file_that_is_shared_again_is_served_as_it_is_now(tmp_path: Path) -> None:
    path = film(tmp_path)
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(path, stamp(path), LEAVES)
        changed = noise(50_000, seed=1)
        path.write_bytes(changed)
        new = leaves_of(changed, SIZE)
        await store.add_file(path, stamp(path), new)
        assert await store.get(new[0].cid) == changed[:SIZE]
        assert await store.has([leaf.cid for leaf in LEAVES]) == [False] * len(LEAVES)
        assert len(await store.segments()) == 1


async def test_b5_a_file_that_vanished_is_withdrawn(tmp_path: Path) -> None:
    path = film(tmp_path)
    events = Events()
    async with DiskStore.open(tmp_path / "home", trace=events) as store:
        await store.add_file(path, stamp(path), LEAVES)
        path.unlink()
        out = bytearray(4 * SIZE)
        assert await store.read_into([leaf.cid for leaf in LEAVES[:4]], memoryview(out)) == [None] * 4
        assert events.told == [SourceWithdrawn(path=path, fault=Fault.GONE)]


async def test_b5_a_file_that_moved_is_served_from_its_new_place_and_the_old_one_is_forgotten(tmp_path: Path) -> None:
    path = film(tmp_path)
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(path, stamp(path), LEAVES)
        moved = path.rename(tmp_path / "holiday film")
        with pytest.raises(SourceChanged):
            await store.get(LEAVES[0].cid)
        await store.add_file(moved, stamp(moved), LEAVES)
        assert await store.get(LEAVES[0].cid) == DATA[:SIZE]
        assert [(each.path, each.state) for each in await store.segments()] == [(moved, SegmentState.SEALED)]


async def test_b5_a_disk_that_is_plugged_in_again_is_served_again(tmp_path: Path) -> None:
    path = film(tmp_path / "usb")
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(path, stamp(path), LEAVES)
        (tmp_path / "usb").rename(tmp_path / "unplugged")
        assert [each.path for each in await store.check_files()] == [path]
        assert await store.has([LEAVES[0].cid]) == [False]
        (tmp_path / "unplugged").rename(tmp_path / "usb")
        assert await store.check_files() == []
        assert await store.get(LEAVES[0].cid) == DATA[:SIZE]


async def test_a_copy_of_a_file_takes_over_when_the_other_goes(tmp_path: Path) -> None:
    one, two = film(tmp_path, "one"), film(tmp_path, "two")
    async with DiskStore.open(tmp_path / "home") as store:
        for path in (one, two):
            await store.add_file(path, stamp(path), LEAVES)
        assert len(await store.segments()) == 2
        one.write_bytes(b"something else")
        assert await store.get(LEAVES[2].cid) == DATA[2 * SIZE : 3 * SIZE]
        out = bytearray(SIZE)
        two.unlink()
        assert await store.read_into([LEAVES[2].cid], memoryview(out)) == [None]


async def test_a_pack_serves_what_a_file_no_longer_has(tmp_path: Path) -> None:
    path = film(tmp_path)
    cid, data = LEAVES[0].cid, DATA[:SIZE]
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(path, stamp(path), LEAVES)
        await store.put([(cid, data)])
        path.unlink()
        assert await store.get(cid) == data


async def test_deleting_a_block_forgets_it_in_files_too_and_leaves_them_alone(tmp_path: Path) -> None:
    path = film(tmp_path)
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(path, stamp(path), LEAVES)
        await store.put([(LEAVES[0].cid, DATA[:SIZE])])
        assert await store.delete([LEAVES[0].cid]) == 1
        assert await store.has([LEAVES[0].cid, LEAVES[1].cid]) == [False, True]
    assert path.read_bytes() == DATA


async def test_a_fifo_in_the_place_of_a_file_stops_nobody(tmp_path: Path) -> None:
    path = film(tmp_path)
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(path, stamp(path), LEAVES)
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(SourceChanged):
            await store.get(LEAVES[0].cid)


async def test_a_directory_in_the_place_of_a_file_is_a_file_gone(tmp_path: Path) -> None:
    path = film(tmp_path)
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(path, stamp(path), LEAVES)
        path.unlink()
        path.mkdir()
        with pytest.raises(SourceChanged):
            await store.get(LEAVES[0].cid)


async def test_names_that_are_not_text_are_kept_as_they_are(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe film"))
    path.write_bytes(DATA)
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(path, stamp(path), LEAVES)
        assert await store.get(LEAVES[0].cid) == DATA[:SIZE]
        assert [each.path for each in await store.segments()] == [path]


async def test_wrapped_leaves_stay_in_place_too(tmp_path: Path) -> None:
    path = film(tmp_path)
    leaves = wrapped_leaves(DATA, SIZE)
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(path, stamp(path), leaves)
        sizes = await store.sizes([leaf.cid for leaf in leaves])
        assert sizes == [leaf.length + 11 for leaf in leaves]
        out = memoryview(bytearray(sum(size or 0 for size in sizes)))
        assert await store.read_into([leaf.cid for leaf in leaves], out) == sizes
        assert bytes(out) == b"".join(
            leaf.prefix + DATA[leaf.offset : leaf.offset + leaf.length] + leaf.suffix for leaf in leaves
        )
        assert await store.get(leaves[1].cid) == bytes(out[SIZE + 11 : 2 * (SIZE + 11)])
    async with DiskStore.open(tmp_path / "home") as store:
        assert await store.get(leaves[1].cid) == bytes(out[SIZE + 11 : 2 * (SIZE + 11)])


async def test_a_file_of_equal_blocks_is_one_block(tmp_path: Path) -> None:
    path = tmp_path / "zeros"
    path.write_bytes(bytes(1_000_000))
    leaves = leaves_of(bytes(1_000_000), 1000)
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(path, stamp(path), leaves)
        assert [cid async for cid in store.cids()] == [Cid.of(bytes(1000))]
        assert await store.get(Cid.of(bytes(1000))) == bytes(1000)
        assert await store.forget_file(path) == 1000


async def test_a_block_in_very_many_lost_files_costs_a_bounded_look(tmp_path: Path) -> None:
    data = b"the same everywhere"
    async with DiskStore.open(tmp_path / "home") as store:
        for number in range(TRIES_MAX + 10):
            path = tmp_path / f"file {number}"
            path.write_bytes(data)
            await store.add_file(path, stamp(path), leaves_of(data, 100))
            path.write_bytes(b"changed")
        with pytest.raises(SourceChanged):
            await store.get(Cid.of(data))


async def test_leaves_outside_the_file_are_refused(tmp_path: Path) -> None:
    path = film(tmp_path)
    async with DiskStore.open(tmp_path / "home") as store:
        for offset, length in ((len(DATA) - 5, 6), (-1, 3), (0, -1), (1 << 62, 1)):
            with pytest.raises(ValueError, match="outside its file"):
                await store.add_file(path, stamp(path), [Leaf(LEAVES[0].cid, offset, length)])
        assert await store.segments() == []


async def test_a_frame_that_is_no_frame_is_refused(tmp_path: Path) -> None:
    path = film(tmp_path)
    async with DiskStore.open(tmp_path / "home") as store:
        with pytest.raises(LimitExceeded):
            await store.add_file(path, stamp(path), [Leaf(LEAVES[0].cid, 0, 1, bytes(FRAME_BYTES_MAX), b"x")])


async def test_a_file_that_is_not_there_cannot_be_added(tmp_path: Path) -> None:
    path = film(tmp_path)
    before = stamp(path)
    path.unlink()
    async with DiskStore.open(tmp_path / "home") as store:
        with pytest.raises(SourceChanged):
            await store.add_file(path, before, LEAVES)


async def test_what_is_being_fetched_can_be_neither_added_nor_forgotten(tmp_path: Path) -> None:
    part = tmp_path / "film.part"
    async with DiskStore.open(tmp_path / "home") as store:
        await store.create_file(part, len(DATA))
        with pytest.raises(Refused):
            await store.add_file(part, stamp(part), LEAVES)
        with pytest.raises(Refused):
            await store.forget_file(part)
        assert await store.check_files() == []


async def test_a_part_file_that_another_store_left_is_taken_over_only_where_that_is_asked_for(tmp_path: Path) -> None:
    part, target = tmp_path / "film.part", tmp_path / "film"
    async with DiskStore.open(tmp_path / "another home") as store:
        writer = await store.create_file(part, len(DATA))
        writer.write(LEAVES[0], DATA[: LEAVES[0].length])
        async with DiskStore.open(tmp_path / "home") as second:
            with pytest.raises(Refused, match="is being written by another fetch"):
                await second.create_file(part, len(DATA), adopt=True)
        await writer.aclose()
    async with DiskStore.open(tmp_path / "home") as store:
        with pytest.raises(Refused, match="somebody else's"):
            await store.create_file(part, len(DATA))
        writer = await store.create_file(part, len(DATA), adopt=True)
        assert await writer.present() == [] and part.read_bytes()[: LEAVES[0].length] == DATA[: LEAVES[0].length]
        for leaf in LEAVES:
            writer.write(leaf, DATA[leaf.offset : leaf.offset + leaf.length])
        await writer.seal(target)
        assert target.read_bytes() == DATA


@pytest.mark.parametrize("kind", ["larger", "linked", "a link", "a directory", "a FIFO"])
async def test_what_is_no_part_file_that_was_left_is_not_taken_over(tmp_path: Path, kind: str) -> None:
    part, mine = tmp_path / "film.part", tmp_path / "mine"
    mine.write_bytes(DATA + b"!" * (kind == "larger"))
    if kind == "linked":
        part.hardlink_to(mine)
    elif kind == "a link":
        part.symlink_to(mine)
    elif kind == "a directory":
        part.mkdir()
    elif kind == "a FIFO":
        os.mkfifo(part)
    else:
        mine.rename(part)
    async with DiskStore.open(tmp_path / "home") as store:
        with pytest.raises(Refused, match="not an unfinished file of ours"):
            await store.create_file(part, len(DATA), adopt=True)
    assert kind == "larger" or mine.read_bytes() == DATA


async def test_a_pack_is_no_file_to_forget(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        await store.put([block(1)])
        [pack] = await store.segments()
        assert await store.forget_file(pack.path) == 0
        assert await store.has([block(1)[0]]) == [True]


async def test_many_files_are_checked_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stack.blocks import segments

    monkeypatch.setattr(segments, "ROWS_BATCH", 3)
    paths = []
    async with DiskStore.open(tmp_path / "home") as store:
        for number in range(9):
            path = tmp_path / f"file {number}"
            path.write_bytes(bytes([number]) * 100)
            await store.add_file(path, stamp(path), leaves_of(path.read_bytes(), 100))
            paths.append(path)
        for path in paths[1::2]:
            path.unlink()
        assert [each.path for each in await store.check_files()] == paths[1::2]


async def test_relative_paths_mean_the_directory_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path)
    monkeypatch.chdir(tmp_path)
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(Path("film"), stamp(path), LEAVES)
        monkeypatch.chdir("/")
        assert await store.get(LEAVES[0].cid) == DATA[:SIZE]
        shutil.copy(path, tmp_path / "copy")
        assert [each.path for each in await store.segments()] == [path]


async def test_many_files_that_are_added_at_once_share_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = 0
    writing = Database.writing

    def count(self: Database) -> AbstractContextManager[sqlite3.Connection]:
        nonlocal commits
        commits += 1
        return writing(self)

    paths = []
    for number in range(60):
        path = tmp_path / f"file {number}"
        path.write_bytes(noise(100, number))
        paths.append(path)
    stamps = [stamp(path) for path in paths]
    paths[7].write_bytes(b"changed meanwhile")
    refused = []
    numbers = set()
    async with DiskStore.open(tmp_path / "home") as store:
        monkeypatch.setattr(Database, "writing", count)

        async def add(number: int) -> None:
            leaves = leaves_of(noise(100, number), 100)
            try:
                numbers.add(await store.add_file(paths[number], stamps[number], leaves))
            except SourceChanged as error:
                refused.append(error.path)

        async with anyio.create_task_group() as tasks:
            for number in range(60):
                tasks.start_soon(add, number)
        assert refused == [paths[7]]
        assert len(numbers) == 59
        assert commits < 30
        found = await store.has([Cid.of(noise(100, number)) for number in range(60)])
        assert found == [number != 7 for number in range(60)]


async def test_the_files_a_block_lies_in_are_known(tmp_path: Path) -> None:
    one, two = film(tmp_path, "one"), film(tmp_path, "two")
    async with DiskStore.open(tmp_path / "home") as store:
        for path in (one, two):
            await store.add_file(path, stamp(path), LEAVES)
        await store.put([block(1), (LEAVES[0].cid, DATA[:SIZE])])
        assert await store.files_of([LEAVES[0].cid, block(1)[0], block(2)[0]]) == [[one, two], [], []]


async def test_a_stale_sight_of_a_file_withdraws_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is indexed anew between the look at it and the conclusion."""
    path = film(tmp_path)
    events = Events()
    async with DiskStore.open(tmp_path / "home", trace=events) as store:
        await store.add_file(path, stamp(path), LEAVES)
        [before] = await store.segments()
        path.write_bytes(DATA + b"more")
        await store.add_file(path, stamp(path), LEAVES)
        with monkeypatch.context() as patched:
            patched.setattr(store._core.index, "files", lambda after, limit: [before])
            path.write_bytes(b"")
            assert await store.check_files() == []
        store._core.reader.withdraw(before, Fault.GONE)
        assert events.told == []


async def test_a_leaf_larger_than_any_block_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "film"
    with path.open("wb") as file:
        file.truncate(STORED_BLOCK_MAX + 1)
    async with DiskStore.open(tmp_path / "home") as store:
        with pytest.raises(LimitExceeded):
            await store.add_file(path, stamp(path), [Leaf(LEAVES[0].cid, 0, STORED_BLOCK_MAX + 1)])


async def test_b14_an_index_that_lies_about_lengths_makes_nobody_allocate(tmp_path: Path) -> None:
    path = film(tmp_path)
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(path, stamp(path), LEAVES)
        await store.put([block(1), block(2)])
        index = sqlite3.connect(tmp_path / "home" / "blocks" / "index.sqlite", isolation_level=None)
        for length, cid in ((1 << 60, block(1)[0]), (-5, block(2)[0]), (1 << 60, LEAVES[0].cid)):
            index.execute("UPDATE location SET length = ? WHERE multihash = ?", (length, cid.multihash))
        index.close()
        cids = [block(1)[0], block(2)[0], LEAVES[0].cid]
        assert await store.read_into(cids, memoryview(bytearray(1000))) == [None] * 3
        for cid in cids:
            with pytest.raises((BlockMismatch, BlockNotFound, SourceChanged)):
                await store.get(cid)
        assert (await store.verify()).problem_count >= 3


async def test_a_lost_frame_is_like_wrong_bytes(tmp_path: Path) -> None:
    path = film(tmp_path)
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(path, stamp(path), wrapped_leaves(DATA, SIZE))
        index = sqlite3.connect(tmp_path / "home" / "blocks" / "index.sqlite", isolation_level=None)
        index.execute("DELETE FROM frame")
        index.close()
        with pytest.raises(SourceChanged):
            await store.get(wrapped_leaves(DATA, SIZE)[0].cid)


async def test_frames_without_end_are_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.blocks.index.FRAMES_CACHED_MAX", 3)
    path = tmp_path / "film"
    path.write_bytes(b"0123456789")
    leaves = [Leaf(Cid.of(bytes([at]) + b"0123456789"[at : at + 1]), at, 1, bytes([at])) for at in range(10)]
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(path, stamp(path), leaves)
        for leaf in leaves:
            assert await store.get(leaf.cid) == leaf.prefix + b"0123456789"[leaf.offset : leaf.offset + 1]
        assert len(store._core.index._frames) <= 3


async def test_a_call_for_blocks_of_many_files_holds_few_of_them_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of 600 small files is served by a process that may have 256 open."""
    monkeypatch.setattr(reads, "OPEN_FILES_MAX", 3)
    opened, most = set(), 0
    real_open, real_close = disk.open_regular, os.close

    def open_regular(path: Path) -> tuple[int, os.stat_result]:
        nonlocal most
        fd, status = real_open(path)
        opened.add(fd)
        most = max(most, len(opened))
        return fd, status

    def close(fd: int) -> None:
        opened.discard(fd)
        real_close(fd)

    async with DiskStore.open(tmp_path / "home") as store:
        cids = []
        for number in range(20):
            path = tmp_path / str(number)
            path.write_bytes(b"%d" % number)
            cids.append(Cid.of(path.read_bytes()))
            await store.add_file(path, stamp(path), [Leaf(cids[-1], 0, len(path.read_bytes()))])
        monkeypatch.setattr(disk, "open_regular", open_regular)
        monkeypatch.setattr(os, "close", close)
        out = bytearray(100)
        assert None not in await store.read_into(cids * 2, memoryview(out))
        assert (most, len(opened)) == (3 + 1, 0)


async def test_a_moment_without_handles_is_waited_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cannot send what ... asks for: reading blocks: Too many open files`, and 13 s for what takes one."""
    real_open, real_dup, failures = disk.open_regular, os.dup, 0

    def no_handle(fd: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def open_regular(path: Path) -> tuple[int, os.stat_result]:
        nonlocal failures
        failures += 1
        if failures % 3:
            no_handle(0)
        return real_open(path)

    monkeypatch.setattr(disk, "SHORTAGE_SECONDS", 0.001)
    async with DiskStore.open(tmp_path / "home") as store:
        cids = []
        for number in range(20):
            path = tmp_path / str(number)
            path.write_bytes(b"%02d" % number)
            cids.append(Cid.of(path.read_bytes()))
            await store.add_file(path, stamp(path), [Leaf(cids[-1], 0, 2)])
        monkeypatch.setattr(disk, "open_regular", open_regular)
        monkeypatch.setattr(os, "dup", no_handle)
        out = bytearray(40)
        assert await store.read_to_send(cids, memoryview(out)) == [2] * 20
        assert out == b"".join(b"%02d" % number for number in range(20))
        monkeypatch.setattr(os, "dup", real_dup)
        assert None not in await store.read_to_send(cids, memoryview(out))


def test_where_few_files_may_be_open_a_call_has_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for limit in (16, 64, 256, 1024, 65_536):
        monkeypatch.setattr(reads, "descriptor_limit", partial(int, limit))
        found[limit] = reads.files_at_once()
    assert found == {16: 1, 64: 2, 256: 8, 1024: 16, 65_536: 16}


async def test_files_that_are_recorded_together_are_taken_as_they_were_read(tmp_path: Path) -> None:
    """A file that changes between its reading and its record is found out like one that changes a moment later."""
    events = Events()
    tree = tmp_path / "tree"
    tree.mkdir()
    files = []
    for number in range(20):
        path = tree / f"f{number}"
        path.write_bytes(b"%d" % (number if number in (7, 8) else number % 5))
        files.append((path, stamp(path), leaves_of(path.read_bytes(), SIZE)))
    async with DiskStore.open(tmp_path / "home", trace=events) as store:
        (tree / "f7").write_bytes(b"longer")
        (tree / "f8").unlink()
        await store.add_files(files)
        await store.add_files(files)
        assert len(await store.segments()) == 20
        assert await store.has([Cid.of(b"%d" % number) for number in range(5)]) == [True] * 5
        assert {each.path.name for each in await store.check_files()} == {"f7", "f8"}
        assert [await store.get(Cid.of(b"%d" % number)) for number in range(5)] == [b"%d" % n for n in range(5)]


async def test_a_file_that_is_recorded_twice_at_once_is_what_it_was_last(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"first")
    before = (path, stamp(path), leaves_of(b"first", SIZE))
    path.write_bytes(b"second")
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_files([before, (path, stamp(path), leaves_of(b"second", SIZE))])
        assert await store.has([Cid.of(b"first"), Cid.of(b"second")]) == [False, True]
        assert len(await store.segments()) == 1


async def test_of_files_that_are_recorded_together_one_that_is_being_fetched_is_refused(tmp_path: Path) -> None:
    fetched, other = tmp_path / "fetched", tmp_path / "other"
    other.write_bytes(b"other")
    async with DiskStore.open(tmp_path / "home") as store:
        writer = await store.create_file(fetched, 5)
        with pytest.raises(Refused, match="being fetched"):
            await store.add_files([(path, stamp(path), [Leaf(Cid.of(b"other"), 0, 5)]) for path in (fetched, other)])
        assert await store.files_of([Cid.of(b"other")]) == [[other]]
        await writer.abandon(remove=True)


HEAD = bytes(range(250)) * 4


async def share_head(store: DiskStore, path: Path, end: bytes, mtime_ns: int) -> None:
    """Files of one size that begin alike."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(HEAD + end * 1000)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    leaves = [Leaf(Cid.of(HEAD), 0, 1000), Leaf(Cid.of(end * 1000), 1000, 1000)]
    await store.add_file(path, stamp(path), leaves)


@pytest.mark.parametrize(("mtime_ns", "unplugged"), [(2, "disk"), (2, "disk/f"), (1, "disk")])
async def test_a_file_that_cannot_be_seen_now_is_not_one_that_was_moved(
    tmp_path: Path, mtime_ns: int, unplugged: str
) -> None:
    """Another of its size, that begins like it, is shared while the disk is away: images of disks, logs, databases."""
    path, away = tmp_path / "disk" / "f", tmp_path / "away"
    async with DiskStore.open(tmp_path / "home") as store:
        await share_head(store, path, b"a", 1)
        (tmp_path / unplugged).rename(away)
        assert len(await store.check_files()) == 1
        await share_head(store, tmp_path / "other", b"b", mtime_ns)
        away.rename(tmp_path / unplugged)
        assert await store.check_files() == []
        assert await store.get(Cid.of(b"a" * 1000)) == b"a" * 1000


@pytest.mark.parametrize("failing", ["the file", "its directory", "another disk there"])
async def test_nor_is_one_that_the_disk_does_not_tell_of(
    tmp_path: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "disk" / "f"
    real = os.stat

    def fails(place: Any, *arguments: Any, **named: Any) -> os.stat_result:
        if place == path and failing == "the file":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if place == path.parent and failing == "its directory":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        status = real(place, *arguments, **named)
        if place == path.parent:  # an empty mount point
            return os.stat_result((*status[:2], status.st_dev + 1, *status[3:]))
        return status

    async with DiskStore.open(tmp_path / "home") as store:
        await share_head(store, path, b"a", 1)
        path.rename(tmp_path / "away")
        with monkeypatch.context() as patched:
            patched.setattr(os, "stat", fails)
            patched.setattr(os, "lstat", fails)
            await share_head(store, tmp_path / "other", b"b", 1)
        (tmp_path / "away").rename(path)
        await store.check_files()
        assert await store.get(Cid.of(b"a" * 1000)) == b"a" * 1000
