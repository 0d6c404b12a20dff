"""Blocks that are read for a peer on the event loop: only what is in memory, was hashed and has not changed."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from stack.blocks import disk, warm
from stack.blocks.interfaces import ReadFailed, SegmentId
from stack.blocks.reads import files_at_once
from stack.blocks.store import DiskStore
from tests.blocks.support import wrapped_leaves
from tests.blocks.test_hashed import (
    ALL,
    CIDS,
    DATA,
    LEAVES,
    SIZE,
    Hashes,
    change,
    film,
    hashed_stamp,
    hashes,
    sizes_sent,
)

__all__ = ["film", "hashes"]

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        not hasattr(os, "RWF_NOWAIT"), reason="NOT TESTED: reads without a worker; this system has none"
    ),
]


@pytest.fixture(autouse=True)
def read_at_once(film: Path) -> None:
    """Not every file system can say that it would have to wait."""
    fd = os.open(film, os.O_RDONLY)
    try:
        os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT)
    except OSError as error:
        pytest.skip(f"NOT TESTED: reads without a worker; the file system of {film.parent} has none ({error})")
    finally:
        os.close(fd)


@asynccontextmanager
async def warm_store(tmp_path: Path, film: Path) -> AsyncIterator[DiskStore]:
    """A store whose file a worker has just opened."""
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(film, hashed_stamp(film), LEAVES)
        assert await sizes_sent(store) == ALL
        yield store


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """How often a worker was asked to read."""
    from stack.blocks.reads import Reader

    calls: list[object] = []
    read_to_send = Reader.read_to_send

    def counted(self: Reader, *arguments: object) -> object:
        calls.append(arguments)
        return read_to_send(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Reader, "read_to_send", counted)
    return calls


def descriptors(path: Path) -> int:
    """How often a file lies open in this process."""
    return sum(
        os.path.samestat(os.fstat(int(fd)), path.stat()) for fd in os.listdir("/proc/self/fd") if is_open(int(fd))
    )


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


async def test_what_is_in_memory_is_read_without_a_worker(
    tmp_path: Path, film: Path, hashes: Hashes, asked: list[object]
) -> None:
    async with warm_store(tmp_path, film) as store:
        assert len(asked) == 1
        assert await sizes_sent(store) == ALL
        assert len(asked) == 1
        await store.read_to_send(CIDS, memoryview(bytearray(len(DATA))))
        assert len(asked) == 2, "each block is read once for each time it is looked up"
        assert descriptors(film) == 1
    assert descriptors(film) == 0


async def test_a_leaf_in_a_frame_is_put_together(
    tmp_path: Path, film: Path, hashes: Hashes, asked: list[object]
) -> None:
    leaves = wrapped_leaves(DATA, SIZE)
    cids = [leaf.cid for leaf in leaves]
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(film, hashed_stamp(film), leaves)
        out = [memoryview(bytearray(len(DATA) + 1000)) for _ in range(2)]
        for each in out:
            await store.sizes_for(cids, frozenset())
            assert None not in await store.read_to_send(cids, each)
        assert len(asked) == 1
        assert out[0] == out[1]


@pytest.mark.parametrize("first", [True, False])
async def test_a_file_that_changes_while_it_is_read_is_left_to_a_worker(
    tmp_path: Path, film: Path, hashes: Hashes, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    async with warm_store(tmp_path, film) as store:
        await store.sizes_for(CIDS, frozenset())
        preadv = os.preadv

        def and_change(fd: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
            monkeypatch.setattr(os, "preadv", preadv)
            if first:
                change(film)
            count = preadv(fd, buffers, offset, flags)
            if not first:
                change(film)
            return count

        monkeypatch.setattr(os, "preadv", and_change)
        assert await store.read_to_send(CIDS[:1], memoryview(bytearray(SIZE))) == [None]


@pytest.mark.parametrize("how", ["not in memory", "in part", "no such flag"])
async def test_what_is_not_in_memory_is_left_to_a_worker(
    tmp_path: Path, film: Path, hashes: Hashes, asked: list[object], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    preadv = os.preadv

    def cold(fd: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        if not flags:
            return preadv(fd, buffers, offset)
        if how == "in part":
            return 7
        raise BlockingIOError

    async with warm_store(tmp_path, film) as store:
        if how == "no such flag":
            monkeypatch.setattr(warm, "_NOWAIT", None)
        monkeypatch.setattr(os, "preadv", cold)
        assert await sizes_sent(store) == ALL
        assert len(asked) == 2


async def test_what_is_forgotten_is_not_served_from_memory(tmp_path: Path, film: Path, hashes: Hashes) -> None:
    async with warm_store(tmp_path, film) as store:
        await store.sizes_for(CIDS, frozenset())
        await store.forget_file(film)
        assert await store.read_to_send(CIDS, memoryview(bytearray(len(DATA)))) == [None] * len(CIDS)


async def test_a_deleted_file_is_not_served(tmp_path: Path, film: Path, hashes: Hashes) -> None:
    async with warm_store(tmp_path, film) as store:
        await store.sizes_for(CIDS, frozenset())
        film.unlink()
        assert await store.read_to_send(CIDS, memoryview(bytearray(len(DATA)))) == [None] * len(CIDS)


async def test_a_file_is_opened_anew_by_its_name_after_a_while_and_closed_when_nobody_wants_it(
    tmp_path: Path, film: Path, hashes: Hashes, asked: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with warm_store(tmp_path, film) as store:
        (opened,) = store._core.warm._open.values()
        monkeypatch.setattr(warm, "KEPT_SECONDS", 0.01)
        film.parent.rename(moved := film.parent.with_name(film.parent.name + " moved"))
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(store.let_go)
                with anyio.fail_after(5):
                    while store._core.warm._open:
                        await anyio.sleep(0.001)
                with pytest.raises(OSError):
                    os.fstat(opened[0])
                await store.sizes_for(CIDS, frozenset())
                assert await store.read_to_send(CIDS[:1], memoryview(bytearray(SIZE))) == [None]
                tasks.cancel_scope.cancel()
        finally:
            moved.rename(film.parent)
        assert len(asked) == 2


async def test_a_sleeping_duty_wakes_for_the_next_file(tmp_path: Path, film: Path, hashes: Hashes) -> None:
    async with DiskStore.open(tmp_path / "home") as store, anyio.create_task_group() as tasks:
        tasks.start_soon(store.let_go)
        await anyio.wait_all_tasks_blocked()
        await store.add_file(film, hashed_stamp(film), LEAVES)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(warm, "KEPT_SECONDS", 0.0)
            assert await sizes_sent(store) == ALL
            with anyio.fail_after(5):
                while store._core.warm._open:
                    await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()


async def test_no_more_is_read_than_there_is_room_for(tmp_path: Path, film: Path, hashes: Hashes) -> None:
    async with warm_store(tmp_path, film) as store:
        await store.sizes_for(CIDS, frozenset())
        sizes = await store.read_to_send(CIDS, memoryview(bytearray(SIZE + 1)))
        assert sizes[:2] == [SIZE, None]


async def test_a_read_that_fails_leaves_nothing_open(
    tmp_path: Path, film: Path, hashes: Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(film, hashed_stamp(film), LEAVES)
        read_at = disk.read_at

        def bad_sector(fd: int, out: memoryview, offset: int) -> int:
            if offset:
                raise OSError(5, "Input/output error")
            return read_at(fd, out, offset)

        monkeypatch.setattr(disk, "read_at", bad_sector)
        with pytest.raises(ReadFailed):
            await store.read_to_send(CIDS, memoryview(bytearray(len(DATA))))
        assert descriptors(film) == 0


async def test_few_files_lie_open_and_few_places_are_remembered(
    tmp_path: Path, film: Path, hashes: Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with warm_store(tmp_path, film) as store:
        kept = store._core.warm
        kept.opened({SegmentId(100 + number): os.open(film, os.O_RDONLY) for number in range(files_at_once())})
        assert len(kept._open) == files_at_once()
        await store.sizes_for(CIDS, frozenset())
        assert len(kept._found) == len(CIDS)
        monkeypatch.setattr(warm, "LOCATIONS_KEPT", 2)
        await store.sizes_for(CIDS[:1], frozenset())
        assert len(kept._found) == 1
        kept.found(kept._found.values(), -1)
        assert len(kept._found) == 1
