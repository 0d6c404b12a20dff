"""A disk that fails at any step of a fetch: it ends with an error of ours, the store lives, and the same fetch goes on."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stack.blocks import disk, partfile, partopen, wholefiles
from stack.blocks.memory import MemoryStore
from stack.blocks.store import DiskStore
from stack.dag.unixfs.options import import_options
from stack.errors import StackError
from stack.files import fetch_file, space, storage, target
from stack.files.add import Adder
from stack.files.fetch import Fetcher, FetchRequest
from stack.multiformats.cid import Cid
from tests.faulty_os import ERRORS, FaultyOs
from tests.files.conftest import FakeExchange, blocks_of, content

pytestmark = pytest.mark.anyio

MODULES = (disk, partfile, partopen, wholefiles, fetch_file, space, storage, target)
"""All that writes, or looks at, the files of a fetch."""

STRIDE = 13
"""Every so many steps one is tried, to take some seconds only; with 1 all have been."""


@contextmanager
def faults(monkeypatch: pytest.MonkeyPatch, faulty: FaultyOs) -> Iterator[None]:
    """Put faults below everything that a fetch does to files."""
    with monkeypatch.context() as patch:
        for module in MODULES:
            if hasattr(module, "os"):
                patch.setattr(module, "os", faulty)
        patch.setattr(wholefiles, "sync_file_system", faulty.counted("syncfs", wholefiles.sync_file_system))
        yield


def plant(root: Path) -> None:
    """A tree of everything: equal and empty files, zeros, a file of several blocks, directories, a link."""
    (root / "sub" / "empty").mkdir(parents=True)
    for name in ("a", "b", "sub/a"):
        (root / name).write_bytes(b"the same")
    (root / "none").write_bytes(b"")
    (root / "zeros").write_bytes(bytes(5000))
    (root / "sub" / "large").write_bytes(content("large", 9000) + bytes(9000))
    (root / "link").symlink_to("sub/large")
    os.chmod(root / "b", 0o751)
    os.utime(root / "sub", ns=(7, 7))


def everything(root: Path) -> dict[str, tuple[int, bytes]]:
    """Modes and contents below a directory."""
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mode,
            os.fsencode(os.readlink(path))
            if path.is_symlink()
            else path.read_bytes()
            if path.is_file()
            else b"%d" % (path.stat().st_mtime_ns == 7),
        )
        for path in root.rglob("*")
    }


@pytest.fixture
async def tree(tmp_path: Path, exchange: FakeExchange) -> Cid:
    """A tree that the peer has."""
    plant(tmp_path / "source")
    store = MemoryStore()
    options = import_options("default", {"chunker": "size-4096", "preserve-mode": True, "preserve-mtime": True})
    added = await Adder(store, options).add([tmp_path / "source"])
    exchange.blocks.update(blocks_of(store))
    return added.cid


def handles() -> int:
    """Descriptors of files of users that are open now; an index may have any number of readers."""
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")] if os.path.isdir("/proc/self/fd") else []
    return sum(os.path.islink(link) and "index.sqlite" not in os.readlink(link) for link in links)


@pytest.mark.parametrize("kind", ["disk", "memory"])
async def test_a_fetch_whose_disk_fails_at_any_step_ends_clearly_and_goes_on_later(
    tmp_path: Path,
    exchange: FakeExchange,
    tree: Cid,
    kind: str,
    anyio_backend_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Issue 8 point 7: ENOSPC, EIO, EMFILE, a read-only remount, once or from then on."""
    wanted = everything(tmp_path / "source")

    async def fetch(store: DiskStore | MemoryStore, here: Path) -> None:
        await Fetcher(store, exchange).fetch(FetchRequest(root=tree, name="tree", directory=here))

    async def sweep(store: DiskStore | MemoryStore) -> None:
        here = tmp_path / "clean"
        here.mkdir()
        clean = FaultyOs()
        with faults(monkeypatch, clean):
            await fetch(store, here)
        assert everything(here / "tree") == wanted
        before = handles()
        for number in range(len(anyio_backend_name), len(clean.calls), STRIDE):
            here = tmp_path / str(number)
            here.mkdir()
            if isinstance(store, DiskStore):
                # What other fetches left would be read from there, and nothing be asked for.
                for segment in await store.segments():
                    if segment.kind == "file" and segment.path.exists():
                        await store.forget_file(segment.path)
            faulty = FaultyOs(fail_at=number, error=ERRORS[number % len(ERRORS)], lasting=number % 3 == 0)
            with faults(monkeypatch, faulty):
                try:
                    await fetch(store, here)
                except StackError as error:
                    assert not isinstance(error.__cause__, OSError) or error.__cause__.errno in (*ERRORS, errno.EEXIST)
            await fetch(store, here)
            assert everything(here / "tree") == wanted
        assert handles() <= before

    if kind == "memory":
        await sweep(MemoryStore())
        return
    async with DiskStore.open(tmp_path / "home") as store:
        await sweep(store)
        assert (await store.verify()).problem_count == 0
        assert not any(path.name.endswith(".part") for path in tmp_path.rglob("*"))
