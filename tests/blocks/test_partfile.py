"""Files that are fetched in place: when they are recorded, how they are resumed, what a crash leaves."""

import errno
import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from stack.blocks import disk, partfile
from stack.blocks.core import StoreCore
from stack.blocks.interfaces import Leaf, SegmentId, SegmentState
from stack.blocks.locations import Location
from stack.blocks.partfile import PartFile
from stack.blocks.segments import Addition
from stack.blocks.store import DiskStore
from stack.errors import NoSpace, Refused, StoreError
from stack.multiformats.cid import Cid
from tests.blocks.support import Events, flip, leaves_of, noise, stamp, wrapped_leaves

DATA = noise(64_000)
SIZE = 1000
LEAVES = leaves_of(DATA, SIZE)


def payload(leaf: Leaf) -> bytes:
    """What belongs at a leaf's place."""
    return DATA[leaf.offset : leaf.offset + leaf.length]


@pytest.fixture
def core(tmp_path: Path) -> Iterator[StoreCore]:
    """The synchronous half of a store, in `home`."""
    core = StoreCore(tmp_path / "home" / "blocks", None, lambda event: None)
    yield core
    core.close()


@pytest.fixture
def part(core: StoreCore, tmp_path: Path) -> PartFile:
    """A file that is being fetched."""
    return core.open_part(tmp_path / "film.part", len(DATA))[0]


def crash(core: StoreCore) -> None:
    """End the store as kill -9 would: nothing more is recorded."""
    core.database.close()
    core.packs.close()
    for opened in core._parts.values():
        assert opened is not None
        os.close(opened._fd)
    core._parts.clear()
    os.close(core._lock_fd)
    core._closed = True


def test_the_part_file_is_sparse(part: PartFile) -> None:
    status = part.segment.path.stat()
    assert (status.st_size, status.st_blocks) == (len(DATA), 0)


def test_what_is_all_zeros_takes_no_space_and_is_written_where_something_else_was(
    core: StoreCore, tmp_path: Path
) -> None:
    size = 1 << 20
    zeros = bytes(size)
    part = core.open_part(tmp_path / "image.part", 3 * size)[0]
    part.write(Leaf(Cid.of(zeros), 0, size), zeros)
    assert part.segment.path.stat().st_blocks == 0
    part.write(Leaf(Cid.of(b"x" * size), size, size), b"x" * size)
    for offset in (size, 2 * size):
        part.write(Leaf(Cid.of(zeros), offset, size), zeros)
    part.seal(tmp_path / "image", None, None)
    assert (tmp_path / "image").read_bytes() == bytes(3 * size)
    assert core.reader.get(Cid.of(zeros)) == zeros


def test_what_is_written_is_readable_at_once_and_recorded_later(core: StoreCore, part: PartFile) -> None:
    part.write(LEAVES[1], payload(LEAVES[1]))
    assert core.reader.get(LEAVES[1].cid) == payload(LEAVES[1])
    assert core.locations.pending() == [LEAVES[1].cid.multihash]
    assert part.present() == []
    assert part.checkpoint() == SIZE
    assert core.locations.pending() == []
    assert part.present() == [(1000, 1000)]
    assert core.reader.get(LEAVES[1].cid) == payload(LEAVES[1])


def test_wrapped_leaves_can_be_fetched_too(core: StoreCore, part: PartFile) -> None:
    leaf = wrapped_leaves(DATA, SIZE)[3]
    part.write(leaf, payload(leaf))
    whole = leaf.prefix + payload(leaf) + leaf.suffix
    assert core.reader.get(leaf.cid) == whole
    part.checkpoint()
    assert core.reader.get(leaf.cid) == whole


@pytest.mark.parametrize(
    ("name", "value", "calls"),
    [("CHECKPOINT_BYTES", 3000, 3), ("CHECKPOINT_ROWS", 4, 4), ("CHECKPOINT_SECONDS", 0.0, 1)],
)
def test_much_that_waits_is_recorded_by_itself(
    part: PartFile, monkeypatch: pytest.MonkeyPatch, name: str, value: float, calls: int
) -> None:
    monkeypatch.setattr(partfile, name, value)
    for leaf in LEAVES[: calls - 1]:
        part.write(leaf, payload(leaf))
    assert part.present() == []
    part.write(LEAVES[calls], payload(LEAVES[calls]))
    assert len(part.present()) == calls


def test_what_a_crash_can_cost_is_bounded() -> None:
    assert partfile.UNRECORDED_BYTES_MAX == 64 * 1024 * 1024
    assert partfile.CHECKPOINT_BYTES < partfile.UNRECORDED_BYTES_MAX


def test_writers_wait_when_too_much_is_not_recorded(part: PartFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partfile, "CHECKPOINT_BYTES", 2000)
    monkeypatch.setattr(partfile, "UNRECORDED_BYTES_MAX", 4000)
    syncing, go_on = threading.Event(), threading.Event()
    sync = disk.sync_data

    def slow(fd: int) -> None:
        syncing.set()
        assert go_on.wait(10)
        sync(fd)

    monkeypatch.setattr(disk, "sync_data", slow)
    part.write(LEAVES[0], payload(LEAVES[0]))
    first = threading.Thread(target=part.write, args=(LEAVES[1], payload(LEAVES[1])))
    first.start()
    assert syncing.wait(10)
    part.write(LEAVES[2], payload(LEAVES[2]))
    second = threading.Thread(target=part.write, args=(LEAVES[3], payload(LEAVES[3])))
    second.start()
    second.join(0.05)
    assert second.is_alive()
    go_on.set()
    first.join(10)
    second.join(10)
    assert len(part.present()) == 4


def test_the_data_is_synced_before_its_rows(core: StoreCore, part: PartFile, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[tuple[int, int]]] = []
    sync = disk.sync_data

    def watch(fd: int) -> None:
        seen.append(part.present())
        sync(fd)

    monkeypatch.setattr(disk, "sync_data", watch)
    part.write(LEAVES[0], payload(LEAVES[0]))
    part.checkpoint()
    assert seen == [[]]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_finding_18_what_a_failed_sync_covered_is_to_be_fetched_again(
    core: StoreCore, part: PartFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The system tells once that pages were not written, and has dropped them: the next sync proves nothing of them."""

    def fail(fd: int) -> None:
        raise OSError(code, os.strerror(code))

    part.write(LEAVES[0], payload(LEAVES[0]))
    assert part.checkpoint() == SIZE
    part.write(LEAVES[1], payload(LEAVES[1]))
    with monkeypatch.context() as patched:
        patched.setattr(disk, "sync_data", fail)
        with pytest.raises(StoreError):
            part.checkpoint()
    assert part.checkpoint() == 0
    assert part.present() == [(0, SIZE)]
    assert core.locations.sizes([LEAVES[1].cid.multihash]) == [None]
    with pytest.raises(StoreError, match="fetched again"):
        part.seal(tmp_path / "film", None, None)
    core.abandon_part(part, remove=False)
    again, _ = core.open_part(part.segment.path, len(DATA))
    assert again.present() == [(0, SIZE)]
    again.write(LEAVES[1], payload(LEAVES[1]))
    again.seal(tmp_path / "film", None, None)


def test_finding_18_what_is_written_anew_after_a_failed_sync_is_recorded(
    part: PartFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        # Others go on writing while a sync runs: it has taken the error of their pages too.
        part.write(LEAVES[1], payload(LEAVES[1]))
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    part.write(LEAVES[0], payload(LEAVES[0]))
    with monkeypatch.context() as patched:
        patched.setattr(disk, "sync_data", fail)
        with pytest.raises(StoreError):
            part.checkpoint()
    assert part.checkpoint() == 0
    for leaf in LEAVES[:2]:
        with pytest.raises(StoreError, match="fetched again"):
            part.seal(tmp_path / "film", None, None)
        part.write(leaf, payload(leaf))
    part.seal(tmp_path / "film", None, None)
    assert part.present() == [(0, SIZE), (SIZE, SIZE)]


def test_finding_18_a_write_that_a_sync_fails_under_is_not_believed(
    core: StoreCore, part: PartFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_at = disk.write_at

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def written_before_the_sync(fd: int, parts: list[bytes], offset: int) -> None:
        write_at(fd, parts, offset)
        with pytest.raises(StoreError):
            part.checkpoint()

    part.write(LEAVES[0], payload(LEAVES[0]))
    monkeypatch.setattr(disk, "sync_data", fail)
    monkeypatch.setattr(disk, "write_at", written_before_the_sync)
    with pytest.raises(StoreError, match="failed meanwhile"):
        part.write(LEAVES[1], payload(LEAVES[1]))
    assert core.locations.pending() == []


def test_finding_36_a_name_that_was_given_but_not_synced_is_made_good_when_the_file_is_closed(
    core: StoreCore, part: PartFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    part.write(LEAVES[0], payload(LEAVES[0]))
    target = tmp_path / "film"
    with monkeypatch.context() as patched:
        patched.setattr(disk, "sync_names", fail)
        with pytest.raises(StoreError, match="naming"):
            part.seal(target, None, None)
    assert target.exists() and not part.segment.path.exists()
    core.abandon_part(part, remove=False)
    [segment] = core.all_segments()
    assert (segment.path, segment.state) == (target, SegmentState.SEALED)
    assert core.reader.get(LEAVES[0].cid) == payload(LEAVES[0])


def test_finding_36_recovery_finds_a_name_that_could_not_be_recorded(
    core: StoreCore, part: PartFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    part.write(LEAVES[0], payload(LEAVES[0]))
    target = tmp_path / "film"
    with monkeypatch.context() as patched:
        patched.setattr(disk, "sync_names", fail)
        with pytest.raises(StoreError):
            part.seal(target, None, None)
        with pytest.raises(StoreError):
            core.close()
    core = StoreCore(tmp_path / "home" / "blocks", None, lambda event: None)
    [segment] = core.all_segments()
    assert (segment.path, segment.state) == (target, SegmentState.SEALED)
    core.close()


@pytest.mark.parametrize("seconds", [2**63 - 1, 253402300800, 2**34, -11644473600, -62135596800, -(2**63)])
def test_attack_12_a_date_far_off_is_kept_as_far_as_it_can_be(
    core: StoreCore, part: PartFile, tmp_path: Path, seconds: int
) -> None:
    """Also the years 1, 1601 and 10000, and what no 64 bits of nanoseconds hold."""
    part.write(LEAVES[0], payload(LEAVES[0]))
    part.seal(tmp_path / "film", None, seconds * 10**9)
    assert core.files.check(SegmentId(-1)) == ([], None)
    assert core.reader.get(LEAVES[0].cid) == payload(LEAVES[0])
    [segment] = core.all_segments()
    assert segment.stamp is not None and abs(segment.stamp.mtime_ns) < 2**63


def test_attack_12_permissions_are_those_the_umask_leaves(core: StoreCore, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        for number, (mode, expected) in enumerate({0o7777: 0o750, 0o666: 0o640, 0o600: 0o600}.items()):
            part = core.open_part(tmp_path / f"{number}.part", len(DATA))[0]
            part.seal(tmp_path / str(number), mode, None)
            assert (tmp_path / str(number)).stat().st_mode & 0o7777 == expected
    finally:
        os.umask(before)


def test_attack_11_no_link_is_followed_below_the_users_directory(core: StoreCore, tmp_path: Path) -> None:
    """Somebody else who may write to a folder puts a link in the place of a directory of the tree."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "sub").symlink_to(elsewhere)
    with pytest.raises(Refused):
        core.open_part(tree / "sub" / "x.part", 1, tmp_path)
    (tree / "sub").unlink()
    (tree / "sub").mkdir()
    part = core.open_part(tree / "sub" / "x.part", len(DATA), tmp_path)[0]
    part.write(LEAVES[0], payload(LEAVES[0]))
    (tree / "sub").rename(tree / "moved")
    (tree / "sub").symlink_to(elsewhere)
    part.seal(tree / "sub" / "x", None, None)
    assert os.listdir(tree / "moved") == ["x"]
    assert os.listdir(elsewhere) == []


def test_a_write_that_does_not_fit_its_place_is_refused(part: PartFile) -> None:
    with pytest.raises(ValueError, match="was given"):
        part.write(LEAVES[0], b"short")
    with pytest.raises(ValueError, match="outside its file"):
        part.write(Leaf(LEAVES[0].cid, len(DATA), 1), b"x")


def test_a_failed_write_is_not_readable(core: StoreCore, part: PartFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, parts: object, offset: int) -> None:
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(disk, "write_at", fail)
    with pytest.raises(NoSpace, match="quota"):
        part.write(LEAVES[0], payload(LEAVES[0]))
    assert core.locations.sizes([LEAVES[0].cid.multihash]) == [None]


def test_nothing_is_written_after_the_end(core: StoreCore, part: PartFile) -> None:
    core.abandon_part(part, remove=False)
    with pytest.raises(StoreError, match="no longer"):
        part.write(LEAVES[0], payload(LEAVES[0]))


def test_closing_waits_for_writes_on_their_way(
    core: StoreCore, part: PartFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go_on = threading.Event(), threading.Event()
    write_at = disk.write_at

    def slow(fd: int, parts: list[bytes], offset: int) -> None:
        writing.set()
        assert go_on.wait(10)
        write_at(fd, parts, offset)

    monkeypatch.setattr(disk, "write_at", slow)
    writer = threading.Thread(target=part.write, args=(LEAVES[0], payload(LEAVES[0])))
    writer.start()
    assert writing.wait(10)
    closer = threading.Thread(target=core.abandon_part, args=(part, False))
    closer.start()
    closer.join(0.05)
    assert closer.is_alive()
    go_on.set()
    writer.join(10)
    closer.join(10)
    assert core.reader.get(LEAVES[0].cid) == payload(LEAVES[0])


def test_a_clean_stop_is_resumed_without_hashing(core: StoreCore, part: PartFile) -> None:
    part.write(LEAVES[0], payload(LEAVES[0]))
    core.abandon_part(part, remove=False)
    again, recheck = core.open_part(part.segment.path, len(DATA))
    assert not recheck
    assert again.segment.id == part.segment.id
    assert again.present() == [(0, 1000)]


def test_a_crash_is_resumed_with_what_is_right_on_record(core: StoreCore, part: PartFile, tmp_path: Path) -> None:
    for leaf in LEAVES[:5]:
        part.write(leaf, payload(leaf))
    part.checkpoint()
    part.write(LEAVES[5], payload(LEAVES[5]))
    crash(core)
    flip(part.segment.path, 2500)
    core = StoreCore(tmp_path / "home" / "blocks", None, lambda event: None)
    again, recheck = core.open_part(part.segment.path, len(DATA))
    assert recheck
    assert len(again.present()) == 5
    after: int | None = -1
    while after is not None:
        after = again.recheck(after)
    assert again.present() == [(0, 1000), (1000, 1000), (3000, 1000), (4000, 1000)]
    core.close()


def test_rechecking_goes_in_steps(part: PartFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partfile, "RECHECK_BYTES", 2000)
    for leaf in LEAVES[:5]:
        part.write(leaf, payload(leaf))
    part.checkpoint()
    steps = [part.recheck(-1)]
    while steps[-1] is not None:
        steps.append(part.recheck(steps[-1]))
    assert steps == [1000, 3000, 4000, None]


@pytest.mark.anyio
async def test_opening_a_crashed_file_hashes_it_by_itself(tmp_path: Path) -> None:
    core = StoreCore(tmp_path / "home" / "blocks", None, lambda event: None)
    part = core.open_part(tmp_path / "film.part", len(DATA))[0]
    for leaf in LEAVES[:3]:
        part.write(leaf, payload(leaf))
    part.checkpoint()
    crash(core)
    flip(part.segment.path, 10)
    async with DiskStore.open(tmp_path / "home") as store:
        writer = await store.create_file(part.segment.path, len(DATA))
        assert await writer.present() == [(1000, 1000), (2000, 1000)]
        assert "film.part" in repr(writer)


@pytest.mark.anyio
async def test_a_cancelled_resume_can_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core = StoreCore(tmp_path / "home" / "blocks", None, lambda event: None)
    part = core.open_part(tmp_path / "film.part", len(DATA))[0]
    part.write(LEAVES[0], payload(LEAVES[0]))
    part.checkpoint()
    crash(core)
    async with DiskStore.open(tmp_path / "home") as store:
        recheck = PartFile.recheck
        with monkeypatch.context() as patched, anyio.CancelScope() as scope:

            def cancel(self: PartFile, after: int) -> int | None:
                anyio.from_thread.run_sync(scope.cancel)
                return recheck(self, after)

            patched.setattr(PartFile, "recheck", cancel)
            await store.create_file(part.segment.path, len(DATA))
        assert scope.cancelled_caught
        writer = await store.create_file(part.segment.path, len(DATA))
        assert await writer.present() == [(0, 1000)]


def test_damage_in_a_file_being_fetched_is_fetched_again(core: StoreCore, part: PartFile) -> None:
    for leaf in LEAVES[:3]:
        part.write(leaf, payload(leaf))
    part.checkpoint()
    part.write(LEAVES[3], payload(LEAVES[3]))
    flip(part.segment.path, 1500)
    flip(part.segment.path, 3500)
    out = bytearray(4000)
    sizes = core.reader.read_into([leaf.cid.multihash for leaf in LEAVES[:4]], memoryview(out))
    assert sizes == [1000, None, 1000, None]
    assert part.present() == [(0, 1000), (2000, 1000)]
    assert core.locations.pending() == []


def test_b10_a_place_that_cannot_be_written_to_is_refused(core: StoreCore, tmp_path: Path) -> None:
    with pytest.raises((Refused, StoreError)):
        core.open_part(tmp_path / "no such directory" / "film.part", 10)
    with pytest.raises((Refused, StoreError)):
        core.open_part(Path("/proc/film.part"), 10)
    assert core.all_segments() == []


def test_b11_a_foreign_file_is_neither_written_nor_removed(core: StoreCore, tmp_path: Path) -> None:
    path = tmp_path / "film.part"
    path.write_bytes(b"mine")
    for size in (4, 10):
        with pytest.raises(Refused, match="not an unfinished file of ours"):
            core.open_part(path, size)
    assert path.read_bytes() == b"mine"
    link = tmp_path / "link.part"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused):
        core.open_part(link, 4)
    assert not (tmp_path / "elsewhere").exists()


def test_an_unfinished_file_of_another_size_is_refused(core: StoreCore, part: PartFile) -> None:
    core.abandon_part(part, remove=False)
    with pytest.raises(Refused, match="no unfinished file of 5 bytes"):
        core.open_part(part.segment.path, 5)
    assert core.open_part(part.segment.path, len(DATA))[0].segment.id == part.segment.id


def test_a_symlink_in_the_place_of_an_unfinished_file_is_not_followed(
    core: StoreCore, part: PartFile, tmp_path: Path
) -> None:
    core.abandon_part(part, remove=False)
    victim = part.segment.path.rename(tmp_path / "victim")
    part.segment.path.symlink_to(victim)
    with pytest.raises(Refused):
        core.open_part(part.segment.path, len(DATA))


def test_an_unfinished_file_that_was_deleted_is_begun_anew(core: StoreCore, part: PartFile) -> None:
    part.write(LEAVES[0], payload(LEAVES[0]))
    core.abandon_part(part, remove=False)
    part.segment.path.unlink()
    again, recheck = core.open_part(part.segment.path, len(DATA))
    assert (again.present(), recheck) == ([], False)
    assert core.locations.sizes([LEAVES[0].cid.multihash]) == [None]


def test_a_file_whose_making_was_cut_short_is_gone_on_with(core: StoreCore, part: PartFile, tmp_path: Path) -> None:
    crash(core)
    part.segment.path.write_bytes(b"")
    core = StoreCore(tmp_path / "home" / "blocks", None, lambda event: None)
    again, _ = core.open_part(part.segment.path, len(DATA))
    assert again.segment.path.stat().st_size == len(DATA)
    core.close()


def test_a_file_that_cannot_be_made_whole_leaves_nothing(
    core: StoreCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int, size: int) -> None:
        raise OSError(27, "File too large")

    monkeypatch.setattr(os, "ftruncate", fail)
    with pytest.raises(NoSpace):
        core.open_part(tmp_path / "film.part", 10)
    assert not (tmp_path / "film.part").exists()
    assert core.all_segments() == []


def test_removing_a_part_forgets_its_rows_and_its_file(core: StoreCore, part: PartFile) -> None:
    part.write(LEAVES[0], payload(LEAVES[0]))
    core.abandon_part(part, remove=True)
    assert not part.segment.path.exists()
    assert core.all_segments() == []
    assert core.locations.sizes([LEAVES[0].cid.multihash]) == [None]


def test_closing_the_store_records_what_is_open(core: StoreCore, part: PartFile, tmp_path: Path) -> None:
    part.write(LEAVES[0], payload(LEAVES[0]))
    core.close()
    core = StoreCore(tmp_path / "home" / "blocks", None, lambda event: None)
    assert core.reader.get(LEAVES[0].cid) == payload(LEAVES[0])
    assert not core.open_part(part.segment.path, len(DATA))[1]
    core.close()


def test_closing_the_store_closes_everything_even_when_something_fails(
    core: StoreCore, part: PartFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(28, "No space left on device")

    part.write(LEAVES[0], payload(LEAVES[0]))
    with monkeypatch.context() as patched:
        patched.setattr(disk, "sync_data", fail)
        with pytest.raises(NoSpace):
            core.close()
    core.close()
    StoreCore(tmp_path / "home" / "blocks", None, lambda event: None).close()


def test_sealing_replaces_what_was_known_under_that_name(core: StoreCore, part: PartFile, tmp_path: Path) -> None:
    target = tmp_path / "film"
    target.write_bytes(b"old")
    core.files.submit(Addition(target, stamp(target), [Leaf(Cid.of(b"old"), 0, 3)]))
    core.files.add_next()
    target.unlink()
    part.write(LEAVES[0], payload(LEAVES[0]))
    core.seal_part(part, target, None, None)
    [segment] = core.all_segments()
    assert (segment.id, segment.path, segment.state) == (part.segment.id, target, SegmentState.SEALED)


def test_a_file_can_be_sealed_where_there_are_no_hard_links(
    core: StoreCore, part: PartFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: str, target: str, **directories: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", fail)
    (tmp_path / "taken").write_bytes(b"mine")
    with pytest.raises(Refused):
        core.seal_part(part, tmp_path / "taken", None, None)
    (tmp_path / "sub").mkdir()
    core.seal_part(part, tmp_path / "sub" / "film", None, None)
    assert (tmp_path / "taken").read_bytes() == b"mine"
    assert (tmp_path / "sub" / "film").stat().st_size == len(DATA)


@pytest.mark.parametrize("moment", ["before the link", "before the unlink", "before the last row"])
def test_a_crash_while_a_file_gets_its_name_is_finished_or_undone(
    core: StoreCore, part: PartFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    class PowerCut(BaseException):
        """Everything ends here."""

    def cut(*args: object, **options: object) -> None:
        raise PowerCut

    target = tmp_path / "film"
    part.write(LEAVES[0], payload(LEAVES[0]))
    with monkeypatch.context() as patched:
        if moment == "before the link":
            patched.setattr(os, "link", cut)
        elif moment == "before the unlink":
            patched.setattr(os, "unlink", cut)
        else:
            patched.setattr(partfile, "record_sealed", cut)
        with pytest.raises(PowerCut):
            core.seal_part(part, target, 0o600, 10**18)
    crash(core)
    events = Events()
    core = StoreCore(tmp_path / "home" / "blocks", None, events)
    assert core.reader.get(LEAVES[0].cid) == payload(LEAVES[0])
    [segment] = core.all_segments()
    if moment == "before the link":
        assert (segment.path, segment.state) == (part.segment.path, SegmentState.FETCHING)
        assert events.told == []
        again, _ = core.open_part(part.segment.path, len(DATA))
        assert again.present() == [(0, 1000)]
        core.seal_part(again, target, None, None)
    else:
        assert (segment.path, segment.state) == (target, SegmentState.SEALED)
        assert events.names() == ["StoreRepaired"]
    assert not part.segment.path.exists()
    assert target.stat().st_size == len(DATA)
    core.close()


@pytest.mark.parametrize("moment", ["before the unlink", "before the record"])
@pytest.mark.parametrize("away", ["film", "film.part", "its disk", "its disk, but for the mount point"])
def test_a_file_that_has_its_name_keeps_it_though_it_cannot_be_seen_at_a_start(
    core: StoreCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, away: str
) -> None:
    """Otherwise all of it was fetched anew, and then refused: there was something of that name."""

    class PowerCut(BaseException):
        """Everything ends here."""

    def cut(*args: object, **options: object) -> None:
        raise PowerCut

    def hidden(path: Any, *arguments: Any, **named: Any) -> os.stat_result:
        if path == place / away:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        status = stat(path, *arguments, **named)
        if path == place:  # another file system
            return os.stat_result((*status[:2], status.st_dev + 1, *status[3:]))
        return status

    stat, place = os.stat, tmp_path / "disk"
    place.mkdir()
    part = core.open_part(place / "film.part", len(DATA))[0]
    part.write(LEAVES[0], payload(LEAVES[0]))
    with monkeypatch.context() as patched:
        patched.setattr(*((os, "unlink") if moment == "before the unlink" else (partfile, "record_sealed")), cut)
        with pytest.raises(PowerCut):
            core.seal_part(part, place / "film", None, None)
    crash(core)
    home, elsewhere = tmp_path / "home" / "blocks", tmp_path / "elsewhere"
    with monkeypatch.context() as patched:
        if away.startswith("film"):
            patched.setattr(os, "lstat", partial(hidden, follow_symlinks=False))
            patched.setattr(os, "stat", hidden)
        else:
            place.rename(elsewhere)
        if "mount point" in away:
            place.mkdir()
            patched.setattr(os, "stat", hidden)
        StoreCore(home, None, lambda event: None).close()
        if "mount point" in away:
            place.rmdir()
    if elsewhere.exists():
        elsewhere.rename(place)
    core = StoreCore(home, None, lambda event: None)
    assert [(each.path, each.state) for each in core.all_segments()] == [(place / "film", SegmentState.SEALED)]
    assert core.reader.get(LEAVES[0].cid) == payload(LEAVES[0])
    core.close()


def test_a_foreign_file_under_the_final_name_is_not_taken_for_ours(
    core: StoreCore, part: PartFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PowerCut(BaseException):
        """Everything ends here."""

    def cut(*args: object, **options: object) -> None:
        raise PowerCut

    monkeypatch.setattr(os, "link", cut)
    with pytest.raises(PowerCut):
        core.seal_part(part, tmp_path / "film", None, 10**18)
    crash(core)
    (tmp_path / "film").write_bytes(bytes(len(DATA)))
    os.utime(tmp_path / "film", ns=(10**18, 10**18))
    core = StoreCore(tmp_path / "home" / "blocks", None, lambda event: None)
    assert [each.path for each in core.all_segments()] == [part.segment.path]
    assert part.segment.path.exists()
    core.close()


def test_a_reader_that_looked_just_before_the_name_changed_finds_the_file(
    core: StoreCore, part: PartFile, tmp_path: Path
) -> None:
    part.write(LEAVES[0], payload(LEAVES[0]))
    part.checkpoint()
    stale = Location(LEAVES[0].cid.multihash, part.segment, 0, 1000)
    core.seal_part(part, tmp_path / "film", None, None)
    core.locations.written(stale)
    assert core.reader.get(LEAVES[0].cid) == payload(LEAVES[0])


@pytest.mark.anyio
async def test_many_threads_write_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partfile, "CHECKPOINT_BYTES", 5000)
    monkeypatch.setattr(partfile, "UNRECORDED_BYTES_MAX", 9000)
    async with DiskStore.open(tmp_path / "home") as store:
        writer = await store.create_file(tmp_path / "film.part", len(DATA))
        async with anyio.create_task_group() as tasks:
            for leaf in LEAVES:
                tasks.start_soon(anyio.to_thread.run_sync, writer.write, leaf, payload(leaf))
        await writer.seal(tmp_path / "film")
        assert all(await store.has([leaf.cid for leaf in LEAVES]))
    assert (tmp_path / "film").read_bytes() == DATA


@pytest.mark.anyio
async def test_blocks_that_are_not_recorded_yet_are_listed(tmp_path: Path) -> None:
    async with DiskStore.open(tmp_path / "home") as store:
        writer = await store.create_file(tmp_path / "film.part", len(DATA))
        for leaf in LEAVES[:3]:
            await anyio.to_thread.run_sync(writer.write, leaf, payload(leaf))
        await writer.checkpoint()
        await anyio.to_thread.run_sync(writer.write, LEAVES[3], payload(LEAVES[3]))
        await anyio.to_thread.run_sync(writer.write, LEAVES[0], payload(LEAVES[0]))
        assert sorted([cid async for cid in store.cids()]) == sorted(leaf.cid for leaf in LEAVES[:4])
        assert writer.segment == (await store.segments())[0].id


def test_a_crash_after_a_resume_is_not_taken_for_a_clean_stop(core: StoreCore, part: PartFile, tmp_path: Path) -> None:
    part.write(LEAVES[0], payload(LEAVES[0]))
    core.abandon_part(part, remove=False)
    part = core.open_part(part.segment.path, len(DATA))[0]
    crash(core)
    # Within one tick of the file system's clock a write leaves no trace in the mtime.
    flip(part.segment.path, 10, keep_stamp=True)
    core = StoreCore(tmp_path / "home" / "blocks", None, lambda event: None)
    assert core.open_part(part.segment.path, len(DATA))[1]
    core.close()


def test_a_block_of_two_fetches_stays_when_one_is_given_up(core: StoreCore, part: PartFile, tmp_path: Path) -> None:
    other = core.open_part(tmp_path / "other.part", len(DATA))[0]
    part.write(LEAVES[0], payload(LEAVES[0]))
    other.write(LEAVES[0], payload(LEAVES[0]))
    part.checkpoint()
    core.abandon_part(part, remove=True)
    assert core.reader.get(LEAVES[0].cid) == payload(LEAVES[0])


def test_what_was_let_go_of_cannot_be_sealed(core: StoreCore, part: PartFile, tmp_path: Path) -> None:
    core.abandon_part(part, remove=False)
    with pytest.raises(StoreError, match="no longer"):
        core.seal_part(part, tmp_path / "film", None, None)
    assert part.segment.path.exists()
    assert not (tmp_path / "film").exists()
