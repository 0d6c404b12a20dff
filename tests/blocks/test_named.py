"""Part files that somebody meddles with while they are fetched: what gets the final name is what was fetched, or nothing does."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack.blocks.core import StoreCore
from stack.errors import StoreError
from stack.files.storage import PlainWriter

SIZE = 5000


def replace(part: Path) -> None:
    other = part.with_name("other")
    other.write_bytes(bytes(SIZE))
    other.rename(part)


def replace_by_link(part: Path) -> None:
    part.unlink()
    part.symlink_to("/etc/passwd")


MEDDLING: dict[str, Callable[[Path], None]] = {
    "deleted": Path.unlink,
    "replaced": replace,
    "a link": replace_by_link,
    "cut": lambda part: os.truncate(part, 10),
    "longer": lambda part: os.truncate(part, 2 * SIZE),
}


@pytest.fixture
def core(tmp_path: Path) -> Iterator[StoreCore]:
    core = StoreCore(tmp_path / "home" / "blocks", None, lambda event: None)
    yield core
    core.close()


@pytest.mark.parametrize("over", [False, True])
@pytest.mark.parametrize("meddle", MEDDLING)
def test_finding_7_only_the_file_that_was_fetched_gets_the_name(
    core: StoreCore, tmp_path: Path, meddle: str, over: bool
) -> None:
    """`get` said that all was there, and somebody else's file, or a link to one, had the name."""
    target = tmp_path / "film"
    if over:
        target.write_bytes(b"before")
    part, _ = core.open_part(tmp_path / "film.part", SIZE)
    MEDDLING[meddle](part.segment.path)
    with pytest.raises(StoreError, match="while it was fetched; fetch it again"):
        core.seal_part(part, target, None, None, over=over)
    assert (target.read_bytes() if over else target.exists()) == (b"before" if over else False)
    left = os.path.lexists(part.segment.path)
    core.abandon_part(part, remove=True)
    assert os.path.lexists(part.segment.path) == (left and meddle not in ("cut", "longer"))


@pytest.mark.anyio
@pytest.mark.parametrize("meddle", MEDDLING)
async def test_finding_7_the_same_of_a_file_that_nobody_remembers(tmp_path: Path, meddle: str) -> None:
    part = tmp_path / "film.part"
    writer = PlainWriter(part, SIZE)
    MEDDLING[meddle](part)
    with pytest.raises(StoreError, match="while it was fetched; fetch it again"):
        await writer.seal(tmp_path / "film")
    left = os.path.lexists(part)
    await writer.aclose()
    assert not (tmp_path / "film").exists()
    assert os.path.lexists(part) == (left and meddle not in ("cut", "longer"))
