"""Several commands of one home: who holds it ends when it is done, and the others go on (use 26)."""

import signal
from pathlib import Path

import pytest

from tests.acceptance.kit import MIB, Machine, good, make_file, sha256, until


def test_use_26_a_share_lives_on_when_the_get_that_held_the_home_is_complete(
    place: Path, sharer: Machine, receiver: Machine
) -> None:
    film, mine = make_file(sharer.folder / "film.bin", 4 * MIB), make_file(receiver.folder / "mine.bin", MIB, seed=2)
    third = Machine(place / "c")
    with (
        sharer.sharing(film, "--up", "1M") as (_, shared),
        receiver.start("get", shared["ticket"], "--jsonl") as getting,
    ):
        getting.next_progress(1)
        with receiver.sharing(mine) as (sharing, other):
            assert len(receiver.shares()) == 1
            finished = good(getting.wait(60))
            assert "staying" not in finished.err
            sharing.next_said("going on")
            until(lambda: receiver.run("id", "--json").json["pid"] == sharing.pid, 20, "the home's new holder")
            good(third.run("get", other["ticket"], "--from", receiver.address(), "--timeout", "20", "-o", "mine.bin"))
            good(sharing.stop(signal.SIGINT))
        assert receiver.shares() == []
    assert sha256(third.folder / "mine.bin") == sha256(mine)
    assert sha256(receiver.folder / "film.bin") == sha256(film)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_use_26_a_get_goes_on_when_the_share_that_held_the_home_ends(
    sharer: Machine, receiver: Machine, stop: signal.Signals
) -> None:
    film, mine = make_file(sharer.folder / "film.bin", 4 * MIB), make_file(receiver.folder / "mine.bin", MIB, seed=2)
    with sharer.sharing(film, "--up", "1M") as (_, shared), receiver.sharing(mine) as (sharing, _):
        with receiver.start("get", shared["ticket"], "--jsonl") as getting:
            getting.next_progress(1)
            sharing.stop(stop)
            good(getting.wait(60))
        assert receiver.shares() == []
    assert sha256(receiver.folder / "film.bin") == sha256(film)
