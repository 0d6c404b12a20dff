"""`stack pubsub` between two daemons, and without one."""

import base64
import signal

import pytest

from tests.acceptance.kit import Machine, good, until


def peers_of(machine: Machine, topic: str) -> int:
    return len(good(machine.run("pubsub", "peers", topic, "--json")).json["items"])


def test_messages_go_from_daemon_to_daemon(sharer: Machine, receiver: Machine) -> None:
    with sharer.daemon(), receiver.daemon():
        good(receiver.run("connect", sharer.address()))
        with (
            receiver.start("pubsub", "sub", "news", "--jsonl") as lines,
            receiver.start("pubsub", "sub", "news") as plain,
        ):
            until(lambda: peers_of(sharer, "news"), 20, "the subscription is known")
            plain.next_said("in topic news")
            lines.next_said("in topic news")
            sent = good(sharer.run("pubsub", "pub", "news", "hello", "--json")).json
            assert sent["peers"] == 1
            message = lines.next_json(20)
            identity = good(sharer.run("id", "--json")).json["peer_id"]
            assert (message["author"], message["topic"], message["data"]) == (identity, "news", "hello")
            assert message["encoding"] == "text" and message["id"] == sent["id"] and message["seqno"] > 0
            assert plain.next_line(20) == "hello"
            good(sharer.run("pubsub", "pub", "news", "-", data=b"\xff\n\x00"))
            message = lines.next_json(20)
            assert message["encoding"] == "base64" and base64.b64decode(message["data"]) == b"\xff\n\x00"
            (topic,) = good(receiver.run("pubsub", "ls", "--json")).json["items"]
            assert topic["topic"] == "news" and topic["peers"] == 0  # the other one only sends
            assert "news" in good(receiver.run("pubsub", "ls")).out
            for process in (lines, plain):
                assert process.stop(signal.SIGINT).code == 130
        until(lambda: not good(receiver.run("pubsub", "ls", "--json")).json["items"], 20, "nobody is subscribed")


def test_without_a_daemon_a_peer_is_named(sharer: Machine, receiver: Machine) -> None:
    with sharer.daemon(), sharer.start("pubsub", "sub", "news") as subscriber:
        until(lambda: good(sharer.run("pubsub", "ls", "--json")).json["items"], 20, "subscribed")
        outcome = good(receiver.run("pubsub", "pub", "news", "hello", "--connect", sharer.address()))
        assert "1 peer" in outcome.err
        assert subscriber.next_line(20) == "hello"
        assert subscriber.stop(signal.SIGINT).code == 130


@pytest.mark.parametrize(
    ("words", "data", "code"),
    [
        (("pub", "", "x"), None, 2),
        (("pub", "t" * 1025, "x"), None, 2),
        (("sub",), None, 2),
        (("pub", "t", "-"), bytes(1 << 20), 7),
        (("pub", "t", "x", "--connect", "here"), None, 2),
    ],
)
def test_B_bad_words_have_their_exit_code(
    sharer: Machine, words: tuple[str, ...], data: bytes | None, code: int
) -> None:
    outcome = sharer.run("pubsub", *words, data=data)
    assert outcome.code == code and len(outcome.err.splitlines()) <= 2


def test_with_the_setting_off_the_command_says_so(sharer: Machine) -> None:
    good(sharer.run("config", "set", "pubsub", "off"))
    outcome = sharer.run("pubsub", "ls")
    assert outcome.code == 7 and "pubsub" in outcome.err
