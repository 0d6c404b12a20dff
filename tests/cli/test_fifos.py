"""A FIFO in the place of a file of the home holds nothing up: it is told, and not waited for."""

import os

import pytest

from tests.acceptance.kit import MIB, Machine, complaint, good, make_file

SECONDS = 15.0
"""Less than what the kit waits: a command that hangs is told by its name."""

TOLD = {"config.toml": 2, "identity.key": 7, "version": 7, "swarm.key": 2, "index.sqlite": 7, "jobs.sqlite": 7}
"""What cannot be done without, and the code that a command ends with."""


@pytest.mark.parametrize(
    "name", [*TOLD, "control", "peers.json", "port", "announcements", "known.sqlite", "lock", "daemon.log"]
)
def test_a_fifo_in_the_home_holds_nothing_up(sharer: Machine, name: str) -> None:
    source = make_file(sharer.folder / "film", MIB)
    good(sharer.run("add", source))
    place = next(sharer.home.rglob(name), sharer.home / name)
    place.unlink(missing_ok=True)
    os.mkfifo(place, 0o600)
    assert sharer.run("id", timeout=SECONDS).code in (0, TOLD.get(name))
    for words in (("add", source), ("get", "bafkqabtimvwgy3yk", "-o", "new")):
        outcome = sharer.run(*words, timeout=SECONDS)
        if name in TOLD:
            complaint(outcome, TOLD[name], name)
        else:
            good(outcome)


def test_a_log_that_is_a_fifo_is_refused(sharer: Machine) -> None:
    good(sharer.run("id"))
    os.mkfifo(sharer.home / "daemon.log", 0o600)
    complaint(sharer.run("daemon", timeout=SECONDS), 7, "daemon.log")
