"""Nothing a stranger wrote reaches a terminal, or whoever reads our JSON, as anything but text (attack 8)."""

import errno
import json
import logging
import types
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import cid as py_cid
import click
import pytest
from click.testing import CliRunner

from stack.cli import COMMANDS, output
from stack.cli.app import complain, run
from stack.cli.logs import log_to_stderr
from stack.files.sources import read_source
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import TopicMessage
from stack.node.config import Config

EVIL = "a\x1b[31m\x07\x9b2J\x7f\u202e\u2066\u200b\u061c\ufeff\n\r\u2028\U000e0041b"
"""Escape sequences in both forms, DEL, reversed and invisible text, line ends."""
PEER = PeerId.parse("12D3KooWLS5s8EtEo9ugm5vwqtxzQQBTcQGRKcLBzGjyhx83tyzD")
CID = Cid.of(b"content")


def hostile(kind: Any) -> Any:
    """A value of this type with hostile text wherever there is text."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return hostile(next(each for each in get_args(kind) if each is not type(None)))
    if origin is tuple:
        return (hostile(get_args(kind)[0]),)
    simple = {
        str: EVIL,
        int: 3,
        float: 1.5,
        bool: True,
        bytes: EVIL.encode(),
        Path: Path(f"/{EVIL}"),
        Cid: CID,
        PeerId: PEER,
    }
    if kind in simple:
        return simple[kind]
    if kind is Multiaddr:
        return Multiaddr.parse(f"/unix/{EVIL}")
    if kind is TopicMessage:
        return TopicMessage(topic=EVIL, author=PEER, seqno=1, id=EVIL, data=EVIL.encode(), dropped=9)
    assert is_dataclass(kind), kind
    hints = get_type_hints(kind)
    return kind(**{field.name: hostile(hints[field.name]) for field in fields(kind)})


def answer_of(request: object) -> Any:
    return get_args(next(base for base in type(request).__orig_bases__ if get_args(base)))[0]  # type: ignore[attr-defined]


class HostileApi:
    """Answers every request with hostile text."""

    is_elsewhere = False

    async def ask(self, request: object) -> Any:
        return hostile(answer_of(request))

    @asynccontextmanager
    async def watch(self, request: object) -> AsyncIterator[AsyncIterator[Any]]:
        kind = answer_of(request)
        kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)

        async def events() -> AsyncIterator[Any]:
            for each in kinds:
                yield hostile(each)

        yield events()

    async def write(self, request: object, data: AsyncIterator[bytes]) -> Any:
        async for _ in data:
            pass
        return hostile(answer_of(request))


LINES: list[tuple[str, ...]] = [
    ("share", "FILE", "--once", "--no-qr"),
    ("get", str(CID)),
    ("shares", "ls"),
    ("shares", "rm", EVIL),
    ("ticket", EVIL),
    ("find", "word" + EVIL),
    ("providers", str(CID)),
    ("announce", "ls"),
    ("announce", "withdraw", str(CID)),
    ("jobs",),
    ("jobs", "rm", "1"),
    ("jobs", "pause", "1"),
    ("jobs", "resume", "1"),
    ("add", "FILE"),
    ("ls", str(CID)),
    ("peers",),
    ("connect", "/ip4/127.0.0.1/tcp/1"),
    ("disconnect", str(PEER)),
    ("ping", str(PEER)),
    ("pubsub", "ls"),
    ("pubsub", "peers"),
    ("pubsub", "sub", "topic"),
    ("pubsub", "pub", "topic", EVIL),
    ("pin", "ls"),
    ("pin", "add", str(CID)),
    ("pin", "rm", str(CID)),
    ("gc",),
    ("repo", "stat"),
    ("repo", "verify"),
    ("car", "import", "FILE"),
    ("block", "put", "FILE"),
    ("block", "stat", str(CID)),
    ("doctor",),
]
OTHERS = {
    "cat",
    "car export",
    "block get",
    "daemon",
    "stop",
    "id",
    "bench",
    "key",
    "config",
    "demo",
    "completion",
    "schema",
}
"""Bytes that were asked for, or nothing that anybody else has written."""


def harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HostileApi]:
    """Every command asks a node whose answers are hostile."""
    made = HostileApi()

    @asynccontextmanager
    async def open_api(config: Config, typed: object = None) -> AsyncIterator[HostileApi]:
        yield made

    monkeypatch.setenv("STACK_HOME", str(tmp_path / "home"))
    places = {row.partition(":")[0] for row in COMMANDS.values()} | {"stack.cli.session"}
    for module in [
        import_module(place) for place in places
    ]:  # all before the first is changed, or they keep what they took from it
        if hasattr(module, "open_api"):
            monkeypatch.setattr(module, "open_api", open_api)
    yield made


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("words", LINES, ids=lambda words: " ".join(words[:2]).encode("ascii", "ignore").decode()[:20])
def test_attack_8_no_command_passes_on_what_a_terminal_obeys(
    words: tuple[str, ...], as_json: bool, api: HostileApi, tmp_path: Path
) -> None:
    (tmp_path / "FILE").write_bytes(b"content")
    words = tuple(str(tmp_path / "FILE") if word == "FILE" else word for word in words)
    if as_json:
        words += ("--jsonl",) if words[:2] == ("pubsub", "sub") else ("--json",)
    home, _, attribute = COMMANDS[words[0]].partition(":")
    command: click.Command = getattr(import_module(home), attribute)
    outcome = CliRunner().invoke(command, list(words[1:]))
    assert outcome.exception is None or isinstance(outcome.exception, SystemExit), outcome.exception
    assert outcome.exit_code in (0, 3, 8), outcome.output
    assert harmless(outcome.stdout) and harmless(outcome.stderr)
    if as_json:
        for line in outcome.stdout.splitlines():
            assert json.loads(line)["schema"]


def test_every_command_is_in_the_table() -> None:
    assert set(COMMANDS) - {words[0] for words in LINES} <= OTHERS


@pytest.mark.parametrize("say", [output.data, output.note, complain, output.command, output.Progress().say])
def test_every_way_to_say_something_is_harmless(say: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    say(f"{EVIL} \udcff C:\\\\x1b")
    captured = capsys.readouterr()
    line = captured.out or captured.err
    assert harmless(line) and line.count("\n") == 1 and "C:\\\\x1b" in line and "\\x9b2J\\x7f" in line


def test_json_is_read_as_what_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    output.json_line({"name": EVIL, "byte": "\udcff", "plain": "é漢😀"})
    line = capsys.readouterr().out
    assert harmless(line) and "é漢😀" in line
    assert json.loads(line) == {"schema": 1, "name": EVIL, "byte": "\udcff", "plain": "é漢😀"}


def test_what_is_logged_is_harmless(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    handler = logging.lastResort
    assert handler is not None
    before = handler.formatter
    log_to_stderr()
    try:
        raise ValueError(EVIL)
    except ValueError:
        record = logging.LogRecord("stack", logging.ERROR, __file__, 1, "of %s", (EVIL,), exc_info=True)
    handler.handle(record)
    handler.setFormatter(before)
    assert harmless(capsys.readouterr().err)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_py_cid_works_where_a_command_reads_or_shows_one(
    options: tuple[str, ...], api: HostileApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the running path of `share` and of `get CID`; finding of the review, section 3."""
    (tmp_path / "FILE").touch()
    made: list[object] = []
    make = py_cid.make_cid
    monkeypatch.setattr(py_cid, "make_cid", lambda *args: (made.append(args), make(*args))[1])
    share = import_module("stack.cli.share").share
    CliRunner().invoke(share, [str(tmp_path / "FILE"), "--once", "--no-qr", *options])
    assert set(made) == {(1, "raw", CID.multihash)}
    made.clear()
    assert read_source(CID.text).root == CID
    assert made == [(CID.text,)]


@click.command()
def gone() -> None:
    """A command whose reader has gone."""
    raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_a_reader_that_has_gone_is_no_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`stack cat CID | head`: click made exit code 1 of it, which is kept for bugs."""
    monkeypatch.setitem(COMMANDS, "gone", f"{__name__}:gone")
    with pytest.raises(SystemExit) as ended:
        run(["gone"])
    assert ended.value.code == 141 and capsys.readouterr().err == ""
