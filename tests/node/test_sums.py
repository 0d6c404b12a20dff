"""`repo stat`, `gc` and `repo verify` count the same things, and as `du` does (point 50); asyncio and trio."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from stack import Node
from stack.blocks.store import DiskStore
from stack.files.ticket import decode_ticket
from stack.multiformats import multihash
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import RAW
from stack.node.api import (
    BlockStat,
    CollectGarbage,
    Fetch,
    GetRepoStat,
    RemovePin,
    RemoveShare,
    VerifyEvent,
    VerifyRepo,
)
from stack.node.handlers import store as handlers
from stack.node.handlers.store import gone_together
from stack.node.home import disk_usage
from tests.node.test_node import at

pytestmark = pytest.mark.anyio


async def verified(node: Node) -> tuple[VerifyEvent, list[str]]:
    async with node.watch(VerifyRepo()) as events:
        seen = [event async for event in events]
    return seen[-1], [event.problem for event in seen if event.problem is not None]


async def test_the_sums_of_stat_gc_verify_and_du_agree(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    big = os.urandom(1_500_000)
    for name, data in (("big", big), ("twice", big + big), ("a", b"a" * 3000), ("same", b"a" * 3000), ("empty", b"")):
        (tree / name).write_bytes(data)
    for number in range(20):
        (tree / "sub" / f"f{number}").write_bytes(os.urandom(300))
    async with Node.open(at(tmp_path / "home")) as node:
        root = await node.add(tree)
        await node.add(tree / "a", copy=True)
        stat = await node.ask(GetRepoStat())
        last, problems = await verified(node)
        assert problems == [] and (last.blocks, last.places) == (stat.blocks, stat.places)
        assert stat.places > stat.blocks and stat.shared_files == 24
        assert stat.shared_bytes == sum(path.stat().st_size for path in tree.rglob("f*")) + 3 * len(big) + 6000
        would = await node.ask(CollectGarbage(dry_run=True))
        assert (would.blocks, would.kept) == (0, stat.blocks)
        du = await anyio.run_process(["du", "-s", "-B1", str(tmp_path / "home")])
        assert disk_usage(tmp_path / "home") == int(du.stdout.split()[0])
        assert isinstance(node.store, DiskStore)
        await node.store.remove_pin(root)
        would = await node.ask(CollectGarbage(dry_run=True))
        done = await node.ask(CollectGarbage())
        after = await node.ask(GetRepoStat())
        assert (would.blocks, would.kept) == (done.blocks, done.kept) == (stat.blocks - 1, 1)
        assert after.blocks == 1, "what was copied is pinned"
        assert after.shared_files == 2, "it lies in two files"

        shutil.rmtree(tree / "sub")
        (tree / "big").unlink()
        last, problems = await verified(node)
        assert problems == [], "nothing needs them any more"
        stat = await node.ask(GetRepoStat())
        assert (last.blocks, stat.shared_files) == (stat.blocks, 2)
        assert stat.shared_bytes == 6000


async def test_what_its_owner_did_to_a_shared_file_is_told_once_and_is_no_damage(tmp_path: Path) -> None:
    """Who deleted a file of a share that he kept had exit code 5 for ever."""
    tree, film = tmp_path / "tree", tmp_path / "film"
    tree.mkdir()
    for name in ("gone", "changed", "same"):
        (tree / name).write_bytes(name.encode() * 1000)
    film.write_bytes(b"film" * 1000)
    async with Node.open(at(tmp_path / "home")) as node:
        first = await node.share(tree)
        await node.share(film)
        assert (await verified(node))[1] == []
        (tree / "gone").unlink()
        (tree / "changed").write_bytes(b"other bytes")
        last, problems = await verified(node)
        assert {problem.partition(": ")[0] for problem in problems} == {"file gone", "file changed", "wrong bytes"}
        assert last.not_whole == 1
        last, problems = await verified(node)
        assert (last.not_whole, problems) == (1, [])
        await node.share(tree)
        last, problems = await verified(node)
        assert (last.not_whole, problems) == (1, [])
        await node.unshare(decode_ticket(first).root)
        last, problems = await verified(node)
        assert (last.not_whole, problems) == (0, [])


async def test_what_is_pinned_is_told_as_missing_until_its_pin_goes(tmp_path: Path) -> None:
    """Also where it is shared too: a pin says that it is to be kept."""
    film = tmp_path / "film"
    film.write_bytes(os.urandom(700_000))
    async with Node.open(at(tmp_path / "home")) as node:
        root = await node.add(film)
        await node.share(film)
        film.unlink()
        assert [problem.partition(": ")[0] for problem in (await verified(node))[1]] == [
            "file gone",
            "pinned and missing",
        ]
        for _ in range(2):
            [problem] = (await verified(node))[1]
            assert problem.startswith(f"pinned and missing: {root}")
        await node.pins.rm(root)
        assert (await verified(node))[1] == []
        await node.ask(CollectGarbage())


async def notes_of(node: Node) -> list[str]:
    async with node.watch(VerifyRepo()) as events:
        return [event.note async for event in events if event.note is not None]


async def test_of_what_is_seeded_in_part_the_rest_is_not_missed(tmp_path: Path) -> None:
    """Every seed of a part had exit code 5 for ever; what a whole share lacks beside it is told as before."""
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    for number in range(20):
        (tree / "sub" / f"f{number}").write_bytes(os.urandom(3000))
    async with Node.open(at(tmp_path / "one")) as one, Node.open(at(tmp_path / "two")) as two:
        ticket = await one.share(tree)
        for source, include, place in ((ticket, ("sub/f1",), "a"), (f"{ticket}/sub/f5", (), "b")):
            request = Fetch(source=source, directory=tmp_path, target=tmp_path / place, include=include, seed=True)
            async with two.watch(request) as events:
                _ = [event async for event in events]
            last, problems = await verified(two)
            assert (problems, last.not_whole) == ([], 0)
        assert isinstance(two.store, DiskStore)
        await two.store.add_pin(decode_ticket(ticket).root)
        [problem] = (await verified(two))[1]
        assert problem.startswith("pinned and missing")


async def test_a_file_that_is_gone_is_no_problem_when_all_of_it_lies_elsewhere_too(tmp_path: Path) -> None:
    """Of a share that was ended rows stayed for what another has too: to delete its files was exit code 5."""
    data = {name: os.urandom(3000) for name in "abc"}
    for folder in ("w1", "w2"):
        (tmp_path / folder).mkdir()
        for name in data:
            (tmp_path / folder / name).write_bytes(data[name])
    async with Node.open(at(tmp_path / "home")) as node:
        await node.share(tmp_path / "w1")
        (tmp_path / "w2" / "more").write_bytes(b"more")
        ended = await node.share(tmp_path / "w2")
        await node.unshare(decode_ticket(ended).root)
        await node.ask(CollectGarbage())
        (tmp_path / "w2" / "b").write_bytes(b"other bytes")
        for name in "ac":
            (tmp_path / "w2" / name).unlink()
        seen = await notes_of(node)
        assert [note.partition(";")[0].partition(" (")[0] for note in seen if "wrong bytes" not in note] == [
            f"file gone: {tmp_path}/w2/a",
            f"file gone: {tmp_path}/w2/c",
            f"file changed: {tmp_path}/w2/b",
        ]
        (tmp_path / "w1" / "a").unlink()
        [problem] = (await verified(node))[1]
        assert problem.startswith(f"file gone: {tmp_path}/w1/a")


async def test_a_block_in_its_own_name_is_always_here(tmp_path: Path) -> None:
    """`block stat` had not found what `block get` gave."""
    cid = Cid.v1(RAW, multihash.encode(multihash.IDENTITY, b"inline"))
    async with Node.open(at(tmp_path / "home")) as node:
        assert await node.blocks.get(cid) == b"inline" and await node.blocks.has(cid)
        assert (await node.ask(BlockStat(cid=cid))).size == 6


@pytest.mark.parametrize("below", ["", "/empty0"])
async def test_nothing_stays_of_the_empty_files_of_a_fetch_that_is_over(tmp_path: Path, below: str) -> None:
    """Of a tree with 229 empty files `1 block in 229 places` stayed for ever: what was recorded of them is below no root."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(5):
        (tree / f"empty{number}").touch()
        (tree / f"full{number}").write_bytes(os.urandom(number + 1))
    async with Node.open(at(tmp_path / "one")) as one:
        async with Node.open(at(tmp_path / "two")) as two:
            await two.get(await one.share(tree) + below, tmp_path / "there")
            assert (await verified(two))[1] == []
        assert len(list((tmp_path / "there").rglob("*"))) == (1 if below else 11)
    async with Node.open(at(tmp_path / "two")) as two:
        assert (await two.ask(GetRepoStat())).places == 0


def test_many_files_that_are_gone_are_told_by_their_folder(tmp_path: Path) -> None:
    """5,004 lines for one deleted tree."""
    (tmp_path / "stands").mkdir()
    gone = {tmp_path / "tree" / str(number // 10) / str(number) for number in range(500)}
    many = {tmp_path / "stands" / str(number) for number in range(handlers.TOLD_SINGLY_MAX + 1)}
    few = {tmp_path / "a", tmp_path / "b"}
    assert gone_together(gone | many | few) == [
        (tmp_path / "a", 1),
        (tmp_path / "b", 1),
        (tmp_path / "stands", len(many)),
        (tmp_path / "tree", 500),
    ]


async def test_what_is_shared_no_longer_is_not_missing(tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(os.urandom(3000))
    home = at(tmp_path / "home")
    async with Node.open(home) as node:
        assert isinstance(node.store, DiskStore)
        root = decode_ticket(await node.share(tmp_path / "film")).root
        await node.jobs.abandon_share(root)  # its command was killed, and what it shared has been taken back since
        await node.store.withdraw([root])
        last, problems = await verified(node)
        assert problems == [] and last.not_whole == 0


async def test_what_is_let_go_of_while_it_is_looked_at_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("film", "song"):
        (tmp_path / name).write_bytes(os.urandom(3000))
    async with Node.open(at(tmp_path / "home")) as node:
        store = node.store
        assert isinstance(store, DiskStore)
        film = decode_ticket(await node.share(tmp_path / "film")).root
        song = await node.add(tmp_path / "song", copy=True)
        verify = store.verify

        async def later(*, roots: Sequence[Cid]) -> object:
            await node.ask(RemoveShare(target=film.text))
            await node.ask(RemovePin(cid=song))
            await node.ask(CollectGarbage())
            return await verify(roots=[song, *roots])  # as it read them before

        monkeypatch.setattr(store, "verify", later)
        last, problems = await verified(node)
        assert problems == [] and last.not_whole == 0
