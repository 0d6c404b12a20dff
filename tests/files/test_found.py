"""What a fetch finds to be there already, recorded where it lies."""

from pathlib import Path

import pytest

from stack.blocks.interfaces import Leaf
from stack.blocks.store import DiskStore
from stack.errors import StoreError
from stack.files.found import Found
from stack.testing.conformance.stores import leaves_of, stamp


@pytest.mark.anyio
async def test_what_could_not_be_recorded_is_recorded_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(range(200)) * 50
    path = tmp_path / "film"
    path.write_bytes(data)
    leaves: list[Leaf] = list(leaves_of(data, 3000))
    async with DiskStore.open(tmp_path) as store:
        found = Found(store)
        for leaf in leaves[:2]:
            found.add(path, stamp(path), leaf)

        async def busy(files: object) -> None:
            for leaf in leaves[2:]:  # while the index is waited for
                found.add(path, stamp(path), leaf)
            raise StoreError("database is locked")

        with monkeypatch.context() as patched:
            patched.setattr(store, "add_files", busy)
            with pytest.raises(StoreError):
                await found.keep()
        await found.keep(len(leaves))
        assert all(await store.has([leaf.cid for leaf in leaves]))
