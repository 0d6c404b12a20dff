"""The life of a share and of what was fetched: what has ended is given to nobody, by no later node of the home; asyncio and trio."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from stack.blocks.interfaces import PinKind
from stack.blocks.store import DiskStore
from stack.errors import StoreError
from stack.files.events import FetchFinished, FetchProgress
from stack.files.jobs import Jobs
from stack.files.ticket import decode_ticket
from stack.multiformats.cid import Cid
from stack.node.api import Fetch, ListPins, ListShares, RemoveShare, Share, Shared, ShareInfo, WatchShare
from stack.node.config import Config
from stack.node.node import Node
from stack.node.owners import Owner, living
from tests.net.hosts import settled

pytestmark = pytest.mark.anyio

MIB = 1 << 20


def at(home: Path | None, role: str = "share", **more: object) -> Config:
    plain = {"announce": False, "pubsub": False, "mdns": False, "listen": ("/ip4/127.0.0.1/tcp/0",)}
    return Config(home=home, role=role, **{**plain, **more})  # type: ignore[arg-type]


def write_people(path: Path) -> Path:
    """Equal files, runs of zeros, repeated blocks, an empty file, a link."""
    (path / "below").mkdir(parents=True)
    (path / "one").write_bytes(os.urandom(1000) + bytes(2 * MIB))
    (path / "below" / "equal").write_bytes((path / "one").read_bytes())
    (path / "below" / "empty").touch()
    (path / "small").write_bytes(os.urandom(500))
    (path / "link").symlink_to("small")
    return path


async def share(node: Node, path: Path, owner: str = "", *, is_open: bool = False) -> Shared:
    async with node.watch(Share(paths=(path,), owner=owner, open=is_open)) as events:
        async for event in events:
            if isinstance(event, Shared):
                return event
    raise AssertionError


@asynccontextmanager
async def shared(node: Node, path: Path, owner: str, *, is_open: bool = False) -> AsyncIterator[Shared]:
    """What a command does: it follows its share, and leaving that ends it."""
    found = await share(node, path, owner, is_open=is_open)
    async with node.watch(WatchShare(cid=found.cid, owner=owner)) as steps, anyio.create_task_group() as tasks:

        async def follow() -> None:
            async for _ in steps:
                pass

        tasks.start_soon(follow)
        await anyio.wait_all_tasks_blocked()
        yield found
        tasks.cancel_scope.cancel()


async def served(home: Path, cids: list[Cid]) -> list[bool]:
    """Which of these a daemon of that home would give to somebody who asks for each by its name."""
    async with Node.open(at(home, "daemon")) as later, Node.open(at(None, "library")) as stranger:
        await stranger.connect(later.addresses()[0])
        here = await later.store.has(cids)
        given = []
        for cid, claimed in zip(cids, here, strict=True):
            if not claimed:
                with anyio.move_on_after(0.2):
                    async with stranger.session(cid) as session:
                        await session.get(cid)
                    claimed = True
            given.append(claimed)
        return given


async def all_blocks(node: Node) -> list[Cid]:
    """But for the empty one, which everybody has."""
    return [cid async for cid in node.store.cids() if cid != Cid.of(b"")]


async def test_use_3_a_share_ends_with_its_command_and_no_later_node_of_the_home_gives_a_block_of_it(
    tmp_path: Path,
) -> None:
    home, owner = tmp_path / "home", None
    source = write_people(tmp_path / "tree")
    kept = tmp_path / "kept"
    kept.write_bytes(b"kept" * 100)
    async with Node.open(at(home)) as node:
        await share(node, kept)
        before = await all_blocks(node)
        owner = Owner(home)
        async with shared(node, source, owner.name):
            blocks = [cid for cid in await all_blocks(node) if cid not in before]
            assert len(blocks) > 5
        assert await all_blocks(node) == before
        assert [row.name for row in await node.ask(ListShares())] == ["kept"]
        assert [pin.name for pin in await node.ask(ListPins())] == ["kept"]
    owner.close()
    assert await served(home, blocks) == [False] * len(blocks)
    assert await served(home, before) == [True] * len(before)


@pytest.mark.parametrize("announced", [False, True])
async def test_use_3_a_share_whose_process_was_killed_is_served_by_nobody_after_it(
    tmp_path: Path, announced: bool
) -> None:
    home = tmp_path / "home"
    source = write_people(tmp_path / "tree")
    async with Node.open(at(home)) as node:
        found = await share(node, source, "nobody of this name runs")
        blocks = await all_blocks(node)
    if announced:  # a node that takes no part in announcements leaves them to one that does
        async with Node.open(at(home, "pubsub", announce=True)) as node:
            assert await node.ask(ListShares()) == ()
            assert await node.jobs.share(found.cid) is not None
    assert await served(home, blocks) == [False] * len(blocks)
    async with await Jobs.open(home / "jobs.sqlite") as jobs:
        assert await jobs.shares() == []


async def test_a_running_node_ends_the_share_of_a_command_that_has_gone_without_a_word(tmp_path: Path) -> None:
    home = tmp_path / "home"
    source = write_people(tmp_path / "tree")
    async with Node.open(at(home, "daemon")) as node:
        owner = Owner(home)
        found = await share(node, source, owner.name)
        assert len(await node.ask(ListShares())) == 1
        owner.close()
        assert await node.ask(ListShares()) == ()
        with anyio.fail_after(20):
            while found.cid in node.sharing._shared.roots:
                await node.sharing.wait(node.sharing.revision)
            await settled_store(node)


async def settled_store(node: Node) -> None:
    async with node.sharing._changing:
        assert await all_blocks(node) == []


async def test_what_two_commands_or_a_command_and_the_home_share_ends_with_the_last(tmp_path: Path) -> None:
    home = tmp_path / "home"
    source = write_people(tmp_path / "tree")
    async with Node.open(at(home, "daemon")) as node:
        one, other = Owner(home), Owner(home)
        async with shared(node, source, one.name) as found:
            async with shared(node, source, other.name):
                pass
            assert len(await node.ask(ListShares())) == 1
            await share(node, source)
        (row,) = await node.ask(ListShares())
        assert row.kept and len(await all_blocks(node)) > 5
        removed = await node.ask(RemoveShare(target=str(source)))
        assert [each.cid for each in removed.ended] == [found.cid]
        assert await all_blocks(node) == []
        one.close(), other.close()


async def test_what_was_shared_and_ended_is_shared_again_as_if_it_were_new(tmp_path: Path) -> None:
    home = tmp_path / "home"
    source = write_people(tmp_path / "tree")
    async with Node.open(at(home)) as node, Node.open(at(None, "library")) as receiver:
        for number in range(2):
            owner = Owner(home)
            async with shared(node, source, owner.name) as found:
                assert await receiver.get(found.ticket, tmp_path / f"out {number}", providers=()) is not None
            owner.close()
        assert (tmp_path / "out 1" / "tree" / "one").read_bytes() == (source / "one").read_bytes()


async def test_use_4_what_was_fetched_is_served_as_long_as_its_command_runs_and_never_after(tmp_path: Path) -> None:
    home = tmp_path / "b"
    source = write_people(tmp_path / "tree")
    async with Node.open(at(tmp_path / "a")) as maker:
        ticket = await maker.share(source, open=True)
        async with Node.open(at(home, "get")) as node:
            await node.get(ticket, tmp_path / "out")
            blocks = await all_blocks(node)
            async with Node.open(at(None, "library")) as third:
                await third.get(str(decode_ticket(ticket).root), tmp_path / "third", providers=node.addresses())
        async with Node.open(at(home, "get")) as node:
            assert await node.ask(ListPins()) == () and await all_blocks(node) == []
            async with node.fetch(ticket, tmp_path / "out") as events:
                last = [event async for event in events][-1]
            assert isinstance(last, FetchFinished) and last.already_complete
    assert await served(home, blocks) == [False] * len(blocks)


async def test_use_4_a_node_that_lives_on_gives_up_what_a_command_fetched_through_it(tmp_path: Path) -> None:
    source = write_people(tmp_path / "tree")
    async with Node.open(at(tmp_path / "a")) as maker, Node.open(at(tmp_path / "b", "daemon")) as node:
        await node.get(await maker.share(source, open=True), tmp_path / "out")
        await settled(lambda: not node.sharing._fetched)
        assert await all_blocks(node) == [] and await node.ask(ListPins()) == ()
        (row,) = await maker.ask(ListShares())
        assert row.copies == 1  # it was told before


async def test_an_interrupted_fetch_serves_nobody_and_goes_on_from_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(os.urandom(4 * MIB))
    home = tmp_path / "b"
    async with Node.open(at(tmp_path / "a", upload_limit=MIB)) as maker:
        ticket = await maker.share(tmp_path / "film", open=True)
        theirs = await all_blocks(maker)
        async with Node.open(at(home, "get")) as node, node.fetch(ticket, tmp_path / "out") as events:
            async for event in events:
                if isinstance(event, FetchProgress) and event.bytes_done > MIB:
                    break
    assert await served(home, theirs) == [False] * len(theirs)
    async with Node.open(at(tmp_path / "a")) as maker, Node.open(at(home, "get")) as node:
        async with node.fetch(await maker.share(tmp_path / "film", open=True), tmp_path / "out") as events:
            last = [event async for event in events][-1]
        assert isinstance(last, FetchFinished) and last.received < 4 * MIB
    assert (tmp_path / "out" / "film").read_bytes() == (tmp_path / "film").read_bytes()


async def test_what_is_seeded_is_in_the_list_and_is_kept_if_that_was_asked_for(tmp_path: Path) -> None:
    source = write_people(tmp_path / "tree")
    home = tmp_path / "b"
    async with Node.open(at(tmp_path / "a")) as maker:
        ticket = await maker.share(source, open=True)
        async with Node.open(at(home, "get")) as node:
            request = Fetch(source=ticket, directory=tmp_path / "out", seed=True)
            async with node.watch(request) as events:
                async for _ in events:
                    pass
            (row,) = await node.ask(ListShares())
            assert isinstance(row, ShareInfo) and row.kept and row.paths == (str(tmp_path / "out" / "tree"),)
    async with Node.open(at(home, "daemon")) as node, Node.open(at(None, "library")) as third:
        address = [str(each) for each in node.addresses()]
        await third.get(str(decode_ticket(ticket).root), tmp_path / "third", providers=node.addresses())
        assert address and (tmp_path / "third").exists()
        assert (await node.ask(RemoveShare(target=str(tmp_path / "out" / "tree")))).count
        assert await all_blocks(node) == []


async def test_pins_of_the_user_and_of_the_node_itself_are_left_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (tmp_path / "film").write_bytes(os.urandom(MIB))
    async with Node.open(at(home)) as node:
        root = await node.add(tmp_path / "film")
        blocks = await all_blocks(node)
        owner = Owner(home)
        async with shared(node, tmp_path / "film", owner.name, is_open=True) as found:
            assert found.cid == root
        assert sorted(map(str, await all_blocks(node))) == sorted(map(str, blocks))
        owner.close()
        assert isinstance(node.store, DiskStore)
        assert [cid for cid, _ in await node.store.pins(kind=PinKind.USER)] == [root]
    assert await served(home, blocks) == [True] * len(blocks)


def test_owners_that_cannot_be_listed_are_no_fault_of_ours_and_have_not_gone(tmp_path: Path) -> None:
    (tmp_path / "owners").write_bytes(b"no folder")
    with pytest.raises(StoreError, match="looking who shares"):
        living(tmp_path)


def test_an_owner_lives_as_long_as_its_lock(tmp_path: Path) -> None:
    assert living(tmp_path) == frozenset()
    owner = Owner(tmp_path)
    (tmp_path / "owners" / "dead").touch()
    assert living(tmp_path) == {owner.name}
    assert not (tmp_path / "owners" / "dead").exists()
    owner.close()
    assert living(tmp_path) == frozenset()


async def test_where_the_list_of_shares_is_lost_what_the_store_keeps_is_listed_by_name_and_ended_as_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All of it was taken back, what lies in packs for good, when a damaged list was moved away as its message says."""
    home, source = tmp_path / "home", write_people(tmp_path / "tree")
    async with Node.open(at(home)) as node:
        found = await share(node, source)
        blocks = await all_blocks(node)
    for path in home.glob("jobs.sqlite*"):
        path.unlink()
    for role in ("command", "daemon", "daemon"):  # the first gives nothing to others
        async with Node.open(at(home, role)) as node:
            assert await all_blocks(node) == blocks
            (row,) = await node.ask(ListShares())
            assert (row.cid, row.name, row.kept) == (found.cid, "tree", True)
    assert len([each for each in caplog.records if "shares rm" in each.getMessage()]) == 1
    async with Node.open(at(home, "daemon")) as node:
        assert (await node.ask(RemoveShare(target="tree"))).count == 1
        assert await all_blocks(node) == []
    assert await served(home, blocks) == [False] * len(blocks)
