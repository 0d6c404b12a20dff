"""The events of an import, and whoever reads them slowly."""

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from stack.files import add
from stack.node.api import Add, Added, EntryAdded, EntrySkipped, Share, Shared
from stack.node.config import Config
from stack.node.handlers import files
from stack.node.node import Node

pytestmark = pytest.mark.anyio


def with_names(folder: Path, name: Callable[[int], str], count: int) -> Path:
    for number in range(count):
        path = folder / name(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"equal")
    return folder


NAMES = {
    "files": lambda number: f"{number}",
    "hidden files": lambda number: f".{number}",
    "directories": lambda number: f"{number}/file",
}


@pytest.mark.parametrize("kind", NAMES)
async def test_finding_25_an_import_waits_for_a_slow_reader(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finding 25: one event a file, without end, for a reader that may stand still."""
    monkeypatch.setattr(files, "EVENTS_MAX", 10)
    monkeypatch.setattr(add, "TOGETHER", 8)
    most = 0
    tell = files.Import.tell

    def watched(told: files.Import, event: object) -> None:
        nonlocal most
        tell(told, event)  # type: ignore[arg-type]
        most = max(most, len(told._events))

    monkeypatch.setattr(files.Import, "tell", watched)
    tree = with_names(tmp_path / "tree", NAMES[kind], 300)
    async with Node.open(Config()) as node:
        async with node.watch(Add(paths=(tree,))) as events:
            first = await anext(events)
            await anyio.wait_all_tasks_blocked()
            told = [first] + [event async for event in events]
        assert isinstance(told[-1], Added)
        entries = [event for event in told if isinstance(event, EntryAdded | EntrySkipped)]
        assert len(entries) == {"files": 301, "hidden files": 301, "directories": 601}[kind]
        assert (
            most <= 10 + 8 * 8 + 8 + 2
        )  # and those that are in work when there is no more room, small files eight at a time


async def test_an_import_that_waits_for_its_reader_ends_when_the_reader_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "EVENTS_MAX", 2)
    tree = with_names(tmp_path / "tree", NAMES["files"], 40)
    async with Node.open(Config()) as node:
        with anyio.fail_after(10):
            async with node.watch(Share(paths=(tree,))) as events:
                async for event in events:
                    assert not isinstance(event, Shared)
                    break
                await anyio.wait_all_tasks_blocked()
