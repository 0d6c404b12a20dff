"""What is found wrong while the index cannot be written keeps no read back: full, busy and read-only are not the reader's business."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stack.blocks import database, gone, sqlite
from stack.blocks.gone import AGAIN_SECONDS, NOTED_MAX, Fault, Gone
from stack.blocks.interfaces import BlockNotFound, Segment, SegmentId, SegmentState, SourceChanged
from stack.blocks.reads import BlockDamaged, SourceWithdrawn
from stack.blocks.store import DiskStore
from stack.testing.conformance.stores import block
from tests.blocks.support import Events, flip, leaves_of, noise, stamp
from tests.blocks.test_full_disk import fill, small_disk

__all__ = ["small_disk"]

pytestmark = pytest.mark.anyio

DATA = noise(100_000)
SIZE = 16_384
LEAVES = leaves_of(DATA, SIZE)
OTHER = noise(5_000, 1)
[OTHER_LEAF] = leaves_of(OTHER, SIZE)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock is not waited for, and what failed is tried again with the next read."""
    monkeypatch.setattr(database, "BUSY_MS", 20)
    monkeypatch.setattr(sqlite, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(gone, "AGAIN_SECONDS", 0.0)


@contextmanager
def busy(home: Path) -> Iterator[None]:
    """Somebody else writes to the index."""
    other = sqlite3.connect(home / "blocks" / "index.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


def change(path: Path, fault: Fault) -> None:
    """So that a read of its first block finds that fault."""
    match fault:
        case Fault.GONE:
            path.unlink()
        case Fault.CHANGED:
            path.write_bytes(b"changed")
        case Fault.WRONG_BYTES:
            flip(path, 5)


async def shared(store: DiskStore, directory: Path) -> tuple[Path, Path]:
    """Two files of a user's."""
    film, other = directory / "film", directory / "other"
    for path, data, leaves in ((film, DATA, LEAVES), (other, OTHER, [OTHER_LEAF])):
        path.write_bytes(data)
        await store.add_file(path, stamp(path), leaves)
    return film, other


@pytest.mark.parametrize("fault", Fault)
async def test_a_message_with_a_block_of_a_changed_file_goes_though_the_index_is_busy(
    tmp_path: Path, fault: Fault
) -> None:
    events = Events()
    wanted = [LEAVES[0].cid, OTHER_LEAF.cid]
    async with DiskStore.open(tmp_path, trace=events) as store:
        film, _ = await shared(store, tmp_path)
        change(film, fault)
        out = memoryview(bytearray(2 * SIZE))
        with busy(tmp_path):
            for _ in range(2):
                assert await store.read_to_send(wanted, out) == [None, len(OTHER)]
            assert bytes(out[: len(OTHER)]) == OTHER
            assert await store.sizes([leaf.cid for leaf in (*LEAVES, OTHER_LEAF)]) == [None] * len(LEAVES) + [
                len(OTHER)
            ]
            with pytest.raises(BlockNotFound):
                await store.get(LEAVES[0].cid)
        assert events.told == [SourceWithdrawn(path=film, fault=fault)]
        assert [each.state for each in await store.segments()] == [SegmentState.SEALED] * 2
        assert await store.get(OTHER_LEAF.cid) == OTHER
        assert [each.state for each in await store.segments()] == [SegmentState.MISSING, SegmentState.SEALED]
        assert len(events.told) == 1


async def test_b9_a_disk_that_is_full_keeps_nothing_back_that_can_be_read(small_disk: Path, tmp_path: Path) -> None:
    async with DiskStore.open(small_disk) as store:
        film, _ = await shared(store, tmp_path)
        filler = fill(small_disk)
        with (
            (small_disk / "rest").open("wb", buffering=0) as rest,
            pytest.raises(OSError, match=os.strerror(errno.ENOSPC)),
        ):
            while True:
                rest.write(bytes(512))
        film.write_bytes(b"changed")
        out = memoryview(bytearray(2 * SIZE))
        assert await store.read_to_send([LEAVES[0].cid, OTHER_LEAF.cid], out) == [None, len(OTHER)]
        with pytest.raises(BlockNotFound):
            await store.get(LEAVES[1].cid)
        filler.unlink()
        assert await store.get(OTHER_LEAF.cid) == OTHER
        assert [each.state for each in await store.segments()] == [SegmentState.MISSING, SegmentState.SEALED]


async def test_a_block_of_a_changed_file_that_lies_elsewhere_too_is_read_there(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        film, _ = await shared(store, tmp_path)
        await store.put([(LEAVES[0].cid, DATA[:SIZE])])
        film.unlink()
        with busy(tmp_path):
            assert await store.get(LEAVES[0].cid) == DATA[:SIZE]


async def shared_again(store: DiskStore, path: Path) -> None:
    """With the contents that it had."""
    before = path.stat() if path.exists() else None
    path.write_bytes(DATA)
    if before is not None:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    await store.add_file(path, stamp(path), LEAVES)


async def test_a_file_that_lied_is_served_again_once_it_is_shared_again(tmp_path: Path) -> None:
    """Its stamp is the same, and its withdrawal was never written down."""
    async with DiskStore.open(tmp_path) as store:
        film, _ = await shared(store, tmp_path)
        flip(film, 5)
        with busy(tmp_path), pytest.raises(SourceChanged):
            await store.get(LEAVES[0].cid)
        await shared_again(store, film)
        assert all(await store.has([leaf.cid for leaf in LEAVES]))
        assert await store.get(LEAVES[0].cid) == DATA[:SIZE]
        assert all(await store.has([leaf.cid for leaf in LEAVES]))


async def test_a_file_that_went_and_came_back_is_served_again(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        film, _ = await shared(store, tmp_path)
        film.rename(tmp_path / "away")
        with busy(tmp_path), pytest.raises(SourceChanged):
            await store.get(LEAVES[0].cid)
        assert [each.path for each in await store.check_files()] == [film]
        (tmp_path / "away").rename(film)
        assert await store.check_files() == []
        assert await store.get(LEAVES[0].cid) == DATA[:SIZE]


async def test_a_wrong_block_of_a_fetch_is_absent_though_the_index_is_busy_and_there_once_it_is_written_anew(
    tmp_path: Path,
) -> None:
    events = Events()
    part = tmp_path / "film.part"
    async with DiskStore.open(tmp_path, trace=events) as store:
        writer = await store.create_file(part, len(DATA))
        writer.write(LEAVES[0], DATA[:SIZE])
        await writer.checkpoint()
        flip(part, 5)
        out = memoryview(bytearray(SIZE))
        with busy(tmp_path):
            assert await store.read_into([LEAVES[0].cid], out) == [None]
            assert await store.has([LEAVES[0].cid]) == [False]
        assert events.told == [BlockDamaged(multihash=LEAVES[0].cid.multihash, path=part)]
        writer.write(LEAVES[0], DATA[:SIZE])
        await writer.checkpoint()
        assert await store.get(LEAVES[0].cid) == DATA[:SIZE]
        await writer.abandon(remove=True)


async def test_verify_tells_what_is_wrong_though_the_index_is_busy(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path) as store:
        film, _ = await shared(store, tmp_path)
        await store.put([block(1)])
        film.write_bytes(b"changed")
        with busy(tmp_path):
            report = await store.verify()
        assert next(each.path for each in report.problems if each.path is not None) == film
        assert await store.has([LEAVES[0].cid, block(1)[0]]) == [False, True]


def test_notes_are_bounded_and_tried_again_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gone, "AGAIN_SECONDS", AGAIN_SECONDS)
    noted = Gone()
    files = [
        Segment(SegmentId(number), "file", Path(str(number)), SegmentState.SEALED, None)
        for number in range(NOTED_MAX + 1)
    ]
    assert noted.due(0.0) == []
    assert all(noted.found(each, Fault.GONE, 0.0) for each in files)
    assert not noted.found(files[-1], Fault.GONE, 0.0)
    assert not noted.covers(files[0].id)
    assert all(noted.covers(each.id) for each in files[1:])
    assert noted.due(AGAIN_SECONDS - 1) == []
    assert len(noted.due(AGAIN_SECONDS)) == NOTED_MAX
    assert noted.due(AGAIN_SECONDS) == []
    noted.recorded(files[1].id)
    assert len(noted.due(2 * AGAIN_SECONDS)) == NOTED_MAX - 1
