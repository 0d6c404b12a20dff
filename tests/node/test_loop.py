"""Nothing that touches a disk, many rows or a mount runs on the event loop: whatever a disk does, every peer goes on being served."""

import builtins
import io
import os
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_stack

import pytest

import stack.blocks.database
import stack.files.jobs
from stack.node import api
from stack.node.config import Config
from stack.node.node import Node

pytestmark = pytest.mark.anyio

TOUCHES = (
    "stat",
    "lstat",
    "open",
    "scandir",
    "listdir",
    "mkdir",
    "unlink",
    "rename",
    "replace",
    "link",
    "fsync",
    "fdatasync",
)
TOUCHES += ("statvfs", "chmod", "utime", "readlink", "read", "write", "pread", "preadv", "pwritev", "ftruncate")


@contextmanager
def only_in_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was asked of a disk in this thread, with the line that did."""
    loop = threading.get_ident()
    found: list[str] = []

    def watched(name: str, function: object) -> object:
        def call(*args: object, **kwargs: object) -> object:
            if threading.get_ident() == loop and not (args and isinstance(args[0], int)):
                frames = [frame for frame, _ in walk_stack(sys._getframe(1)) if "/stack/" in frame.f_code.co_filename]
                places = [f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}" for frame in frames[:4]]
                found.append(" < ".join((name, *places)))
            return function(*args, **kwargs)  # type: ignore[operator]

        return call

    with monkeypatch.context() as patch:
        for name in TOUCHES:
            patch.setattr(os, name, watched(name, getattr(os, name)))
        patch.setattr(io, "open", watched("open", io.open))
        patch.setattr(builtins, "open", watched("open", builtins.open))
        patch.setattr(sqlite3, "connect", watched("connect", sqlite3.connect))
        for owner, name in ((stack.blocks.database.Database, "reading"), (stack.blocks.database.Database, "writing")):
            patch.setattr(owner, name, watched(name, getattr(owner, name)))
        patch.setattr(stack.files.jobs, "_translated", watched("jobs", stack.files.jobs._translated))
        yield found


async def all_of(events: AsyncIterator[object]) -> list[object]:
    return [event async for event in events]


async def each_request(node: Node, other: Node, tmp_path: Path) -> None:
    """Every request of the table that a node can answer by itself, in an order that makes sense."""
    tree = tmp_path / "tree"
    root = await node.add(tree, copy=True)
    ticket = await node.share(tree / "zeros")
    await other.get(ticket, tmp_path / "fetched")
    await node.get(root, tmp_path / "again")
    await node.cat(f"{root}/zeros")
    asks: list[api.Ask[object]] = [
        api.GetIdentity(), api.GetReach(), api.GetDiscovery(seconds=0), api.ListPeers(), api.ListShares(), api.ListJobs(),
        api.ListPins(), api.AddPin(cid=root), api.GetRepoStat(), api.BlockStat(cid=root), api.GetPresence(cid=root),
        api.RemoveJob(id=1), api.RemovePin(cid=root), api.CollectGarbage(), api.RemoveShare(target=str(tree / "zeros")),
    ]  # fmt: skip
    for request in asks:
        await node.ask(request)
    async with node.watch(api.ListDirectory(source=str(root))) as events:
        await all_of(events)
    async with node.watch(api.VerifyRepo()) as events:
        await all_of(events)
    async with node.read(api.CarExport(cid=root)) as pieces:
        car = b"".join([piece async for piece in pieces])

    async def data(content: bytes) -> AsyncIterator[bytes]:
        yield content

    await node.write(api.CarImport(), data(car))
    await node.write(api.BlockPut(), data(b"block"))


async def test_finding_34_no_request_touches_a_disk_on_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Findings 14 and 34: `exists()` of a path on a hung mount, a statement of SQLite, the size of a disk."""
    (tmp_path / "tree" / "below").mkdir(parents=True)
    for name in ("zeros", "zeros too", "below/zeros"):
        (tmp_path / "tree" / name).write_bytes(bytes(700_000))
    settings = [Config(home=tmp_path / name, mdns=False, listen=("/ip4/127.0.0.1/tcp/0",)) for name in ("one", "two")]
    for _ in range(2):  # the second time the modules are there
        with only_in_workers(monkeypatch) as found:
            async with Node.open(settings[0]) as node, Node.open(settings[1]) as other:
                await each_request(node, other, tmp_path)
        for name in ("fetched", "again"):
            (tmp_path / name).rename(tmp_path / f"{name} {len(list(tmp_path.iterdir()))}")
    # anyio looks for a socket of that name by itself, in the home, before it listens.
    assert sorted({line for line in found if not line.startswith("stat < serving.py")}) == []
