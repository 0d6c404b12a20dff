"""A FIFO in the place of a file of the home holds nothing up: it is told, and not waited for."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.kit import MIB, Machine, complaint, good, make_file

SECONDS = 15.0
"""Less than what the kit waits: a command that hangs is told by its name."""

TOLD = {"config.toml": 2, "identity.key": 7, "version": 7, "swarm.key": 2, "index.sqlite": 7, "jobs.sqlite": 7}
"""What cannot be done without, and the code that a command ends with."""

ABSENT = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
"""Nobody has it."""


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["FIFO", "directory"])
@pytest.mark.parametrize(
    "name", [*TOLD, "control", "peers.json", "port", "announcements", "known.sqlite", "lock", "daemon.log"]
)
def test_what_is_no_file_in_the_home_holds_nothing_up(
    sharer: Machine, name: str, make: Callable[[Path], object]
) -> None:
    source = make_file(sharer.folder / "film", MIB)
    good(sharer.run("add", source))
    place = next(sharer.home.rglob(name), sharer.home / name)
    place.unlink(missing_ok=True)
    make(place)
    place.chmod(0o700)
    told = TOLD | ({"lock": 7, "control": 7} if place.is_dir() else {})
    outcome = sharer.run("id", timeout=SECONDS)
    assert outcome.code in (0, told.get(name)) and "Traceback" not in outcome.err, str(outcome)
    for words in (("add", source), ("get", "bafkqabtimvwgy3yk", "-o", "new")):
        outcome = sharer.run(*words, timeout=SECONDS)
        if name in told:
            complaint(outcome, told[name], "home" if name in ("lock", "control") else name)
        else:
            assert "Traceback" not in good(outcome).err, str(outcome)


@pytest.mark.parametrize("kind", ["FIFO", "directory", "damaged"])
def test_announcements_that_cannot_be_read_are_one_sentence_of_who_seeks(sharer: Machine, kind: str) -> None:
    good(sharer.run("id"))
    place = sharer.home / "announcements"
    if kind == "damaged":
        place.write_bytes(b"nonsense")
        place.chmod(0o600)
    else:
        (os.mkfifo if kind == "FIFO" else os.mkdir)(place, 0o600)
    outcome = sharer.run("get", ABSENT, "--timeout", "2", timeout=SECONDS)
    complaint(outcome, 3)
    assert sum(str(place) in line for line in outcome.err.splitlines()) == 1, str(outcome)


def test_a_log_that_is_a_fifo_is_refused(sharer: Machine) -> None:
    good(sharer.run("id"))
    os.mkfifo(sharer.home / "daemon.log", 0o600)
    complaint(sharer.run("daemon", timeout=SECONDS), 7, "daemon.log")
