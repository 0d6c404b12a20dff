"""B9, B10, B11, B14: a full disk, a place that cannot be written, a target that exists, a repository that is damaged or newer."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.kit import MIB, Machine, complaint, good, make_file, sha256, snapshot
from tests.acceptance.relay import Relay
from tests.acceptance.scenarios import port_of
from tests.cli.disks import fill, make_read_only, small_disk
from tests.cli.test_bad_sources import limited


def test_B09_a_disk_that_is_too_small_is_told_before_anything_is_fetched(
    place: Path, sharer: Machine, receiver: Machine
) -> None:
    source = make_file(sharer.folder / "film.mkv", 24 * MIB)
    with small_disk(place / "disk") as disk, sharer.sharing(source) as (_, shared):
        complaint(receiver.run("get", shared["ticket"], "-o", disk / "film.mkv"), 9, "free")
        assert list(disk.iterdir()) == []
        assert sharer.bytes_sent() < 4 * MIB
        good(receiver.run("get", shared["ticket"], "-o", "elsewhere.mkv"))
    receiver.verified()


def test_use_25_a_sparse_image_larger_than_the_disk_is_fetched_where_its_data_fits(
    place: Path, sharer: Machine, receiver: Machine
) -> None:
    source = sharer.folder / "images"
    source.mkdir()
    image = make_file(source / "disk.img", 2 * MIB)
    os.truncate(image, 300 * MIB)
    with small_disk(place / "disk") as disk, sharer.sharing(source) as (_, shared):
        good(receiver.run("get", shared["ticket"], "-o", disk / "images"))
        got = disk / "images" / "disk.img"
        assert got.stat().st_size == 300 * MIB and got.stat().st_blocks * 512 < 4 * MIB
        assert sha256(got) == sha256(image)


def test_B09_a_disk_that_fills_up_during_a_fetch_ends_it_and_it_resumes_when_there_is_room(
    place: Path, sharer: Machine, receiver: Machine
) -> None:
    source = make_file(sharer.folder / "film.mkv", 24 * MIB)
    with small_disk(place / "disk", 40 * MIB) as disk:
        target = disk / "film.mkv"
        with sharer.sharing(source, "--open") as (_, shared), Relay(port_of(shared), 8.0 * MIB) as relay:
            command = ("get", shared["cid"], "--from", relay.address(shared["peer_id"]), "-o", str(target), "--jsonl")
            with receiver.start(*command) as fetch:
                fetch.next_progress(6 * MIB)
                filler = fill(disk)
                complaint(fetch.wait(), 9)
            assert not target.exists()
            receiver.verified()
            filler.unlink()
            finished = good(receiver.run(*command)).events[-1]
        assert finished["received"] < 24 * MIB
        assert sha256(target) == sha256(source)


def test_B09_a_home_on_a_full_disk_keeps_what_it_has(place: Path, sharer: Machine) -> None:
    source = make_file(sharer.folder / "film.mkv", 24 * MIB)
    kept = make_file(sharer.folder / "kept.bin", MIB)
    with small_disk(sharer.home):
        cid = good(sharer.run("add", "-q", "--copy", kept)).out.strip()
        complaint(sharer.run("add", "--copy", source), 9)
        fill(sharer.home)
        complaint(sharer.run("add", "--copy", make_file(sharer.folder / "more.bin", MIB, 2)), 9)
        complaint(sharer.run("cat", cid), 9, "disk is full")
        (sharer.home / "filler").unlink()
        assert good(sharer.run("cat", cid)).stdout == kept.read_bytes()
        sharer.verified()
        good(sharer.run("add", "-q", "--copy", kept))


def test_B09_a_first_run_on_a_full_disk_says_so(place: Path) -> None:
    machine = Machine(place / "a")
    with small_disk(machine.home) as disk:
        fill(disk)
        complaint(machine.run("id"), 9, "space")


def test_B10_a_folder_that_cannot_be_written_is_refused(place: Path, sharer: Machine) -> None:
    machine = limited(place / "limited")
    closed = machine.folder / "closed"
    closed.mkdir(mode=0o500)
    source = make_file(sharer.folder / "film.mkv", MIB)
    with sharer.sharing(source) as (_, shared):
        complaint(machine.run("get", shared["ticket"], "-o", closed / "film.mkv"), 7, "permission denied")
        complaint(machine.run("get", shared["ticket"], "-o", closed / "deeper" / "film.mkv"), 7, "does not exist")
        complaint(machine.run("get", shared["ticket"], "-o", "/proc/film.mkv"), 7)
    assert list(closed.iterdir()) == []
    closed.chmod(0o700)


def test_B10_a_read_only_disk_is_refused(place: Path, sharer: Machine, receiver: Machine) -> None:
    source = make_file(sharer.folder / "film.mkv", MIB)
    with small_disk(place / "disk") as disk, sharer.sharing(source) as (_, shared):
        make_read_only(disk)
        complaint(receiver.run("get", shared["ticket"], "-o", disk / "film.mkv"), 7, "read-only")
        complaint(receiver.run("car", "export", shared["cid"], disk / "film.car", "--timeout", "2"), 7)


def test_B11_what_is_there_and_right_is_complete(sharer: Machine, receiver: Machine) -> None:
    source = make_file(sharer.folder / "film.mkv", 3 * MIB)
    with sharer.sharing(source) as (_, shared):
        shutil.copy(source, receiver.folder / "film.mkv")
        finished = good(receiver.run("get", shared["ticket"], "--json")).json
        assert finished["already_complete"] is True
        assert finished["received"] < MIB


@pytest.mark.parametrize("content", [b"", b"mine", b"x" * 3 * MIB])
def test_B11_other_content_is_never_overwritten(sharer: Machine, receiver: Machine, content: bytes) -> None:
    source = make_file(sharer.folder / "film.mkv", 3 * MIB)
    mine = receiver.folder / "film.mkv"
    mine.write_bytes(content)
    with sharer.sharing(source) as (_, shared):
        complaint(receiver.run("get", shared["ticket"]), 7, "film.mkv", "exists")
        assert mine.read_bytes() == content
        mine.unlink()
        mine.symlink_to(receiver.folder / "nowhere")
        complaint(receiver.run("get", shared["ticket"]), 7, "film.mkv", "exists")
        assert mine.is_symlink() and not (receiver.folder / "nowhere").exists()
        folder = receiver.folder / "folder"
        folder.mkdir()
        good(receiver.run("get", shared["ticket"], "-o", "folder"))
    assert sha256(folder / "film.mkv") == sha256(source)


def test_B11_a_tree_that_is_partly_there_is_completed_and_a_strange_one_is_left_alone(
    sharer: Machine, receiver: Machine
) -> None:
    tree = sharer.folder / "tree"
    for number in range(3):
        make_file(tree / f"{number}.bin", 300_000 + number, number)
    with sharer.sharing(tree) as (_, shared):
        (receiver.folder / "tree").mkdir()
        shutil.copy(tree / "1.bin", receiver.folder / "tree" / "1.bin")
        good(receiver.run("get", shared["ticket"], "-o", "there/"))
        strange = make_file(receiver.folder / "tree" / "strange.bin", 10)
        before = snapshot(receiver.folder / "tree")
        complaint(receiver.run("get", shared["ticket"]), 7, "strange.bin")
        assert snapshot(receiver.folder / "tree").items() >= before.items()
        strange.unlink()
        good(receiver.run("get", shared["ticket"]))
    assert snapshot(receiver.folder / "tree") == snapshot(tree) == snapshot(receiver.folder / "there" / "tree")


def index_of(machine: Machine) -> Path:
    """The block index of a home."""
    return machine.home / "blocks" / "index.sqlite"


def test_B14_a_repository_of_a_newer_version_is_left_alone(sharer: Machine) -> None:
    good(sharer.run("add", make_file(sharer.folder / "film.mkv", MIB)))
    (sharer.home / "version").write_text("99\n")
    before = snapshot(sharer.home)
    for command in (["id"], ["repo", "verify"], ["share", "film.mkv"], ["daemon"]):
        complaint(sharer.run(*command), 6, "newer version", "99")
    assert snapshot(sharer.home) == before


def test_B14_an_index_of_a_newer_version_is_left_alone(sharer: Machine) -> None:
    good(sharer.run("add", make_file(sharer.folder / "film.mkv", MIB)))
    index = index_of(sharer)
    connection = sqlite3.connect(index)
    connection.execute("UPDATE meta SET value = 99 WHERE key = 'schema version'")
    connection.commit()
    connection.close()
    complaint(sharer.run("repo", "stat"), 6, "newer")


@pytest.mark.parametrize("damage", ["all", "head", "cut", "middle"])
def test_B14_a_corrupt_index_is_told_with_what_to_do(sharer: Machine, damage: str) -> None:
    source = make_file(sharer.folder / "film.mkv", 4 * MIB)
    good(sharer.run("add", source))
    index = index_of(sharer)
    for extra in (index.with_name(f"{index.name}-wal"), index.with_name(f"{index.name}-shm")):
        extra.unlink(missing_ok=True)
    size = index.stat().st_size
    if damage == "cut":
        os.truncate(index, size // 2 + 100)
    else:
        start, length = {"all": (0, size), "head": (0, 64), "middle": (4096, size - 4096)}[damage]
        with index.open("r+b") as file:
            file.seek(start)
            file.write(os.urandom(length))
    outcome = sharer.run("repo", "verify")
    complaint(outcome, 5, "index")
    assert source.exists()


def test_B14_a_corrupt_pack_is_found_and_never_served(sharer: Machine, receiver: Machine) -> None:
    source = make_file(sharer.folder / "film.mkv", 4 * MIB)
    cid = good(sharer.run("add", "-q", "--copy", source)).out.strip()
    other = good(sharer.run("add", "-q", "--copy", make_file(sharer.folder / "other.bin", 1000, 7))).out.strip()
    packs = [path for path in sharer.home.rglob("*") if path.is_file() and path.stat().st_size > 3 * MIB]
    assert packs
    for pack in packs:
        with pack.open("r+b") as file:
            file.seek(pack.stat().st_size // 2)
            file.write(b"damaged")
    outcome = sharer.run("repo", "verify", "--json")
    assert outcome.code == 5, str(outcome)
    assert outcome.events[-1]["problems"] >= 1
    broken = sharer.run("cat", cid, "--timeout", "2")
    complaint(broken, broken.code)
    assert broken.code in (3, 4, 5), str(broken)
    assert source.read_bytes().startswith(broken.stdout)
    assert len(good(sharer.run("cat", other)).stdout) == 1000
    with sharer.daemon():
        fetched = receiver.run("get", cid, "--from", sharer.address(), "-o", "got.mkv", "--timeout", "3")
    complaint(fetched, fetched.code)
    assert fetched.code in (3, 4), str(fetched)
    assert not (receiver.folder / "got.mkv").exists()
    assert good(sharer.run("add", "-q", "--copy", source)).out.strip() == cid
    assert good(sharer.run("cat", cid)).stdout == source.read_bytes()


def test_output_that_cannot_be_written_is_told(sharer: Machine) -> None:
    with open("/dev/full", "w") as full:
        outcome = subprocess.run(
            [sys.executable, "-m", "stack", "id"],
            env=sharer.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert outcome.returncode == 9
    assert "No space left" in outcome.stderr
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize(("arguments", "code"), [("id", 9), ("id --json", 9), ("nosuch", 2), ("--version", 9)])
def test_the_exit_code_says_what_happened_where_no_word_can_be_written(
    sharer: Machine, arguments: str, code: int
) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "stack", *arguments.split()]
        outcome = subprocess.run(command, env=sharer.environment, stdout=full, stderr=full, check=False)
    assert outcome.returncode == code


def test_a_daemon_whose_log_is_on_a_full_disk_goes_on(sharer: Machine) -> None:
    command = [sys.executable, "-m", "stack", "daemon"]
    environment = {**sharer.environment, "STACK_LOG": "debug"}
    with (
        open("/dev/full", "w") as full,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=full, text=True) as daemon,
    ):
        assert daemon.stdout is not None
        while "ready" not in (line := daemon.stdout.readline()):
            assert line
        good(sharer.run("id"))
        daemon.terminate()
        assert daemon.wait(20) == 0
