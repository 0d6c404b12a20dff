"""Plain files in Kubo's layout."""

from pathlib import Path

import pytest

from stack.blocks.flat import FlatStore
from stack.blocks.interfaces import BlockMismatch
from stack.errors import CorruptStore, StoreError
from stack.multiformats.cid import Cid
from stack.testing.conformance.stores import block
from tests.blocks.support import flip

pytestmark = pytest.mark.anyio

EMPTY_DIRECTORY = (Cid.parse("QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"), b"\x0a\x02\x08\x01")
"""The block every Kubo repository has from `ipfs init` on."""


async def test_a_block_lies_where_kubo_puts_it(tmp_path: Path) -> None:
    async with FlatStore.open(tmp_path) as store:
        await store.put([EMPTY_DIRECTORY])
    assert (tmp_path / "flat" / "SHARDING").read_text() == "/repo/flatfs/shard/v1/next-to-last/2\n"
    name = "CIQFTFEEHEDF6KLBT32BFAGLXEZL4UWFNWM4LFTLMXQBCERZ6CMLX3Y"
    assert (tmp_path / "flat" / "X3" / f"{name}.data").read_bytes() == EMPTY_DIRECTORY[1]


async def test_another_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "SHARDING").write_text("/repo/flatfs/shard/v1/prefix/5\n")
    with pytest.raises(CorruptStore, match="next-to-last/2"):
        async with FlatStore.open(tmp_path):
            raise AssertionError("opened")


async def test_half_written_files_go_at_the_next_start(tmp_path: Path) -> None:
    async with FlatStore.open(tmp_path) as store:
        await store.put([EMPTY_DIRECTORY])
    half = tmp_path / "flat" / "X3" / "put-CIQABC.data"
    half.write_bytes(b"half")
    async with FlatStore.open(tmp_path) as store:
        assert not half.exists()
        assert len([cid async for cid in store.cids()]) == 1


async def test_damage_is_refused_and_healed_by_a_put(tmp_path: Path) -> None:
    cid, data = block(1)
    async with FlatStore.open(tmp_path) as store:
        await store.put([(cid, data)])
        [path] = (tmp_path / "flat").rglob("*.data")
        flip(path, 10)
        with pytest.raises(BlockMismatch):
            await store.get(cid)
        await store.put([(cid, data)])
        assert await store.get(cid) == data
        path.write_bytes(b"")
        await store.put([(cid, data)])
        assert await store.get(cid) == data


async def test_a_foreign_name_breaks_the_listing_off_with_an_error(tmp_path: Path) -> None:
    async with FlatStore.open(tmp_path) as store:
        await store.put([EMPTY_DIRECTORY])
        (tmp_path / "flat" / "X3" / "note").write_bytes(b"not a block")
        assert len([cid async for cid in store.cids()]) == 1
        (tmp_path / "flat" / "X3" / "not base32!.data").write_bytes(b"")
        with pytest.raises(CorruptStore):
            async for _ in store.cids():
                pass


async def test_the_quota_counts_what_earlier_runs_have_kept(tmp_path: Path) -> None:
    async with FlatStore.open(tmp_path) as store:
        await store.put([block(number) for number in range(5)])
    async with FlatStore.open(tmp_path, quota=6000) as store:
        await store.put([block(5)])
        with pytest.raises(StoreError, match="quota"):
            await store.put([block(6)])
        await store.delete([block(0)[0]])
        await store.put([block(6)])


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    async with FlatStore.open(tmp_path) as store:
        await store.aclose()
        with pytest.raises(StoreError, match="closed"):
            await store.has([])
        assert repr(store).endswith("flat>")
