"""A daemon: how it is ended, and that it goes on with what was handed to it."""

from tests.acceptance.kit import MIB, Machine, complaint, good, make_file, sha256, until


def test_use_37_a_daemon_is_stopped_by_a_command_and_nothing_else_is(sharer: Machine) -> None:
    assert "no node runs" in good(sharer.run("stop")).err
    with sharer.daemon() as daemon:
        good(sharer.run("stop"))
        good(daemon.wait(10))
    with sharer.sharing(make_file(sharer.folder / "f", 1000)) as (process, _):
        complaint(sharer.run("stop"), 7, "Ctrl-C there ends it")
        assert process.running


def test_use_36_a_daemon_goes_on_with_what_was_handed_to_it_when_it_starts_again(
    sharer: Machine, receiver: Machine
) -> None:
    film = make_file(sharer.folder / "film.bin", 4 * MIB)
    with sharer.sharing(film, "--up", "2M") as (_, shared):
        with receiver.daemon() as daemon:
            good(receiver.run("get", shared["ticket"], "--detach"))
            daemon.kill()
        assert not (receiver.folder / "film.bin").exists()
        with receiver.daemon():
            until((receiver.folder / "film.bin").exists, 30, "the fetch that was cut off")
    assert sha256(receiver.folder / "film.bin") == sha256(film)
