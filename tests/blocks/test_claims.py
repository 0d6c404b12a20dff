"""What is in the way of a part file is named and left alone; two fetches do not write to one name; small files get names as others do."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack.blocks import wholefiles
from stack.blocks.claims import claim
from stack.blocks.core import StoreCore
from stack.blocks.interfaces import Leaf, WholeFile
from stack.blocks.partfile import PartFile
from stack.blocks.wholefiles import Keeping
from stack.errors import Refused, StoreError
from stack.files.storage import PlainWriter
from stack.multiformats.cid import Cid

DATA = b"what was fetched"
LEAF = Leaf(Cid.of(DATA), 0, len(DATA))

MOVED = {
    "a directory": lambda part: part.mkdir(),
    "a link": lambda part: part.symlink_to("/etc/passwd"),
    "no file at all": lambda part: os.mkfifo(part),
}
"""What somebody puts in the place of a file that is not complete, by what is said of it."""


@pytest.fixture
def core(tmp_path: Path) -> Iterator[StoreCore]:
    """A store, in `home`."""
    core = StoreCore(tmp_path / "home" / "blocks", None, lambda event: None)
    yield core
    core.close()


@pytest.fixture
def part(core: StoreCore, tmp_path: Path) -> PartFile:
    """A file that is being fetched, with all its bytes."""
    part = core.open_part(tmp_path / "film.part", len(DATA))[0]
    part.write(LEAF, DATA)
    return part


@pytest.mark.parametrize("what", MOVED)
def test_what_took_the_place_of_an_unfinished_file_is_named_and_stays(
    core: StoreCore, part: PartFile, tmp_path: Path, what: str
) -> None:
    core.abandon_part(part, remove=False)
    path = part.segment.path.rename(tmp_path / "moved")
    MOVED[what](part.segment.path)
    with pytest.raises(Refused, match=f"not an unfinished file of ours but {what}; move it away"):
        core.open_part(part.segment.path, len(DATA))
    assert part.segment.path.lstat() and path.read_bytes() == DATA


def test_two_homes_do_not_write_to_one_name(core: StoreCore, part: PartFile, tmp_path: Path) -> None:
    other = StoreCore(tmp_path / "other" / "blocks", None, lambda event: None)
    try:
        with pytest.raises(Refused, match="being written by another fetch"):
            other.open_part(part.segment.path, len(DATA))
        with pytest.raises(Refused, match="being written by another fetch"):
            PlainWriter(part.segment.path, len(DATA))
        core.abandon_part(part, remove=False)
        with pytest.raises(Refused, match="not an unfinished file of ours but somebody else's"):
            other.open_part(part.segment.path, len(DATA))
    finally:
        other.close()


def test_of_small_files_whose_names_were_taken_the_others_are_complete(
    core: StoreCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    sync_files: Callable[..., None] = wholefiles._FileSystems.sync_files

    def somebody_comes(self: wholefiles._FileSystems, keeping: Keeping, within: int) -> None:
        sync_files(self, keeping, within)
        (tree / "one.part").unlink()
        (tree / "one.part").symlink_to("/etc/passwd")

    monkeypatch.setattr(wholefiles._FileSystems, "sync_files", somebody_comes)
    files = [WholeFile(name, f"{name}.part", LEAF, DATA) for name in ("one", "two")]
    keeping = Keeping(tmp_path, tree, files)
    core.small_files.submit(keeping)
    core.small_files.keep_next()
    assert isinstance(keeping.error, StoreError) and "one.part was removed, or replaced" in str(keeping.error)
    assert sorted(os.listdir(tree)) == ["one.part", "two"] and (tree / "two").read_bytes() == DATA


def test_where_there_are_no_locks_everything_is_everybodys(tmp_path: Path) -> None:
    closed = os.open(tmp_path, os.O_RDONLY)
    os.close(closed)
    assert claim(closed)
