"""The node as programs use it, and the handlers behind every request; asyncio and trio."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from stack import Cid, Config, Node
from stack.blocks.store import DiskStore
from stack.control.server import REQUESTS
from stack.errors import DecodeError, FetchError, LimitExceeded, NegotiationError, NoProvider, Refused
from stack.files.events import FetchFinished, FetchStarted
from stack.node.api import (
    Add,
    Added,
    AddPin,
    BlockGet,
    BlockPut,
    BlockStat,
    CarExport,
    CarImport,
    Cat,
    CollectGarbage,
    Connect,
    Disconnect,
    Fetch,
    GetIdentity,
    GetPresence,
    GetReach,
    GetRepoStat,
    ListDirectory,
    ListJobs,
    ListPeers,
    ListPins,
    ListShares,
    Perf,
    Ping,
    RemoveJob,
    RemovePin,
    RemoveShare,
    Share,
    Shared,
    VerifyRepo,
)
from stack.node.handlers import ASKS, READS, WATCHES, WRITES

pytestmark = pytest.mark.anyio

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)


@pytest.fixture(autouse=True)
def over_any_line(listen_anywhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs over loopback and over lines on which everything waits."""
    monkeypatch.setitem(globals(), "LOOPBACK", (listen_anywhere,))


def at(path: Path) -> Config:
    """A node with a home there."""
    return Config(home=path, listen=LOOPBACK)


class Pieces:
    """A stream of bytes that may be left half-way."""

    def __init__(self, *data: bytes) -> None:
        self._data = iter(data)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for piece in self._data:
            return piece
        raise StopAsyncIteration


def test_every_request_has_exactly_one_handler() -> None:
    tables = (ASKS, WATCHES, READS, WRITES)
    handled = [kind.__name__ for table in tables for kind in table]
    assert sorted(handled) == sorted(REQUESTS)


async def test_a_file_goes_from_node_to_node_and_is_counted(tmp_path: Path) -> None:
    data = os.urandom(5_000_000)
    (tmp_path / "f.bin").write_bytes(data)
    async with Node.open(at(tmp_path / "a")) as one, Node.open(at(tmp_path / "b")) as two:
        ticket = await one.share(tmp_path / "f.bin")
        path = await two.get(ticket, tmp_path / "out")
        assert path.read_bytes() == data
        with anyio.fail_after(10):  # who gets the last block may be done before who sends it has counted it
            while not (await one.ask(ListShares()))[0].copies:
                await anyio.sleep(0.01)
        (row,) = await one.ask(ListShares())
        assert (row.state, row.copies, row.peers) == ("serving", 1, (str(two.peer_id),))
        assert row.bytes_sent == len(data)
        (job,) = await two.ask(ListJobs())
        assert (job.state, job.bytes_done) == ("done", len(data))
        assert (await two.ask(RemoveJob(id=job.id))).count == 1
        (peer,) = {peer.peer_id for peer in await two.ask(ListPeers())}
        assert peer == str(one.peer_id)
        presence = await two.ask(GetPresence(cid=row.cid))
        assert int(presence.bitmap, 16)
        assert (await one.ask(RemoveShare(target=str(tmp_path / "f.bin")))).count == 1
        assert await one.ask(ListShares()) == ()
        assert (await one.ask(RemoveShare(target=str(tmp_path / "f.bin")))).count == 0


async def test_what_was_fetched_is_served_to_the_next(tmp_path: Path) -> None:
    (tmp_path / "f.bin").write_bytes(os.urandom(3_000_000))
    async with Node.open(at(tmp_path / "b")) as two:
        async with Node.open(at(tmp_path / "a")) as one:
            cid = await one.add(tmp_path / "f.bin")
            await two.get(str(cid), tmp_path / "out", providers=one.addresses())
        async with Node.open() as three:
            path = await three.get(str(cid), tmp_path / "again", providers=two.addresses())
            assert path.read_bytes() == (tmp_path / "f.bin").read_bytes()


async def test_a_fetch_tells_of_itself_and_is_resumed(tmp_path: Path) -> None:
    (tmp_path / "f.bin").write_bytes(os.urandom(3_000_000))
    async with Node.open(at(tmp_path / "a")) as one, Node.open(at(tmp_path / "b")) as two:
        ticket = await one.share(tmp_path / "f.bin")
        async with two.fetch(ticket, tmp_path) as events:
            with pytest.raises(Refused, match="other content") as refused:
                (tmp_path / "f.bin").write_bytes(b"something else")
                async for _ in events:
                    pass
        assert "f.bin" in str(refused.value)
        (tmp_path / "f.bin").unlink()
    (tmp_path / "f.bin").write_bytes(os.urandom(3_000_000))
    async with Node.open(at(tmp_path / "a")) as one, Node.open(at(tmp_path / "b")) as two:
        ticket = await one.share(tmp_path / "f.bin")
        async with two.fetch(ticket, tmp_path / "o") as events:
            told = [event async for event in events]
        assert isinstance(told[-1], FetchFinished)
        assert any(isinstance(event, FetchStarted) for event in told)
        async with two.fetch(ticket, tmp_path / "o") as events:
            (last,) = [event async for event in events if isinstance(event, FetchFinished)]
        assert last.already_complete


async def test_directories_are_listed_and_read(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "below").mkdir(parents=True)
    (tree / "a.txt").write_text("a\n")
    (tree / "below" / "b.txt").write_text("b\n")
    async with Node.open(at(tmp_path / "a")) as one, Node.open() as two:
        cid = await one.add(tree)
        providers = one.addresses()
        async with two.watch(ListDirectory(source=str(cid), providers=providers)) as entries:
            assert [(entry.name, entry.type) async for entry in entries] == [("a.txt", "file"), ("below", "directory")]
        async with two.read(Cat(source=f"{cid}/below/b.txt", providers=providers)) as read:
            assert b"".join([piece async for piece in read]) == b"b\n"
        assert await one.cat(f"{cid}/a.txt", offset=1) == b"\n"
        with pytest.raises(DecodeError, match="not a file"):
            await one.cat(cid)


async def test_blocks_and_cars(tmp_path: Path) -> None:
    async with Node.open(at(tmp_path / "a")) as one, Node.open(at(tmp_path / "b")) as two:
        info = await one.write(BlockPut(), Pieces(b"he", b"llo"))
        assert info.cid == Cid.of(b"hello")
        assert await one.ask(BlockStat(cid=info.cid)) == info
        async with one.read(CarExport(cid=info.cid)) as read:
            car = b"".join([piece async for piece in read])
        report = await two.write(CarImport(), Pieces(car[:10], car[10:]))
        assert (report.roots, report.blocks) == ((info.cid,), 1)
        async with two.read(BlockGet(cid=info.cid)) as read:
            assert [piece async for piece in read] == [b"hello"]
        assert [pin.kind for pin in await two.ask(ListPins())] == ["pin"]
        with pytest.raises(DecodeError):
            await two.write(CarImport(), Pieces(car[:-1]))
        with pytest.raises(LimitExceeded):
            await two.write(BlockPut(), Pieces(bytes(3 << 20)))


async def test_pins_keep_and_garbage_goes(tmp_path: Path) -> None:
    async with Node.open(at(tmp_path / "a")) as one, Node.open(at(tmp_path / "b")) as two:
        cid = (await one.write(BlockPut(), Pieces(b"keep"))).cid
        await two.connect(one.addresses()[0])
        assert (await two.ask(AddPin(cid=cid, name="n"))).count == 1
        loose = (await two.write(BlockPut(), Pieces(b"loose"))).cid
        assert (await two.ask(CollectGarbage(dry_run=True))).blocks == 1
        assert (await two.ask(CollectGarbage())).blocks == 1
        assert await two.store.has([cid, loose]) == [True, False]
        assert (await two.ask(RemovePin(cid=cid))).count == 1
        assert (await two.ask(RemovePin(cid=cid))).count == 0
        assert (await two.ask(GetRepoStat())).blocks >= 1
        async with two.watch(VerifyRepo()) as events:
            assert [event.problem async for event in events] == [None]


@pytest.mark.parametrize("way", ["add", "add a copy", "share", "import a CAR"])
async def test_garbage_that_is_collected_before_the_pin_takes_nothing_of_an_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Finding 8: a collection just before the pin, which is late when whoever reads the events is slow."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(20):
        (tree / f"{number}").write_bytes(bytes([number % 3]) * 2000)
    async with Node.open(Config(pubsub=False, announce=False)) as other:
        cid = await other.add(tree, copy=True)
        async with other.read(CarExport(cid=cid)) as pieces:
            car = b"".join([piece async for piece in pieces])
    async with Node.open(Config(home=tmp_path / "home", pubsub=False, announce=False)) as node:
        assert isinstance(node.store, DiskStore)
        keep = node.store.add_pin

        async def late(*args: Any, **names: Any) -> None:
            assert (await node.ask(CollectGarbage())).blocks == 0
            await keep(*args, **names)

        monkeypatch.setattr(node.store, "add_pin", late)
        if way == "import a CAR":
            await node.write(CarImport(), Pieces(car))
        else:
            request = Share(paths=(tree,), open=True) if way == "share" else Add(paths=(tree,), copy=way != "add")
            async with node.watch(request) as events:
                assert [event.cid async for event in events if isinstance(event, Added | Shared)] == [cid]
        assert (await node.ask(CollectGarbage())).blocks == 0
        assert [pin.cid for pin in await node.ask(ListPins())] == [cid]
        async with node.read(CarExport(cid=cid)) as pieces:
            assert b"".join([piece async for piece in pieces]) == car


async def test_an_import_is_pinned_though_nobody_reads_its_events(tmp_path: Path) -> None:
    """Finding 8: a reader that stands still."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(20):
        (tree / f"{number}").write_bytes(bytes([number]) * 2000)
    async with Node.open(Config(home=tmp_path / "home", pubsub=False, announce=False)) as node:
        for request in (Add(paths=(tree,), copy=True), Share(paths=(tree,), open=True)):
            before = len(await node.ask(ListPins()))
            async with node.watch(request) as events:
                await anext(events)
                with anyio.fail_after(20):
                    while len(await node.ask(ListPins())) == before:
                        await node.ask(CollectGarbage())
        assert [share.state for share in await node.ask(ListShares())] == ["serving"]
        assert (await node.ask(CollectGarbage())).blocks == 0


async def test_perf_is_off_unless_asked_for() -> None:
    async with Node.open() as one, Node.open() as two:
        assert "/perf/1.0.0" not in (await one.ask(GetIdentity())).protocols
        with pytest.raises(NegotiationError, match="stack daemon --perf"):
            await two.ask(Perf(address=one.addresses()[0], upload=1, download=1))


async def test_peers_are_connected_measured_and_disconnected() -> None:
    async with Node.open(Config(perf=True)) as one, Node.open() as two:
        address = one.addresses()[0]
        assert (await two.ask(Connect(address=address))).peer_id == str(one.peer_id)
        async with two.watch(Ping(target=str(one.peer_id), count=2)) as replies:
            assert [reply.sequence async for reply in replies] == [0, 1]
        result = await two.ask(Perf(address=address, upload=100_000, download=100_000))
        assert result.upload_secs > 0
        assert result.download_secs > 0
        assert (await two.ask(GetIdentity())).peer_id == str(two.peer_id)
        assert (await two.ask(GetReach())).scope == "computer"
        assert (await two.ask(Disconnect(peer_id=str(one.peer_id)))).count == 1
        assert (await two.ask(Disconnect(peer_id=str(one.peer_id)))).count == 0


async def test_only_hash_keeps_nothing_and_copy_keeps_all(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"content")
    async with Node.open(at(tmp_path / "a")) as node:
        async with node.watch(Add(paths=(tmp_path / "f",), only_hash=True)) as events:
            (added,) = [event async for event in events if isinstance(event, Added)]
        assert await node.store.has([added.cid]) == [False]
        assert await node.add(tmp_path / "f", copy=True) == added.cid
        (tmp_path / "f").unlink()
        assert await node.cat(added.cid) == b"content"


async def test_sharing_several_paths_makes_one_directory(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    async with Node.open(at(tmp_path / "home")) as node:
        async with node.watch(Share(paths=(tmp_path / "a", tmp_path / "b"))) as events:
            (shared,) = [event async for event in events if isinstance(event, Shared)]
        async with node.watch(ListDirectory(source=str(shared.cid))) as entries:
            assert [entry.name async for entry in entries] == ["a", "b"]


async def test_nobody_who_has_it_is_an_error_within_the_time(tmp_path: Path) -> None:
    async with Node.open() as node:
        with pytest.raises(NoProvider):
            async with node.watch(Fetch(source=str(Cid.of(b"x")), directory=tmp_path, timeout=0.5)) as events:
                async for _ in events:
                    pass
        with pytest.raises(NoProvider):
            async with node.read(Cat(source=str(Cid.of(b"x")), timeout=0.5)) as read:
                async for _ in read:
                    pass


async def test_a_node_that_does_not_serve_fetches_and_gives_nothing(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(os.urandom(2_000_000))
    metered = Config(home=tmp_path / "b", listen=LOOPBACK, serve=False)
    async with Node.open(at(tmp_path / "a")) as one, Node.open(metered) as two, Node.open() as three:
        cid = await one.add(tmp_path / "f")
        assert (await two.get(str(cid), tmp_path / "out", providers=one.addresses())).exists()
        with pytest.raises(FetchError):
            source = Fetch(source=str(cid), directory=tmp_path / "x", providers=two.addresses(), timeout=1)
            async with three.watch(source) as events:
                async for _ in events:
                    pass


async def test_what_is_raised_inside_comes_out_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        async with Node.open(at(tmp_path)):
            raise KeyError("mine")


async def test_B12_a_home_is_held_by_one_node_at_a_time(tmp_path: Path) -> None:
    async with Node.open(at(tmp_path)):
        with pytest.raises(Refused, match="another process holds"):
            async with Node.open(at(tmp_path)):
                raise AssertionError
    async with Node.open(at(tmp_path)) as node:
        assert node.control is not None


@pytest.mark.anyio
async def test_gossipsub_that_begins_as_its_node_ends_starts_nothing() -> None:
    """A `get` that was over after half a second printed `RuntimeError: This task group is not active`, and ended with 0."""
    async with Node.open() as node:
        pass
    node._accompanied()
