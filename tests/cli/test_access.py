"""What `share` says of who can fetch, and who can, from one command line to another."""

import signal

from tests.acceptance.kit import Machine, good, make_file, sha256
from tests.acceptance.process import complaint

KIB = 1024


def test_a_plain_share_is_for_who_has_the_ticket_and_an_open_one_for_who_knows_the_cid(
    sharer: Machine, receiver: Machine
) -> None:
    source = make_file(sharer.folder / "film.mkv", 700 * KIB)
    with sharer.sharing(source) as (process, shared):
        assert not shared["open"]
        address = f"{shared['addresses'][0]}"
        command = ("get", shared["cid"], "--from", address, "-o", "got.mkv")
        complaint(receiver.run(*command, "--timeout", "2"), 3)
        assert not (receiver.folder / "got.mkv").exists()
        good(receiver.run("get", shared["ticket"], "-o", "got.mkv"))
        assert sha256(receiver.folder / "got.mkv") == sha256(source)
        process.stop(signal.SIGINT)
    with sharer.sharing(source, "--open") as (process, shared):
        assert shared["open"]
        good(receiver.run("get", shared["cid"], "--from", f"{shared['addresses'][0]}", "-o", "open.mkv"))
        process.next_said("without the ticket")
        process.stop(signal.SIGINT)


def test_what_was_added_before_is_told_to_be_open(sharer: Machine) -> None:
    source = make_file(sharer.folder / "film.mkv", 10 * KIB)
    good(sharer.run("add", "-q", source))
    with sharer.sharing(source, "--no-preserve-mtime") as (process, shared):
        assert shared["open"]
        process.next_said("stack shares rm")
        process.stop(signal.SIGINT)
