"""Who waits for a block is given it when it comes into the store by another way, at whichever moment; it waited in vain until its patience
was at an end."""

import os
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from stack import Cid, Node
from stack.bitswap.shell import found
from stack.bitswap.shell.found import look_into_store
from stack.blocks.interfaces import BlockNotFound
from stack.blocks.memory import MemoryStore
from stack.errors import StoreError
from tests.net.hosts import settled

pytestmark = pytest.mark.anyio

SOON = 10.0

WAITS: dict[str, Callable[[Node, Cid, Path], Coroutine[Any, Any, object]]] = {
    "block": lambda node, cid, place: node.blocks.get(cid, timeout=60),
    "cat": lambda node, cid, place: node.cat(cid, timeout=60),
    "get": lambda node, cid, place: node.get(cid, place, timeout=60),
    "pin": lambda node, cid, place: node.pins.add(cid, timeout=60),
}
BRINGS: dict[str, Callable[[Node, Path], Coroutine[Any, Any, object]]] = {
    "put": lambda node, path: node.blocks.put(path.read_bytes()),
    "add": lambda node, path: node.add(path),
    "copy": lambda node, path: node.add(path, copy=True),
}


@pytest.mark.parametrize("brings", BRINGS)
async def test_a_call_that_waits_takes_what_is_added_here(
    brings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(found, "LOOK_SECONDS", 0.02)
    async with Node.open() as node:
        for name, wait in WAITS.items():
            path = tmp_path / name
            path.write_bytes(os.urandom(1000))
            with anyio.fail_after(SOON):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(wait, node, Cid.of(path.read_bytes()), tmp_path / f"{name} {brings}")
                    await settled(lambda: len(node.exchange.wanted) > 0)
                    await BRINGS[brings](node, path)
        assert len(node.exchange.wanted) == 0


async def test_a_block_that_comes_between_the_look_and_the_wait_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(found, "LOOK_SECONDS", 0.02)
    async with Node.open() as node:
        cid, looked = Cid.of(b"now"), node.store.has

        async def look_and_put(cids: Sequence[Cid]) -> list[bool]:
            here = list(await looked(cids))
            await node.store.put([(cid, b"now")])
            return here

        monkeypatch.setattr(node.store, "has", look_and_put)
        async with node.exchange.session(cid) as session:
            with anyio.fail_after(SOON):
                await session.fetch([cid], lambda *_: None)


async def test_looks_are_bounded_and_a_store_that_is_busy_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(found, "LOOK_BYTES", 1500)
    blocks = [(Cid.of(data), data) for data in (bytes(number + 1000) for number in range(4))]
    absent, store, told, asked, received = Cid.of(b"absent"), MemoryStore(), list[Cid](), list[int](), 0

    class Busy(MemoryStore):
        async def has(self, cids: Sequence[Cid]) -> list[bool]:
            asked.append(len(told))
            if len(asked) == 1:
                raise StoreError("locked")
            return [True] * len(cids)

        async def get(self, cid: Cid) -> bytes:
            if cid == absent:
                raise BlockNotFound(cid)
            return await store.get(cid)

    await store.put(blocks)

    def wanted(limit: int) -> list[Cid]:
        return [absent, *(cid for cid, _ in blocks if cid not in told)][:limit]

    async def tell(cid: Cid, block: bytes) -> None:
        told.append(cid)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look_into_store, Busy(), lambda: received, wanted, tell)
        await settled(lambda: len(told) == 4)
        assert asked[:3] == [0, 0, 2]
        tasks.cancel_scope.cancel()
