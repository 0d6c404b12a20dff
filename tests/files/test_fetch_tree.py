"""Fetches of trees: what a stranger may put into one, and what may be in its way here."""

import errno
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from anyio.abc import TaskGroup

from stack.blocks.memory import MemoryStore
from stack.dag import dag_pb
from stack.dag.unixfs.data import NodeKind, encode_data
from stack.dag.unixfs.options import ImportOptions, import_options, profile
from stack.dag.unixfs.reader import LinkNotFound
from stack.errors import DecodeError, LimitExceeded, NoSpace, Refused, StoreError
from stack.files import add, fetch_tree, repeats, space
from stack.files import target as target_module
from stack.files.add import Adder
from stack.files.chosen import Selection
from stack.files.events import EntrySkipped, FetchEvent, FetchFinished, FetchProgress, FetchResumed, FetchStarted
from stack.files.fetch import Fetcher, FetchRequest
from stack.files.listing import names_there
from stack.files.parts import WrongSize
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB
from tests.files.conftest import FakeExchange, blocks_of, content, open_store

FILE = b"content"
FILE_CID = Cid.of(FILE)


def snapshot(root: Path) -> dict[str, bytes | str | None]:
    """Everything below a directory: content of files, where links lead, None for directories."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = "-> " + os.readlink(path)
        elif path.is_dir():
            found[name] = None
        else:
            found[name] = path.read_bytes()
    return found


def plant(root: Path) -> None:
    """A tree with everything in it."""
    (root / "deep" / "er").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "a.txt").write_bytes(b"a")
    (root / "none").write_bytes(b"")
    (root / "deep" / "b.txt").write_bytes(b"b")
    (root / "deep" / "er" / "large").write_bytes(content("large", 200_000))
    (root / "deep" / "same").write_bytes(content("large", 200_000))
    (root / "link").symlink_to("deep/b.txt")
    (root / "out").symlink_to("/etc/passwd")
    (root / "Grüße \u200b").write_bytes(b"unicode")


async def share(path: Path, exchange: FakeExchange, options: ImportOptions | None = None) -> Cid:
    store = MemoryStore()
    added = await Adder(store, options or profile()).add([path])
    exchange.blocks.update(blocks_of(store))
    return added.cid


async def get(
    store: object,
    exchange: FakeExchange,
    root: Cid,
    directory: Path,
    *include: str,
    exclude: Sequence[str] = (),
    unsafe_links: bool = True,
) -> tuple[FetchFinished, list[FetchEvent]]:
    fetcher = Fetcher(store, exchange)  # type: ignore[arg-type]
    request = FetchRequest(
        root=root,
        name="tree",
        directory=directory,
        include=include,
        exclude=tuple(exclude),
        unsafe_links=unsafe_links,
    )
    async with fetcher.open(request) as fetch:
        events = [event async for event in fetch]
    finished = events[-1]
    assert isinstance(finished, FetchFinished)
    return finished, events


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Where fetches go."""
    path = tmp_path / "here"
    path.mkdir()
    return path


@pytest.mark.anyio
async def test_a_tree_that_is_as_deep_as_may_be_shared_can_be_fetched(
    tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was deeper was left out of the share, and the rest was refused all the same."""
    for module in add, fetch_tree:
        monkeypatch.setattr(module, "DEPTH_MAX", 3)
    tree, exchange, store = tmp_path / "tree", FakeExchange(), MemoryStore()
    (tree / "1" / "2" / "3" / "4").mkdir(parents=True)
    (tree / "1" / "2" / "3" / "f").write_bytes(FILE)
    (tmp_path / "other").mkdir()
    for more in [], [tmp_path / "other"]:
        added = await Adder(store, profile(), selection=Selection(for_others=True)).add([tree, *more])
        exchange.blocks.update(blocks_of(store))
        into = here / str(len(more))
        into.mkdir()
        finished, _ = await get(MemoryStore(), exchange, added.cid, into)
        assert finished.files == 1
    (tree / "1" / "2" / "3" / "4" / "5" / "6").mkdir(parents=True)
    with pytest.raises(LimitExceeded, match="depth of a tree"):
        await get(MemoryStore(), exchange, await share(tree, exchange), here)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "options",
    [
        profile(),
        import_options("unixfs-v1-2025", {"chunker": "size-4096", "max-directory-links": 2, "max-hamt-fanout": 8}),
        import_options("unixfs-v0-2015", {"chunker": "size-4096"}),
        import_options("default", {"inline": True, "inline-limit": 64}),
    ],
    ids=["default", "sharded", "dag-pb", "inline"],
)
async def test_a_tree_arrives_as_it_was(
    tmp_path: Path, here: Path, exchange: FakeExchange, store_kind: str, options: ImportOptions
) -> None:
    plant(tmp_path / "source")
    root = await share(tmp_path / "source", exchange, options)
    async with open_store(store_kind, tmp_path / "home") as store:
        finished, _ = await get(store, exchange, root, here)
        assert snapshot(here / "tree") == snapshot(tmp_path / "source")
        assert (finished.files, finished.skipped, finished.already_complete) == (8, 0, False)
        again, _ = await get(store, exchange, root, here)
        assert again.already_complete and again.files == 8
        if store_kind == "disk":
            assert not (await store.verify()).problems  # type: ignore[union-attr]


@pytest.mark.anyio
async def test_modes_and_times_of_files_and_directories_are_kept(
    tmp_path: Path, here: Path, exchange: FakeExchange
) -> None:
    source = tmp_path / "source"
    plant(source)
    (source / "a.txt").chmod(0o4751)
    (source / "deep").chmod(0o500)
    for path in sorted(source.rglob("*"), reverse=True):
        os.utime(path, ns=(10**18, 10**18 + len(path.name)), follow_symlinks=False)
    os.utime(source, ns=(10**18, 5))
    options = import_options("default", {"preserve-mode": True, "preserve-mtime": True})
    root = await share(source, exchange, options)
    await get(MemoryStore(), exchange, root, here)
    for path in sorted((here / "tree").rglob("*")):
        original = source / path.relative_to(here / "tree")
        assert path.lstat().st_mtime_ns == original.lstat().st_mtime_ns, path
    assert (here / "tree").stat().st_mtime_ns == 5
    # setuid is never taken from a stranger, and the owner may always enter a directory
    assert stat.S_IMODE((here / "tree" / "a.txt").stat().st_mode) == 0o751
    assert stat.S_IMODE((here / "tree" / "deep").stat().st_mode) == 0o700
    (source / "deep").chmod(0o700)


@pytest.mark.anyio
@pytest.mark.parametrize("include", [["absent"], ["a.txt/"], ["deep/nope*", "x"]])
async def test_patterns_that_match_nothing_are_an_error_that_names_them(
    tmp_path: Path, here: Path, exchange: FakeExchange, include: list[str]
) -> None:
    """Point 15: `already complete (0 B)`, exit 0, and a path that does not exist."""
    plant(tmp_path / "source")
    root = await share(tmp_path / "source", exchange)
    with pytest.raises(
        LinkNotFound, match=rf"no file matches {re.escape(repr(include[0]))}.* \(\d+ files; `stack ls` shows them\)"
    ):
        await get(MemoryStore(), exchange, root, here, *include)
    assert not (here / "tree").exists()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("include", "expected"),
    [
        (["*.txt"], ["a.txt", "deep", "deep/b.txt"]),
        (["deep/er"], ["deep", "deep/er", "deep/er/large"]),
        (["deep/*"], ["deep", "deep/b.txt", "deep/er", "deep/er/large", "deep/same"]),
        (["link", "none"], ["link", "none"]),
        (["deep/"], ["deep", "deep/b.txt", "deep/er", "deep/er/large", "deep/same"]),
        (["./er/"], ["deep", "deep/er", "deep/er/large"]),
    ],
)
async def test_only_what_is_included_is_fetched(
    tmp_path: Path, here: Path, exchange: FakeExchange, include: list[str], expected: list[str]
) -> None:
    plant(tmp_path / "source")
    root = await share(tmp_path / "source", exchange)
    await get(MemoryStore(), exchange, root, here, *include)
    assert list(snapshot(here / "tree")) == expected
    if include == ["*.txt"]:
        assert Cid.of(content("large", 200_000)) not in exchange.sent
    await get(MemoryStore(), exchange, root, here, "a.txt")
    assert (here / "tree" / "a.txt").read_bytes() == b"a"


@pytest.mark.anyio
@pytest.mark.parametrize("include", ["*.txt", "deep/", "large", "link"])
async def test_the_total_is_that_of_what_is_chosen_from_the_start(
    tmp_path: Path, here: Path, exchange: FakeExchange, include: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Point 16: of a tree of one file in several blocks, equal files, and files in nodes of their own."""
    plant(tmp_path / "source")
    flags = import_options("unixfs-v1-2025", {"chunker": "size-4096", "raw-leaves": False})
    for number, options in enumerate((None, flags)):
        root = await share(tmp_path / "source", exchange, options)
        finished, events = await get(MemoryStore(), exchange, root, here / f"measured {number}", include)
        assert started_size(events) == finished.size
        assert {event.total for event in events if isinstance(event, FetchProgress)} <= {finished.size}
        with monkeypatch.context() as patch:
            patch.setattr("stack.files.measure.ENTRIES_MAX", 2)
            larger, events = await get(MemoryStore(), exchange, root, here / f"large {number}", include)
        assert (larger.size, started_size(events)) == (finished.size, 0)


def started_size(events: list[FetchEvent]) -> int:
    """What a fetch said to be in all when it began."""
    return next(event.size for event in events if isinstance(event, FetchStarted))


@pytest.mark.anyio
async def test_an_interrupted_tree_goes_on(tmp_path: Path, here: Path, exchange: FakeExchange) -> None:
    source = tmp_path / "source"
    plant(source)
    for number in range(40):
        (source / f"file{number}").write_bytes(content(str(number), 9000))
    root = await share(source, exchange, import_options("unixfs-v1-2025", {"chunker": "size-4096"}))
    exchange.gate = lambda cid: len(exchange.sent) < 120
    async with open_store("disk", tmp_path / "home") as store:
        request = FetchRequest(root=root, name="tree", directory=here)
        async with Fetcher(store, exchange).open(request):
            while len(exchange.sent) < 120:
                await anyio.sleep(0.01)
        assert 1 < len(snapshot(here / "tree")) < 60
        begun = [path for path in (here / "tree").rglob("*.part") if path.stat().st_blocks]
        exchange.gate = None
        sent = len(exchange.sent)
        _, events = await get(store, exchange, root, here)
    assert snapshot(here / "tree") == snapshot(source)
    assert any(isinstance(event, FetchResumed) for event in events) is bool(begun)
    assert len(exchange.sent) - sent < len(set(exchange.sent)) - 40


def directory(*entries: tuple[str, Cid, int]) -> tuple[Cid, bytes]:
    """A directory block with any names, in any order."""
    out = bytearray()
    for name, cid, size in entries:
        body = b"\x0a" + bytes([len(bytes(cid))]) + bytes(cid)
        raw = os.fsencode(name)
        body += b"\x12" + _varint(len(raw)) + raw + b"\x18" + _varint(size)
        out += b"\x12" + _varint(len(body)) + body
    out += b"\x0a\x02\x08\x01"
    return Cid.of(bytes(out), codec=DAG_PB), bytes(out)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def symlink(target: str) -> tuple[Cid, bytes]:
    block = dag_pb.encode(dag_pb.Node(encode_data(NodeKind.SYMLINK, payload=os.fsencode(target)), ()))
    return Cid.of(block, codec=DAG_PB), block


def offer(exchange: FakeExchange, *blocks: tuple[Cid, bytes]) -> None:
    exchange.blocks.update((cid.multihash, block) for cid, block in (*blocks, (FILE_CID, FILE)))


BAD_NAMES = ["..", ".", "", "/abs", "../../x", "a/b", "a\\b", "..\\x", "C:", "C:x", "nul\0byte", "x" * 256, "é" * 128]


@pytest.mark.anyio
async def test_B16_A58_names_that_cannot_be_files_are_left_out_and_told(
    tmp_path: Path, here: Path, exchange: FakeExchange
) -> None:
    root = directory(*((name, FILE_CID, 7) for name in BAD_NAMES), ("good", FILE_CID, 7))
    offer(exchange, root)
    finished, events = await get(MemoryStore(), exchange, root[0], here)
    assert snapshot(tmp_path) == {"here": None, "here/tree": None, "here/tree/good": FILE}
    assert finished.skipped == len(BAD_NAMES)
    assert len([event for event in events if isinstance(event, EntrySkipped)]) == len(BAD_NAMES)


@pytest.mark.anyio
async def test_A60_control_characters_in_names_are_kept_on_disk_and_never_told_raw(
    here: Path, exchange: FakeExchange
) -> None:
    root = directory(("\x1b[2J", FILE_CID, 7), ("\x1b/..", FILE_CID, 7))
    offer(exchange, root)
    _, events = await get(MemoryStore(), exchange, root[0], here)
    assert snapshot(here / "tree") == {"\x1b[2J": FILE}
    assert all("\x1b" not in event.reason for event in events if isinstance(event, EntrySkipped))


@pytest.mark.anyio
async def test_B16_a_name_that_is_not_utf8_is_kept_as_its_bytes(here: Path, exchange: FakeExchange) -> None:
    root = directory((os.fsdecode(b"caf\xe9"), FILE_CID, 7))
    offer(exchange, root)
    await get(MemoryStore(), exchange, root[0], here)
    assert os.listdir(os.fsencode(here / "tree")) == [b"caf\xe9"]


@pytest.mark.anyio
async def test_B16_of_two_entries_with_one_name_the_first_counts(here: Path, exchange: FakeExchange) -> None:
    link = symlink("/etc")
    inner = directory(("passwd", FILE_CID, 7))
    root = directory(("x", link[0], 100), ("x", inner[0], 500))
    offer(exchange, link, inner, root)
    await get(MemoryStore(), exchange, root[0], here)
    assert snapshot(here / "tree") == {"x": "-> /etc"}


@pytest.mark.anyio
async def test_B16_names_that_a_file_system_takes_for_the_same_are_told(
    here: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = directory(("A", FILE_CID, 7), ("a", FILE_CID, 7), ("e\u0301", FILE_CID, 7), ("\u00e9", FILE_CID, 7))
    offer(exchange, root)
    finished, _ = await get(MemoryStore(), exchange, root[0], here)
    assert finished.skipped == 0 and len(snapshot(here / "tree")) == 4
    monkeypatch.setattr(target_module, "folds_names", lambda path: True)
    (here / "other").mkdir()
    finished, events = await get(MemoryStore(), exchange, root[0], here / "other")
    assert finished.skipped == 2 and len(snapshot(here / "other" / "tree")) == 2
    assert "same name as A" in next(event.reason for event in events if isinstance(event, EntrySkipped))


@pytest.mark.anyio
async def test_A59_a_link_in_the_way_is_never_followed(tmp_path: Path, here: Path, exchange: FakeExchange) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "sub").mkdir()
    inner = directory(("passwd", FILE_CID, 7))
    root = directory(("sub", inner[0], 500))
    offer(exchange, inner, root)
    (here / "tree").mkdir()
    (here / "tree" / "sub").symlink_to(outside)
    with pytest.raises(Refused, match="exists and is no directory"):
        await get(MemoryStore(), exchange, root[0], here)
    (here / "tree" / "sub").unlink()
    (here / "tree").rmdir()
    (here / "tree").symlink_to(outside)
    with pytest.raises(Refused, match="exists and is no directory"):
        await get(MemoryStore(), exchange, root[0], here)
    assert snapshot(outside) == {"sub": None}


@pytest.mark.anyio
async def test_A59_a_directory_that_is_swapped_for_a_link_meanwhile_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub").rmdir()
    (tmp_path / "tree" / "sub").symlink_to(outside)
    below = ("tree", "sub", "x")
    for attempt in (
        lambda: target_module.make_directory(tmp_path, below),
        lambda: target_module.make_symlink(tmp_path, below, "y", None),
        lambda: target_module.set_attributes(tmp_path, below[:2], 0o700, None),
        lambda: target_module.status_of(tmp_path, below),
    ):
        with pytest.raises(Refused):
            attempt()
    assert not list(outside.iterdir())


@pytest.mark.anyio
async def test_A59_nothing_is_written_through_a_link_of_the_tree(
    tmp_path: Path, here: Path, exchange: FakeExchange
) -> None:
    """A link and a directory of one name, in two nodes of a directory that is not what it seems."""
    (tmp_path / "outside").mkdir()
    link = symlink(str(tmp_path / "outside"))
    inner = directory(("x", FILE_CID, 7))
    root = directory(("a", link[0], 100))
    offer(exchange, link, inner, root)
    await get(MemoryStore(), exchange, root[0], here)
    other = directory(("a", inner[0], 100))
    offer(exchange, other)
    with pytest.raises(Refused):
        await get(MemoryStore(), exchange, other[0], here)
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.anyio
async def test_attack_12_links_that_cannot_be_made_are_left_out_and_told(here: Path, exchange: FakeExchange) -> None:
    """Empty, too long, with a zero byte: the rest of the tree comes all the same."""
    links = [symlink(text) for text in ("", "x" * 5000, "a\0b", "fine")]
    root = directory(*((str(number), link[0], 6000) for number, link in enumerate(links)), ("z", FILE_CID, 7))
    offer(exchange, *links, root)
    finished, events = await get(MemoryStore(), exchange, root[0], here)
    assert snapshot(here / "tree") == {"3": "-> fine", "z": FILE}
    assert finished.skipped == 3
    assert sorted(event.path for event in events if isinstance(event, EntrySkipped)) == ["0", "1", "2"]


@pytest.mark.anyio
async def test_attack_10_a_file_larger_than_its_link_says_is_not_begun(
    tmp_path: Path, here: Path, exchange: FakeExchange
) -> None:
    source = tmp_path / "large"
    source.write_bytes(content("large", 700_000))
    large = await share(source, exchange)
    root = directory(("file", large, 500_000))
    offer(exchange, root)
    with pytest.raises(WrongSize, match="700000 bytes of the file where 500000 were announced"):
        await get(MemoryStore(), exchange, root[0], here)
    assert snapshot(here / "tree") == {}


@pytest.mark.anyio
async def test_attack_10_a_tree_larger_than_it_says_is_stopped(here: Path, exchange: FakeExchange) -> None:
    data = content("a", 10_000)
    exchange.blocks[Cid.of(data).multihash] = data
    inner = directory(*((str(number), Cid.of(data), 0) for number in range(100)))
    root = directory(("sub", inner[0], 999_999))
    offer(exchange, inner, root)
    with pytest.raises(WrongSize, match="1000000 bytes"):
        await get(MemoryStore(), exchange, root[0], here)
    honest = directory(("sub", inner[0], 1_000_000))
    offer(exchange, honest)
    await get(MemoryStore(), exchange, honest[0], here)


@pytest.mark.anyio
async def test_attack_10_a_tree_that_says_nothing_is_stopped_before_the_disk_is_full(
    here: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is looked at as files become known; a reserve is left, and what was there before is not counted again."""
    monkeypatch.setattr(fetch_tree, "BATCH_ENTRIES", 2)
    monkeypatch.setattr(space, "RESERVE_MAX", 1000)
    root = directory(*((str(number), FILE_CID, 0) for number in range(6)))
    offer(exchange, root)
    monkeypatch.setattr(space.disk, "free_bytes", lambda path: 1000 + 6 * 7)
    assert (await get(MemoryStore(), exchange, root[0], here))[0].files == 6
    monkeypatch.setattr(space.disk, "free_bytes", lambda path: 1013)
    assert (await get(MemoryStore(), exchange, root[0], here))[0].already_complete
    with pytest.raises(NoSpace, match="13 of 1,013 free bytes may be used"):
        await get(MemoryStore(), exchange, root[0], here / "more")
    assert snapshot(here / "more" / "tree") == {}


@pytest.mark.anyio
async def test_finding_27_a_tree_may_have_any_number_of_entries_and_directories(
    here: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bounds are far below its size: only what repeats is counted, and directories wait for those found before."""
    monkeypatch.setattr(repeats, "REPEATED_MAX", 10)
    monkeypatch.setattr(fetch_tree, "WAITING_MAX", 8)
    monkeypatch.setattr(fetch_tree, "BATCH_ENTRIES", 4)
    monkeypatch.setattr(fetch_tree, "ENTRIES_UNDER_WAY", 16)
    waiting = 0
    inner = []
    for number in range(60):
        data = b"%d" % number
        exchange.blocks[Cid.of(data).multihash] = data
        empty = directory((f"only {number}", Cid.of(data), 2))
        inner.append(directory(("f", Cid.of(data), 2), ("d", empty[0], 100)))
        offer(exchange, empty, inner[-1])
    root = directory(*((str(number), each[0], 1000) for number, each in enumerate(inner)))
    offer(exchange, root)
    read = fetch_tree.TreeFetch._read_directory

    async def watch(self: fetch_tree.TreeFetch, group: TaskGroup, each: object) -> None:
        nonlocal waiting
        waiting = max(waiting, len(self._waiting))
        await read(self, group, each)  # type: ignore[arg-type]

    monkeypatch.setattr(fetch_tree.TreeFetch, "_read_directory", watch)
    finished, _ = await get(MemoryStore(), exchange, root[0], here)
    assert finished.files == 120
    assert len(snapshot(here / "tree")) == 240
    assert 8 <= waiting < 30


@pytest.mark.anyio
async def test_equal_files_with_long_names_that_differ_at_the_end_come_side_by_side(
    tmp_path: Path, here: Path, exchange: FakeExchange
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for stem in ("n" * 250, "é" * 125, "日" * 83):
        for end in ("1", "2", "3"):
            (source / (stem + end)).write_bytes(content("a", 300_000))
    root = await share(source, exchange)
    async with open_store("disk", tmp_path / "home") as store:
        await get(store, exchange, root, here)
    assert snapshot(here / "tree") == snapshot(source)


@pytest.mark.anyio
async def test_a_symbolic_link_by_itself_can_be_fetched(here: Path, exchange: FakeExchange) -> None:
    link = symlink("anywhere")
    offer(exchange, link)
    finished, _ = await get(MemoryStore(), exchange, link[0], here)
    assert os.readlink(here / "tree") == "anywhere" and finished.files == 1
    assert (await get(MemoryStore(), exchange, link[0], here))[0].already_complete
    (here / "tree").unlink()
    (here / "tree").symlink_to("elsewhere")
    with pytest.raises(Refused, match="other content"):
        await get(MemoryStore(), exchange, link[0], here)
    empty = symlink("")
    offer(exchange, empty)
    (here / "tree").unlink()
    with pytest.raises(Refused):
        await get(MemoryStore(), exchange, empty[0], here)


@pytest.mark.anyio
async def test_B11_a_directory_with_other_things_in_it_is_refused(
    tmp_path: Path, here: Path, exchange: FakeExchange
) -> None:
    plant(tmp_path / "source")
    root = await share(tmp_path / "source", exchange)
    (here / "tree").mkdir()
    (here / "tree" / "mine").write_bytes(b"mine")
    with pytest.raises(Refused, match="mine is not part of what is fetched"):
        await get(MemoryStore(), exchange, root, here)
    (here / "tree" / "mine").rename(here / "tree" / "a.txt")
    with pytest.raises(Refused, match=r"a\.txt exists with other content"):
        await get(MemoryStore(), exchange, root, here)
    assert (here / "tree" / "a.txt").read_bytes() == b"mine"


def test_a_directory_that_cannot_be_looked_into_now_is_not_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").touch()
    assert names_there(tmp_path) == ["mine"]
    assert names_there(tmp_path / "mine") == names_there(tmp_path / "absent") == []
    real, fails = os.listdir, [errno.EMFILE, errno.EMFILE]

    def listdir(place: Path) -> list[str]:
        if fails:
            number = fails.pop()
            raise OSError(number, os.strerror(number))
        return real(place)

    monkeypatch.setattr(os, "listdir", listdir)
    assert names_there(tmp_path) == ["mine"]
    fails.append(errno.EIO)
    with pytest.raises(StoreError, match="Input/output error"):
        names_there(tmp_path)
    fails.append(errno.EACCES)
    assert names_there(tmp_path) == []


@pytest.mark.anyio
async def test_B09_a_tree_that_does_not_fit_is_refused_before_it_begins(
    tmp_path: Path, here: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path / "source")
    root = await share(tmp_path / "source", exchange)
    monkeypatch.setattr(target_module.disk, "free_bytes", lambda path: 100_000)
    with pytest.raises(NoSpace):
        await get(MemoryStore(), exchange, root, here)
    assert not list(here.iterdir())


@pytest.mark.anyio
async def test_B18_a_file_larger_than_its_link_says_is_refused(here: Path, exchange: FakeExchange) -> None:
    root = directory(("file", FILE_CID, 6))
    offer(exchange, root)
    with pytest.raises(DecodeError, match="announced"):
        await get(MemoryStore(), exchange, root[0], here)


@pytest.mark.anyio
async def test_links_that_tell_no_size_are_fetched_too(here: Path, exchange: FakeExchange) -> None:
    root = directory(("file", FILE_CID, 0))
    offer(exchange, root)
    await get(MemoryStore(), exchange, root[0], here)
    assert snapshot(here / "tree") == {"file": FILE}


@pytest.mark.anyio
async def test_A57_trees_that_unfold_without_end_are_bounded(
    here: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "REPEATED_MAX", 500)
    top = directory(("f", FILE_CID, 7))
    for _ in range(8):
        top = directory(*((str(number), top[0], 1000) for number in range(10)))
        offer(exchange, top)
    offer(exchange, directory(("f", FILE_CID, 7)))
    with pytest.raises(LimitExceeded, match="entries of a tree"):
        await get(MemoryStore(), exchange, top[0], here)
    monkeypatch.setattr(fetch_tree, "DEPTH_MAX", 20)
    deep = directory(("f", FILE_CID, 7))
    offer(exchange, deep)
    for _ in range(30):
        deep = directory(("d", deep[0], 1000))
        offer(exchange, deep)
    (here / "x").mkdir()
    with pytest.raises(LimitExceeded, match="depth of a tree"):
        await get(MemoryStore(), exchange, deep[0], here / "x")


@pytest.mark.anyio
async def test_an_entry_that_is_no_file_is_left_out(here: Path, exchange: FakeExchange) -> None:
    metadata = dag_pb.encode(dag_pb.Node(encode_data(NodeKind.METADATA), ()))
    cid = Cid.of(metadata, codec=DAG_PB)
    root = directory(("meta", cid, 50), ("file", FILE_CID, 7))
    offer(exchange, root, (cid, metadata))
    finished, _ = await get(MemoryStore(), exchange, root[0], here)
    assert finished.skipped == 1 and snapshot(here / "tree") == {"file": FILE}


@pytest.mark.anyio
async def test_a_tree_may_hold_names_that_look_like_part_files(
    tmp_path: Path, here: Path, exchange: FakeExchange
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(content("a", 9000))
    (source / "a.part").write_bytes(content("b", 9000))
    (source / ("n" * 255)).write_bytes(b"long")
    root = await share(source, exchange, import_options("unixfs-v1-2025", {"chunker": "size-4096"}))
    await get(MemoryStore(), exchange, root, here)
    assert snapshot(here / "tree") == snapshot(source)


@pytest.mark.anyio
async def test_entries_are_asked_for_in_batches(
    tmp_path: Path, here: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_tree, "BATCH_ENTRIES", 3)
    plant(tmp_path / "source")
    root = await share(tmp_path / "source", exchange)
    await get(MemoryStore(), exchange, root, here)
    assert snapshot(here / "tree") == snapshot(tmp_path / "source")
    assert max(len(call) for call in exchange.calls) == 3


@pytest.mark.anyio
async def test_a_link_that_no_system_can_make_is_refused(here: Path, exchange: FakeExchange) -> None:
    link = symlink("a\0b")
    offer(exchange, link)
    with pytest.raises(Refused, match="cannot be a symbolic link"):
        await get(MemoryStore(), exchange, link[0], here)


@pytest.mark.anyio
async def test_a_directory_with_a_time_and_no_mode_keeps_its_mode(
    tmp_path: Path, here: Path, exchange: FakeExchange
) -> None:
    (tmp_path / "source").mkdir()
    os.utime(tmp_path / "source", ns=(7, 7))
    root = await share(tmp_path / "source", exchange, import_options("default", {"preserve-mtime": True}))
    await get(MemoryStore(), exchange, root, here)
    assert (here / "tree").stat().st_mtime_ns == 7
    root = await share(tmp_path / "source", exchange, import_options("default", {"preserve-mode": True}))
    (here / "other").mkdir()
    await get(MemoryStore(), exchange, root, here / "other")
    assert (here / "other" / "tree").stat().st_mtime_ns != 7
