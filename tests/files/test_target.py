"""Where a fetch may write."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.dag.unixfs.reader import decode_node
from stack.errors import NoSpace, Refused, StoreError
from stack.files import target as target_module
from stack.files.listing import names_there
from stack.files.place import settled
from stack.files.request import FetchRequest
from stack.files.storage import refusal
from stack.files.target import (
    bytes_there,
    check_space,
    choose_target,
    file_name,
    folds_names,
    make_parents,
    part_path,
    status_of,
)
from stack.multiformats.cid import Cid

ROOT = Cid.of(b"root")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("film.mkv", "film.mkv"),
        ("Grüße 日本.txt", "Grüße 日本.txt"),
        ("../../etc/passwd", "_._.._etc_passwd"),
        ("/abs", "_abs"),
        (".bash_profile", "_bash_profile"),
        ("-rf", "_rf"),
        ("~root", "_root"),
        ("a\\b:c", "a_b_c"),
        ("\x1b[2Jx\u202e", "_[2Jx_"),
        ("  spaced  ", "spaced"),
        ("", str(ROOT)),
        (".", "_"),
        ("..", "_."),
        ("\udcff", "_"),
    ],
)
def test_names_of_tickets_become_harmless_file_names(name: str, expected: str) -> None:
    assert file_name(name, ROOT) == expected


@given(st.text(max_size=600))
def test_any_name_stays_in_its_directory(name: str) -> None:
    made = file_name(name, ROOT)
    assert made and "/" not in made and not made.startswith((".", "-", "~")) and made.isprintable()
    assert len(part_path(Path(made)).name.encode()) <= 255
    assert Path("/x", made).parent == Path("/x")


def test_a_long_name_keeps_its_suffix() -> None:
    assert file_name("é" * 300 + ".mkv", ROOT).endswith("é.mkv")
    assert len(file_name("x" * 300, ROOT)) == 250
    assert len(file_name("." + "x" * 300, ROOT)) == 250


def test_the_target_is_named_after_what_is_fetched_or_as_the_user_says(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert choose_target(tmp_path, None, "a/b", ROOT) == tmp_path / "a_b"
    assert choose_target(tmp_path, None, "", ROOT) == tmp_path / str(ROOT)
    assert choose_target(tmp_path, Path("out"), "n", ROOT) == tmp_path / "out"
    assert choose_target(tmp_path, Path("there"), "n", ROOT) == tmp_path / "there" / "n"
    assert choose_target(tmp_path, Path("new"), "n", ROOT, into=True) == tmp_path / "new" / "n"
    assert choose_target(tmp_path, tmp_path / "x", "n", ROOT) == tmp_path / "x"


def test_a_tree_that_was_begun_as_a_directory_is_continued_there(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert choose_target(tmp_path, Path("there"), "n", ROOT, earlier=[tmp_path / "there"]) == tmp_path / "there"


def test_parents_are_made_where_that_is_possible(tmp_path: Path) -> None:
    make_parents(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Refused):
        make_parents(tmp_path / "file" / "x" / "y")


def test_B10_a_read_only_file_system_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ReadOnly:
        f_flag = os.ST_RDONLY

    monkeypatch.setattr(target_module.os, "access", lambda path, mode: False)
    monkeypatch.setattr(target_module.os, "statvfs", lambda path: ReadOnly)
    with pytest.raises(Refused, match="read-only file system"):
        make_parents(tmp_path / "x")


def test_B09_space_is_compared_with_what_is_needed(tmp_path: Path) -> None:
    check_space(tmp_path / "x", 1)
    with pytest.raises(NoSpace, match=r"needs 4,611,686,018,427,387,904 bytes more; [\d,]+ bytes are free"):
        check_space(tmp_path / "x", 2**62)


def test_what_is_there_already_is_counted_without_holes_and_links(tmp_path: Path) -> None:
    assert bytes_there(tmp_path / "x", tmp_path / "x.part") == 0
    with (tmp_path / "x.part").open("wb") as part:
        part.truncate(10_000_000)
    assert bytes_there(tmp_path / "x", tmp_path / "x.part") == 0
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a").write_bytes(bytes(5000))
    (tmp_path / "x" / "link").symlink_to("/etc")
    assert bytes_there(tmp_path / "x", tmp_path / "x.part") == 5000


def test_this_file_system_keeps_names_apart(tmp_path: Path) -> None:
    assert not folds_names(tmp_path)
    assert not list(tmp_path.iterdir())
    assert not folds_names(tmp_path / "absent")


def test_a_file_system_that_folds_names_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: True)
    assert folds_names(tmp_path)


def test_status_of_what_is_not_there_is_none(tmp_path: Path) -> None:
    assert status_of(tmp_path, ("x",)) is None
    (tmp_path / "x").symlink_to("y")
    assert status_of(tmp_path, ("x",)) is not None


def test_errors_of_the_system_become_ours() -> None:
    assert isinstance(refusal(Path("x"), OSError(30, "ro")), Refused)
    assert isinstance(refusal(Path("x"), OSError(28, "full")), NoSpace)
    assert type(refusal(Path("x"), OSError(5, "io"))) is StoreError


def test_names_of_directories_and_links_that_are_made_would_survive_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetched tree was there, all its files were synced, and the power cut took the name of its own folder."""
    synced: list[int] = []
    sync = os.fsync

    def recorded(fd: int) -> None:
        synced.append(os.fstat(fd).st_ino)
        sync(fd)

    monkeypatch.setattr(os, "fsync", recorded)

    def is_synced(place: Path) -> bool:
        found = place.stat().st_ino in synced
        synced.clear()
        return found

    assert target_module.make_directory(tmp_path, ("a",)) is None and is_synced(tmp_path)
    assert target_module.make_directory(tmp_path, ("a", "b")) is None and is_synced(tmp_path / "a")
    assert target_module.make_directory(tmp_path, ("a", "b")) == [] and is_synced(tmp_path / "a")
    assert target_module.make_symlink(tmp_path, ("a", "link"), "b", None) and is_synced(tmp_path / "a")
    target_module.make_parents(tmp_path / "x" / "y" / "film")
    assert {tmp_path.stat().st_ino, (tmp_path / "x").stat().st_ino} <= set(synced)


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE])
def test_a_place_that_cannot_be_seen_now_is_not_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """An update would put a file in the place of a directory of the user's, a fetch a tree among what is his."""
    cid = Cid.of(b"a file")

    def fails(path: object, **named: object) -> object:
        raise OSError(error, os.strerror(error))

    request = FetchRequest(root=cid, directory=tmp_path, out=tmp_path / "place", update=True)
    node = decode_node(cid, b"a file")
    assert (
        settled(request, tmp_path / "place", node, "") == tmp_path / "place" and names_there(tmp_path / "place") == []
    )
    (tmp_path / "place").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "is_dir", lambda path: False)  # as Python 3.14 says
        patched.setattr(os, "stat", fails)
        patched.setattr(os, "listdir", fails)
        with pytest.raises(StoreError, match="looking"):
            settled(request, tmp_path / "place", node, "")
        with pytest.raises(StoreError, match="looking"):
            names_there(tmp_path / "place")
