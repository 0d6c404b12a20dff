"""Trees that change: an update brings what is there to another version, file by file, and leaves the rest as it is."""

import errno
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from stack.blocks.memory import MemoryStore
from stack.blocks.store import DiskStore
from stack.dag.unixfs.options import ImportOptions, import_options, profile
from stack.dag.unixfs.reader import decode_node
from stack.errors import Refused
from stack.files.events import EntrySkipped, EntryUpdated, FetchFinished
from stack.files.fetch import Fetcher, FetchRequest
from stack.multiformats.cid import Cid
from tests.files.conftest import FakeExchange, content, open_store
from tests.files.test_fetch_tree import plant, share, snapshot

SMALL = import_options("unixfs-v1-2025", {"chunker": "size-4096"})
FRAMED = import_options("unixfs-v0-2015", {"chunker": "size-4096"})


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Where fetches go."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


async def get(
    store: object,
    exchange: FakeExchange,
    root: Cid,
    here: Path,
    *,
    delete: bool = False,
    dry_run: bool = False,
    out: Path | None = None,
) -> tuple[FetchFinished, dict[str, str]]:
    """An update, and what it told of names."""
    request = FetchRequest(
        root=root,
        name="tree",
        directory=here,
        out=out,
        update=True,
        delete=delete,
        dry_run=dry_run,
        unsafe_links=True,
    )
    changes: dict[str, str] = {}
    async with Fetcher(store, exchange).open(request) as fetch:  # type: ignore[arg-type]
        async for event in fetch:
            if isinstance(event, EntryUpdated):
                changes[event.path] = event.change
            if isinstance(event, FetchFinished):
                finished = event
    return finished, changes


def change(tree: Path) -> None:
    """The next version of what `plant` made: every kind of change, and each kind in the place of another."""
    (tree / "a.txt").write_bytes(b"A, and longer")
    large = bytearray((tree / "deep" / "er" / "large").read_bytes())
    large[100_000:100_010] = b"0123456789"
    (tree / "deep" / "er" / "large").write_bytes(large + b"an end")
    (tree / "none").unlink()
    (tree / "none").mkdir()
    (tree / "none" / "inside").write_bytes(b"a file became a directory")
    (tree / "empty").rmdir()
    (tree / "empty").write_bytes(b"a directory became a file")
    (tree / "link").unlink()
    (tree / "link").symlink_to("a.txt")
    (tree / "out").unlink()
    (tree / "out").write_bytes(b"a link became a file")
    (tree / "deep" / "b.txt").unlink()
    (tree / "deep" / "b.txt").symlink_to("same")
    (tree / "new").mkdir()
    (tree / "new" / "equal").write_bytes(content("large", 200_000))


CHANGES = {
    "tree/a.txt": "changed",
    "tree/deep/er/large": "changed",
    "tree/none": "changed",
    "tree/none/inside": "new",
    "tree/empty": "changed",
    "tree/link": "changed",
    "tree/out": "changed",
    "tree/deep/b.txt": "changed",
    "tree/new": "new",
    "tree/new/equal": "new",
}


def looks(tree: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of every file and link."""
    return {
        str(path.relative_to(tree)): (path.lstat().st_ino, path.lstat().st_mtime_ns)
        for path in tree.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }


@pytest.mark.anyio
@pytest.mark.parametrize("options", [profile(), SMALL, FRAMED], ids=["default", "small", "framed"])
async def test_a_tree_is_brought_to_another_version(
    tmp_path: Path, here: Path, exchange: FakeExchange, store_kind: str, options: ImportOptions
) -> None:
    source = tmp_path / "source"
    plant(source)
    first = await share(source, exchange, options)
    async with open_store(store_kind, tmp_path / "home") as store:
        await get(store, exchange, first, here)
        assert snapshot(here / "tree") == snapshot(source)
        (here / "tree" / "of mine").write_bytes(b"not part of any version")
        before = looks(here / "tree")
        change(source)
        second = await share(source, exchange, options)

        shown = snapshot(here / "tree")
        finished, changes = await get(store, exchange, second, here, delete=True, dry_run=True)
        assert changes == CHANGES | {"tree/of mine": "deleted"} and finished.deleted == 1
        assert snapshot(here / "tree") == shown and looks(here / "tree") == before

        with pytest.raises(Refused, match="--delete"):
            await get(store, exchange, second, here)  # a directory is in the way of a file
        (here / "tree" / "empty").rmdir()
        finished, changes = await get(store, exchange, second, here)
        assert not finished.already_complete and finished.deleted == 0
        assert snapshot(here / "tree") == snapshot(source) | {"of mine": b"not part of any version"}
        same = {"deep/same", "Grüße \u200b", "of mine"}
        assert {name: look for name, look in looks(here / "tree").items() if name in same} == {
            name: before[name] for name in same
        }

        finished, changes = await get(store, exchange, second, here, delete=True)
        assert changes == {"tree/of mine": "deleted"} and finished.already_complete
        assert snapshot(here / "tree") == snapshot(source)
        if isinstance(store, DiskStore):
            assert not (await store.verify()).problems


@pytest.mark.anyio
async def test_a_directory_in_the_way_goes_with_delete_and_its_neighbours_stay(
    tmp_path: Path, here: Path, exchange: FakeExchange, store_kind: str
) -> None:
    (tmp_path / "source" / "name").mkdir(parents=True)
    (tmp_path / "source" / "name" / "below").write_bytes(b"old")
    (tmp_path / "source" / "other").symlink_to("name")
    first = await share(tmp_path / "source", exchange)
    shutil.rmtree(tmp_path / "source" / "name")
    (tmp_path / "source" / "name").symlink_to("/etc")
    second = await share(tmp_path / "source", exchange)
    (tmp_path / "source" / "name").unlink()
    (tmp_path / "source" / "name").write_bytes(content("many leaves", 3_000_000))
    third = await share(tmp_path / "source", exchange)
    async with open_store(store_kind, tmp_path / "home") as store:
        for root in first, second, first, third, second, third, first:
            await get(store, exchange, root, here, delete=True)
            fresh = tmp_path / "fresh"
            await get(store, exchange, root, fresh)
            assert snapshot(here / "tree") == snapshot(fresh / "tree")
            shutil.rmtree(fresh)


@pytest.mark.anyio
async def test_only_what_differs_is_asked_for(tmp_path: Path, here: Path, exchange: FakeExchange) -> None:
    """Also by a home that knows nothing of what lies there."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(300):
        (source / f"{number} small").write_bytes(b"%d" % (number // 2))
    (source / "large").write_bytes(content("disk image", 400_000) + bytes(400_000))
    first = await share(source, exchange, SMALL)
    async with open_store("disk", tmp_path / "home") as store:
        await get(store, exchange, first, here)
    (source / "7 small").write_bytes(b"another")
    with (source / "large").open("r+b") as file:
        file.seek(123_456)
        file.write(b"!")
    second = await share(source, exchange, SMALL)
    async with open_store("disk", tmp_path / "other home") as store:
        exchange.sent.clear()
        await get(store, exchange, second, here, dry_run=True)
        assert len(exchange.sent) <= 6
        exchange.sent.clear()
        await get(store, exchange, second, here)
        assert len(exchange.sent) <= 6
    assert snapshot(here / "tree") == snapshot(source)


@pytest.mark.anyio
async def test_out_is_the_tree_itself_and_a_file_is_updated_too(
    tmp_path: Path, here: Path, exchange: FakeExchange
) -> None:
    source = tmp_path / "source"
    plant(source)
    root = await share(source, exchange)
    (here / "kept").mkdir()
    async with open_store("disk", tmp_path / "home") as store:
        await get(store, exchange, root, here, out=Path("kept"))
        assert snapshot(here / "kept") == snapshot(source)
        for text in b"one", b"two" * 100_000:
            (tmp_path / "note").write_bytes(text)
            note = await share(tmp_path / "note", exchange, SMALL)
            await get(store, exchange, note, here, out=Path("note"))
            assert (here / "note").read_bytes() == text


@pytest.mark.anyio
async def test_an_update_that_is_cut_off_leaves_every_file_old_or_new_and_goes_on(
    tmp_path: Path, here: Path, exchange: FakeExchange
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(20):
        (source / str(number)).write_bytes(content(f"old {number}", 20_000))
    first = await share(source, exchange, SMALL)
    old = snapshot(source)
    async with open_store("disk", tmp_path / "home") as store:
        await get(store, exchange, first, here)
        for number in range(20):
            (source / str(number)).write_bytes(content(f"new {number}", 20_000 + number))
        second = await share(source, exchange, SMALL)
        new = snapshot(source)
        moments = Counter[str]()
        for allowed in range(0, 120, 15):
            came = 0

            def gate(cid: Cid, allowed: int = allowed) -> bool:
                nonlocal came
                came += 1
                return came <= allowed

            exchange.gate = gate
            with anyio.move_on_after(0.3):
                await get(store, exchange, second, here, delete=True)
            exchange.gate = None
            for path in (here / "tree").iterdir():
                if not path.name.endswith(".part"):
                    assert path.read_bytes() in (old[path.name], new[path.name])
                    moments[str(path.read_bytes() == new[path.name])] += 1
        await get(store, exchange, second, here, delete=True)
        assert snapshot(here / "tree") == new
        assert moments["False"] and not list(here.glob("**/*.part"))
        assert isinstance(store, DiskStore) and not (await store.verify()).problems


@pytest.mark.anyio
async def test_nothing_outside_of_the_tree_is_touched_through_links(
    tmp_path: Path, here: Path, exchange: FakeExchange
) -> None:
    """A link in the place of a directory is replaced and not followed; what it leads to stays as it is."""
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_bytes(b"new")
    root = await share(source, exchange)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"mine")
    (here / "tree").mkdir()
    (here / "tree" / "sub").symlink_to(outside)
    (here / "tree" / "gone").symlink_to(outside)
    await get(MemoryStore(), exchange, root, here, delete=True)
    assert snapshot(here / "tree") == {"sub": None, "sub/file": b"new"}
    assert snapshot(outside) == {"file": b"mine"}
    assert os.listdir(here) == ["tree"]


@pytest.mark.anyio
async def test_a_script_becomes_executable_without_being_fetched(
    tmp_path: Path, here: Path, exchange: FakeExchange
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "run.sh").write_bytes(b"#!/bin/sh")
    options = replace(profile(), keep_executable=True)
    first = await share(source, exchange, options)
    (source / "run.sh").chmod(0o755)
    second = await share(source, exchange, options)
    await get(MemoryStore(), exchange, first, here)
    assert not (here / "tree" / "run.sh").stat().st_mode & 0o111
    _, changes = await get(MemoryStore(), exchange, second, here)
    assert changes == {"tree/run.sh": "changed"} and (here / "tree" / "run.sh").stat().st_mode & 0o111


@pytest.mark.anyio
@pytest.mark.parametrize("data", [b"#!/bin/sh", content("program", 5 << 20)], ids=["one block", "many"])
async def test_what_may_no_longer_be_executed_loses_the_permission(
    tmp_path: Path, here: Path, exchange: FakeExchange, data: bytes
) -> None:
    """A plain share tells times, and a mode of what is executable only: `--update` left a script as it was, and said nothing."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "run").write_bytes(data)
    (source / "run").chmod(0o755)
    os.utime(source / "run", ns=(10**18, 10**18))
    options = replace(profile(), keep_executable=True, keep_times=True)
    first = await share(source, exchange, options)
    (source / "run").chmod(0o644)
    second = await share(source, exchange, options)
    await get(MemoryStore(), exchange, first, here)
    inode = (here / "tree" / "run").stat().st_ino
    _, changes = await get(MemoryStore(), exchange, second, here)
    assert changes == {"tree/run": "changed"}
    status = (here / "tree" / "run").stat()
    assert not status.st_mode & 0o111 and (status.st_ino, status.st_mtime_ns) == (inode, 10**18)
    assert (await get(MemoryStore(), exchange, second, here))[1] == {}


@pytest.mark.anyio
async def test_of_an_open_share_the_permission_is_taken_away_only_where_it_tells_modes(
    tmp_path: Path, here: Path, exchange: FakeExchange
) -> None:
    """Its files have the CIDs of `ipfs add`: one without a mode may be one that Kubo added, which says nothing of permissions."""
    (tmp_path / "source").mkdir()
    run = tmp_path / "source" / "run"
    run.write_bytes(b"#!/bin/sh")
    modes = import_options("unixfs-v1-2025", {"preserve-mode": True})
    for options, left in ((replace(profile(), keep_executable=True), 0o111), (modes, 0)):
        run.chmod(0o755)
        await get(MemoryStore(), exchange, await share(tmp_path / "source", exchange, options), here)
        assert (here / "tree" / "run").stat().st_mode & 0o111 == 0o111
        run.chmod(0o644)
        await get(MemoryStore(), exchange, await share(tmp_path / "source", exchange, options), here)
        assert (here / "tree" / "run").stat().st_mode & 0o111 == left


@pytest.mark.anyio
async def test_files_with_times_that_are_there_are_not_fetched_and_not_touched(
    tmp_path: Path, here: Path, exchange: FakeExchange, store_kind: str
) -> None:
    """Issue 9, must show 4: a file of one block has its time in it, and so is told by what lies on the disk."""
    source = tmp_path / "source"
    plant(source)
    (source / "run.sh").write_bytes(b"#!/bin/sh")
    (source / "run.sh").chmod(0o755)
    for number, path in enumerate(sorted(path for path in source.rglob("*") if not path.is_symlink())):
        os.utime(path, ns=(10**18 + number, 10**18 + number))
    options = replace(profile(), keep_executable=True, keep_times=True)
    first = await share(source, exchange, options)
    async with open_store(store_kind, tmp_path / "home") as store:
        await get(store, exchange, first, here)
    before = looks(here / "tree")
    files = [path for path in before if not (source / path).is_symlink()]
    assert {path: before[path][1] for path in files} == {path: looks(source)[path][1] for path in files}
    (source / "a.txt").write_bytes(b"new")
    os.utime(source / "run.sh", ns=(7, 7))
    second = await share(source, exchange, options)
    exchange.sent.clear()
    async with open_store(store_kind, tmp_path / "other home") as store:
        _, changes = await get(store, exchange, second, here)
    assert changes == {"tree/a.txt": "changed", "tree/run.sh": "changed"}
    after = looks(here / "tree")
    assert {path for path in before if after[path] != before[path]} == {"a.txt", "run.sh"}
    assert after["run.sh"] == (before["run.sh"][0], 7), "its bytes are not written again"
    nodes = [decode_node(cid, exchange.blocks[cid.multihash]) for cid in exchange.sent]
    assert sorted(bytes(node.payload) for node in nodes if node.is_file) == [b"#!/bin/sh", b"new"]


@pytest.mark.anyio
async def test_of_a_link_to_a_tree_the_tree_is_updated(tmp_path: Path, here: Path, exchange: FakeExchange) -> None:
    source = tmp_path / "source"
    plant(source)
    root = await share(source, exchange)
    (tmp_path / "elsewhere").mkdir()
    (here / "tree").symlink_to(tmp_path / "elsewhere")
    finished, _ = await get(MemoryStore(), exchange, root, here, delete=True)
    assert (here / "tree").is_symlink() and snapshot(tmp_path / "elsewhere") == snapshot(source)
    assert finished.target == tmp_path / "elsewhere"


@pytest.mark.anyio
@pytest.mark.parametrize("keeps", ["clamped", "even seconds", "as it is"])
async def test_a_date_that_the_file_system_keeps_less_exactly_is_no_change(
    tmp_path: Path, here: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch, keeps: str
) -> None:
    """ext4 has the dates from 1901 to 2446, FAT steps of two seconds: each update called files changed that the one before had written."""
    kept = {
        "clamped": lambda ns: min(max(ns, -(10**18)), 5 * 10**18),
        "even seconds": lambda ns: ns // (2 * 10**9) * 2 * 10**9,
        "as it is": lambda ns: ns,
    }[keeps]
    source = tmp_path / "source"
    plant(source)
    dates = {"a.txt": 6 * 10**18 + 10**9 + 7, "none": -(10**18) - 7, "deep/same": 3 * 10**9}
    for name, date in dates.items():
        os.utime(source / name, ns=(date, date))
    root = await share(source, exchange, replace(SMALL, keep_executable=True, keep_times=True))

    def faulty(dir: Path) -> None:
        raise OSError(errno.EROFS, "read-only")

    utime = os.utime
    monkeypatch.setattr(os, "utime", lambda path, ns, **rest: utime(path, ns=(kept(ns[0]), kept(ns[1])), **rest))
    async with open_store("disk", tmp_path / "home") as store:
        await get(store, exchange, root, here)
        before = looks(here / "tree")
        assert before["a.txt"][1] == kept(dates["a.txt"])
        exchange.sent.clear()
        for dry_run in True, False:
            finished, changes = await get(store, exchange, root, here, dry_run=dry_run)
            assert changes == {}
            assert finished.already_complete
        assert looks(here / "tree") == before
        assert exchange.sent == [], "what was written is here"
        utime(here / "tree" / "a.txt", ns=(7, 7))
        for dry_run in True, False:
            with monkeypatch.context() as full:
                if dry_run and keeps == "as it is":
                    full.setattr("tempfile.TemporaryFile", faulty)
                assert (await get(store, exchange, root, here, dry_run=dry_run))[1] == {"tree/a.txt": "changed"}
        assert looks(here / "tree") == before


@contextmanager
def mounted(what: Path, at: Path) -> Iterator[None]:
    """A file or directory is at another place too. The test is skipped, loudly, where nothing can be mounted."""
    command = ["mount", "--bind", str(what), str(at)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED: what is mounted in a tree; to mount it needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["bind", "file"])
async def test_what_is_mounted_in_a_tree_is_not_deleted_but_told(
    tmp_path: Path, here: Path, exchange: FakeExchange, kind: str
) -> None:
    plant(tmp_path / "source")
    root = await share(tmp_path / "source", exchange)
    await get(MemoryStore(), exchange, root, here)
    mine, place = tmp_path / "mine", here / "tree" / "strange" / "mounted"
    (here / "tree" / "strange").mkdir()
    (here / "tree" / "strange" / "goes").write_bytes(b"goes")
    if kind == "bind":
        mine.mkdir()
        place.mkdir()
        (mine / "precious").write_bytes(b"mine")
    else:
        mine.write_bytes(b"mine")
        place.touch()
    before = snapshot(tmp_path)
    with mounted(mine, place):
        request = FetchRequest(root=root, name="tree", directory=here, update=True, delete=True, unsafe_links=True)
        async with Fetcher(MemoryStore(), exchange).open(request) as fetch:
            events = [event async for event in fetch]
        finished = events[-1]
        assert [event.path for event in events if isinstance(event, EntrySkipped)] == ["tree/strange/mounted"]
        assert isinstance(finished, FetchFinished) and finished.deleted == 1
    del before["here/tree/strange/goes"]
    assert snapshot(tmp_path) == before
