"""Files replaced and named in one step, with a fault at every step."""

import contextlib
import errno
import os
from pathlib import Path

import pytest

from stack.blocks import disk
from stack.blocks.disk import rename_to, write_at, write_whole
from stack.blocks.sparse import PAGE_BYTES, write_sparse
from tests.faulty_os import FaultyOs, every_fault

OLD, NEW = b"old" * 1000, b"newer" * 1000


def run(monkeypatch: pytest.MonkeyPatch, faulty: FaultyOs, path: Path) -> OSError | None:
    """Replace a file under faults; what was raised."""
    with monkeypatch.context() as patch:
        patch.setattr(disk, "os", faulty)
        try:
            write_whole(path, NEW)
        except OSError as error:
            return error
    return None


def test_finding_7_whatever_fails_leaves_the_old_file_or_the_new_one_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "peers.json"
    path.write_bytes(OLD)
    clean = FaultyOs(piece=700)
    assert run(monkeypatch, clean, path) is None
    assert path.read_bytes() == NEW
    assert clean.calls.count("pwritev") == -(-len(NEW) // 700)
    assert clean.calls[-3:] == ["rename", "fsync", "close"]
    for number, code, lasting in every_fault(clean.calls):
        path.write_bytes(OLD)
        handles = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        error = run(monkeypatch, FaultyOs(fail_at=number, error=code, lasting=lasting, piece=700), path)
        # What has been synced is not lost because a close complains.
        assert clean.calls[number] == "close" or (error is not None and error.errno == code)
        renamed = error is None or number > clean.calls.index("rename")
        assert path.read_bytes() == (NEW if renamed else OLD)
        assert os.listdir(tmp_path) == ["peers.json"]
        assert not handles or len(os.listdir("/proc/self/fd")) == handles


def test_finding_7_a_write_that_takes_nothing_is_an_error_not_a_loop(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "pwritev", lambda fd, views, offset: 0)
    path = tmp_path / "file"
    with pytest.raises(OSError, match="takes no bytes"):
        write_whole(path, b"bytes")
    assert not path.exists()
    write_at(0, [b"", b""], 0)  # nothing to take is no error


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"theirs")
    path = tmp_path / "file"
    path.symlink_to(other)
    write_whole(path, b"ours")
    assert (path.read_bytes(), path.is_symlink(), other.read_bytes()) == (b"ours", False, b"theirs")


def no_links(*args: object, **options: object) -> None:
    """link(2) of a file system that has none."""
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def test_what_must_be_new_replaces_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "key"
    for links in (True, False):
        with monkeypatch.context() as patch:
            if not links:
                patch.setattr(
                    os, "link", lambda *args, **options: (_ for _ in ()).throw(PermissionError(errno.EPERM, ""))
                )
            path.unlink(missing_ok=True)
            write_whole(path, b"one", new=True)
            with pytest.raises(FileExistsError):
                write_whole(path, b"two", new=True)
            path.unlink()
            path.symlink_to("nowhere")
            with pytest.raises(FileExistsError):
                write_whole(path, b"three", new=True)
        assert os.listdir(tmp_path) == ["key"]


@pytest.mark.parametrize("code", sorted(disk.NOT_SYNCED))
def test_finding_36_a_directory_that_cannot_be_synced_still_takes_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    def fsync(fd: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    write_whole(tmp_path / "a", b"bytes")
    rename_to(tmp_path / "a", tmp_path / "b")
    assert os.listdir(tmp_path) == ["b"]


def test_finding_36_a_directory_that_cannot_be_read_still_takes_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = os.open

    def open_(path: Path | str, flags: int, *args: int, **options: int) -> int:
        if path == tmp_path and not flags & disk.O_PATH:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", open_)
    write_whole(tmp_path / "a", b"bytes")
    rename_to(tmp_path / "a", tmp_path / "b")
    assert os.listdir(tmp_path) == ["b"]


def test_finding_36_a_directory_that_cannot_be_opened_is_told_before_anything_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"bytes")
    monkeypatch.setattr(disk, "os", FaultyOs(fail_at=0, error=errno.EMFILE))
    with pytest.raises(OSError):
        rename_to(tmp_path / "a", tmp_path / "b")
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("leaf", [1 << 18, 100_000, 3000])
def test_holes_inside_of_a_leaf_stay_holes_whatever_their_size_and_place(tmp_path: Path, leaf: int) -> None:
    """Data of a byte at the end of a page, pages of zeros alone and in runs, and a hole that ends with the file."""
    page = PAGE_BYTES
    data = bytearray(300 * page + 100)
    for number in (0, 1, 5, 6, 8, 77, 78, 200):
        data[(number + 1) * page - 1] = 1
    path = tmp_path / "image"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.ftruncate(fd, len(data))
        for start in range(0, len(data), leaf):
            write_sparse(fd, memoryview(data)[start : start + leaf], start)
        assert path.read_bytes() == data
        with contextlib.suppress(OSError):  # ENXIO: nothing but a hole; a file system without holes has none to keep
            if os.lseek(fd, 3 * page, os.SEEK_HOLE) == 3 * page:
                where = 1  # once written back, ext4 counts the page in which it says where more than four pieces lie
                assert os.fstat(fd).st_blocks * 512 <= (8 + where) * page
        written = os.urandom(len(data))
        write_at(fd, [written], 0)
        write_sparse(fd, data, 0)  # zeros that something else is in the place of are written
        assert path.read_bytes() == data
    finally:
        os.close(fd)
