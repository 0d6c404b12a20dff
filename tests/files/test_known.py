"""What is known of files that have not changed since they were read: they are not read again, and never taken for what they are not."""

import dataclasses
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.blocks.store import DiskStore
from stack.dag.unixfs.options import ImportOptions, import_options, profile
from stack.files import add_file as add_file_module
from stack.files import known as known_module
from stack.files.add import Adder
from stack.files.cutting import OpenFile
from stack.files.known import NAME, KnownFiles, known_files
from stack.multiformats.cid import Cid
from tests.files.conftest import content

OLD = import_options("default", {"chunker": "size-1000", "cid-version": 1})
PLAIN = OpenFile(-1, 0, OLD, None, None, keep_blocks=False)
Change = Callable[[Path], None]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each leaf that was hashed. Files are settled as soon as they are written."""
    monkeypatch.setattr(known_module, "SETTLED_NS", -(10**12))
    hashed: list[int] = []
    real = add_file_module.OpenFile.leaf

    def leaf(self: object, offset: int, payload: bytes) -> object:
        hashed.append(len(payload))
        return real(self, offset, payload)  # type: ignore[arg-type]

    monkeypatch.setattr(add_file_module.OpenFile, "leaf", leaf)
    return hashed


def make_tree(base: Path) -> Path:
    """Files as people have them: equal ones, repeated blocks, an empty one, one of a single leaf, one larger than a piece."""
    tree = base / "tree"
    (tree / "below").mkdir(parents=True)
    for name, data in {
        "empty": b"",
        "small": b"note",
        "same": b"note",
        "zeros": bytes(5000),
        "below/large": content("large", 4_500_700),
        "exact": content("exact", 2000),
    }.items():
        (tree / name).write_bytes(data)
    return tree


async def add(base: Path, tree: Path, options: ImportOptions = OLD, *, rehash: bool = False) -> Cid:
    async with known_files(base, options, rehash=rehash) as known:
        return (await Adder(None, options, known=known).add([tree])).cid


@pytest.mark.anyio
async def test_what_has_not_changed_is_not_read_again(tmp_path: Path, reads: list[int]) -> None:
    tree = make_tree(tmp_path)
    first = await add(tmp_path, tree)
    assert sum(reads) == 4_500_700 + 2000 + 5000 + 8
    reads.clear()
    assert await add(tmp_path, tree) == first and reads == []
    assert await add(tmp_path, tree, rehash=True) == first and sum(reads) > 4_000_000
    reads.clear()
    (tree / "small").write_bytes(b"NOTE")
    changed = await add(tmp_path, tree)
    assert reads == [4]
    assert changed == (await Adder(None, OLD).add([tree])).cid != first


IO = Path("/proc/self/io")


def bytes_read() -> int:
    """By all read calls of this process, those of SQLite among them."""
    return int(IO.read_text().partition("rchar: ")[2].partition("\n")[0])


@pytest.mark.anyio
@pytest.mark.skipif(not IO.exists(), reason="NOT TESTED: how often a byte is read; only Linux counts read calls")
async def test_of_a_tree_that_is_added_again_each_byte_that_changed_is_read_once(
    tmp_path: Path, reads: list[int]
) -> None:
    """Issue 9, must show 4. Read twice it would be 2 % of a tree of which 1 % changed; small files and large ones."""
    tree = tmp_path / "tree"
    tree.mkdir()
    files = [tree / f"{number}" for number in range(200)]
    for number, file in enumerate(files):
        file.write_bytes(b"%d" % number)
        os.truncate(file, (100_000, 400_000)[number % 2])
    options = import_options("unixfs-v1-2025", {})
    async with DiskStore.open(tmp_path / "home") as store:

        async def add_again() -> int:
            before = bytes_read()
            async with known_files(tmp_path / "home", options, rehash=False) as known:
                await Adder(store, options, known=known).add([tree])
            return bytes_read() - before

        assert await add_again() > 50_000_000
        assert await add_again() < 500_000
        for file in files[:4]:
            file.write_bytes(os.urandom(file.stat().st_size))
        assert 1_000_000 <= await add_again() < 1_500_000


def wait_for_a_tick(path: Path) -> None:
    """Return when the clock of the file system has moved on."""
    before = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == before:
        path.touch()


def replace(path: Path) -> None:
    """Another file under the name, with the same size and times."""
    status = path.stat()
    other = path.with_name("other")
    other.write_bytes(content("other", status.st_size))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)


def turn_back_the_time(path: Path) -> None:
    """Other bytes, and the old time of modification put back."""
    status = path.stat()
    with path.open("r+b") as file:
        file.write(b"X")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def lengthen(path: Path) -> None:
    """One byte more."""
    with path.open("ab") as file:
        file.write(b"X")


@pytest.mark.anyio
@pytest.mark.parametrize("change", [replace, turn_back_the_time, lengthen])
async def test_a_changed_file_is_read(tmp_path: Path, reads: list[int], change: Change) -> None:
    tree = make_tree(tmp_path)
    before = await add(tmp_path, tree)
    wait_for_a_tick(tree / "small")
    change(tree / "below" / "large")
    after = await add(tmp_path, tree)
    assert after == (await Adder(None, OLD).add([tree])).cid != before


@pytest.mark.anyio
async def test_a_file_that_was_just_written_is_not_trusted(tmp_path: Path) -> None:
    """It may change again within one tick of the clock, and its times would not tell."""
    tree = make_tree(tmp_path)
    await add(tmp_path, tree)
    known = KnownFiles(tmp_path / NAME, OLD)
    try:
        assert known.leaves(tree / "zeros", (tree / "zeros").stat(), PLAIN) is None
    finally:
        known.close()


@pytest.mark.anyio
async def test_other_options_are_not_mixed_up(tmp_path: Path, reads: list[int]) -> None:
    tree = make_tree(tmp_path)
    for arguments in (
        {"chunker": "size-1000"},
        {"chunker": "size-2000"},
        {"raw-leaves": False},
        {"hash": "sha2-512"},
        {"chunker": "rabin"},
    ):
        options = import_options("default", {"cid-version": 1, **arguments})
        expected = (await Adder(None, options).add([tree])).cid
        assert [await add(tmp_path, tree, options) for _ in range(2)] == [expected, expected]


@pytest.mark.anyio
async def test_a_file_is_known_with_its_time_and_without(tmp_path: Path, reads: list[int]) -> None:
    """`share` keeps times, `add` does not: neither makes the other read again."""
    tree = make_tree(tmp_path)
    (tree / "small").chmod(0o755)
    timed = dataclasses.replace(OLD, keep_executable=True, keep_times=True)
    roots = [await add(tmp_path, tree, options) for options in (OLD, timed)]
    assert roots[0] != roots[1] == (await Adder(None, timed).add([tree])).cid
    reads.clear()
    assert [await add(tmp_path, tree, options) for options in (OLD, timed)] == roots
    assert not reads
    (tree / "small").chmod(0o700)
    wait_for_a_tick(tree / "same")
    (tree / "same").touch()
    assert await add(tmp_path, tree, timed) == (await Adder(None, timed).add([tree])).cid


@pytest.mark.anyio
async def test_a_memory_that_is_damaged_or_cannot_be_opened_costs_nothing_but_time(
    tmp_path: Path, reads: list[int]
) -> None:
    tree = make_tree(tmp_path)
    right = (await Adder(None, profile()).add([tree])).cid
    (tmp_path / NAME).write_bytes(b"no database" * 1000)
    assert await add(tmp_path, tree, profile()) == right
    assert await add(tmp_path, tree, profile()) == right
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / NAME).mkdir()
    assert await add(tmp_path / "other", tree, profile()) == right


@pytest.mark.anyio
async def test_the_memory_is_bounded(tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_module, "FILES_MAX", 3)
    tree = make_tree(tmp_path)
    await add(tmp_path, tree)
    known = KnownFiles(tmp_path / NAME, OLD)
    try:
        found = [path for path in tree.rglob("*") if path.is_file() and known.leaves(path, path.stat(), PLAIN)]
    finally:
        known.close()
    assert len(found) == 3


class Locked:
    """A database whose locks another program keeps: each question waits for them in vain."""

    def __init__(self) -> None:
        self.asked = 0

    def execute(self, *arguments: object) -> object:
        self.asked += 1
        raise sqlite3.OperationalError("database is locked")

    def close(self) -> None:
        pass


@pytest.mark.anyio
async def test_a_memory_whose_lock_cannot_be_had_is_asked_once_and_not_for_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: list[int]
) -> None:
    """On a file system that gives no locks a folder took a second for each of its files."""
    tree = make_tree(tmp_path)
    first = await add(tmp_path, tree)
    database = Locked()
    monkeypatch.setattr(known_module, "_open", lambda path: database)
    assert await add(tmp_path, tree) == first
    assert database.asked == 1
