"""What is looked at is told as it is: settings as TOML, what nobody looked at, where nobody listens (points 39, 42, 44, 45, 51)."""

import logging
import shutil
import tomllib

import pytest

from stack.cli.logs import log_to_stderr
from stack.node.config import SETTINGS
from tests.acceptance.kit import Machine, complaint, good, make_file


def test_settings_are_listed_as_toml_writes_them(sharer: Machine) -> None:
    good(sharer.run("config", "set", "bootstrap", "/ip4/127.0.0.1/tcp/1"))
    lines = [line.rpartition("  (")[0] for line in good(sharer.run("config", "ls")).lines]
    read = tomllib.loads("\n".join(lines))
    assert list(read) == list(SETTINGS)
    assert read["pubsub"] is True and read["store"] == "" and read["bootstrap"] == ["/ip4/127.0.0.1/tcp/1"]
    assert good(sharer.run("config", "get", "pubsub")).lines == ["true"]
    assert good(sharer.run("config", "get", "key_type")).lines == ["ed25519"]


def test_a_message_that_nobody_heard_is_no_success(sharer: Machine) -> None:
    outcome = sharer.run("pubsub", "pub", "news", "hello")
    assert outcome.code == 3 and "nobody heard it" in outcome.err


def test_where_no_node_stays_a_connection_does_not_either(sharer: Machine, receiver: Machine) -> None:
    assert "no node runs" in good(sharer.run("peers")).err
    with receiver.daemon():
        outcome = good(sharer.run("connect", receiver.address()))
    assert "can be reached" in outcome.out and "no node runs" in outcome.err


def test_doctor_says_ok_only_of_what_it_looked_at(sharer: Machine) -> None:
    (reach,) = [line for line in sharer.run("doctor").lines if "reach:" in line]
    assert reach.startswith("unknown")


@pytest.mark.parametrize(("level", "is_heard"), [("debug", True), ("", False), ("warning", False)])
def test_the_log_is_shown_where_that_is_asked_for(
    level: str, is_heard: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before, handlers = root.level, list(root.handlers)
    last = logging.lastResort
    assert last is not None
    formatter = last.formatter
    monkeypatch.setenv("STACK_LOG", level)
    try:
        log_to_stderr()
        logging.getLogger("stack.test").debug("a \x1b[31mline")
        heard = capsys.readouterr().err
    finally:
        root.setLevel(before)
        root.handlers[:] = handlers
        logging.getLogger("asyncio").setLevel(logging.NOTSET)
        last.setFormatter(formatter)
    assert ("DEBUG stack.test: a \\x1b[31mline" in heard) == is_heard


def test_an_identity_that_stays_is_told(sharer: Machine) -> None:
    """Point 54: `key new` answered `n` said nothing."""
    before = good(sharer.run("key", "show")).lines
    outcome = sharer.run("key", "new", data=b"n\n")
    assert outcome.code == 7 and "the identity stays as it is" in outcome.err
    assert good(sharer.run("key", "show")).lines == before


def test_a_name_that_is_another_here_is_told(sharer: Machine, receiver: Machine) -> None:
    """`-dash` arrived as `_dash`, without a word."""
    for name, here in (("-dash", "_dash"), ("two\nlines", "two_lines"), ("plain", "plain")):
        source = make_file(sharer.folder / name, 1000)
        with sharer.sharing(source) as (_, shared):
            outcome = good(receiver.run("get", shared["ticket"]))
            assert ("renamed" in outcome.err) == (name != here)
            assert (receiver.folder / here).is_file()
            assert "renamed" not in good(receiver.run("get", shared["ticket"], "-o", "other")).err
            (receiver.folder / "other").unlink()


def test_a_copy_of_a_home_says_why_it_does_not_find_the_other(sharer: Machine, receiver: Machine) -> None:
    """`nobody is known who has it`."""
    source = make_file(sharer.folder / "film.mkv", 1000)
    good(sharer.run("id"))
    receiver.home.mkdir(mode=0o700)
    shutil.copy(sharer.home / "identity.key", receiver.home)
    with sharer.sharing(source) as (_, shared):
        assert "a copy of its identity.key" in receiver.run("get", shared["ticket"], "--timeout", "4").err


def test_several_tickets_in_one_text_are_told(sharer: Machine, receiver: Machine) -> None:
    """One was fetched, and nothing said of the other."""
    tickets = []
    for number in range(2):
        with sharer.sharing(make_file(sharer.folder / f"{number}.bin", 1000, number)) as (_, shared):
            tickets.append(shared["ticket"])
    outcome = receiver.run("get", "-", data="\n".join(tickets).encode())
    complaint(outcome, 2, "2 tickets", "one at a time")


def test_several_shares_end_at_once_and_all_jobs_are_named_by_an_option(sharer: Machine) -> None:
    sources = [make_file(sharer.folder / f"{number}.bin", 1000, number) for number in range(2)]
    with sharer.daemon():
        for source in sources:
            good(sharer.run("share", source, "--keep", "--no-qr"))
        outcome = sharer.run("shares", "rm", *sources, sharer.folder / "none")
        assert outcome.code == 3 and len([line for line in outcome.lines if "no longer" in line]) == 2
        assert "none is not shared" in outcome.err and sharer.shares() == []
    complaint(sharer.run("jobs", "resume", "all"), 2, "all is no number of a job", "--all")
    complaint(sharer.run("jobs", "rm", "all"), 2, "--ended")
