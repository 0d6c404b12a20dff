"""What the disk could not read is neither wrong nor gone: nothing is given up for it (findings 12 and 13)."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stack.blocks import disk
from stack.blocks.interfaces import ReadFailed
from stack.blocks.store import DiskStore
from stack.blocks.verify import ProblemKind
from stack.testing.conformance.stores import block
from tests.blocks.support import packs
from tests.blocks.test_in_place import LEAVES, SIZE, film, stamp
from tests.blocks.test_marking import links, node

pytestmark = pytest.mark.anyio


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, name: str, times: int, error: int = errno.EIO) -> Iterator[None]:
    """The first `times` calls of a function of `os` fail."""
    real: Callable[..., object] = getattr(os, name)
    left = [times]

    def fails(*arguments: object, **named: object) -> object:
        if left[0]:
            left[0] -= 1
            raise OSError(error, os.strerror(error))
        return real(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(os, name, fails)
        yield


async def test_finding_13_a_shared_file_that_could_not_be_read_once_is_served_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film(tmp_path)
    cids = [leaf.cid for leaf in LEAVES]
    out = memoryview(bytearray(SIZE))
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(path, stamp(path), LEAVES)
        with failing(monkeypatch, "preadv", 2), pytest.raises(ReadFailed):
            await store.read_into(cids[:1], out)
        with failing(monkeypatch, "pread", 2), pytest.raises(ReadFailed):
            await store.get(cids[0])
        with failing(monkeypatch, "pread", 2):
            first, *others = await store.get_many(cids, SIZE * len(cids))
            assert first is None
            assert None not in others
        assert all(await store.has(cids))
        assert await store.check_files() == []
        with failing(monkeypatch, "preadv", 1):
            assert await store.read_into(cids[:1], out) == [LEAVES[0].length]
        assert await store.get(cids[0])
    async with DiskStore.open(tmp_path / "home") as store:
        assert all(await store.has(cids))


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
async def test_a_mount_that_does_not_answer_withdraws_nothing(
    error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film(tmp_path)

    def fails(place: Path) -> tuple[int, os.stat_result]:
        raise OSError(error, os.strerror(error))

    def stat_fails(self: Path, **named: object) -> os.stat_result:
        raise OSError(error, os.strerror(error))

    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(path, stamp(path), LEAVES)
        with monkeypatch.context() as patched:
            patched.setattr(disk, "open_regular", fails)
            with pytest.raises(ReadFailed):
                await store.get(LEAVES[0].cid)
            report = await store.verify()
            assert {problem.kind for problem in report.problems} == {ProblemKind.UNREADABLE}
        with monkeypatch.context() as patched:
            patched.setattr(Path, "stat", stat_fails)
            assert await store.check_files() == []
        assert await store.get(LEAVES[0].cid)
        assert (await store.verify()).problem_count == 0


async def test_a_block_that_lies_in_two_places_is_read_from_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film(tmp_path)
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(path, stamp(path), LEAVES)
        data = await store.get(LEAVES[0].cid)
        await store.put([(LEAVES[0].cid, data)])
        with failing(monkeypatch, "pread", 2):
            assert await store.get(LEAVES[0].cid) == data


async def test_verify_says_what_cannot_be_read_and_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path)
    async with DiskStore.open(tmp_path / "home") as store:
        await store.add_file(path, stamp(path), LEAVES)
        await store.put([block(1)])
        with failing(monkeypatch, "preadv", 1):
            report = await store.verify()
        assert [problem.kind for problem in report.problems] == [ProblemKind.UNREADABLE]
        assert all(await store.has([block(1)[0], *(leaf.cid for leaf in LEAVES)]))
        assert (await store.verify()).problem_count == 0


async def test_finding_12_compaction_keeps_a_pack_that_it_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pinned block stayed behind, and the pack was removed with it."""
    kept, garbage = block(1), [block(number) for number in range(2, 12)]
    root = node(kept[0])
    async with DiskStore.open(tmp_path / "home") as store:
        await store.put([root, kept, *garbage])
        await store.add_pin(root[0])
        sweeper = store._core.sweeper
        real = sweeper.compact

        def compact(number: int) -> int:
            with failing(monkeypatch, "pread", 1):
                return real(number)  # type: ignore[arg-type]

        with monkeypatch.context() as patched:
            patched.setattr(sweeper, "compact", compact)
            report = await store.collect(links)
        assert (report.kept, report.removed, report.freed_bytes) == (2, len(garbage), 0)
        assert await store.get(kept[0]) == kept[1]
        assert (await store.verify(links)).problem_count == 0
        assert (await store.collect(links)).freed_bytes > 0
        assert await store.get(kept[0]) == kept[1]
        assert packs(tmp_path / "home")
