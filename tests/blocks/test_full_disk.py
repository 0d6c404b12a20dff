"""A disk that is full, before and during (bad input B9): nothing is lost, everything stays readable, space helps."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio.to_thread
import pytest

from stack.blocks import reserve, sweeps
from stack.blocks.interfaces import Leaf
from stack.blocks.reserve import Reserve
from stack.blocks.store import DiskStore
from stack.dag import links
from stack.errors import NoSpace, StoreError
from stack.multiformats.cid import Cid
from stack.testing.conformance.stores import Block
from tests.blocks.support import leaves_of, noise

pytestmark = pytest.mark.anyio

DISK_BYTES = 4 * 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"THE FULL DISK IS NOT TESTED: no small file system can be mounted ({mounted.stderr.strip()})")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def large(number: int) -> Block:
    """A block of 100 kB."""
    data = noise(100_000, number)
    return Cid.of(data), data


def fill(place: Path, leave: int = 0) -> Path:
    """Take all space but `leave` bytes."""
    filler = place / "filler"
    figures = os.statvfs(place)
    filler.write_bytes(bytes(max(0, figures.f_bavail * figures.f_frsize - leave)))
    return filler


async def test_b9_puts_stop_when_the_disk_is_full_and_what_was_acknowledged_stays(small_disk: Path) -> None:
    kept = 0
    async with DiskStore.open(small_disk) as store:
        with pytest.raises(NoSpace):
            for number in range(100):
                await store.put([large(number)])
                kept = number + 1
        assert kept > 10
        for number in range(kept):
            assert await store.get(large(number)[0]) == large(number)[1]
        assert await store.has([large(kept)[0]]) == [False]
        with pytest.raises(NoSpace):
            await store.put([large(kept)])
    async with DiskStore.open(small_disk) as store:
        for number in range(kept):
            assert await store.get(large(number)[0]) == large(number)[1]


async def test_b9_space_that_comes_back_is_used(small_disk: Path) -> None:
    filler = fill(small_disk, 1_500_000)
    async with DiskStore.open(small_disk) as store:
        with pytest.raises(NoSpace):
            for number in range(100):
                await store.put([large(number)])
        filler.unlink()
        await store.put([large(200), large(201)])
        assert await store.get(large(201)[0]) == large(201)[1]
        assert (await store.verify()).problem_count == 0


async def test_use_25_a_file_of_holes_may_be_larger_than_the_disk_that_its_data_fills(
    small_disk: Path, tmp_path: Path
) -> None:
    size = 4 * DISK_BYTES
    async with DiskStore.open(tmp_path / "home") as store:
        writer = await store.create_file(small_disk / "disk.img.part", size)
        zeros, data = bytes(1_000_000), noise(1_000_000)
        writer.write(Leaf(Cid.of(zeros), 0, len(zeros)), zeros)
        writer.write(Leaf(Cid.of(data), size - len(data), len(data)), data)
        await writer.seal(small_disk / "disk.img")
        assert (small_disk / "disk.img").stat().st_size == size
        assert await store.get(Cid.of(data)) == data
        writer = await store.create_file(small_disk / "film.part", size)
        with pytest.raises(NoSpace):
            for number in range(size // 1_000_000):
                data = noise(1_000_000)
                await anyio.to_thread.run_sync(writer.write, Leaf(Cid.of(data), number * 1_000_000, len(data)), data)
        await writer.abandon(remove=True)


async def test_b9_a_fetch_whose_disk_fills_up_keeps_what_it_has_and_goes_on_later(
    small_disk: Path, tmp_path: Path
) -> None:
    data = noise(2_000_000)
    leaves = leaves_of(data, 100_000)
    part = small_disk / "film.part"

    def write(leaf: Leaf) -> None:
        writer.write(leaf, data[leaf.offset : leaf.offset + leaf.length])

    async with DiskStore.open(tmp_path / "home") as store:
        writer = await store.create_file(part, len(data))
        filler = fill(small_disk, 900_000)
        written = []
        with pytest.raises(NoSpace):
            for leaf in leaves:
                write(leaf)
                written.append(leaf)
        await writer.checkpoint()
        for leaf in written:
            assert await store.get(leaf.cid) == data[leaf.offset : leaf.offset + leaf.length]
        assert await store.has([leaves[len(written)].cid]) == [False]
        await writer.abandon(remove=False)
        filler.unlink()
        writer = await store.create_file(part, len(data))
        present = {offset for offset, _ in await writer.present()}
        assert present == {leaf.offset for leaf in written}
        for leaf in leaves:
            if leaf.offset not in present:
                write(leaf)
        await writer.seal(small_disk / "film")
    assert (small_disk / "film").read_bytes() == data


async def test_b9_rows_that_find_no_space_stay_readable_and_are_recorded_later(
    small_disk: Path, tmp_path: Path
) -> None:
    """The index is on the full disk, the file elsewhere."""
    data = noise(400_000)
    leaves = leaves_of(data, 100)
    async with DiskStore.open(small_disk) as store:
        writer = await store.create_file(tmp_path / "film.part", len(data))
        filler = fill(small_disk)
        for leaf in leaves:
            writer.write(leaf, data[leaf.offset : leaf.offset + leaf.length])
        with pytest.raises(NoSpace):
            await writer.checkpoint()
        assert await store.get(leaves[77].cid) == data[7700:7800]
        filler.unlink()
        assert await writer.checkpoint() == len(data)
        assert len(await writer.present()) == len(leaves)
        assert (await store.verify()).problem_count == 0


async def test_b9_a_store_cannot_be_made_on_a_full_disk_and_can_when_there_is_space(small_disk: Path) -> None:
    filler = fill(small_disk)
    with pytest.raises(StoreError):
        async with DiskStore.open(small_disk):
            raise AssertionError("opened")
    filler.unlink()
    async with DiskStore.open(small_disk) as store:
        await store.put([large(1)])


async def test_b9_a_home_on_a_full_disk_is_opened_read_and_collected(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite cannot even open an index when its log cannot grow: what would have made room could not be begun."""
    monkeypatch.setattr(reserve, "AMPLE_BYTES", 1 << 20)
    kept = large(0)
    async with DiskStore.open(small_disk) as store:
        await store.put([kept, *(large(number) for number in range(1, 15))])
        await store.add_pin(kept[0])
    fill(small_disk)
    async with DiskStore.open(small_disk) as store:
        assert await store.get(kept[0]) == kept[1]
        report = await store.collect(links)
        assert report.removed == 14
        await store.put([large(20)])
        assert (await store.verify()).problem_count == 0


async def test_b9_a_store_that_runs_while_the_disk_is_filled_is_collected(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserve, "AMPLE_BYTES", 1 << 20)
    async with DiskStore.open(small_disk) as store:
        await store.put([large(number) for number in range(15)])
        fill(small_disk)
        assert (await store.collect(links)).removed == 15
        await store.put([large(20)])


def test_b9_nothing_is_set_aside_on_a_disk_that_is_nearly_full(small_disk: Path) -> None:
    Reserve(small_disk).set_aside()
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("punches", [True, False])
async def test_b9_where_there_is_no_room_to_rewrite_a_pack_what_is_dead_in_it_is_given_back_all_the_same(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, punches: bool
) -> None:
    """Collecting needed as much room as it kept, on a disk that was full."""
    if not punches:
        monkeypatch.setattr(sweeps, "punch_hole", lambda fd, offset, size: False)
    blocks = [large(number) for number in range(20)]
    kept = blocks[::3]
    async with DiskStore.open(small_disk) as store:
        await store.put(blocks)
        for cid, _ in kept:
            await store.add_pin(cid)
        filler = fill(small_disk, leave=300_000)
        before = os.statvfs(small_disk).f_bavail
        if not punches:
            with pytest.raises(NoSpace):
                await store.collect(links)
            return
        report = await store.collect(links)
        assert report.removed == 13 and report.freed_bytes > 1_200_000
        assert (os.statvfs(small_disk).f_bavail - before) * os.statvfs(small_disk).f_frsize > 1_000_000
        assert [await store.get(cid) for cid, _ in kept] == [data for _, data in kept]
        await store.put([blocks[1]])
        assert await store.get(blocks[1][0]) == blocks[1][1]
        filler.unlink()
        assert (await store.collect(links)).freed_bytes < 300_000  # it is rewritten now, and was nearly as small
        assert [await store.get(cid) for cid, _ in kept] == [data for _, data in kept]
        assert (await store.verify()).problem_count == 0


async def test_b9_an_index_is_made_again_from_a_pack_with_holes(small_disk: Path) -> None:
    blocks = [large(number) for number in range(20)]
    kept = blocks[::3]
    async with DiskStore.open(small_disk) as store:
        await store.put(blocks)
        for cid, _ in kept:
            await store.add_pin(cid)
        filler = fill(small_disk, leave=300_000)
        await store.collect(links)
    filler.unlink()
    await DiskStore.rebuild_index(small_disk)
    async with DiskStore.open(small_disk) as store:
        assert [await store.get(cid) for cid, _ in kept] == [data for _, data in kept]
        assert sum(await store.has([cid for cid, _ in blocks])) == len(kept)
