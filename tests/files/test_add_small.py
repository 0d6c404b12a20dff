"""Small files of a directory are read and recorded together, and what is not small, or does not hold still, by itself."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection

import pytest

from stack.blocks.database import Database
from stack.blocks.memory import MemoryStore
from stack.blocks.store import DiskStore
from stack.dag.unixfs.options import import_options, profile
from stack.files.add import Adder
from stack.files.add_file import FileAdder, OpenedFile
from stack.files.add_small import SMALL_BYTES, TOGETHER
from stack.files.events import AddEvent, EntryAdded, EntrySkipped
from stack.multiformats.cid import Cid
from tests.files.conftest import blocks_of, content

pytestmark = pytest.mark.anyio

NUMBER = 3 * TOGETHER


def plant(root: Path) -> None:
    root.mkdir()
    for number in range(NUMBER):
        (root / f"f{number}").write_bytes(b"%d" % (number % 50))
    (root / "none").write_bytes(b"")
    (root / "large").write_bytes(content("large", SMALL_BYTES + 1))
    (root / "link").symlink_to("f1")
    os.mkfifo(root / "pipe")


@pytest.mark.parametrize(
    "arguments", [{}, {"preserve-mode": True, "raw-leaves": False}, {"raw-leaves": False}, {"chunker": "buzhash"}]
)
async def test_files_that_are_added_together_have_the_same_dag_as_those_that_are_added_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, object]
) -> None:
    plant(tmp_path / "tree")
    options = import_options("unixfs-v1-2025", arguments)
    roots, stores = [], []
    for small in (SMALL_BYTES, -1):
        monkeypatch.setattr("stack.files.add_small.SMALL_BYTES", small)
        events: list[AddEvent] = []
        store = MemoryStore()
        added = await Adder(store, options, tell=events.append).add([tmp_path / "tree"])
        roots.append(added)
        stores.append(blocks_of(store))
        assert (added.files, added.skipped) == (NUMBER + 3, 1)
        assert len({event.path for event in events if isinstance(event, EntryAdded)}) == NUMBER + 4
        assert [event.path for event in events if isinstance(event, EntrySkipped)] == ["tree/pipe"]
    assert roots[0] == roots[1]
    assert stores[0] == stores[1]


async def test_finding_22_small_files_share_their_transactions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path / "tree")
    writing = Database.writing
    transactions = 0

    @contextmanager
    def counted(self: Database) -> Iterator[Connection]:
        nonlocal transactions
        transactions += 1
        with writing(self) as connection:
            yield connection

    async with DiskStore.open(tmp_path / "home") as store:
        with monkeypatch.context() as patch:
            patch.setattr(Database, "writing", counted)
            await Adder(store, profile()).add([tmp_path / "tree"])
        # One for all small files, one for `large`, and those of the nodes above.
        assert transactions <= 1 + 1 + 3
        assert await store.has([Cid.of(b"%d" % number) for number in range(50)]) == [True] * 50
        assert len([each for each in await store.segments() if each.kind == "file"]) == NUMBER + 1
        assert (await store.verify()).problem_count == 0


async def test_one_that_changes_while_it_is_added_with_others_is_read_again_and_they_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path / "tree")
    opened = FileAdder.open
    calls: list[str] = []

    def changing(self: FileAdder, path: Path, small: int, directory: int | None = None) -> OpenedFile:
        calls.append(path.name)
        found = opened(self, path, small, directory)
        if calls.count(path.name) == 1 and path.name in ("f3", "f4"):
            path.write_bytes(b"longer than it was")
        if calls.count(path.name) == 1 and path.name == "f5":
            path.unlink()
        return found

    monkeypatch.setattr(FileAdder, "open", changing)
    async with DiskStore.open(tmp_path / "home") as store:
        added = await Adder(store, profile()).add([tmp_path / "tree"])
        assert (added.files, added.skipped) == (NUMBER + 2, 2)
        assert await store.get(Cid.of(b"longer than it was")) == b"longer than it was"
        assert (await store.verify()).problem_count == 0
    again = {name for name in calls if calls.count(name) > 1}
    assert again == {"f3", "f4", "f5", "large"}
