"""B4, B5, B19: shared files that change, vanish, move, or may not be read."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.acceptance.kit import MIB, Json, Machine, complaint, good, make_file, sha256
from tests.acceptance.relay import Relay
from tests.acceptance.scenarios import port_of

WITHOUT_POWER = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
"""Root without what lets it read and write everything."""
SIZE = 8 * MIB


def state_of(machine: Machine, cid: str) -> str:
    """What `stack shares ls` says of a share."""
    return str(next(share for share in machine.shares() if share["cid"] == cid)["state"])


def change(path: Path) -> None:
    """Other bytes in the same places: nothing but the content and the time tells."""
    with path.open("r+b") as file:
        for offset in range(0, path.stat().st_size, 64 * 1024):
            file.seek(offset)
            file.write(b"changed")


def refused_by(receiver: Machine, shared: Json) -> None:
    """A fetch from a sharer whose file is gone ends, keeps nothing under the final name, and says why."""
    outcome = receiver.run("get", shared["ticket"], "--timeout", "3", "--deadline", "20")
    complaint(outcome, outcome.code)
    assert outcome.code in (3, 4), str(outcome)
    assert not (receiver.folder / shared["name"]).exists()


def test_B04_a_file_that_changed_is_not_served_and_can_be_shared_again(sharer: Machine, receiver: Machine) -> None:
    source = make_file(sharer.folder / "film.mkv", SIZE)
    with sharer.start("share", source, "--no-qr", "--json") as process:
        shared = process.next_json()
        process.next_said("Serving")
        change(source)
        refused_by(receiver, shared)
        process.next_said("film.mkv.*changed")
        assert state_of(sharer, shared["cid"]) == "changed"
        again = good(sharer.run("share", source, "--keep", "--json", "--no-qr")).json
        assert again["cid"] != shared["cid"]
        good(receiver.run("get", again["ticket"], "-o", "new.mkv"))
    assert sha256(receiver.folder / "new.mkv") == sha256(source)
    sharer.verified()


def test_B04_a_file_that_changes_while_it_is_fetched_never_arrives_wrong(sharer: Machine, receiver: Machine) -> None:
    source = make_file(sharer.folder / "film.mkv", 4 * SIZE)
    with sharer.sharing(source, "--open") as (process, shared), Relay(port_of(shared), 8.0 * MIB) as relay:
        address = relay.address(shared["peer_id"])
        with receiver.start(
            "get", shared["cid"], "--from", address, "-o", "got.mkv", "--timeout", "4", "--jsonl"
        ) as fetch:
            fetch.next_progress(SIZE)
            change(source)
            outcome = fetch.wait()
        complaint(outcome, outcome.code)
        assert outcome.code in (3, 4), str(outcome)
        process.next_said("film.mkv.*changed")
    assert not (receiver.folder / "got.mkv").exists()
    receiver.verified()


def test_B05_a_file_that_vanished_is_said_to_be_missing(sharer: Machine, receiver: Machine) -> None:
    source = make_file(sharer.folder / "film.mkv", SIZE)
    with sharer.sharing(source) as (process, shared):
        source.unlink()
        refused_by(receiver, shared)
        process.next_said("film.mkv")
        assert state_of(sharer, shared["cid"]) == "missing"
        good(sharer.run("shares", "rm", shared["cid"]))
        assert sharer.shares() == []


def test_B05_a_file_that_moved_is_found_again_and_the_old_ticket_stays_good(sharer: Machine, receiver: Machine) -> None:
    source = make_file(sharer.folder / "film.mkv", SIZE)
    with sharer.sharing(source) as (_, shared):
        moved = source.rename(sharer.folder / "elsewhere.mkv")
        again = good(sharer.run("share", moved, "--keep", "--json", "--no-qr")).json
        assert again["cid"] == shared["cid"]
        good(receiver.run("get", shared["ticket"], "-o", "got.mkv"))
        assert state_of(sharer, shared["cid"]) == "serving"
    assert sha256(receiver.folder / "got.mkv") == sha256(moved)


def test_B05_one_of_two_copies_is_enough(sharer: Machine, receiver: Machine) -> None:
    source = make_file(sharer.folder / "film.mkv", SIZE)
    copy = sharer.folder / "copy.mkv"
    shutil.copy2(source, copy)
    with sharer.sharing(source) as (_, shared):
        assert good(sharer.run("share", copy, "--keep", "--json", "--no-qr")).json["cid"] == shared["cid"]
        source.unlink()
        good(receiver.run("get", shared["ticket"], "-o", "got.mkv"))
    assert sha256(receiver.folder / "got.mkv") == sha256(copy)


def limited(place: Path) -> Machine:
    """A computer whose user may not read everything."""
    if os.geteuid() != 0:
        return Machine(place / "a")
    if shutil.which("setpriv") is None:
        pytest.skip(
            "NOT TESTED: a permission denied; root may read everything and there is no setpriv to take that away"
        )
    return Machine(place / "a", prefix=WITHOUT_POWER)


def test_B19_what_may_not_be_read_is_left_out_and_named(place: Path, receiver: Machine) -> None:
    machine = limited(place)
    tree = machine.folder / "tree"
    make_file(tree / "open.bin", 5000)
    make_file(tree / "closed.bin", 5000).chmod(0)
    make_file(tree / "closed folder" / "inside.bin", 5000)
    (tree / "closed folder").chmod(0)
    added = machine.run("add", tree)
    assert added.code == 8, str(added)
    assert "closed.bin: permission denied" in added.err and "closed folder: permission denied" in added.err
    with machine.start("share", tree, "--no-qr", "--json") as process:
        shared = process.next_json()
        process.next_said("skipped .*closed.bin: permission denied")
        good(receiver.run("get", shared["ticket"]))
        process.stop(signal.SIGINT)
    assert [path.name for path in (receiver.folder / "tree").iterdir()] == ["open.bin"]
    (tree / "closed folder").chmod(0o700)
    machine.verified()


def test_B19_a_single_file_that_may_not_be_read_is_refused(place: Path) -> None:
    machine = limited(place)
    source = make_file(machine.folder / "closed.bin", 5000)
    source.chmod(0)
    for command in ("add", "share"):
        complaint(machine.run(command, source), 7, "closed.bin", "permission denied")
    assert machine.shares() == []


def test_B19_a_home_that_may_not_be_written_is_refused(place: Path) -> None:
    machine = limited(place)
    machine.home.mkdir()
    machine.home.chmod(0o500)
    complaint(machine.run("id"), 7, "STACK_HOME")
    assert list(machine.home.iterdir()) == []
    machine.home.chmod(0o700)
