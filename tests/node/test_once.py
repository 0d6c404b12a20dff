"""`--once`: a share is over when a receiver has all that it wanted, by the receiver's word; asyncio and trio."""

import os
import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio
import pytest

from stack.files.events import FetchFinished, FetchProgress
from stack.files.ticket import decode_ticket
from stack.node import counting
from stack.node.api import CarExport, Cat, Fetch, ListShares, SendProgress, WatchShare
from stack.node.node import Node
from stack.node.owners import Owner
from tests.net.hosts import settled
from tests.node.test_life import MIB, all_blocks, at, share, write_people

pytestmark = pytest.mark.anyio


Way = Callable[[Node, str, Path], Awaitable[object]]


async def once(node: Node, path: Path, receive: Callable[[str], object]) -> list[object]:
    """Share it once while `receive` goes on; returns what was told of it when the share is over, or fails."""
    assert node.config.home is not None
    owner = Owner(node.config.home)
    found = await share(node, path, owner.name)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive, found.ticket)  # type: ignore[arg-type]
            async with node.watch(WatchShare(cid=found.cid, owner=owner.name, once=True)) as steps:
                told = [step async for step in steps]
    owner.close()
    assert await node.ask(ListShares()) == () and await all_blocks(node) == []
    return told


def empty_file(path: Path) -> Path:
    path.touch()
    return path


def empty_folder(path: Path) -> Path:
    path.mkdir()
    return path


def zeros(path: Path) -> Path:
    path.write_bytes(bytes(5 * MIB))
    return path


@pytest.mark.parametrize("role", ["share", "daemon"])
@pytest.mark.parametrize("write", [empty_file, empty_folder, zeros, write_people])
async def test_use_5_a_share_is_over_when_its_receiver_is_whatever_bytes_that_took(
    tmp_path: Path, write: Callable[[Path], Path], role: str
) -> None:
    async with Node.open(at(tmp_path / "a", role)) as node:

        async def receive(ticket: str) -> None:
            async with Node.open(at(tmp_path / "b", "get")) as receiver:
                await receiver.get(ticket, tmp_path / "out")

        await once(node, write(tmp_path / "source"), receive)


async def test_what_a_receiver_took_is_told_with_his_whole_copy(tmp_path: Path) -> None:
    """`share --once` ended with `sent 0 B to 1 peer, 1 whole copy`: what went out is counted once a second."""
    (tmp_path / "film").write_bytes(random.Random(9).randbytes(2 * MIB))
    async with Node.open(at(tmp_path / "a", "share")) as node:

        async def receive(ticket: str) -> None:
            async with Node.open(at(tmp_path / "b", "get")) as receiver:
                await receiver.get(ticket, tmp_path / "out")

        (last,) = [step for step in await once(node, tmp_path / "film", receive) if getattr(step, "complete", False)]
    assert isinstance(last, SendProgress) and last.bytes_sent >= 2 * MIB


async def test_a_receiver_who_is_done_before_anybody_watches_is_told_too(tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(random.Random(9).randbytes(2 * MIB))
    async with Node.open(at(tmp_path / "a", "share")) as node:
        assert node.config.home is not None
        owner = Owner(node.config.home)
        found = await share(node, tmp_path / "film", owner.name)
        async with Node.open(at(tmp_path / "b", "get")) as receiver:
            await receiver.get(found.ticket, tmp_path / "out")
            await settled(lambda: node.sharing.is_over(found.cid, node.host.is_connected))
        with anyio.fail_after(30):
            async with node.watch(WatchShare(cid=found.cid, owner=owner.name, once=True)) as steps:
                told = [step async for step in steps]
        owner.close()
    assert [step.complete for step in told if isinstance(step, SendProgress)] == [True]


@pytest.mark.parametrize("include", [(), ("small",)], ids=["all", "a part"])
@pytest.mark.parametrize("when", ["once", "before anybody watches", "while somebody watches"])
async def test_who_had_what_he_wanted_already_is_told(tmp_path: Path, include: tuple[str, ...], when: str) -> None:
    """`share` ended with `nobody has fetched it`, or `sent 0 B to 1 peer`."""
    source = write_people(tmp_path / "tree")

    async def receive(ticket: str) -> None:
        request = Fetch(source=ticket, directory=tmp_path / "out", include=include)
        async with Node.open(at(tmp_path / "b", "get")) as receiver, receiver.watch(request) as events:
            last = [event async for event in events][-1]
        assert isinstance(last, FetchFinished)

    async with Node.open(at(tmp_path / "c")) as other:
        await receive(await other.share(source))
    async with Node.open(at(tmp_path / "a", "share")) as node:
        if when == "once":
            told = await once(node, source, receive)
        else:
            assert node.config.home is not None
            owner = Owner(node.config.home)
            found = await share(node, source, owner.name)
            told = []
            if when == "before anybody watches":
                await receive(found.ticket)
                await settled(lambda: node.sharing.is_over(found.cid, node.host.is_connected))
            async with anyio.create_task_group() as tasks:
                with anyio.fail_after(30):
                    async with node.watch(WatchShare(cid=found.cid, owner=owner.name)) as steps:
                        if when == "while somebody watches":
                            tasks.start_soon(receive, found.ticket)
                        told.append(await anext(steps))
            owner.close()
    last = told[-1]
    assert isinstance(last, SendProgress)
    assert (last.complete, last.needless) == (not include, not include)
    assert (0 < last.bytes_sent < 1000) if include else not last.bytes_sent, "who wants a part asks where it is"


@pytest.mark.parametrize("what", ["include", "path", "there before", "resumed", "serves nobody"])
async def test_use_5_a_part_what_was_there_before_and_a_silent_receiver_end_it_too(tmp_path: Path, what: str) -> None:
    source = write_people(tmp_path / "tree")
    (source / "film").write_bytes(os.urandom(3 * MIB))

    async def receive(ticket: str) -> None:
        serve = what != "serves nobody"
        include = ("small",) if what in ("include", "serves nobody") else ()
        if what == "there before":
            async with Node.open(at(tmp_path / "c")) as other, Node.open(at(tmp_path / "b", "get")) as receiver:
                await receiver.get(await other.share(source), tmp_path / "out")
        if what == "resumed":
            async with (
                Node.open(at(tmp_path / "c", upload_limit=MIB)) as other,
                Node.open(at(tmp_path / "b", "get")) as r,
                r.fetch(await other.share(source), tmp_path / "out") as events,
            ):
                async for event in events:
                    if isinstance(event, FetchProgress) and event.bytes_done:
                        break
        there = decode_ticket(ticket)
        text = f"{ticket}/small" if what == "path" else ticket
        addresses = tuple(address.with_peer(str(there.peer)) for address in there.addresses)
        request = Fetch(source=text, directory=tmp_path / "out", include=include, providers=addresses)
        async with Node.open(at(tmp_path / "b", "get", serve=serve)) as receiver, receiver.watch(request) as events:
            last = [event async for event in events][-1]
        assert isinstance(last, FetchFinished)

    async with Node.open(at(tmp_path / "a")) as node:
        await once(node, source, receive)


async def get(node: Node, ticket: str, folder: Path) -> None:
    await node.get(ticket, folder)


async def cat(node: Node, ticket: str, folder: Path) -> None:
    assert await node.cat(ticket)


async def export(node: Node, ticket: str, folder: Path) -> None:
    async with node.read(CarExport(cid=decode_ticket(ticket).root, source=ticket)) as pieces:
        assert [piece async for piece in pieces]


async def pin(node: Node, ticket: str, folder: Path) -> None:
    await node.pins.add(ticket)


async def pin_again(node: Node, ticket: str, folder: Path) -> None:
    async with Node.open(at(folder / "other")) as other:
        await node.pins.add(await other.share(folder.parent / "tree"))
    await node.pins.add(ticket)


WAYS: dict[str, tuple[str, str, Way, bool]] = {
    "serves nobody": ("tree", "get", get, True),
    "without a home": ("film", "get", get, False),
    "cat": ("film", "read", cat, True),
    "car export": ("tree", "command", export, True),
    "pin add": ("tree", "command", pin, True),
    "pin add of what is here": ("tree", "command", pin_again, False),
}
"""What is shared, by what kind of node it is received, how, and whether all of it came from the sharer."""


async def test_however_it_is_received_the_share_is_over_and_a_whole_copy_is_told_as_one(tmp_path: Path) -> None:
    """The kind is a receiver that ends without a word: `cat`, `get -o -`, `car export`, `pin add`, and `get --no-serve` of all."""
    write_people(tmp_path / "tree")
    (tmp_path / "film").write_bytes(os.urandom(2 * MIB) + bytes(MIB))

    async def receive(how: str, ticket: str) -> None:
        _, role, way, _ = WAYS[how]
        folder = tmp_path / how
        folder.mkdir()
        home = None if how == "without a home" else folder / "home"
        async with Node.open(at(home, role, serve=how != "serves nobody")) as receiver:
            await way(receiver, ticket, folder)

    whole = {}
    async with Node.open(at(tmp_path / "a")) as node:
        for how, (what, *_) in WAYS.items():
            told = await once(node, tmp_path / what, partial(receive, how))
            whole[how] = any(step.complete for step in told if isinstance(step, SendProgress))
    assert whole == {how: is_whole for how, (*_, is_whole) in WAYS.items()}


async def test_who_only_looks_at_it_has_not_got_it_yet_and_does_not_keep_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list, a part of a file as a player reads it, one file of a tree, one that could not be written down. Then somebody gets all, by
    which the share is over, though who looked is connected, as a daemon is."""
    monkeypatch.setattr(counting, "LATELY_SECONDS", 0.0)
    source = write_people(tmp_path / "tree")
    (source / "film").write_bytes(os.urandom(3 * MIB))  # who does not say what he has, and was sent all, has a copy
    async with Node.open(at(tmp_path / "a")) as node:

        async def receive(ticket: str) -> None:
            async with Node.open(at(tmp_path / "b", "read")) as looks:
                assert await looks.ls(ticket) and await looks.cat(f"{ticket}/one", length=10)
                assert await looks.cat(f"{ticket}/one", offset=10)
                assert await looks.cat(f"{ticket}/small")
                with pytest.raises(OSError, match="full"):  # as it was raised: it has left a task group
                    async with looks.read(Cat(source=f"{ticket}/one")) as pieces:
                        async for _ in pieces:
                            raise OSError("full")
                root = decode_ticket(ticket).root
                await settled(lambda: not node.receivers(root))
                assert not node.sharing.is_over(root, node.host.is_connected)
                async with Node.open(at(tmp_path / "c", "get")) as receiver:
                    await receiver.get(ticket, tmp_path / "out")
                await settled(lambda: not node.sharing.shares(root))
                assert node.host.is_connected(looks.peer_id)

        await once(node, source, receive)


async def test_use_5_two_receivers_at_once_both_get_all_and_one_that_goes_away_is_not_waited_for(
    tmp_path: Path,
) -> None:
    (tmp_path / "film").write_bytes(os.urandom(3 * MIB))
    got: list[Path] = []

    async def receive(ticket: str) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leave, ticket)
            for name in ("one", "two"):
                tasks.start_soon(get, ticket, name)

    async def get(ticket: str, name: str) -> None:
        async with Node.open(at(tmp_path / name, "get")) as receiver:
            got.append(await receiver.get(ticket, tmp_path / f"out {name}"))

    async def leave(ticket: str) -> None:
        async with (
            Node.open(at(tmp_path / "leaves", "get")) as receiver,
            receiver.fetch(ticket, tmp_path / "out leaves") as events,
        ):
            async for event in events:
                if isinstance(event, FetchProgress) and event.bytes_done:
                    return

    async with Node.open(at(tmp_path / "a", upload_limit=3 * MIB)) as node:
        await once(node, tmp_path / "film", receive)
    assert len(got) == 2 and all(path.read_bytes() == (tmp_path / "film").read_bytes() for path in got)
