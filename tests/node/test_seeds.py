"""A seed has all that it says it has, wherever the content came from: from peers, or found where it was to be written."""

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from stack import Config, Node
from stack.blocks.store import DiskStore
from stack.files.events import FetchResumed, FileFinished
from stack.files.ticket import decode_ticket
from stack.node.api import Fetch

pytestmark = pytest.mark.anyio

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)
SECONDS = 20.0


@asynccontextmanager
async def node_of(home: Path, *known: Node) -> AsyncIterator[Node]:
    bootstrap = tuple(str(node.addresses()[0]) for node in known)
    async with Node.open(Config(home=home, listen=LOOPBACK, role="daemon", mdns=False, bootstrap=bootstrap)) as node:
        yield node


def tree(place: Path) -> Path:
    """Small files, equal ones, an empty one, large ones with repeated blocks and zeros; directories."""
    (place / "sub").mkdir(parents=True)
    for number in range(30):
        (place / "sub" / f"small {number}").write_text(f"{number // 2}")
    (place / "sub" / "run").write_text("#!/bin/sh\n")
    (place / "sub" / "run").chmod(0o755)
    (place / "empty").touch()
    part = os.urandom(262_144)
    (place / "large").write_bytes(part + bytes(600_000) + part * 3 + os.urandom(500_000))
    (place / "small").write_bytes(os.urandom(300_000))
    return place


def large_file(place: Path) -> Path:
    part = os.urandom(262_144)
    place.write_bytes(part + bytes(600_000) + part * 3 + os.urandom(500_000))
    return place


def small_file(place: Path) -> Path:
    place.write_bytes(os.urandom(1000))
    return place


def contents(place: Path) -> dict[str, bytes]:
    paths = sorted(place.rglob("*")) if place.is_dir() else [place]
    return {str(path.relative_to(place)): path.read_bytes() for path in paths if path.is_file()}


def change(place: Path) -> None:
    """Another version: a part is the same, with another time too."""
    if place.is_dir():
        (place / "sub" / "small 3").write_text("other")
        (place / "sub" / "small 5").unlink()
        (place / "sub" / "new").write_text("new")
        os.utime(place / "sub" / "small 7", (1, 1))
        place = place / "large"
    with place.open("r+b") as file:
        file.seek(-20, os.SEEK_END)
        file.write(b"changed")


def age(place: Path) -> None:
    """The same bytes with other times."""
    for path in [place, *place.rglob("*")]:
        os.utime(path, (5, 5))


async def get(node: Node, ticket: str, place: Path, *, seed: bool = False, update: bool = False) -> None:
    async with node.watch(
        Fetch(source=ticket, directory=place.parent, target=Path(place.name), seed=seed, update=update)
    ) as events:
        async for _ in events:
            pass


Make = Callable[[Path], Path]


async def _fetched(alice: Node, bob: Node, source: Path, ticket: str, place: Path) -> None:
    await get(bob, ticket, place)


async def _seeded(alice: Node, bob: Node, source: Path, ticket: str, place: Path) -> None:
    await get(bob, ticket, place, seed=True)


async def _copied(alice: Node, bob: Node, source: Path, ticket: str, place: Path) -> None:
    shutil.copytree(source, place) if source.is_dir() else shutil.copy2(source, place)


async def _copied_long_ago(alice: Node, bob: Node, source: Path, ticket: str, place: Path) -> None:
    await _copied(alice, bob, source, ticket, place)
    age(place)


async def _cut_off(alice: Node, bob: Node, source: Path, ticket: str, place: Path) -> None:
    """The first files came, and the fetch was stopped."""
    request = Fetch(source=ticket, directory=place.parent, target=Path(place.name))
    async with bob.watch(request) as events:
        async for event in events:
            if isinstance(event, FileFinished | FetchResumed):
                break


BEFORE = {
    "fetched": _fetched,
    "seeded": _seeded,
    "copied": _copied,
    "copied long ago": _copied_long_ago,
    "cut off": _cut_off,
}


@pytest.mark.parametrize("make", [tree, large_file, small_file])
@pytest.mark.parametrize("version", ["the same", "another version"])
@pytest.mark.parametrize("before", BEFORE)
async def test_what_a_seed_found_on_its_disk_is_had_from_it(
    tmp_path: Path, make: Make, version: str, before: str
) -> None:
    source, place = make(tmp_path / "source"), tmp_path / "bob's"
    place = place / "it"
    place.parent.mkdir()
    async with node_of(tmp_path / "bob") as bob:
        async with node_of(tmp_path / "alice", bob) as alice:
            old = await alice.share(source)
            await BEFORE[before](alice, bob, source, old, place)
            if version != "the same":
                change(source)
            ticket = await alice.share(source)
            with anyio.fail_after(SECONDS):
                update = version != "the same" or before == "copied long ago"
                await get(bob, ticket, place, seed=True, update=update)
        root = decode_ticket(ticket).root
        assert isinstance(bob.store, DiskStore)
        assert not await bob.store.lacks_some(root)
        async with node_of(tmp_path / "dave", bob) as dave:
            with anyio.fail_after(SECONDS):
                await get(dave, ticket, tmp_path / "dave's")
    assert contents(tmp_path / "dave's") == contents(source)
    assert contents(source).items() <= contents(place).items()
