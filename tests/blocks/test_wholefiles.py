"""Small files written together: a power cut at every step, faults, what was there before, and what it costs (finding 22)."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import pytest

from stack.blocks import disk, wholefiles
from stack.blocks.core import StoreCore
from stack.blocks.database import Database
from stack.blocks.interfaces import Leaf, SegmentId, SegmentState, WholeFile
from stack.blocks.verify import Verifier
from stack.blocks.wholefiles import Keeping, SmallFiles
from stack.dag import links
from stack.errors import Refused, StoreError
from stack.multiformats.cid import Cid
from tests.faulty_os import FaultyOs


class PowerCut(BaseException):
    """Everything ends here."""


def small(number: int, data: bytes, mode: int | None = None) -> WholeFile:
    return WholeFile(f"f{number}", f"f{number}.part", Leaf(Cid.of(data), 0, len(data)), data, mode, 10**18)


FILES = [
    small(0, b"one", 0o444),
    small(1, b"two"),
    small(2, b"two"),
    small(3, b""),
    small(4, bytes(5000)),
    small(5, b"six"),
]

STRIDE = 5
"""Every so many steps one is tried, to take some seconds only; with 1 all have been."""


@pytest.fixture(params=["the whole file system", "each file"])
def synced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is synced; a test runs with both, wherever its files lie."""
    whole = request.param == "the whole file system"
    monkeypatch.setattr(wholefiles, "can_sync_file_system", lambda fd: whole)
    return str(request.param)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The directory that files are written to."""
    path = tmp_path / "tree"
    path.mkdir()
    return path


def opened(tmp_path: Path) -> StoreCore:
    return StoreCore(tmp_path / "home" / "blocks", None, lambda event: None)


@contextmanager
def cut_at(monkeypatch: pytest.MonkeyPatch, tree: Path, step: int | None) -> Iterator[FaultyOs]:
    """The power goes before a step: a call to the system, or the end of a transaction."""
    faulty = FaultyOs(fail_at=step, error=PowerCut(), lasting=True)
    writing = Database.writing
    sync_file_system = wholefiles.sync_file_system

    def sync(fd: int) -> None:
        sync_file_system(fd)
        for path in tree.iterdir():
            faulty.synced.add(path.stat().st_ino)

    transaction_ends = faulty.counted("commit", lambda: None)

    @contextmanager
    def counted(self: Database) -> Iterator[Connection]:
        with writing(self) as connection:
            yield connection
            transaction_ends()

    with monkeypatch.context() as patch:
        for module in (disk, wholefiles):
            patch.setattr(module, "os", faulty)
        patch.setattr(wholefiles, "sync_file_system", faulty.counted("syncfs", sync))
        patch.setattr(Database, "writing", counted)
        yield faulty


def keep_files(core: StoreCore, base: Path, directory: Path, files: Sequence[WholeFile]) -> list[WholeFile]:
    """As `DiskStore.keep_files`, in this thread."""
    keeping = Keeping(base, directory, files)
    core.small_files.submit(keeping)
    core.small_files.keep_next()
    if keeping.error is not None:
        raise keeping.error
    return keeping.left


def finish(core: StoreCore, tree: Path, files: Sequence[WholeFile]) -> None:
    """What a fetch does with files of which something is there."""
    for file in keep_files(core, tree.parent, tree, files):
        if not (tree / file.name).exists():
            part, _ = core.open_part(tree / file.part, file.leaf.length, tree.parent)
            part.write(file.leaf, file.payload)
            core.seal_part(part, tree / file.name, file.mode, file.mtime_ns, over=False)


def test_finding_22_a_power_cut_at_any_step_loses_nothing_on_record_and_is_gone_on_with(
    tmp_path: Path, tree: Path, synced: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = opened(tmp_path)
    with cut_at(monkeypatch, tree, None) as clean:
        assert keep_files(core, tmp_path, tree, FILES) == []
    core.close()
    assert {path.name: path.read_bytes() for path in tree.iterdir()} == {file.name: file.payload for file in FILES}
    for step in range(0, len(clean.calls), STRIDE):
        here, place = tmp_path / str(step), tmp_path / str(step) / "tree"
        place.mkdir(parents=True)
        core = opened(here)
        with cut_at(monkeypatch, place, step) as faulty, pytest.raises(PowerCut):
            keep_files(core, here, place, FILES)
        core.database.close()
        core.packs.close()
        os.close(core._lock_fd)
        for path in place.iterdir():
            # The worst disk keeps of a file what was synced, and forgets the rest of it.
            if path.stat().st_ino not in faulty.synced:
                path.write_bytes(bytes(path.stat().st_size if step // STRIDE % 2 else 0))
        core = opened(here)
        verifier = Verifier(core.index, core.locations, core.reader, core.nodes, links)
        for number in verifier.segments():
            after: int | None = -1
            while after is not None:
                after = verifier.check(number, after)
        assert verifier.report.problem_count == 0
        finish(core, place, FILES)
        assert {path.name: path.read_bytes() for path in place.iterdir()} == {file.name: file.payload for file in FILES}
        assert {(each.path, each.state) for each in core.all_segments()} == {
            (place / file.name, SegmentState.SEALED) for file in FILES
        }
        assert core.files.check(SegmentId(-1)) == ([], None)
        core.close()


def test_finding_22_files_that_are_written_together_share_their_syncs_and_transactions(
    tmp_path: Path, tree: Path, synced: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = opened(tmp_path)
    (tree / "below").mkdir()
    files = [small(number, b"%d" % number) for number in range(100)]
    keeping = [Keeping(tmp_path, directory, files) for directory in (tree, tree / "below")]
    with cut_at(monkeypatch, tree, None) as counted:
        for each in keeping:
            core.small_files.submit(each)
        core.small_files.keep_next()
    syncs = counted.calls.count("fsync") + counted.calls.count("fdatasync") + counted.calls.count("syncfs")
    assert syncs == (2 if synced == "the whole file system" else 202)
    assert counted.calls.count("commit") == 3
    assert all(each.done and each.error is None and not each.left for each in keeping)
    core.close()


def test_of_files_written_together_each_request_fails_by_itself(tmp_path: Path, tree: Path) -> None:
    core = opened(tmp_path)
    keeping = [Keeping(tmp_path, directory, FILES) for directory in (tree / "nowhere", tree, tree)]
    for each in keeping:
        core.small_files.submit(each)
    core.small_files.keep_next()
    assert isinstance(keeping[0].error, StoreError)
    assert (keeping[1].error, keeping[1].left) == (None, [])
    assert (keeping[2].error, keeping[2].left) == (None, FILES)
    assert core.reader.get(FILES[0].leaf.cid) == b"one"
    core.close()


def test_what_is_there_before_is_left_alone_and_told(tmp_path: Path, tree: Path) -> None:
    core = opened(tmp_path)
    (tree / "f0").write_bytes(b"mine")
    (tree / "f1.part").symlink_to(tmp_path / "nowhere")
    assert keep_files(core, tmp_path, tree, FILES[:3]) == FILES[:2]
    assert (tree / "f0").read_bytes() == b"mine"
    assert core.reader.get(FILES[2].leaf.cid) == b"two"
    core.close()


def test_attack_11_a_directory_that_is_a_link_takes_no_files(tmp_path: Path, tree: Path) -> None:
    core = opened(tmp_path)
    (tmp_path / "link").symlink_to(tree)
    with pytest.raises(StoreError):
        keep_files(core, tmp_path, tmp_path / "link", FILES)
    assert not list(tree.iterdir())
    core.close()


def test_a_name_that_is_taken_meanwhile_keeps_no_other_file_from_its_own(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = opened(tmp_path)
    write = wholefiles._write

    def taken(*arguments: Any, **options: Any) -> object:
        if not (tree / "f1").exists():
            (tree / "f1").write_bytes(b"mine")
        return write(*arguments, **options)

    monkeypatch.setattr(wholefiles, "_write", taken)
    with pytest.raises(Refused):
        keep_files(core, tmp_path, tree, FILES[:3])
    assert (tree / "f1").read_bytes() == b"mine"
    assert core.reader.get(FILES[0].leaf.cid) == b"one"
    assert {path.name for path in tree.iterdir()} == {"f0", "f1", "f1.part", "f2"}
    core.close()


def keep_plain(base: Path, directory: Path, files: Sequence[WholeFile]) -> list[WholeFile]:
    """What a node without a home does: nothing is on record."""
    keeping, plain = Keeping(base, directory, files), SmallFiles(None)
    plain.submit(keeping)
    plain.keep_next()
    if keeping.error is not None:
        raise keeping.error
    return keeping.left


def test_finding_22_without_a_home_small_files_share_their_syncs_too(
    tmp_path: Path, tree: Path, synced: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each had two syncs and a task of its own: 12,000 files took 40 s of the processor."""
    (tree / "f0").write_bytes(b"mine")
    with cut_at(monkeypatch, tree, None) as counted:
        assert keep_plain(tmp_path, tree, [*FILES, FILES[1]]) == [FILES[0], FILES[1]]
    syncs = counted.calls.count("fsync") + counted.calls.count("fdatasync") + counted.calls.count("syncfs")
    assert syncs == (2 if synced == "the whole file system" else len(FILES))
    expected = {file.name: file.payload for file in FILES[1:]} | {"f0": b"mine"}
    assert {path.name: path.read_bytes() for path in tree.iterdir()} == expected


def test_without_a_home_what_fails_leaves_nothing_half(
    tmp_path: Path, synced: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync_file_system = wholefiles.sync_file_system
    step, calls = 0, 1
    while step < calls:
        place = tmp_path / str(step)
        place.mkdir()
        faulty = FaultyOs(fail_at=step)
        with monkeypatch.context() as patch, suppress(StoreError, Refused):
            for module in (disk, wholefiles):
                patch.setattr(module, "os", faulty)
            patch.setattr(wholefiles, "sync_file_system", faulty.counted("syncfs", sync_file_system))
            keep_plain(tmp_path, place, FILES)
        payloads = {file.name: file.payload for file in FILES}
        for path in place.iterdir():
            assert path.read_bytes() == payloads[path.name]
        step, calls = step + 1, max(calls, len(faulty.calls))
