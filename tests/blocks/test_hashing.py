"""What a store takes, and what it refuses."""

from pathlib import Path

import pytest

from stack.blocks import store as disk_store
from stack.blocks.hashing import MULTIHASH_BYTES_MAX, STORED_BLOCK_MAX, check_blocks, matches, put_verified
from stack.blocks.interfaces import BlockMismatch
from stack.blocks.memory import MemoryStore
from stack.blocks.store import DiskStore
from stack.errors import LimitExceeded
from stack.multiformats import multihash
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import RAW


@pytest.mark.parametrize("name", ["sha2-256", "sha2-512", "blake3", "identity"])
def test_bytes_match_the_name_made_of_them_and_no_other(name: str) -> None:
    made = multihash.digest(name, b"right")
    assert matches(made, b"right")
    assert matches(made, memoryview(b"right"))
    assert not matches(made, b"wrong")
    assert not matches(made, b"")


def test_a_digest_cut_to_its_beginning_matches() -> None:
    whole = multihash.decode(multihash.digest("sha2-512", b"right"))[1]
    assert matches(multihash.encode(0x13, whole[:20]), b"right")
    assert not matches(multihash.encode(0x13, whole[:20]), b"wrong")


@pytest.mark.parametrize("name", [b"", b"\x12", b"\x99\x01\x20" + bytes(32), b"\x13\x41" + bytes(65)])
def test_a_name_that_nothing_can_have_matches_nothing(name: bytes) -> None:
    assert not matches(name, b"")


def test_wrong_bytes_are_refused() -> None:
    with pytest.raises(BlockMismatch):
        check_blocks([(Cid.of(b"right"), b"wrong")])


def test_a_block_over_the_bound_is_refused_before_it_is_hashed() -> None:
    with pytest.raises(LimitExceeded):
        check_blocks([(Cid.of(b""), bytes(STORED_BLOCK_MAX + 1))])


def test_a_name_over_the_bound_is_refused() -> None:
    data = bytes(MULTIHASH_BYTES_MAX)
    with pytest.raises(LimitExceeded):
        check_blocks([(Cid.v1(RAW, multihash.digest("identity", data)), data)])


@pytest.mark.anyio
async def test_what_has_been_hashed_is_kept_without_being_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_store, "check_blocks", None)
    async with DiskStore.open(tmp_path) as store:
        await put_verified(store)([(Cid.of(b"right"), b"right")])
        assert await store.get(Cid.of(b"right")) == b"right"
        with pytest.raises(LimitExceeded):
            await put_verified(store)([(Cid.of(b""), bytes(STORED_BLOCK_MAX + 1))])


@pytest.mark.anyio
async def test_a_store_that_believes_nobody_is_given_it_all_the_same() -> None:
    store = MemoryStore()
    await put_verified(store)([(Cid.of(b"right"), b"right")])
    assert await store.get(Cid.of(b"right")) == b"right"
