"""What only the memory store does."""

from pathlib import Path

import pytest

from stack.blocks.memory import MemoryStore
from stack.testing.conformance.stores import block


@pytest.mark.anyio
async def test_it_forgets_everything_at_the_end(tmp_path: Path) -> None:
    async with MemoryStore.open(tmp_path) as store:
        await store.put([block(1)])
        await store.add_pin(block(1)[0])
        assert repr(store) == "<MemoryStore 1 blocks, 1000 bytes>"
    assert repr(store) == "<MemoryStore 0 blocks, 0 bytes>"
    assert await store.pins() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.anyio
async def test_deleted_blocks_leave_room_in_the_quota(tmp_path: Path) -> None:
    async with MemoryStore.open(tmp_path, quota=1000) as store:
        await store.put([block(1)])
        await store.delete([block(1)[0]])
        await store.put([block(2)])
        assert await store.has([block(2)[0]]) == [True]
