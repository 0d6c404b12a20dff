"""Fetches of single files: in place, checked, resumed, refused; on a store that records files and on one that does not."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from stack.bitswap.interfaces import PeerReport, Provider
from stack.blocks.interfaces import PinKind
from stack.blocks.memory import MemoryStore
from stack.blocks.store import DiskStore
from stack.dag import dag_pb
from stack.dag.unixfs.data import NodeKind, encode_data, encode_uvarint
from stack.dag.unixfs.options import ImportOptions, import_options, profile
from stack.dag.unixfs.reader import LinkNotFound
from stack.errors import DeadlinePassed, DecodeError, FetchError, LimitExceeded, NoProvider, NoSpace, Refused, Stalled
from stack.files import fetch_file as fetch_file_module
from stack.files import leaves as leaves_module
from stack.files import target as target_module
from stack.files import watch as watch_module
from stack.files.add import Adder
from stack.files.events import (
    FetchEvent,
    FetchFinished,
    FetchProgress,
    FetchResumed,
    FetchStarted,
    FileFinished,
    PeerDropped,
    ProviderFound,
    WaitingForProvider,
)
from stack.files.fetch import Fetcher, FetchRequest
from stack.files.jobs import Jobs, JobState
from stack.files.ranges import whole_ranges
from stack.files.watch import Patience
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB
from stack.protocols.providers.interfaces import RangeBook
from tests.files.conftest import ME, FakeExchange, blocks_of, content, open_store

KIB = 1024
SMALL_LEAVES = {"chunker": "size-4096"}


async def shared(path: Path, exchange: FakeExchange, options: ImportOptions | None = None) -> Cid:
    """Give the peer everything below a path."""
    store = MemoryStore()
    added = await Adder(store, options or profile()).add([path])
    exchange.blocks.update(blocks_of(store))
    return added.cid


def v1(**arguments: str) -> ImportOptions:
    return import_options("unixfs-v1-2025", {name.replace("_", "-"): value for name, value in arguments.items()})


LAYOUTS = {
    "one raw leaf": (v1(), 100_000),
    "empty, raw": (v1(), 0),
    "empty, dag-pb": (import_options("unixfs-v0-2015", {}), 0),
    "one dag-pb leaf": (import_options("unixfs-v0-2015", {}), 100_000),
    "one leaf with mode": (import_options("unixfs-v0-2015", {"mode": "0600", "mtime": "1700000000"}), 70_000),
    "two levels": (v1(chunker="size-4096"), 300_001),
    "two levels with time": (
        import_options("default", {"chunker": "size-4096", "mode": "0640", "mtime": 17, "mtime-nsecs": 5}),
        300_001,
    ),
    "dag-pb leaves": (import_options("unixfs-v0-2015", {"chunker": "size-4096"}), 300_001),
    "deep": (v1(chunker="size-1000", max_file_links="3"), 200_000),
    "deep, nodes over 2 MiB": (v1(chunker="size-65536", max_file_links="8"), 9_000_000),
    "trickle": (v1(chunker="size-1000", trickle="true", raw_leaves="false", max_file_links="5"), 200_000),
    "trickle, raw": (v1(chunker="size-1000", trickle="true", max_file_links="5"), 200_000),
    "inline leaves": (v1(chunker="size-100", inline="true", inline_limit="100"), 1_234),
    "blake3": (v1(chunker="size-4096", hash="blake3"), 50_000),
    "cut by content": (v1(chunker="buzhash"), 1_000_000),
}


@pytest.mark.anyio
@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_file_of_any_layout_arrives_whole_with_its_attributes(
    tmp_path: Path, exchange: FakeExchange, store_kind: str, layout: str
) -> None:
    options, size = LAYOUTS[layout]
    source = tmp_path / "film.mkv"
    source.write_bytes(content(layout, size))
    root = await shared(source, exchange, options)
    (tmp_path / "here").mkdir()
    async with open_store(store_kind, tmp_path / "home") as store:
        request = FetchRequest(root=root, name="film.mkv", directory=tmp_path / "here")
        finished = await Fetcher(store, exchange).fetch(request)
        target = tmp_path / "here" / "film.mkv"
        assert target.read_bytes() == source.read_bytes()
        assert finished.target == target and finished.size == size and not finished.already_complete
        assert os.listdir(tmp_path / "here") == ["film.mkv"]
        if options.mode is not None:
            assert target.stat().st_mode & 0o777 == options.mode
        if options.mtime is not None:
            assert target.stat().st_mtime_ns == options.mtime.in_nanoseconds
        again = await Fetcher(store, exchange).fetch(request)
        assert again.already_complete
        if isinstance(store, DiskStore):
            # it is served from where it lies
            report = await store.verify()
            assert not report.problems
            for cid in exchange.sent:
                assert await store.get(cid) == exchange.blocks[cid.multihash]
            assert sum(pack.stat().st_size for pack in (tmp_path / "home/blocks/packs").iterdir()) < 60_000


@pytest.mark.anyio
async def test_events_tell_the_story_in_order(
    tmp_path: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "INTERVAL", 0.01)
    source = tmp_path / "film"
    source.write_bytes(content("film", 100 * KIB))
    root = await shared(source, exchange, v1(**SMALL_LEAVES))
    exchange.reports = [report()]
    seen: list[FetchEvent] = []

    def gate(cid: Cid) -> bool:
        return len(exchange.sent) < 2 or any(isinstance(event, FetchProgress) for event in seen)

    exchange.gate = gate
    async with Fetcher(MemoryStore(), exchange).open(
        FetchRequest(root=root, directory=tmp_path, out=Path("out"))
    ) as fetch:
        async for event in fetch:
            seen.append(event)
    kinds = [type(event) for event in seen]
    assert [kind for kind in kinds if kind is not FetchProgress] == [
        *(
            [ProviderFound, FetchStarted]
            if kinds.index(ProviderFound) < kinds.index(FetchStarted)
            else [FetchStarted, ProviderFound]
        ),
        FileFinished,
        FetchFinished,
    ]
    started = next(event for event in seen if isinstance(event, FetchStarted))
    assert (started.size, started.files, started.target) == (100 * KIB, 1, tmp_path / "out")
    assert fetch.bytes_done == fetch.bytes_total == 100 * KIB
    assert "out" in repr(fetch)


def report(*, bytes: int = 5, stalled: bool = False, dropped: str | None = None) -> PeerReport:
    return PeerReport(
        peer=ME, blocks=1, bytes=bytes, duplicate_bytes=0, wrong_blocks=0, rate=1.0, stalled=stalled, dropped=dropped
    )


@pytest.mark.anyio
async def test_a_leaf_that_occurs_often_is_asked_for_once_and_written_everywhere(
    tmp_path: Path, exchange: FakeExchange, store_kind: str
) -> None:
    source = tmp_path / "film"
    source.write_bytes((bytes(4096) * 3 + content("x", 4096)) * 50 + bytes(4096) + b"end")
    root = await shared(source, exchange, v1(max_file_links="7", **SMALL_LEAVES))
    async with open_store(store_kind, tmp_path / "home") as store:
        await Fetcher(store, exchange).fetch(FetchRequest(root=root, directory=tmp_path, out=Path("out")))
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    assert sorted(exchange.sent) == sorted(set(exchange.sent))


@pytest.mark.anyio
async def test_blocks_that_are_here_already_are_not_asked_for(
    tmp_path: Path, exchange: FakeExchange, store_kind: str
) -> None:
    source = tmp_path / "film"
    source.write_bytes(content("film", 100 * KIB))
    root = await shared(source, exchange, v1(**SMALL_LEAVES))
    async with open_store(store_kind, tmp_path / "home") as store:
        await store.put([(Cid.v1(0x55, multihash), block) for multihash, block in exchange.blocks.items()])
        finished = await Fetcher(store, exchange).fetch(FetchRequest(root=root, directory=tmp_path, out=Path("out")))
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    assert exchange.sent == [] and finished.received == 0


@pytest.mark.anyio
@pytest.mark.parametrize("codec", ["raw", "dag-pb"])
async def test_an_interrupted_fetch_is_resumed_from_what_is_on_record(
    tmp_path: Path, exchange: FakeExchange, codec: str
) -> None:
    source = tmp_path / "film"
    source.write_bytes(content("film", 400 * KIB))
    options = v1(**SMALL_LEAVES) if codec == "raw" else import_options("unixfs-v0-2015", SMALL_LEAVES)
    root = await shared(source, exchange, options)
    request = FetchRequest(root=root, directory=tmp_path, out=Path("out"))
    exchange.gate = lambda cid: len(exchange.sent) < 60
    async with open_store("disk", tmp_path / "home") as store, Fetcher(store, exchange).open(request) as fetch:
        while len(exchange.sent) < 60:
            await anyio.sleep(0.01)
    assert not (tmp_path / "out").exists() and (tmp_path / "out.part").exists()
    exchange.gate = None
    before = len(exchange.sent)
    async with open_store("disk", tmp_path / "home") as store, Fetcher(store, exchange).open(request) as fetch:
        events = [event async for event in fetch]
        assert (tmp_path / "out").read_bytes() == source.read_bytes()
        assert not (await store.verify()).problems
    resumed = [event.bytes_present for event in events if isinstance(event, FetchResumed)]
    assert len(resumed) == 1 and resumed[0] >= 50 * 4096
    again = exchange.sent[before:]
    assert len(again) <= len(set(exchange.sent)) - resumed[0] // 4096
    assert not set(exchange.sent[:40]) & set(again)


@pytest.mark.anyio
async def test_a_part_file_that_somebody_changed_is_put_right(tmp_path: Path, exchange: FakeExchange) -> None:
    source = tmp_path / "film"
    source.write_bytes(content("film", 400 * KIB))
    root = await shared(source, exchange, v1(**SMALL_LEAVES))
    request = FetchRequest(root=root, directory=tmp_path, out=Path("out"))
    exchange.gate = lambda cid: len(exchange.sent) < 60
    async with open_store("disk", tmp_path / "home") as store, Fetcher(store, exchange).open(request):
        while len(exchange.sent) < 60:
            await anyio.sleep(0.01)
    part = tmp_path / "out.part"
    times = part.stat()
    with part.open("r+b") as file:
        file.write(b"nonsense")
    os.utime(part, ns=(times.st_atime_ns, times.st_mtime_ns))
    exchange.gate = None
    async with open_store("disk", tmp_path / "home") as store:
        await Fetcher(store, exchange).fetch(request)
    assert (tmp_path / "out").read_bytes() == source.read_bytes()


@pytest.mark.anyio
async def test_a_part_file_of_other_content_is_not_taken_for_this_one(tmp_path: Path, exchange: FakeExchange) -> None:
    roots = []
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(content(name, 400 * KIB))
        roots.append(await shared(tmp_path / name, exchange, v1(**SMALL_LEAVES)))
    exchange.gate = lambda cid: len(exchange.sent) < 60
    async with (
        open_store("disk", tmp_path / "home") as store,
        Fetcher(store, exchange).open(FetchRequest(root=roots[0], directory=tmp_path, out=Path("out"))),
    ):
        while len(exchange.sent) < 60:
            await anyio.sleep(0.01)
    exchange.gate = None
    async with open_store("disk", tmp_path / "home") as store:
        await Fetcher(store, exchange).fetch(FetchRequest(root=roots[1], directory=tmp_path, out=Path("out")))
    assert (tmp_path / "out").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.anyio
async def test_B11_a_target_that_is_right_is_already_complete_and_other_content_is_refused(
    tmp_path: Path, exchange: FakeExchange, store_kind: str
) -> None:
    data = content("film", 400 * KIB)
    source = tmp_path / "film"
    source.write_bytes(data)
    for options in (v1(**SMALL_LEAVES), import_options("unixfs-v0-2015", {"chunker": "size-4096"}), v1()):
        root = await shared(source, exchange, options)
        exchange.sent.clear()
        target = tmp_path / "out"
        async with open_store(store_kind, tmp_path / "home") as store:
            fetcher = Fetcher(store, exchange)
            request = FetchRequest(root=root, directory=tmp_path, out=Path("out"))
            target.write_bytes(data)
            finished = await fetcher.fetch(request)
            assert finished.already_complete
            assert len(exchange.sent) <= 3  # nodes, or the block that is all of it
            for wrong in (data[:-1], data + b"!", data[:-1] + b"!", b""):
                target.write_bytes(wrong)
                with pytest.raises(Refused, match="exists with other content"):
                    await fetcher.fetch(request)
                assert target.read_bytes() == wrong
            target.unlink()
            target.symlink_to(source)
            with pytest.raises(Refused):
                await fetcher.fetch(request)
            target.unlink()
        shutil.rmtree(tmp_path / "home", ignore_errors=True)


@pytest.mark.anyio
async def test_a_part_file_of_the_user_is_not_touched(tmp_path: Path, exchange: FakeExchange, store_kind: str) -> None:
    (tmp_path / "film").write_bytes(content("film", 9000))
    root = await shared(tmp_path / "film", exchange, v1(**SMALL_LEAVES))
    (tmp_path / "out.part").write_bytes(b"mine")
    async with open_store(store_kind, tmp_path / "home") as store:
        with pytest.raises(Refused, match=r"out\.part"):
            await Fetcher(store, exchange).fetch(FetchRequest(root=root, directory=tmp_path, out=Path("out")))
    assert (tmp_path / "out.part").read_bytes() == b"mine"


@pytest.mark.anyio
async def test_B09_free_space_is_looked_at_first_and_both_figures_are_told(
    tmp_path: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "film").write_bytes(content("film", 9000))
    root = await shared(tmp_path / "film", exchange, v1(**SMALL_LEAVES))
    monkeypatch.setattr(target_module.disk, "free_bytes", lambda directory: 8999)
    with pytest.raises(NoSpace, match=r"9,000 bytes more; 8,999 bytes are free"):
        await Fetcher(MemoryStore(), exchange).fetch(FetchRequest(root=root, directory=tmp_path, out=Path("out")))
    assert sorted(os.listdir(tmp_path)) == ["film"]


@pytest.mark.anyio
async def test_B09_a_disk_that_fills_up_meanwhile_stops_the_fetch_and_keeps_what_came(
    tmp_path: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "film").write_bytes(content("film", 400 * KIB))
    root = await shared(tmp_path / "film", exchange, v1(**SMALL_LEAVES))
    real = os.pwritev
    written: list[int] = []

    def full(fd: int, views: list[memoryview], offset: int) -> int:
        if len(written) >= 30:
            raise OSError(28, "No space left on device")
        written.append(offset)
        return real(fd, views, offset)

    request = FetchRequest(root=root, directory=tmp_path, out=Path("out"))
    async with open_store("disk", tmp_path / "home") as store, await Jobs.open(None) as jobs:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", full)
            with pytest.raises(NoSpace, match="No space left"):
                await Fetcher(store, exchange, jobs=jobs).fetch(request)
        assert [job.state for job in await jobs.jobs()] == [JobState.INTERRUPTED]
        assert (tmp_path / "out.part").exists()
        async with Fetcher(store, exchange, jobs=jobs).open(request) as fetch:
            events = [event async for event in fetch]
        assert any(isinstance(event, FetchResumed) for event in events)
        assert [job.state for job in await jobs.jobs()] == [JobState.DONE]
    assert (tmp_path / "out").read_bytes() == (tmp_path / "film").read_bytes()


@pytest.mark.anyio
async def test_B10_a_target_that_cannot_be_written_is_refused_before_anything_is_asked(
    tmp_path: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "film").write_bytes(content("film", 9000))
    root = await shared(tmp_path / "film", exchange)
    monkeypatch.setattr(target_module.os, "access", lambda path, mode: False)
    with pytest.raises(Refused, match="cannot be written: permission denied"):
        await Fetcher(MemoryStore(), exchange).fetch(FetchRequest(root=root, directory=tmp_path, out=Path("out")))
    monkeypatch.undo()
    for out in ("film/out", "film/deeper/out", "/proc/nowhere/out", "/dev/null/out"):
        with pytest.raises(Refused, match="cannot be written"):
            await Fetcher(MemoryStore(), exchange).fetch(FetchRequest(root=root, directory=tmp_path, out=Path(out)))
    assert exchange.sent == []


@pytest.mark.anyio
async def test_nobody_who_has_it_is_told_as_such(
    tmp_path: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "INTERVAL", 0.01)
    monkeypatch.setattr(watch_module, "QUIET_SECONDS", 0.02)
    exchange.gate = lambda cid: False
    events: list[FetchEvent] = []
    request = FetchRequest(root=Cid.of(b"x"), directory=tmp_path, patience=Patience(provider=0.1))
    with pytest.raises(NoProvider, match=r"nobody was found who has it, in 0\.1 s"):
        async with Fetcher(MemoryStore(), exchange).open(request) as fetch:
            async for event in fetch:
                events.append(event)
    assert any(isinstance(event, WaitingForProvider) for event in events)
    exchange.reports = [report(bytes=0, dropped="not dialable")]
    with pytest.raises(NoProvider, match=r"1 peer tried, .*: not dialable"):
        async with Fetcher(MemoryStore(), exchange).open(request) as fetch:
            events = [event async for event in fetch]
    assert not list(tmp_path.iterdir())


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("patience", "reports", "error"),
    [
        (Patience(provider=None, stall=0.1), [report(bytes=0)], Stalled),
        (Patience(provider=30, stall=0.1), [], NoProvider),
        (Patience(provider=0.1, stall=None), [report(bytes=0, stalled=True)], NoProvider),
        (Patience(provider=0.05, stall=0.1), [report(stalled=True)], Stalled),
        (Patience(provider=None, deadline=0.1), [report()], DeadlinePassed),
    ],
)
async def test_B07_a_peer_that_sends_nothing_is_waited_for_as_long_as_the_user_said(
    tmp_path: Path,
    exchange: FakeExchange,
    monkeypatch: pytest.MonkeyPatch,
    patience: Patience,
    reports: list[PeerReport],
    error: type[Exception],
) -> None:
    monkeypatch.setattr(watch_module, "INTERVAL", 0.01)
    exchange.gate = lambda cid: False
    exchange.reports = reports
    fetcher = Fetcher(MemoryStore(), exchange, is_connected=lambda peer: True)
    with pytest.raises(error):
        await fetcher.fetch(FetchRequest(root=Cid.of(b"x"), directory=tmp_path, patience=patience))


@pytest.mark.anyio
async def test_peers_that_are_given_up_are_told_with_the_reason(
    tmp_path: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "INTERVAL", 0.01)
    (tmp_path / "film").write_bytes(b"abc")
    root = await shared(tmp_path / "film", exchange)
    exchange.reports = [report(dropped="sent a wrong block")]
    told: list[FetchEvent] = []
    exchange.gate = lambda cid: bool(told)
    async with Fetcher(MemoryStore(), exchange).open(
        FetchRequest(root=root, directory=tmp_path, out=Path("o"))
    ) as fetch:
        async for event in fetch:
            if isinstance(event, PeerDropped):
                told.append(event)
    assert told == [PeerDropped(peer=ME, reason="sent a wrong block")]


# B18: a DAG whose sizes lie


def node(links: list[tuple[Cid, int]], *, sizes: list[int] | None = None, size: int | None = None) -> tuple[Cid, bytes]:
    """A file node that says what it is told to say."""
    sizes = [each for _, each in links] if sizes is None else sizes
    data = encode_data(NodeKind.FILE, file_size=sum(sizes) if size is None else size, block_sizes=sizes)
    block = dag_pb.encode(dag_pb.Node(data, tuple(dag_pb.Link("", each, cid) for cid, each in links)))
    return Cid.of(block, codec=DAG_PB), block


def offer(exchange: FakeExchange, *blocks: tuple[Cid, bytes]) -> None:
    exchange.blocks.update((cid.multihash, block) for cid, block in blocks)


LEAF = content("leaf", 1000)
RAW_LEAF = (Cid.of(LEAF), LEAF)


@pytest.mark.anyio
@pytest.mark.parametrize("announced", [999, 1001, 2**40])
async def test_B18_a_leaf_of_another_size_than_announced_ends_the_fetch(
    tmp_path: Path, exchange: FakeExchange, store_kind: str, announced: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_module.disk, "free_bytes", lambda directory: 2**62)
    root = node([(RAW_LEAF[0], announced), (RAW_LEAF[0], 1000)])
    offer(exchange, RAW_LEAF, root)
    async with open_store(store_kind, tmp_path / "home") as store:
        with pytest.raises(DecodeError, match="announced"):
            await Fetcher(store, exchange).fetch(FetchRequest(root=root[0], directory=tmp_path, out=Path("out")))
        if isinstance(store, DiskStore):
            assert not (await store.verify()).problems
    assert not (tmp_path / "out").exists()


@pytest.mark.anyio
async def test_B18_sizes_that_do_not_add_up_are_refused_at_the_root(tmp_path: Path, exchange: FakeExchange) -> None:
    for root in (node([(RAW_LEAF[0], 1000)], size=2**63), node([(RAW_LEAF[0], 1000)], sizes=[], size=0)):
        offer(exchange, RAW_LEAF, root)
        with pytest.raises(DecodeError):
            await Fetcher(MemoryStore(), exchange).fetch(FetchRequest(root=root[0], directory=tmp_path, out=Path("o")))
    assert not list(tmp_path.iterdir())


@pytest.mark.anyio
async def test_B18_a_claim_of_exabytes_is_no_space_and_allocates_nothing(
    tmp_path: Path, exchange: FakeExchange
) -> None:
    root = node([(RAW_LEAF[0], 2**62)])
    offer(exchange, RAW_LEAF, root)
    with pytest.raises(NoSpace):
        await Fetcher(MemoryStore(), exchange).fetch(FetchRequest(root=root[0], directory=tmp_path, out=Path("out")))
    assert not list(tmp_path.iterdir())


@pytest.mark.anyio
async def test_B18_a_node_that_holds_less_than_announced_is_refused(tmp_path: Path, exchange: FakeExchange) -> None:
    inner = node([(RAW_LEAF[0], 1000)])
    root = node([(inner[0], 3000), (RAW_LEAF[0], 1000)])
    offer(exchange, RAW_LEAF, inner, root)
    with pytest.raises(DecodeError, match="announced"):
        await Fetcher(MemoryStore(), exchange).fetch(FetchRequest(root=root[0], directory=tmp_path, out=Path("out")))


@pytest.mark.anyio
async def test_A57_a_chain_of_nodes_and_a_flood_of_links_are_bounded(
    tmp_path: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = RAW_LEAF
    for _ in range(200):
        top = node([(top[0], 1000)])
        offer(exchange, top)
    offer(exchange, RAW_LEAF)
    with pytest.raises(DecodeError, match="levels deep"):
        await Fetcher(MemoryStore(), exchange).fetch(FetchRequest(root=top[0], directory=tmp_path, out=Path("a")))
    monkeypatch.setattr(leaves_module, "PARTS_MAX", 1000)
    wide = node([(RAW_LEAF[0], 1000)] * 1001)
    offer(exchange, wide)
    with pytest.raises(LimitExceeded):
        await Fetcher(MemoryStore(), exchange).fetch(FetchRequest(root=wide[0], directory=tmp_path, out=Path("b")))


@pytest.mark.anyio
async def test_parts_without_bytes_are_never_asked_for(tmp_path: Path, exchange: FakeExchange) -> None:
    root = node([(Cid.of(b"nowhere"), 0), (RAW_LEAF[0], 1000), (Cid.of(b"nowhere else", codec=DAG_PB), 0)])
    offer(exchange, RAW_LEAF, root)
    await Fetcher(MemoryStore(), exchange).fetch(FetchRequest(root=root[0], directory=tmp_path, out=Path("out")))
    assert (tmp_path / "out").read_bytes() == LEAF


@pytest.mark.anyio
async def test_a_file_with_bytes_beside_its_links_arrives_whole(
    tmp_path: Path, exchange: FakeExchange, store_kind: str
) -> None:
    data = encode_data(NodeKind.FILE, payload=b"head", file_size=1004, block_sizes=[1000])
    block = dag_pb.encode(dag_pb.Node(data, (dag_pb.Link("", 1000, RAW_LEAF[0]),)))
    inner = Cid.of(block, codec=DAG_PB), block
    root = node([(inner[0], 1004), (inner[0], 1004)])
    offer(exchange, RAW_LEAF, inner, root)
    async with open_store(store_kind, tmp_path / "home") as store:
        for cid, expected in ((inner[0], b"head" + LEAF), (root[0], (b"head" + LEAF) * 2)):
            request = FetchRequest(root=cid, directory=tmp_path, out=Path(f"out{len(expected)}"))
            await Fetcher(store, exchange).fetch(request)
            assert (tmp_path / f"out{len(expected)}").read_bytes() == expected


@pytest.mark.anyio
async def test_a_leaf_in_an_unusual_frame_arrives_too(tmp_path: Path, exchange: FakeExchange, store_kind: str) -> None:
    odd = b"\x0a\x0a" + b"\x18\x04\x12\x04abcd\x08\x02"
    long = b"\x12\x04efgh\x08\x02\x18\x04" + b"\x4a\xac\x02" + bytes(300)  # an unknown field of 300 bytes
    long = b"\x0a" + encode_uvarint(len(long)) + long
    leaves = [(Cid.of(block, codec=DAG_PB), block) for block in (odd, long)]
    root = node([(leaves[0][0], 4), (leaves[1][0], 4)])
    offer(exchange, *leaves, root)
    async with open_store(store_kind, tmp_path / "home") as store:
        await Fetcher(store, exchange).fetch(FetchRequest(root=root[0], directory=tmp_path, out=Path("out")))
    assert (tmp_path / "out").read_bytes() == b"abcdefgh"


@pytest.mark.anyio
async def test_small_nodes_beyond_what_is_held_are_asked_for_again(
    tmp_path: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaves_module, "HELD_BYTES_MAX", 500)
    options = v1(chunker="size-1000", max_file_links="3")
    (tmp_path / "film").write_bytes(content("film", 30_000))
    root = await shared(tmp_path / "film", exchange, options)
    request = FetchRequest(root=root, directory=tmp_path, out=Path("out"))
    await Fetcher(MemoryStore(), exchange).fetch(request)
    assert (tmp_path / "out").read_bytes() == (tmp_path / "film").read_bytes()
    # comparing a whole file with such a DAG needs its nodes too
    assert (await Fetcher(MemoryStore(), exchange).fetch(request)).already_complete


@pytest.mark.anyio
async def test_ranges_are_told_while_the_fetch_runs(
    tmp_path: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "INTERVAL", 0.01)
    (tmp_path / "film").write_bytes(content("film", 100 * KIB))
    root = await shared(tmp_path / "film", exchange, v1(**SMALL_LEAVES))
    book = RangeBook()

    def some_are_told(cid: Cid) -> bool:
        ranges = book.ranges(root)
        return len(exchange.sent) < 10 or (ranges is not None and 0 < len(ranges) < ranges.count)

    exchange.gate = some_are_told
    async with DiskStore.open(tmp_path / "home") as store:
        await Fetcher(store, exchange, book=book).fetch(FetchRequest(root=root, directory=tmp_path, out=Path("out")))


@pytest.mark.anyio
async def test_a_raw_leaf_that_no_peer_may_send_is_not_waited_for(tmp_path: Path, exchange: FakeExchange) -> None:
    large = bytes(3 * KIB * KIB)
    root = node([(Cid.of(large), len(large))])
    offer(exchange, root)
    with pytest.raises(DecodeError, match="a block has"):
        await Fetcher(MemoryStore(), exchange).fetch(FetchRequest(root=root[0], directory=tmp_path, out=Path("out")))
    store = MemoryStore()
    await store.put([(Cid.of(large), large)])
    await Fetcher(store, exchange).fetch(FetchRequest(root=root[0], directory=tmp_path, out=Path("out")))
    assert (tmp_path / "out").stat().st_size == len(large)


@pytest.mark.anyio
async def test_what_is_no_file_is_told_as_such(tmp_path: Path, exchange: FakeExchange) -> None:
    block = b"\xa0"
    cid = Cid.of(block, codec=0x71)
    metadata = dag_pb.encode(dag_pb.Node(encode_data(NodeKind.METADATA), ()))
    offer(exchange, (cid, block), (Cid.of(metadata, codec=DAG_PB), metadata))
    with pytest.raises(DecodeError, match="dag-cbor"):
        await Fetcher(MemoryStore(), exchange).fetch(FetchRequest(root=cid, directory=tmp_path))
    with pytest.raises(DecodeError, match="neither a file nor a directory"):
        await Fetcher(MemoryStore(), exchange).fetch(
            FetchRequest(root=Cid.of(metadata, codec=DAG_PB), directory=tmp_path)
        )


# the rest


@pytest.mark.anyio
async def test_a_path_below_the_root_is_fetched_under_its_own_name(tmp_path: Path, exchange: FakeExchange) -> None:
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "film").write_bytes(b"abc")
    root = await shared(tmp_path / "tree", exchange)
    (tmp_path / "here").mkdir()
    fetcher = Fetcher(MemoryStore(), exchange)
    finished = await fetcher.fetch(
        FetchRequest(root=root, path="deep/./film", name="ignored", directory=tmp_path / "here")
    )
    assert finished.target == tmp_path / "here" / "film"
    assert finished.target.read_bytes() == b"abc"
    with pytest.raises(LinkNotFound):
        await fetcher.fetch(FetchRequest(root=root, path="deep/absent", directory=tmp_path / "here"))
    with pytest.raises(DecodeError):
        await fetcher.fetch(FetchRequest(root=root, path="../x", directory=tmp_path / "here"))


@pytest.mark.anyio
async def test_leaf_numbers_go_to_the_session_and_ranges_to_the_book(tmp_path: Path, exchange: FakeExchange) -> None:
    (tmp_path / "film").write_bytes(content("film", 100 * KIB + 1))
    root = await shared(tmp_path / "film", exchange, v1(**SMALL_LEAVES))
    book = RangeBook()
    async with DiskStore.open(tmp_path / "home") as store:
        await Fetcher(store, exchange, book=book).fetch(FetchRequest(root=root, directory=tmp_path, out=Path("out")))
    numbered = [number for numbers in exchange.leaves if numbers is not None for number in numbers]
    assert sorted(numbered) == list(range(26))
    ranges = book.ranges(root)
    assert ranges is not None and ranges.complete and ranges.count == 26


@pytest.mark.anyio
async def test_nodes_that_were_taken_for_leaves_do_not_spoil_the_numbers(
    tmp_path: Path, exchange: FakeExchange
) -> None:
    (tmp_path / "film").write_bytes(content("film", 100 * KIB + 1))
    root = await shared(tmp_path / "film", exchange, v1(max_file_links="9", **SMALL_LEAVES))
    book = RangeBook()
    async with DiskStore.open(tmp_path / "home") as store:
        await Fetcher(store, exchange, book=book).fetch(FetchRequest(root=root, directory=tmp_path, out=Path("out")))
    ranges = book.ranges(root)
    assert ranges is not None and ranges.complete and ranges.count == 26


@pytest.mark.anyio
async def test_a_fetch_that_fails_is_not_offered(tmp_path: Path, exchange: FakeExchange) -> None:
    root = node([(RAW_LEAF[0], 999)])
    offer(exchange, RAW_LEAF, root)
    book = RangeBook()
    with pytest.raises(DecodeError):
        await Fetcher(MemoryStore(), exchange, book=book).fetch(
            FetchRequest(root=root[0], directory=tmp_path, out=Path("out"))
        )
    assert book.ranges(root[0]) is None


@pytest.mark.anyio
async def test_a_root_that_is_shared_stays_offered_whatever_becomes_of_a_fetch(
    tmp_path: Path, exchange: FakeExchange
) -> None:
    (tmp_path / "film").write_bytes(content("film", 9000))
    root = await shared(tmp_path / "film", exchange)
    (tmp_path / "out").write_bytes(b"other")
    book = RangeBook()
    book.add(root, whole_ranges())
    with pytest.raises(Refused):
        await Fetcher(MemoryStore(), exchange, book=book).fetch(
            FetchRequest(root=root, directory=tmp_path, out=Path("out"))
        )
    ranges = book.ranges(root)
    assert ranges is not None and ranges.complete


@pytest.mark.anyio
async def test_jobs_tell_what_runs_and_what_was_interrupted(tmp_path: Path, exchange: FakeExchange) -> None:
    (tmp_path / "film").write_bytes(content("film", 100 * KIB))
    root = await shared(tmp_path / "film", exchange, v1(**SMALL_LEAVES))
    request = FetchRequest(root=root, directory=tmp_path, out=Path("out"), options='{"x": 1}')
    exchange.gate = lambda cid: len(exchange.sent) < 10
    async with await Jobs.open(None) as jobs, open_store("disk", tmp_path / "home") as store:
        fetcher = Fetcher(store, exchange, jobs=jobs)
        async with fetcher.open(request) as fetch:
            while len(exchange.sent) < 10:
                await anyio.sleep(0.01)
            (job,) = await jobs.jobs()
            assert (job.state, job.target, job.name, job.options) == (
                JobState.RUNNING,
                tmp_path / "out",
                "out",
                '{"x": 1}',
            )
            assert fetch.job == job.id
        (job,) = await jobs.jobs()
        assert job.state is JobState.INTERRUPTED and job.bytes_total == 100 * KIB
        exchange.gate = None
        await fetcher.fetch(request)
        (again,) = await jobs.jobs()
        assert (again.id, again.state, again.bytes_done) == (job.id, JobState.DONE, 100 * KIB)


@pytest.mark.anyio
async def test_cancelling_a_fetch_closes_everything(tmp_path: Path, exchange: FakeExchange, store_kind: str) -> None:
    (tmp_path / "film").write_bytes(content("film", 100 * KIB))
    root = await shared(tmp_path / "film", exchange, v1(**SMALL_LEAVES))
    exchange.gate = lambda cid: len(exchange.sent) < 5
    async with open_store(store_kind, tmp_path / "home") as store:
        before = len(os.listdir("/proc/self/fd"))
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:

                async def cancel() -> None:
                    while len(exchange.sent) < 5:
                        await anyio.sleep(0.01)
                    scope.cancel()

                group.start_soon(cancel)
                await Fetcher(store, exchange).fetch(FetchRequest(root=root, directory=tmp_path, out=Path("out")))
        assert scope.cancelled_caught
        assert len(os.listdir("/proc/self/fd")) <= before + 2  # a store may keep connections of its own
    assert (tmp_path / "out.part").exists() == (store_kind == "disk")


@pytest.mark.anyio
async def test_providers_of_a_request_are_told_to_the_session(tmp_path: Path, exchange: FakeExchange) -> None:
    (tmp_path / "film").write_bytes(b"abc")
    root = await shared(tmp_path / "film", exchange)
    request = FetchRequest(root=root, directory=tmp_path, out=Path("out"), providers=(Provider(ME, (), "ticket"),))
    await Fetcher(MemoryStore(), exchange).fetch(request)
    assert [provider.source for provider in exchange.sessions[0].providers] == ["ticket"]


@pytest.mark.anyio
async def test_a_root_is_pinned_while_its_fetch_may_go_on_and_not_when_it_cannot(
    tmp_path: Path, exchange: FakeExchange
) -> None:
    (tmp_path / "film").write_bytes(content("film", 9000))
    root = await shared(tmp_path / "film", exchange, v1(**SMALL_LEAVES))
    store = MemoryStore()
    fetcher = Fetcher(store, exchange)
    (tmp_path / "out").write_bytes(b"other")
    request = FetchRequest(root=root, directory=tmp_path, out=Path("out"))
    with pytest.raises(Refused):
        await fetcher.fetch(request)
    assert await store.pins(kind=PinKind.SHARE) == []
    await store.add_pin(root, "shared by the user", kind=PinKind.SHARE)
    with pytest.raises(Refused):
        await fetcher.fetch(request)
    (tmp_path / "out").unlink()
    await fetcher.fetch(request)
    assert await store.pins(kind=PinKind.SHARE) == [(root, "shared by the user")]


@pytest.mark.anyio
async def test_a_fetch_is_finished_once_and_a_broken_list_of_jobs_does_not_hide_its_end(
    tmp_path: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "INTERVAL", 0.01)
    monkeypatch.setattr(watch_module, "RECORD_SECONDS", 0.0)
    (tmp_path / "film").write_bytes(content("film", 100 * KIB))
    root = await shared(tmp_path / "film", exchange, v1(**SMALL_LEAVES))
    request = FetchRequest(root=root, directory=tmp_path, out=Path("out"))
    recorded: list[int] = []
    async with await Jobs.open(None) as jobs:
        real = jobs.progress

        async def progress(job: int, done: int, total: int) -> None:
            recorded.append(done)
            await real(job, done, total)

        async def broken(*_: object, **figures: object) -> None:
            raise NoSpace("full")

        monkeypatch.setattr(jobs, "progress", progress)
        monkeypatch.setattr(jobs, "end_job", broken)
        exchange.gate = lambda cid: len(exchange.sent) < 10 or any(recorded)
        async with Fetcher(MemoryStore(), exchange, jobs=jobs).open(request) as fetch:
            assert (await fetch.finish()).size == 100 * KIB
            with pytest.raises(FetchError, match="ended already"):
                await fetch.finish()
    assert len(recorded) > 1


@pytest.mark.anyio
async def test_what_was_written_is_put_on_record_also_when_nothing_more_comes(
    tmp_path: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_file_module, "CHECKPOINT_SECONDS", 0.02)
    (tmp_path / "film").write_bytes(content("film", 100 * KIB))
    root = await shared(tmp_path / "film", exchange, v1(**SMALL_LEAVES))
    exchange.gate = lambda cid: len(exchange.sent) < 10
    async with open_store("disk", tmp_path / "home") as store:
        recorded = anyio.Event()
        async with Fetcher(store, exchange).open(FetchRequest(root=root, directory=tmp_path, out=Path("out"))):
            with anyio.fail_after(10):
                while not any(segment.path.name == "out.part" for segment in await store.segments()):
                    await anyio.sleep(0.01)
                index = tmp_path / "home" / "blocks" / "index.sqlite"
                while not recorded.is_set():
                    await anyio.sleep(0.01)
                    with closing(sqlite3.connect(f"file:{index}?mode=ro", uri=True)) as connection:
                        if connection.execute("SELECT count(*) FROM location WHERE frame = 0").fetchone()[0] > 5:
                            recorded.set()
