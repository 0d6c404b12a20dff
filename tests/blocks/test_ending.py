"""What holds something is let go of, also where no thread can be started; asyncio and trio."""

import os
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from stack import Node
from stack.blocks.ending import let_go_with
from stack.blocks.store import DiskStore
from stack.files.storage import PlainWriter
from stack.node.config import Config

pytestmark = pytest.mark.anyio


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def take_them() -> None:
        async def run_sync(*_: object, **__: object) -> object:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(anyio.to_thread, "run_sync", run_sync)

    return take_them


async def test_a_file_whose_fetch_ends_without_a_thread_can_be_fetched_again(
    tmp_path: Path, no_threads: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counted as being fetched as long as the node lived."""
    async with DiskStore.open(tmp_path / "home") as store:
        writer = await store.create_file(tmp_path / "film.part", 100)
        no_threads()
        await writer.aclose()
        monkeypatch.undo()
        await (await store.create_file(tmp_path / "film.part", 100)).abandon(remove=True)


async def test_a_store_a_home_and_a_plain_file_are_let_go_without_a_thread(
    tmp_path: Path, no_threads: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Config(home=tmp_path / "home", listen=(), announce=False, pubsub=False, mdns=False)
    plain = PlainWriter(tmp_path / "plain.part", 10)
    async with Node.open(settings):
        no_threads()
    await plain.aclose()
    assert not os.path.exists(tmp_path / "plain.part")
    monkeypatch.undo()
    async with Node.open(settings) as node:
        assert isinstance(node.store, DiskStore)


async def test_what_letting_go_raises_is_raised_once() -> None:
    calls = []

    def fail() -> None:
        calls.append(1)
        raise RuntimeError("can't")

    with pytest.raises(RuntimeError):
        await let_go_with(fail)
    assert calls == [1]
