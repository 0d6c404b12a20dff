"""What a sharer has lost takes nothing else with it: all that can be had is written, what cannot is named and asked for again."""

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from stack.bitswap.interfaces import PeerReport
from stack.blocks.memory import MemoryStore
from stack.dag.unixfs.options import import_options
from stack.dag.unixfs.reader import FilePart, decode_node
from stack.errors import FetchError
from stack.files import fetch_file, fetch_tree, leaves
from stack.files.events import EntryUpdated, FetchFinished, FileFinished
from stack.files.fetch import Fetcher, FetchRequest
from stack.files.leaves import LeafWalk
from stack.files.parts import is_in_place
from stack.files.watch import Patience, missing
from stack.multiformats.cid import Cid
from tests.files.conftest import ME, FakeExchange, content, open_store
from tests.files.test_fetch_tree import share, snapshot

SMALL = import_options("unixfs-v1-2025", {"chunker": "size-4096"})
SHARDED = import_options("unixfs-v1-2025", {"chunker": "size-4096", "max-directory-links": 2, "max-hamt-fanout": 8})

pytestmark = pytest.mark.anyio


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Where fetches go."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.files.gather.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("stack.files.work.LEAVE_SECONDS", 0.02)
    for module in "fetch_tree", "leaves":
        monkeypatch.setattr(f"stack.files.{module}.AGAIN_SECONDS", 0.1)


def plant(root: Path, large: int = 2) -> None:
    """Small files, equal files, files of many blocks, of zeros, in directories."""
    for folder in "", "deep", "deep/er":
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(4):
            (root / folder / f"small {number}").write_bytes(content(f"{folder}{number % 3}", 900))
    for number in range(large):
        (root / f"large {number}").write_bytes(bytes(9000) + content(f"large{number}", 30_000))
    (root / "empty").write_bytes(b"")


def multihash(data: bytes) -> bytes:
    return Cid.of(data).multihash


def whole(root: Path) -> dict[str, bytes | str | None]:
    """What is complete below a directory."""
    try:
        return {name: data for name, data in snapshot(root).items() if not name.endswith(".part")}
    except FileNotFoundError:  # a part file has just got its name
        return {}


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what a fetch does in the end."""
    with anyio.fail_after(30):
        while not condition():
            await anyio.sleep(0.01)


@pytest.mark.parametrize("options", [SMALL, SHARDED], ids=["small", "sharded"])
async def test_every_file_whose_blocks_came_is_written_and_the_lost_ones_are_named(
    tmp_path: Path, here: Path, exchange: FakeExchange, store_kind: str, options: object
) -> None:
    """One block that nobody has kept all files of its batch from being written."""
    source = tmp_path / "source"
    plant(source)
    root = await share(source, exchange, options)  # type: ignore[arg-type]
    small, leaf = (source / "deep" / "small 0").read_bytes(), (source / "large 1").read_bytes()[12288:16384]
    exchange.lost = {multihash(small), multihash(leaf)}
    lost = {"deep/small 0", "deep/small 3", "large 1"}
    others = {name: data for name, data in snapshot(source).items() if name not in lost}
    request = FetchRequest(root=root, name="tree", directory=here)
    async with open_store(store_kind, tmp_path / "home") as store:
        async with Fetcher(store, exchange).open(request) as fetch:
            await until(
                lambda: whole(here / "tree") == others and fetch._work is not None and len(fetch._work.lost) == 3
            )
            assert fetch._work is not None
            assert set(fetch._work.lost) == lost
        exchange.lost.clear()
        exchange.sent.clear()
        finished = await Fetcher(store, exchange).fetch(request)
    assert snapshot(here / "tree") == snapshot(source)
    assert finished.size == sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    if store_kind == "disk":
        leaves = [cid.multihash for cid in exchange.sent if not decode_node(cid, exchange.blocks[cid.multihash]).links]
        assert sorted(leaves) == sorted({multihash(small), multihash(leaf)}), "what came is kept"


@pytest.mark.parametrize("options", [SMALL, SHARDED], ids=["small", "sharded"])
async def test_what_is_found_again_is_fetched_at_the_end(
    tmp_path: Path, here: Path, exchange: FakeExchange, options: object
) -> None:
    """Nodes of directories, files and leaves alike; each file is told, and counted, once."""
    source = tmp_path / "source"
    plant(source)
    root = await share(source, exchange, options)  # type: ignore[arg-type]
    everything = set(exchange.blocks) - {root.multihash}
    exchange.lost = everything - set(sorted(everything)[::3])
    request = FetchRequest(root=root, name="tree", directory=here)
    async with open_store("disk", tmp_path / "home") as store, Fetcher(store, exchange).open(request) as fetch:
        await until(lambda: fetch._work is not None and fetch._work.patience == 0.1)
        assert fetch._work is not None
        assert fetch._work.lost
        exchange.lost.clear()
        events = [event async for event in fetch]
    assert snapshot(here / "tree") == snapshot(source)
    finished = events[-1]
    assert isinstance(finished, FetchFinished)
    files = [path for path in source.rglob("*") if path.is_file()]
    assert (finished.files, finished.size) == (len(files), sum(path.stat().st_size for path in files))
    assert sorted(event.path.name for event in events if isinstance(event, FileFinished)) == sorted(
        path.name for path in files
    )
    assert not fetch._work.lost


async def test_files_that_are_lost_take_no_place_from_the_others(
    tmp_path: Path, here: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many files are open at a time, so many batches of leaves and entries are asked for: as many lost ones stopped the tree."""
    monkeypatch.setattr("stack.files.work.FILES_OPEN", 2)
    monkeypatch.setattr("stack.files.work.LEAF_BATCHES", 2)
    monkeypatch.setattr(fetch_tree, "BATCH_ENTRIES", 4)
    monkeypatch.setattr(fetch_tree, "ENTRIES_UNDER_WAY", 8)
    source = tmp_path / "source"
    plant(source, large=5)
    for number in range(9):
        (source / f"a {number}").write_bytes(b"lost" + content(str(number), 500))
    root = await share(source, exchange, SMALL)
    for path in sorted(source.glob("large *"))[:4]:
        exchange.lost.add(multihash(path.read_bytes()[12288:16384]))
    for path in source.glob("a *"):
        exchange.lost.add(multihash(path.read_bytes()))
    lost = {path.name for path in [*source.glob("a *"), *sorted(source.glob("large *"))[:4]]}
    others = {name: data for name, data in snapshot(source).items() if name not in lost}
    request = FetchRequest(root=root, name="tree", directory=here)
    async with open_store("disk", tmp_path / "home") as store, Fetcher(store, exchange).open(request) as fetch:
        await until(lambda: whole(here / "tree") == others)
        await until(lambda: fetch._work is not None and set(fetch._work.lost) == lost)


async def test_what_came_is_written_while_the_rest_is_under_way(
    tmp_path: Path, here: Path, exchange: FakeExchange
) -> None:
    """Ctrl-C, or a kill, in the middle of a slow batch: what had come of it was lost."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(64):
        (source / f"small {number:02}").write_bytes(content(str(number), 900))
    root = await share(source, exchange, SMALL)
    exchange.gate = lambda cid: len(exchange.sent) < 40
    request = FetchRequest(root=root, name="tree", directory=here)
    async with open_store("disk", tmp_path / "home") as store, Fetcher(store, exchange).open(request) as fetch:
        files = 0
        async for event in fetch:
            files += isinstance(event, FileFinished)
            if files == len(exchange.sent) - 1 > 16:
                break
    assert len(whole(here / "tree")) == files > 16


async def test_of_one_file_all_is_kept_but_what_is_lost(tmp_path: Path, here: Path, exchange: FakeExchange) -> None:
    source = tmp_path / "source"
    source.write_bytes(content("one", 100_000))
    root = await share(source, exchange, SMALL)
    exchange.lost = {multihash(source.read_bytes()[at : at + 4096]) for at in (0, 40960, 98304)}
    async with open_store("disk", tmp_path / "home") as store:
        async with Fetcher(store, exchange).open(FetchRequest(root=root, name="one", directory=here)) as fetch:
            await until(lambda: fetch.bytes_done == 100_000 - 2 * 4096 - 1696)
        exchange.sent.clear()
        exchange.lost.clear()
        await Fetcher(store, exchange).fetch(FetchRequest(root=root, name="one", directory=here))
    assert len([cid for cid in exchange.sent if not decode_node(cid, exchange.blocks[cid.multihash]).links]) == 3
    assert (here / "one").read_bytes() == source.read_bytes()


async def test_an_update_writes_what_can_be_had_and_deletes_nothing_before_all_is_there(
    tmp_path: Path, here: Path, exchange: FakeExchange
) -> None:
    """Also where a part of the list of a directory is lost: what is in that is not known, and so not what is too much."""
    source = tmp_path / "source"
    plant(source)
    first = await share(source, exchange, SHARDED)
    async with open_store("disk", tmp_path / "home") as store:
        await Fetcher(store, exchange).fetch(FetchRequest(root=first, name="tree", directory=here))
        before = snapshot(here / "tree")
        (source / "small 2").write_bytes(b"changed")
        (source / "deep" / "small 3").unlink()
        known = set(exchange.blocks)
        second = await share(source, exchange, SHARDED)
        shards = [
            key for key in set(exchange.blocks) - known - {second.multihash} if exchange.blocks[key] != b"changed"
        ]
        exchange.lost = set(shards)
        request = FetchRequest(root=second, name="tree", directory=here, update=True, delete=True)
        async with Fetcher(store, exchange).open(request) as fetch:
            await until(lambda: fetch._work is not None and fetch._work.patience == 0.1)
            assert set(snapshot(here / "tree")) == set(before)
            exchange.lost.clear()
            finished = await fetch.finish()
    assert snapshot(here / "tree") == snapshot(source)
    assert finished.deleted == 1


async def test_no_more_than_so_many_are_left_for_the_end(
    tmp_path: Path, here: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever names a million files that nobody has does not fill the memory."""
    monkeypatch.setattr(fetch_tree, "LEFT_MAX", 2)
    monkeypatch.setattr(fetch_tree, "BATCH_ENTRIES", 1)
    monkeypatch.setattr(fetch_tree, "ENTRIES_UNDER_WAY", 1)
    source = tmp_path / "source"
    plant(source)
    root = await share(source, exchange, SMALL)
    exchange.lost = {multihash(path.read_bytes()) for path in source.glob("small *")}
    request = FetchRequest(root=root, name="tree", directory=here)
    async with open_store("disk", tmp_path / "home") as store, Fetcher(store, exchange).open(request) as fetch:
        await until(lambda: fetch._work is not None and fetch._work.patience is None)
        assert fetch._work is not None
        assert len(fetch._work.lost) == 2
        exchange.lost.clear()
        await fetch.finish()
    assert snapshot(here / "tree") == snapshot(source)


async def test_a_file_of_which_a_part_is_lost_is_told_as_an_update_once(
    tmp_path: Path, here: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time that it was asked for again it was told, and counted, once more."""
    rounds: list[fetch_tree.TreeFetch] = []
    come_back = fetch_tree.TreeFetch._come_back
    monkeypatch.setattr(fetch_tree.TreeFetch, "_come_back", lambda tree: (rounds.append(tree), come_back(tree)))
    source = tmp_path / "source"
    plant(source)
    first = await share(source, exchange, SMALL)
    async with open_store("disk", tmp_path / "home") as store:
        await Fetcher(store, exchange).fetch(FetchRequest(root=first, name="tree", directory=here))
        for name in "large 1", "fresh":
            (source / name).write_bytes(content(name, 30_000))
            exchange.lost.add(multihash(content(name, 30_000)[8192:12288]))
        second = await share(source, exchange, SMALL)
        request = FetchRequest(root=second, name="tree", directory=here, update=True)
        async with Fetcher(store, exchange).open(request) as fetch:
            await until(lambda: len(rounds) == 3)
            exchange.lost.clear()
            told = [(event.path, event.change) async for event in fetch if isinstance(event, EntryUpdated)]
    assert sorted(told) == [("tree/fresh", "new"), ("tree/large 1", "changed")]


async def test_what_is_there_is_read_again_less_and_less_often_while_nothing_comes(
    tmp_path: Path, here: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block of a large file that nobody has: all of the file was read and hashed every 30 s, for as long as it was waited for."""
    source = tmp_path / "source"
    plant(source, large=1)
    root = await share(source, exchange, SMALL)
    exchange.lost = {multihash((source / "large 0").read_bytes()[12288:16384])}
    read: list[int] = []

    def count(fd: int, part: FilePart) -> bool | None:
        read.append(part.size)
        return is_in_place(fd, part)

    monkeypatch.setattr(fetch_file, "is_in_place", count)
    request = FetchRequest(root=root, name="tree", directory=here)
    async with open_store("disk", tmp_path / "home") as store, Fetcher(store, exchange).open(request) as fetch:
        await until(lambda: fetch._work is not None and fetch._work.patience == 0.4)
        assert sum(read) <= 4 * 39_000  # the fourth may have begun by now
        exchange.lost.clear()
        await fetch.finish()
    assert snapshot(here / "tree") == snapshot(source)


async def test_what_turns_out_not_to_be_wanted_is_not_missed(
    tmp_path: Path, here: Path, exchange: FakeExchange
) -> None:
    """What an entry is shows when its first block comes; until then it is named as missing."""
    source = tmp_path / "source"
    plant(source, large=1)
    root = await share(source, exchange, SMALL)
    exchange.lost = set(exchange.blocks) - {root.multihash}
    request = FetchRequest(root=root, name="tree", directory=here, include=("small *",))
    async with open_store("disk", tmp_path / "home") as store, Fetcher(store, exchange).open(request) as fetch:
        await until(lambda: fetch._work is not None and "large 0" in fetch._work.lost)
        exchange.lost.clear()
        await fetch.finish()
        assert fetch._work is not None
        assert not fetch._work.lost


async def test_no_more_than_so_many_parts_of_a_file_are_left_for_the_end(
    tmp_path: Path, here: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few nodes that list each other and one leaf that nobody has are any number of parts."""
    monkeypatch.setattr(leaves, "LACKING_MAX", 4)
    monkeypatch.setattr(leaves, "LEAF_BATCH", 2)
    monkeypatch.setattr("stack.files.work.LEAF_BATCHES", 2)
    walks: list[LeafWalk] = []
    run = LeafWalk.run

    async def running(walk: LeafWalk) -> None:
        walks.append(walk)
        await run(walk)

    monkeypatch.setattr(LeafWalk, "run", running)
    source = tmp_path / "source"
    source.write_bytes(content("again", 4096) * 64)
    root = await share(source, exchange, SMALL)
    exchange.lost = {multihash(content("again", 4096))}
    request = FetchRequest(root=root, name="one", directory=here)
    async with open_store("disk", tmp_path / "home") as store, Fetcher(store, exchange).open(request) as fetch:
        await until(lambda: bool(walks) and len(walks[0]._lacking) >= 4)
        for _ in range(20):
            await anyio.sleep(0.01)
        assert len(walks[0]._lacking) <= 4 + 2 * 2
        exchange.lost.clear()
        await fetch.finish()
    assert (here / "one").read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    "patience", [Patience(stall=0.3), Patience(stall=0.3, provider=None), Patience(deadline=0.5)], ids=str
)
async def test_who_gives_up_is_told_what_is_missing(
    tmp_path: Path, here: Path, exchange: FakeExchange, patience: Patience
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "lost").write_bytes(b"lost")
    root = await share(tmp_path / "source", exchange, SMALL)
    exchange.lost = {multihash(b"lost")}
    exchange.reports = [
        PeerReport(
            peer=ME,
            blocks=1,
            bytes=1,
            misses=1,
            denials=1,
            duplicate_bytes=0,
            wrong_blocks=0,
            rate=0.0,
            stalled=False,
            dropped=None,
        )
    ]
    fetcher = Fetcher(MemoryStore(), exchange, is_connected=lambda peer: patience.provider is not None)  # type: ignore[arg-type]
    with pytest.raises(FetchError, match=r"\(missing: lost\)"):
        await fetcher.fetch(FetchRequest(root=root, name="tree", directory=here, patience=patience))


def test_the_lost_are_named_a_few_at_a_time_and_as_text() -> None:
    assert missing({}) == ""
    assert missing({"a": None, "": None}) == " (missing: a, the list of what is in it)"
    assert missing([f"{number}\x1b" for number in range(7)]).endswith(r"4\x1b and 2 more)")
