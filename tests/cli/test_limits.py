"""`--up` and `--down`: the real rate between real processes, shared by receivers, and what is typed wrong."""

import pytest

from tests.acceptance.kit import LOOPBACK, MIB, Machine, complaint, good, make_file, sha256

SIZE = 6 * MIB
RATE = 4 * MIB
LEAST = (SIZE - RATE / 10) / RATE
"""Seconds for one copy: all but the burst of a tenth of a second."""


def test_two_receivers_share_the_upload_and_get_each_block_once(sharer: Machine, receiver: Machine) -> None:
    file = make_file(sharer.folder / "f.bin", SIZE)
    with sharer.sharing(file, "--up", "4M") as (_, shared):
        arguments = ("get", shared["ticket"], "--no-serve", "--json", "-o")
        with (
            receiver.start(*arguments, "one") as first,
            Machine(receiver.folder / "c").start(*arguments, "two") as second,
        ):
            seconds = [good(process.wait(60)).json["seconds"] for process in (first, second)]
        assert max(seconds) >= 2 * LEAST - 0.5 and min(seconds) > 0.7 * max(seconds)
        assert sharer.bytes_sent() < 1.02 * 2 * SIZE
    assert sha256(receiver.folder / "one") == sha256(file)


def test_a_receiver_takes_no_more_than_it_was_told_to(sharer: Machine, receiver: Machine) -> None:
    file = make_file(sharer.folder / "f.bin", SIZE)
    with sharer.sharing(file) as (_, shared):
        finished = good(receiver.run("get", shared["ticket"], "--down", "4MB/s", "--json")).json
        assert finished["seconds"] >= LEAST
        assert sharer.bytes_sent() < 1.02 * SIZE


@pytest.mark.parametrize(
    "flags",
    ["--up 2M", "--down 2M", "--listen /ip4/127.0.0.1/tcp/1", "--bootstrap /ip4/127.0.0.1/tcp/1", "--no-mdns"],
)
def test_use_33_what_a_running_node_cannot_change_is_refused_and_nothing_is_done(sharer: Machine, flags: str) -> None:
    file = make_file(sharer.folder / "f.bin", 1000)
    sharer.environment["STACK_MDNS"] = "1"
    with sharer.daemon("--up", "1M", "--down", "1M"):
        complaint(sharer.run("share", file, *flags.split()), 2, flags.split()[0], "stack daemon")
        assert sharer.shares() == []


def test_what_a_running_node_has_so_already_is_not_refused(sharer: Machine) -> None:
    file = make_file(sharer.folder / "f.bin", 1000)
    with sharer.daemon("--up", "1M", "--no-mdns"):
        good(sharer.run("share", file, "--up", "1M", "--no-mdns", "--listen", LOOPBACK, "--keep"))


@pytest.mark.parametrize("rate", ["fast", "-1", "4X", "inf", "nan", "1K", "9" * 40])
def test_B_a_bad_rate_is_a_usage_error(sharer: Machine, rate: str) -> None:
    outcome = sharer.run("daemon", "--up", rate)
    assert outcome.code == 2 and len(outcome.err.splitlines()) <= 2
