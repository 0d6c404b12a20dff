"""`stack share --announce`, `find`, `providers`, `announce` between processes."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.kit import MIB, Json, Machine, complaint, good, make_file, sha256, until

NAME = "Quarterly Zebra Report.pdf"


@contextmanager
def meeting_point(place: Path) -> Iterator[str]:
    """The address of a daemon that shares nothing."""
    machine = Machine(place / "meeting")
    with machine.daemon():
        yield machine.address()


def announced(machine: Machine) -> Json:
    """What a machine announces, once somebody keeps it."""

    def taken() -> Json | None:
        told = good(machine.run("announce", "ls", "--json")).json
        return told if told["items"] and not told["waiting"] else None

    return until(taken, 30, "the announcement is taken")


def test_a_file_is_found_by_its_name_and_fetched_by_its_cid(place: Path, sharer: Machine, receiver: Machine) -> None:
    source = make_file(sharer.folder / "report.pdf", 2 * MIB)
    with (
        meeting_point(place) as address,
        sharer.sharing(source, "--public", NAME, "--bootstrap", address) as (process, shared),
    ):
        assert (shared["announced"], shared["public_name"]) == (True, NAME)
        assert f"stack get {shared['cid']}" in process.next_said("Announced")
        process.next_said("Public")
        told = announced(sharer)
        assert [(item["cid"], item["public_name"]) for item in told["items"]] == [(shared["cid"], NAME)]
        assert NAME in good(sharer.run("announce", "ls")).out
        there = ("--bootstrap", address)
        found = good(receiver.run("find", "zebra", "report", *there))
        assert found.lines[0].startswith(f"{NAME}  2.0 MiB  {shared['cid']}  {shared['peer_id']}  ")
        assert f"To fetch it: stack get {shared['cid']} -o '{NAME}'" in found.err
        (as_json,) = good(receiver.run("find", "ZEBRA", *there, "--json")).json["items"]
        (as_line,) = good(receiver.run("find", "zebra", *there, "--jsonl")).events
        assert as_json["name"] == as_line["name"] == NAME and as_line["age"] >= 0
        shown = good(receiver.run("providers", shared["cid"], *there))
        assert shown.lines[0].startswith(f"{shared['peer_id']}  announced ") and "told by" in shown.lines[0]
        assert shown.lines[1].strip().startswith("/ip4/127.0.0.1/tcp/")
        (provider,) = good(receiver.run("providers", shared["cid"], *there, "--json")).json["items"]
        assert provider["peer_id"] == shared["peer_id"]
        fetched = good(receiver.run("get", shared["cid"], *there, "-o", "got.pdf"))
        assert "found by its announcement" in fetched.err
        assert sha256(receiver.folder / "got.pdf") == sha256(source)


def test_after_a_restart_it_is_announced_again_until_it_is_withdrawn(
    place: Path, sharer: Machine, receiver: Machine
) -> None:
    source = make_file(sharer.folder / "report.pdf", MIB)
    with sharer.sharing(source, "--announce", "--keep") as (process, shared):
        assert process.stop(signal.SIGINT).code == 0
    assert "no node runs" in good(sharer.run("announce", "ls")).err
    with meeting_point(place) as address:
        there = ("--bootstrap", address)
        with sharer.daemon(*there):
            announced(sharer)
            good(receiver.run("get", shared["cid"], *there, "-o", "got.pdf"))
            assert "no longer announced" in good(sharer.run("announce", "withdraw", shared["cid"])).out
            assert sharer.run("announce", "withdraw", shared["cid"], "--json").code == 3
            assert "nothing is announced" in good(sharer.run("announce", "ls")).err
            assert len(sharer.shares()) == 1
    outcome = receiver.run("announce", "withdraw", shared["cid"])
    assert outcome.code == 3 and "is not announced" in outcome.err


def test_what_is_no_longer_shared_is_no_longer_announced(sharer: Machine) -> None:
    source = make_file(sharer.folder / "report.pdf", MIB)
    with sharer.daemon():
        shared = good(sharer.run("share", str(source), "--announce", "--keep", "--json")).json
        assert len(good(sharer.run("announce", "ls", "--json")).json["items"]) == 1
        good(sharer.run("shares", "rm", shared["cid"]))
        assert good(sharer.run("announce", "ls", "--json")).json["items"] == []
        good(sharer.run("share", str(source), "--announce", "--keep", "--json"))
    good(sharer.run("shares", "rm", str(source)))
    assert good(sharer.run("announce", "ls", "--json")).json["items"] == []


def test_nothing_found_has_its_exit_code(place: Path, receiver: Machine) -> None:
    with meeting_point(place) as address:
        for words in (("find", "unicorn"), ("providers", "bafkqaaa")):
            outcome = receiver.run(*words, "--bootstrap", address)
            assert outcome.code == 3 and outcome.out == "" and outcome.err.splitlines()[-1].startswith("stack: no")
    outcome = receiver.run("find", "unicorn", "--timeout", "0.5", "--json")
    assert outcome.code == 3 and outcome.json["items"] == [] and outcome.seconds < 15


@pytest.mark.parametrize(
    "words",
    [
        ("find",),
        ("find", "?"),
        ("find", "film", "--timeout", "0"),
        ("find", "film", "--bootstrap", "here"),
        ("providers",),
        ("providers", "film"),
        ("announce", "withdraw", "film"),
        ("announce", "nonsense"),
        ("share", ".", "--public", ""),
        ("share", ".", "--public", "a/film"),
        ("share", ".", "--public", "x" * 256),
    ],
)
def test_B_bad_words_are_told_before_anything_starts(sharer: Machine, words: tuple[str, ...]) -> None:
    complaint(sharer.run(*words), 2)
    assert not sharer.home.exists()


def test_with_the_setting_off_commands_say_so(sharer: Machine) -> None:
    good(sharer.run("config", "set", "announce", "off"))
    for words in (("share", ".", "--announce"), ("find", "film"), ("announce", "ls")):
        complaint(sharer.run(*words), 7, "announce")


def test_B_names_of_others_do_not_reach_the_terminal_as_they_are(
    place: Path, sharer: Machine, receiver: Machine
) -> None:
    source = make_file(sharer.folder / "report.pdf", MIB)
    evil = "zebra \x1b[31m\u202e red"
    with (
        meeting_point(place) as address,
        sharer.sharing(source, "--public", evil, "--bootstrap", address),
    ):
        outcome = good(receiver.run("find", "zebra", "--bootstrap", address))
        assert "\x1b" not in outcome.out and "\u202e" not in outcome.out and "zebra" in outcome.out
