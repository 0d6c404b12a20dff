"""What is looked at is told as it is: settings as TOML, what nobody looked at, where nobody listens (points 39, 42, 44, 45, 51)."""

import logging
import tomllib

import pytest

from stack.cli.logs import log_to_stderr
from stack.node.config import SETTINGS
from tests.acceptance.kit import Machine, good


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


@pytest.mark.parametrize(("level", "is_heard"), [("debug", True), ("", False), ("nonsense", False)])
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
