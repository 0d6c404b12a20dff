"""What the system is to remember of the files that are fetched."""

import errno
import os
from pathlib import Path

import pytest

import stack
from stack import platform
from stack.blocks import core as blocks_core
from stack.blocks.core import StoreCore
from stack.blocks.interfaces import PageCache
from stack.errors import ConfigError
from stack.node.config import Config
from tests.blocks.support import leaves_of, noise

DATA = noise(64_000)
WRITE = os.pwritev


class System:
    """`os.pwritev`, and what it was asked."""

    def __init__(self, refusal: int | None = None) -> None:
        self.refusal = refusal
        self.flags: list[int] = []

    def pwritev(self, fd: int, parts: list[memoryview], offset: int, flags: int = 0) -> int:
        self.flags.append(flags)
        if flags and self.refusal is not None:
            raise OSError(self.refusal, os.strerror(self.refusal))
        return WRITE(fd, parts, offset)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    """One that knows the flag."""
    system = System()
    monkeypatch.setattr(os, "pwritev", system.pwritev)
    monkeypatch.setattr(platform, "_takes_dontcache", True)
    return system


def fetch(tmp_path: Path, policy: PageCache) -> None:
    """Write a file in place."""
    core = StoreCore(tmp_path / policy.value / "blocks", None, lambda event: None)
    try:
        core.page_cache = policy
        part, _ = core.open_part(tmp_path / policy.value / "film.part", len(DATA))
        for leaf in leaves_of(DATA, 16_000):
            part.write(leaf, DATA[leaf.offset : leaf.offset + leaf.length])
        assert part.segment.path.read_bytes() == DATA
    finally:
        core.close()


@pytest.mark.parametrize(
    ("policy", "available", "flag"),
    [
        (PageCache.ALWAYS, len(DATA), 0),
        (PageCache.NEVER, 1 << 40, 0x80),
        (PageCache.AUTO, 2 * len(DATA), 0),
        (PageCache.AUTO, 2 * len(DATA) - 1, 0x80),
        (PageCache.AUTO, None, 0),
    ],
)
def test_a_file_that_is_large_beside_the_memory_is_written_past_it(
    policy: PageCache, available: int | None, flag: int, system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks_core, "available_memory", lambda: available)
    fetch(tmp_path, policy)
    assert system.flags.count(flag) >= 4
    assert flag or not any(system.flags)


@pytest.mark.parametrize("refusal", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_system_that_does_not_know_how_is_asked_once(refusal: int, system: System, tmp_path: Path) -> None:
    system.refusal = refusal
    fetch(tmp_path, PageCache.NEVER)
    assert system.flags.count(0x80) == 1


def test_a_disk_that_is_full_is_told_as_always(system: System, tmp_path: Path) -> None:
    system.refusal = errno.ENOSPC
    with pytest.raises(stack.errors.NoSpace):
        fetch(tmp_path, PageCache.NEVER)
    system.refusal = None
    fetch(tmp_path, PageCache.NEVER)


def test_the_system_tells_how_much_memory_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    available = platform.available_memory()
    assert available is None or available > 1 << 20
    monkeypatch.setattr("builtins.open", lambda *args: (tmp_path / "absent").open("rb"))
    assert platform.available_memory() is None


def test_another_word_is_refused() -> None:
    with pytest.raises(ConfigError, match="page_cache: 'no' is not one of auto, always, never"):
        Config(page_cache="no")


@pytest.mark.anyio
async def test_a_node_tells_its_store(tmp_path: Path) -> None:
    async with stack.Node.open(Config(home=tmp_path, page_cache="never", listen=(), mdns=False)) as node:
        assert node.store._core.page_cache is PageCache.NEVER  # type: ignore[attr-defined] # a DiskStore
