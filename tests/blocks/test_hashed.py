"""Blocks that are not hashed again for a peer: which, and that a file that changed is never served all the same."""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from stack.blocks import disk, hashed, reads, warm
from stack.blocks.gone import Fault
from stack.blocks.hashed import Hashed, look_of
from stack.blocks.hashing import matches
from stack.blocks.interfaces import FileStamp, SegmentId
from stack.blocks.reads import SourceWithdrawn
from stack.blocks.store import DiskStore
from stack.dag.unixfs.options import ImportOptions
from stack.files.add import Adder
from stack.files.known import KnownFiles
from stack.sansio.interfaces import Buffer
from tests.blocks.support import Events, leaves_of, noise, stamp

pytestmark = pytest.mark.anyio

DATA = noise(50_000)
SIZE = 16_384
LEAVES = leaves_of(DATA, SIZE)
CIDS = [leaf.cid for leaf in LEAVES]


class Hashes:
    """How often a block was hashed to be sent."""

    def __init__(self) -> None:
        self.count = 0

    def matches(self, multihash: bytes, data: Buffer) -> bool:
        self.count += 1
        return matches(multihash, data)

    def taken(self) -> int:
        """Since the last time."""
        count, self.count = self.count, 0
        return count


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> Hashes:
    """As if every file had been left alone for a minute, and nothing were hashed to be on the safe side."""
    counted = Hashes()
    monkeypatch.setattr(reads, "matches", counted.matches)
    real = time.time_ns
    monkeypatch.setattr(hashed.time, "time_ns", lambda: real() + 60 * 1_000_000_000)
    monkeypatch.setattr(hashed, "keeps_own_times", lambda fd: True)  # wherever the tests run
    monkeypatch.setattr(warm, "HASHED_ALL_THE_SAME", 1 << 60)
    monkeypatch.setattr(warm, "_NOWAIT", getattr(os, "RWF_NOWAIT", 0))
    return counted


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A file of a user's."""
    path = tmp_path / "film"
    path.write_bytes(DATA)
    return path


def hashed_stamp(path: Path) -> FileStamp:
    """Of whoever hashes the file now."""
    return disk.stamp_of(path.stat(), hashed=True)


async def sizes_sent(store: DiskStore) -> list[int | None]:
    """What a peer would get of all leaves that it asks for, each of which must be right."""
    await store.sizes_for(CIDS, frozenset())
    out = memoryview(bytearray(len(DATA)))
    sizes = await store.read_to_send(CIDS, out)
    position = 0
    for leaf, size in zip(LEAVES, sizes, strict=True):
        if size is not None:
            assert matches(leaf.cid.multihash, out[position : position + size])
            position += size
    return sizes


ALL: Sequence[int | None] = [leaf.length for leaf in LEAVES]


def change(path: Path, offset: int = 5) -> None:
    """Other bytes behind the same size and mtime. The clock of ctime is coarse, and has to move on."""
    before = path.stat()
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, b"\0" if DATA[offset] else b"\1", offset)
    os.close(fd)
    while path.stat().st_ctime_ns == before.st_ctime_ns or path.stat().st_mtime_ns != before.st_mtime_ns:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


async def test_what_was_hashed_once_is_not_hashed_again_for_a_peer(tmp_path: Path, film: Path, hashes: Hashes) -> None:
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(film, stamp(film), LEAVES)
        assert await sizes_sent(store) == ALL
        assert hashes.taken() == len(LEAVES)
        assert await sizes_sent(store) == ALL
        assert hashes.taken() == 0
        assert await store.get(CIDS[0]) == DATA[:SIZE]
        await store.read_into(CIDS, memoryview(bytearray(len(DATA))))
        assert hashes.taken() == 1 + len(LEAVES), "for this node itself all is hashed"


async def test_whoever_hashes_a_file_and_then_records_it_need_not_do_so_again(
    tmp_path: Path, film: Path, hashes: Hashes
) -> None:
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(film, hashed_stamp(film), LEAVES)
        assert await sizes_sent(store) == ALL
        assert hashes.taken() == 0


async def test_what_is_known_of_a_file_from_an_earlier_run_is_hashed_before_it_is_sent(
    tmp_path: Path, film: Path, hashes: Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    film.write_bytes(big := noise(5_000_000))
    monkeypatch.setattr("stack.files.known.SETTLED_NS", 0)
    options = ImportOptions()
    for known_before in (False, True):
        known = KnownFiles(tmp_path / "known.sqlite", options)
        async with DiskStore.open(tmp_path / f"home {known_before}") as store:
            await Adder(store, options, known=known).add([film])
            places = [row async for row in store.cids()]
            hashes.taken()
            out = memoryview(bytearray(len(big)))
            for cid in places:
                await store.read_to_send([cid], out)
        known.close()
        in_packs = 1
        assert hashes.taken() == (len(places) if known_before else in_packs)


async def test_a_block_in_a_pack_is_always_hashed(tmp_path: Path, hashes: Hashes) -> None:
    async with DiskStore.open(tmp_path / "home") as store:
        await store.put([(LEAVES[0].cid, DATA[:SIZE])])
        for _ in range(3):
            assert await store.read_to_send(CIDS[:1], memoryview(bytearray(SIZE))) == [SIZE]
        assert hashes.taken() == 3


async def test_a_file_that_changed_behind_an_unchanged_stamp_is_never_served(
    tmp_path: Path, film: Path, hashes: Hashes
) -> None:
    events = Events()
    async with DiskStore.open(tmp_path / "home", trace=events) as store:
        await store.add_file(film, hashed_stamp(film), LEAVES)
        assert await sizes_sent(store) == ALL
        change(film)
        assert None in await sizes_sent(store)
        assert events.told == [SourceWithdrawn(path=film, fault=Fault.WRONG_BYTES)]


async def test_a_file_that_changes_while_it_is_hashed_is_not_believed(
    tmp_path: Path, film: Path, hashes: Hashes
) -> None:
    async with DiskStore.open(tmp_path / "home") as store:
        looked_at = hashed_stamp(film)
        change(film)
        await store.add_file(film, looked_at, LEAVES)
        assert None in await sizes_sent(store)


@pytest.mark.parametrize("first", [True, False])
async def test_a_file_that_changes_between_the_look_and_the_read_or_after_it_is_hashed(
    tmp_path: Path, film: Path, hashes: Hashes, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(film, hashed_stamp(film), LEAVES)
        read_at = disk.read_at

        def and_change(fd: int, out: memoryview, offset: int) -> int:
            monkeypatch.setattr(disk, "read_at", read_at)
            if first:
                change(film)
            count = read_at(fd, out, offset)
            if not first:
                change(film)
            return count

        monkeypatch.setattr(disk, "read_at", and_change)
        sizes = await store.read_to_send(CIDS[:1], memoryview(bytearray(SIZE)))
        assert sizes == ([None] if first else [SIZE])
        assert hashes.taken() == (2 if first else 1)
        assert None in await sizes_sent(store)


async def test_a_file_that_was_replaced_is_hashed(tmp_path: Path, film: Path, hashes: Hashes) -> None:
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(film, hashed_stamp(film), LEAVES)
        other = tmp_path / "other"
        other.write_bytes(noise(len(DATA), seed=1))
        os.utime(other, ns=(0, film.stat().st_mtime_ns))
        other.replace(film)
        assert await sizes_sent(store) == [None] * len(LEAVES)


async def test_a_file_that_was_cut_short_is_not_served(tmp_path: Path, film: Path, hashes: Hashes) -> None:
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(film, hashed_stamp(film), LEAVES)

        def cut_short(fd: int, out: memoryview, offset: int) -> int:
            return 0

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(disk, "read_at", cut_short)
            assert None in await sizes_sent(store)


async def test_a_file_that_was_changed_just_now_is_hashed_each_time(
    tmp_path: Path, film: Path, hashes: Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashed, "SETTLED_NS", 100 * 1_000_000_000)
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(film, hashed_stamp(film), LEAVES)
        for _ in range(2):
            assert await sizes_sent(store) == ALL
            assert hashes.taken() == len(LEAVES)


async def test_files_whose_times_another_machine_keeps_are_hashed_each_time(
    tmp_path: Path, film: Path, hashes: Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashed, "keeps_own_times", lambda fd: False)
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(film, hashed_stamp(film), LEAVES)
        for _ in range(2):
            assert await sizes_sent(store) == ALL
            assert hashes.taken() == len(LEAVES)


async def test_one_message_in_some_is_hashed_all_the_same(
    tmp_path: Path, film: Path, hashes: Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm, "HASHED_ALL_THE_SAME", 4)
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(film, hashed_stamp(film), LEAVES)
        for _ in range(4):
            assert await sizes_sent(store) == ALL
        assert hashes.taken() == len(LEAVES)


async def test_after_a_wrong_block_everything_is_hashed_again(tmp_path: Path, film: Path, hashes: Hashes) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(other := noise(len(DATA), seed=2))
    others = leaves_of(other, SIZE)
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(film, hashed_stamp(film), LEAVES)
        await store.add_file(copy, hashed_stamp(copy), others)
        change(copy)
        out = memoryview(bytearray(SIZE))
        assert await store.read_to_send([others[0].cid], out) == [None]
        hashes.taken()
        assert await sizes_sent(store) == ALL
        assert hashes.taken() == len(LEAVES)


async def test_a_descriptor_that_cannot_be_looked_at_is_a_failed_read(
    tmp_path: Path, film: Path, hashes: Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(film, hashed_stamp(film), LEAVES)

        def stale(status: os.stat_result) -> None:
            raise OSError("stale handle")

        monkeypatch.setattr(reads, "look_of", stale)
        with pytest.raises(reads.ReadFailed):
            await sizes_sent(store)


def test_of_very_many_blocks_those_of_the_first_file_are_forgotten(film: Path, hashes: Hashes) -> None:
    known = Hashed()
    look = look_of(film.stat())
    fd = os.open(film, os.O_RDONLY)
    assert look is not None
    one, two = SegmentId(1), SegmentId(2)
    try:
        known.add(one, look, [(b"first", 0)])
        assert known.covers(one, look, (b"first", 0), fd)
        assert not known.covers(one, look, (b"first", 1), fd)
        assert not known.covers(one, (*look[:-1], 0), (b"first", 0), fd)
        known.add(two, look, ((b"", number) for number in range(hashed.BLOCKS_MAX)))
        assert not known.covers(one, look, (b"first", 0), fd)
        assert known.covers(two, look, (b"", 7), fd)
        known.add(two, (*look[:-1], 0), [(b"", 7)])
        assert not known.covers(two, look, (b"", 7), fd)
        assert known._total == 1
    finally:
        os.close(fd)


def test_a_stamp_is_the_same_whether_or_not_its_leaves_were_hashed(film: Path, hashes: Hashes) -> None:
    assert hashed_stamp(film) == stamp(film) == replace(hashed_stamp(film), ctime_ns=None)
    assert hashed_stamp(film).ctime_ns is not None
