"""What every block store must do. A store's test module subclasses `StoreSuite` (the name beginning with `Test`, marked
`pytest.mark.anyio`) and names its store; abilities beyond `BlockStore` have a suite each. The memory store is the reference.

    @pytest.mark.anyio
    class TestMyStore(StoreSuite, PinSuite):
        store = MyStore
"""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import anyio
import pytest

from stack.blocks.interfaces import (
    Block,
    BlockMismatch,
    BlockNotFound,
    BlockStore,
    DirectReads,
    FileStamp,
    InPlaceStore,
    Leaf,
    PinKind,
    PinStore,
    ReadsMany,
)
from stack.errors import NoSpace
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB, RAW
from stack.trace import Trace

QUOTA = 100_000
"""Of the store that a suite fills up."""


class PinningStore(BlockStore, PinStore, Protocol):
    """A block store that keeps pins."""


class DirectStore(BlockStore, DirectReads, Protocol):
    """A block store that reads into a buffer."""


class ManyStore(BlockStore, ReadsMany, Protocol):
    """A block store that gives out several blocks."""


class FileStore(BlockStore, InPlaceStore, Protocol):
    """A block store whose blocks may lie in users' files."""


@runtime_checkable
class StoreRow(Protocol):
    """What a row of `STORES` names."""

    def open(
        self, home: Path, *, quota: int | None = None, trace: Trace | None = None
    ) -> AbstractAsyncContextManager[BlockStore]: ...


def block(number: int, size: int = 1000) -> Block:
    """A block of `size` bytes that differs from that of every other number."""
    data = number.to_bytes(4, "big") * (size // 4 + 1)
    return Cid.of(data[:size]), data[:size]


def stamp(path: Path) -> FileStamp:
    """What a file looks like now."""
    status = path.stat()
    return FileStamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def leaves_of(data: bytes, size: int) -> list[Leaf]:
    """The raw leaves of a file, `size` bytes each."""
    return [
        Leaf(Cid.of(data[start : start + size]), start, len(data[start : start + size]))
        for start in range(0, len(data), size)
    ]


class StoreSuite:
    """`BlockStore`."""

    store: ClassVar[StoreRow]
    survives: ClassVar[bool] = True
    """Whether what was put is there when the store is opened again."""

    async def test_what_was_put_is_there(self, tmp_path: Path) -> None:
        blocks = [block(number, size) for number, size in enumerate((0, 1, 1000, 300_000, 2 * 1024 * 1024))]
        async with self.store.open(tmp_path) as store:
            await store.put(blocks)
            cids = [cid for cid, _ in blocks]
            assert await store.has(cids) == [True] * len(blocks)
            assert await store.sizes(cids) == [len(data) for _, data in blocks]
            for cid, data in blocks:
                assert await store.get(cid) == data

    async def test_what_was_not_put_is_not_there(self, tmp_path: Path) -> None:
        here, absent = block(1), block(2)
        async with self.store.open(tmp_path) as store:
            await store.put([here])
            assert await store.has([absent[0], here[0]]) == [False, True]
            assert await store.sizes([absent[0], here[0]]) == [None, 1000]
            with pytest.raises(BlockNotFound) as caught:
                await store.get(absent[0])
            assert caught.value.cid == absent[0]

    async def test_empty_batches_are_answered(self, tmp_path: Path) -> None:
        async with self.store.open(tmp_path) as store:
            await store.put([])
            assert await store.has([]) == []
            assert await store.sizes([]) == []
            assert await store.delete([]) == 0
            assert [cid async for cid in store.cids()] == []

    async def test_a_block_is_known_by_its_multihash(self, tmp_path: Path) -> None:
        cid, data = block(1)
        async with self.store.open(tmp_path) as store:
            await store.put([(cid, data)])
            for same in (cid.with_codec(DAG_PB), Cid.v0(cid.multihash)):
                assert await store.has([same]) == [True]
                assert await store.get(same) == data

    async def test_every_hash_function_can_name_a_block(self, tmp_path: Path) -> None:
        data = b"named in many ways"
        names = ("sha2-512", "sha3-256", "blake2b-256", "blake2s-256", "blake3", "sha1", "identity")
        cids = [Cid.of(data, hash=name) for name in names]
        async with self.store.open(tmp_path) as store:
            await store.put([(cid, data) for cid in cids])
            assert [await store.get(cid) for cid in cids] == [data] * len(cids)

    async def test_wrong_bytes_are_refused_and_nothing_of_the_batch_is_kept(self, tmp_path: Path) -> None:
        good, (cid, _) = block(1), block(2)
        async with self.store.open(tmp_path) as store:
            with pytest.raises(BlockMismatch):
                await store.put([good, (cid, b"something else")])
            assert await store.has([good[0], cid]) == [False, False]

    async def test_an_unknown_hash_function_is_refused(self, tmp_path: Path) -> None:
        cid = Cid.v1(RAW, b"\x99\x01\x20" + bytes(32))
        async with self.store.open(tmp_path) as store:
            with pytest.raises(BlockMismatch):
                await store.put([(cid, b"nobody can tell")])

    async def test_putting_again_changes_nothing(self, tmp_path: Path) -> None:
        one = block(1)
        async with self.store.open(tmp_path) as store:
            await store.put([one, one])
            await store.put([one])
            assert [cid async for cid in store.cids()] == [one[0]]

    async def test_deleted_blocks_are_gone_and_counted(self, tmp_path: Path) -> None:
        one, two, absent = block(1), block(2), block(3)
        async with self.store.open(tmp_path) as store:
            await store.put([one, two])
            assert await store.delete([one[0], absent[0]]) == 1
            assert await store.has([one[0], two[0]]) == [False, True]
            await store.put([one])
            assert await store.get(one[0]) == one[1]

    async def test_the_listing_names_every_block_once_as_raw(self, tmp_path: Path) -> None:
        blocks = [block(number, 10) for number in range(1100)]
        async with self.store.open(tmp_path) as store:
            await store.put([(cid.with_codec(DAG_PB), data) for cid, data in blocks])
            listed = [cid async for cid in store.cids()]
        assert sorted(listed) == sorted(cid for cid, _ in blocks)

    async def test_many_tasks_may_put_and_get_at_once(self, tmp_path: Path) -> None:
        async with self.store.open(tmp_path) as store:

            async def work(first: int) -> None:
                mine = [block(number) for number in range(first, first + 5)]
                await store.put(mine)
                for cid, data in mine:
                    assert await store.get(cid) == data

            async with anyio.create_task_group() as tasks:
                for first in range(0, 60, 3):
                    tasks.start_soon(work, first)
            assert all(await store.has([block(number)[0] for number in range(60)]))

    async def test_what_was_put_survives(self, tmp_path: Path) -> None:
        if not self.survives:
            pytest.skip("NOT TESTED: what survives a restart; this store forgets on purpose")
        blocks = [block(number) for number in range(20)]
        async with self.store.open(tmp_path) as store:
            await store.put(blocks)
        async with self.store.open(tmp_path) as store:
            for cid, data in blocks:
                assert await store.get(cid) == data

    async def test_a_full_store_says_so_and_stays_readable(self, tmp_path: Path) -> None:
        small, large = block(1), block(2, QUOTA)
        async with self.store.open(tmp_path, quota=QUOTA) as store:
            await store.put([small])
            with pytest.raises(NoSpace):
                await store.put([large])
            assert await store.has([small[0], large[0]]) == [True, False]
            await store.put([block(3)])
            assert await store.get(small[0]) == small[1]
            assert await store.get(block(3)[0]) == block(3)[1]

    async def test_a_cancelled_put_leaves_the_store_usable(self, tmp_path: Path) -> None:
        blocks = [block(number, 50_000) for number in range(40)]
        async with self.store.open(tmp_path) as store:
            async with anyio.create_task_group() as tasks:
                for one in blocks:
                    tasks.start_soon(store.put, [one])
                await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            for cid, data in blocks:
                await store.put([(cid, data)])
                assert await store.get(cid) == data

    async def test_closing_twice_is_closing_once(self, tmp_path: Path) -> None:
        async with self.store.open(tmp_path) as store:
            await store.put([block(1)])
            await store.aclose()


class DirectReadsSuite:
    """`DirectReads`."""

    store: ClassVar[StoreRow]

    async def test_blocks_are_read_one_behind_the_other(self, tmp_path: Path) -> None:
        one, two, absent, empty = block(1, 1000), block(2, 70_000), block(3), block(4, 0)
        out = bytearray(80_000)
        async with self.store.open(tmp_path) as opened:
            store = _direct(opened)
            await store.put([one, two, empty])
            sizes = await store.read_into([one[0], absent[0], empty[0], two[0]], memoryview(out))
        assert sizes == [1000, None, 0, 70_000]
        assert out[:71_000] == one[1] + two[1]

    async def test_a_block_that_does_not_fit_is_passed_over(self, tmp_path: Path) -> None:
        one, large, two = block(1, 600), block(2, 5000), block(3, 400)
        out = bytearray(1000)
        async with self.store.open(tmp_path) as opened:
            store = _direct(opened)
            await store.put([one, large, two])
            assert await store.read_into([one[0], large[0], two[0]], memoryview(out)) == [600, None, 400]
        assert out == one[1] + two[1]


class ReadsManySuite:
    """`ReadsMany`."""

    store: ClassVar[StoreRow]

    async def test_blocks_are_given_out_in_the_order_they_are_asked_for(self, tmp_path: Path) -> None:
        one, two, absent, empty = block(1, 1000), block(2, 70_000), block(3), block(4, 0)
        async with self.store.open(tmp_path) as opened:
            store = _many(opened)
            await store.put([one, two, empty])
            found = await store.get_many([two[0], absent[0], empty[0], one[0], two[0]], 1_000_000)
        assert found == [two[1], None, b"", one[1], two[1]]

    async def test_what_is_too_much_is_passed_over(self, tmp_path: Path) -> None:
        one, large, two = block(1, 600), block(2, 5000), block(3, 400)
        async with self.store.open(tmp_path) as opened:
            store = _many(opened)
            await store.put([one, large, two])
            cids = [one[0], large[0], two[0], two[0]]
            assert await store.get_many(cids, 1000) == [one[1], None, two[1], None]
            assert await store.get_many(cids, 0) == [None] * 4


class PinSuite:
    """`PinStore`."""

    store: ClassVar[StoreRow]
    survives: ClassVar[bool]

    async def test_pins_are_listed_with_their_names_until_removed(self, tmp_path: Path) -> None:
        one, two = sorted((block(1)[0], block(2)[0]))
        async with self.store.open(tmp_path) as opened:
            store = _pinning(opened)
            await store.add_pin(two, "holiday")
            await store.add_pin(one)
            assert await store.pins() == [(one, ""), (two, "holiday")]
            await store.add_pin(two, "film")
            assert await store.pins() == [(one, ""), (two, "film")]
            assert await store.remove_pin(one)
            assert not await store.remove_pin(one)
            assert await store.pins() == [(two, "film")]

    async def test_the_two_kinds_of_pins_do_not_see_each_other(self, tmp_path: Path) -> None:
        cid = block(1)[0]
        async with self.store.open(tmp_path) as opened:
            store = _pinning(opened)
            await store.add_pin(cid, "mine")
            await store.add_pin(cid, "film.mkv", kind=PinKind.SHARE)
            assert await store.remove_pin(cid)
            assert await store.pins() == []
            assert await store.pins(kind=PinKind.SHARE) == [(cid, "film.mkv")]

    async def test_a_pin_is_of_a_cid_not_of_a_multihash(self, tmp_path: Path) -> None:
        cid = block(1)[0]
        async with self.store.open(tmp_path) as opened:
            store = _pinning(opened)
            await store.add_pin(cid)
            assert not await store.remove_pin(cid.with_codec(DAG_PB))
            assert await store.pins() == [(cid, "")]

    async def test_pins_survive(self, tmp_path: Path) -> None:
        if not self.survives:
            pytest.skip("NOT TESTED: what survives a restart; this store forgets on purpose")
        cid = block(1)[0]
        async with self.store.open(tmp_path) as opened:
            await _pinning(opened).add_pin(cid, "kept")
        async with self.store.open(tmp_path) as opened:
            assert await _pinning(opened).pins() == [(cid, "kept")]


def _direct(store: BlockStore) -> DirectStore:
    assert hasattr(store, "read_into")
    return store  # type: ignore[return-value]  # a suite is mixed in only where its ability is there


def _many(store: BlockStore) -> ManyStore:
    assert hasattr(store, "get_many")
    return store  # type: ignore[return-value]  # a suite is mixed in only where its ability is there


def _pinning(store: BlockStore) -> PinningStore:
    assert hasattr(store, "add_pin")
    return store  # type: ignore[return-value]  # a suite is mixed in only where its ability is there


def in_place(store: BlockStore) -> FileStore:
    assert hasattr(store, "create_file")
    return store  # type: ignore[return-value]  # a suite is mixed in only where its ability is there
