"""One list of all that a home gives to others, as it is; one command that ends it and says what; asyncio and trio."""

import errno
import os
from pathlib import Path

import pytest

from stack.errors import Refused
from stack.files.ticket import decode_ticket
from stack.node.api import AddPin, ImportFlags, ListShares, RemoveShare, Share, Shared, ShareInfo
from stack.node.node import Node
from tests.node.test_life import MIB, at, share, write_people

pytestmark = pytest.mark.anyio


async def listed(node: Node) -> dict[str, ShareInfo]:
    return {row.name: row for row in await node.ask(ListShares())}


async def test_use_6_what_is_listed_is_served_only_by_a_node_that_serves(tmp_path: Path) -> None:
    home = tmp_path / "home"
    source = write_people(tmp_path / "tree")
    async with Node.open(at(home)) as node:
        found = await share(node, source)
        await share(node, tmp_path / "tree" / "one", "a command that was killed")
        row = (await listed(node))["tree"]
        assert (row.state, row.why, row.kept) == ("serving", ("shared",), True)
        assert row.served_by is not None and "share" in row.served_by
        assert decode_ticket(row.ticket).addresses == decode_ticket(found.ticket).addresses
    async with Node.open(at(home, "command")) as node:
        (row,) = await node.ask(ListShares())
        assert (row.cid, row.state, row.served_by) == (found.cid, "not served", None)


async def test_use_6_a_place_that_was_shared_again_is_not_said_to_be_served_as_it_was(tmp_path: Path) -> None:
    """A fresh share was listed as missing for what an older one of its folder had lost, and the older one as served."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_bytes(name.encode() * MIB)
    async with Node.open(at(tmp_path / "home")) as node:
        first = await share(node, folder)
        (folder / "a").unlink()
        second = await share(node, folder)
        (folder / "b").write_bytes(b"other" * 1000)
        third = await share(node, folder)
        states = {row.cid: row.state for row in await node.ask(ListShares())}
        assert states[third.cid] == "serving"
        assert states[first.cid] != "serving" and states[second.cid] == "changed"


async def test_use_7_what_is_meant_is_ended_and_named_and_what_is_not_clear_is_refused(tmp_path: Path) -> None:
    note, other = tmp_path / "note.txt", tmp_path / "other.txt"
    note.write_text("note")
    other.write_text("other")
    async with Node.open(at(tmp_path / "home")) as node:
        alone = await share(node, note)
        await node.share(note, other)
        with pytest.raises(Refused, match=r"2 things.*note.txt and 1 more"):
            await node.ask(RemoveShare(target=str(note)))
        assert len(await node.ask(ListShares())) == 2
        removed = await node.ask(RemoveShare(target=str(alone.cid)))
        assert [(each.name, each.what, each.paths) for each in removed.ended] == [
            ("note.txt", ("shared",), (str(note),))
        ]
        (left,) = await node.ask(ListShares())
        assert left.name == "note.txt and 1 more" and left.state == "serving"
        assert (await node.ask(RemoveShare(target="note.txt and 1 more"))).count == 1
        assert (await node.ask(RemoveShare(target=str(note)))).count == 0


async def test_use_4_what_is_pinned_is_in_the_list_too_and_can_be_ended_there(tmp_path: Path) -> None:
    film = tmp_path / "film"
    film.write_bytes(b"film" * MIB)
    async with Node.open(at(tmp_path / "home")) as node:
        root = await node.add(film, copy=True)
        (row,) = await node.ask(ListShares())
        assert (row.cid, row.why, row.state) == (root, ("pinned",), "serving")
        await share(node, film, is_open=True)
        (row,) = await node.ask(ListShares())
        assert row.why == ("shared", "pinned")
        (ended,) = (await node.ask(RemoveShare(target=str(root)))).ended
        assert ended.what == ("shared",) and ended.still_pinned
        assert await node.cat(root) == film.read_bytes()
        (ended,) = (await node.ask(RemoveShare(target=str(root)))).ended
        assert ended.what == ("pinned",) and not ended.still_pinned
        assert await node.ask(ListShares()) == ()
        await node.ask(AddPin(cid=root))  # nothing is deleted before `stack gc`


async def test_use_29_the_list_says_how_far_each_receiver_is(tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(bytes(i % 251 for i in range(251)) * (4 * MIB // 251))
    async with (
        Node.open(at(tmp_path / "a", upload_limit=MIB)) as node,
        Node.open(at(tmp_path / "b", "get")) as receiver,
    ):
        parts: list[float] = []
        async with receiver.fetch(await node.share(tmp_path / "film"), tmp_path / "out") as events:
            async for _ in events:
                (row,) = await node.ask(ListShares())
                parts += [each.part for each in row.receivers if each.part is not None]
        (row,) = await node.ask(ListShares())
        (one,) = row.receivers
        assert one.complete and parts == sorted(parts)
        assert any(0 < part < 1 for part in parts)


async def test_a_share_keeps_times_and_an_open_one_has_the_cid_of_its_bytes(tmp_path: Path) -> None:
    """Issue 9, point 3: kept unless that would give equal files, which anybody may find by their CID, different ones."""
    note = tmp_path / "note.txt"
    note.write_text("note")
    os.utime(note, ns=(10**18, 10**18))
    async with Node.open(at(tmp_path / "home")) as node, Node.open(at(None, "library")) as other:
        ticket = await node.share(note)
        got = await other.get(ticket, tmp_path / "got")
        assert got.stat().st_mtime_ns == 10**18
        timed = await share(node, note)
        plain = await node.add(note)
        roots = {}
        for preserve, is_open in (None, True), (False, False), (True, True), (None, False):
            flags = ImportFlags(preserve_mtime=preserve)
            async with node.watch(Share(paths=(note,), flags=flags, open=is_open)) as events:
                (roots[preserve, is_open],) = [event.cid async for event in events if isinstance(event, Shared)]
        assert roots[None, True] == roots[False, False] == plain
        assert roots[True, True] != plain != roots[None, False] == timed.cid


async def test_a_share_that_cannot_be_read_now_does_not_take_the_list_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_people(tmp_path / "tree")
    async with Node.open(at(tmp_path / "home")) as node:
        await share(node, source)
        next(path for path in source.rglob("*") if path.is_file() and path.stat().st_size > MIB).unlink()

        def fails(path: Path) -> tuple[int, os.stat_result]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as patched:
            patched.setattr("stack.blocks.disk.open_regular", fails)
            assert (await listed(node))["tree"].state == "missing"
