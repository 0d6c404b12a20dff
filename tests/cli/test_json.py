"""One form for programs: every command has `--json`, of the shape that its schema says, errors too."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from stack.cli import output
from stack.cli.app import cli, run
from stack.cli.schema import commands_of, kinds_of, schema_of
from stack.multiformats.cid import Cid
from tests.cli.test_output import LINES, HostileApi, api, hostile  # noqa: F401 - a fixture

CID = str(Cid.of(b"content"))

WITHOUT = {
    "stack cat": "prints the bytes of a file",
    "stack block get": "prints the bytes of a block",
    "stack car export": "prints an archive, or writes one",
    "stack completion": "prints a script",
    "stack schema": "prints JSON of its own: the schema of all this",
    "stack pubsub sub": "goes on until it is ended: --jsonl",
}
"""Commands without `--json`, and why."""

COMMANDS = dict(commands_of(cli))


@cache
def whole() -> dict[str, Any]:
    return schema_of(cli)  # type: ignore[return-value] # Json


@cache
def closed() -> dict[str, Any]:
    """The same, but that what is printed and not documented is found."""
    return schema_of(cli, closed=True)  # type: ignore[return-value] # Json


def check(command: str, option: str, line: str) -> dict[str, Any]:
    """The object in a line of a command's output, if it is what the schema says."""
    value: dict[str, Any] = json.loads(line)
    form = {**closed()["commands"][command][option], "$defs": closed()["$defs"]}
    Draft202012Validator(form).validate(value)
    return value


def test_the_schema_is_one_and_the_file_in_the_tree_is_the_same() -> None:
    """`stack schema > docs/schema.json` writes it."""
    Draft202012Validator.check_schema(whole())
    for forms in whole()["commands"].values():
        for form in forms.values():
            Draft202012Validator.check_schema(form)
    written = (Path(__file__).parents[2] / "docs" / "schema.json").read_text()
    assert json.loads(written) == whole()
    done = CliRunner().invoke(cli, ["schema"])
    assert done.stdout == written


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_json_or_a_reason(name: str) -> None:
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert ("--json" in options) == (name not in WITHOUT)
    assert set(whole()["commands"].get(name, {})) == options & {"--json", "--jsonl"}


def test_one_thing_has_one_name() -> None:
    names = {name for form in whole()["$defs"].values() for name in form["properties"]}
    assert not names & {"root", "addrs", "peer", "total", "total_bytes", "from", "path_name", "ok_"}


@pytest.mark.parametrize("name", whole()["commands"])
def test_every_answer_that_a_command_names_is_printed_as_its_schema_says(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = COMMANDS[name].callback
    if (answer := getattr(callback, "answers", None)) is not None:
        for kind in kinds_of(answer.kind):
            output.json_line((hostile(kind), hostile(kind)) if answer.many else hostile(kind))
            check(name, "--json", capsys.readouterr().out)
    if (told := getattr(callback, "tells", None)) is not None:
        for kind in kinds_of(told.kind):
            output.event_line(hostile(kind))
            check(name, "--jsonl", capsys.readouterr().out)


@pytest.mark.parametrize("words", LINES, ids=lambda words: " ".join(words[:2]).encode("ascii", "ignore").decode()[:20])
def test_what_commands_say_of_a_node_is_what_their_schema_says(
    words: tuple[str, ...],
    api: HostileApi,  # noqa: F811
    tmp_path: Path,
) -> None:
    (tmp_path / "FILE").write_bytes(b"content")
    words = tuple(str(tmp_path / "FILE") if word == "FILE" else word for word in words)
    name = next(name for length in (2, 1) if (name := " ".join(["stack", *words[:length]])) in COMMANDS)
    options = whole()["commands"][name]
    for option in options:
        outcome = CliRunner().invoke(cli, [*words, option])
        assert outcome.exit_code in (0, 3, 8), outcome.output
        lines = outcome.stdout.splitlines()
        assert lines and (option == "--jsonl" or len(lines) == 1), outcome.stdout
        for line in lines:
            check(name, option, line)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, on loopback."""
    monkeypatch.setenv("STACK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STACK_LISTEN", "/ip4/127.0.0.1/tcp/0")
    monkeypatch.setenv("STACK_MDNS", "0")
    monkeypatch.setenv("STACK_PORTMAP", "0")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def said(command: str, *words: str, code: int = 0) -> dict[str, Any]:
    """What a command prints with `--json`, checked."""
    outcome = CliRunner().invoke(cli, [*command.split()[1:], *words, "--json"])
    assert outcome.exit_code == code, (outcome.output, outcome.exception)
    (line,) = outcome.stdout.splitlines()
    return check(command, "--json", line)


def test_commands_about_a_home_say_what_their_schema_says(home: Path, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.txt").write_text("one file")
    info = said("stack id")
    assert info["home"] == str(home) and said("stack key show")["peer_id"] == info["peer_id"]
    (added,) = said("stack add", "tree", "--copy")["items"]
    listed = said("stack ls", added["cid"])
    assert [entry["name"] for entry in listed["items"]] == ["a.txt"] and listed["totals"]["files"] == 1
    assert [pin["cid"] for pin in said("stack pin ls")["items"]] == [added["cid"]]
    block = said("stack block put", "tree/a.txt")
    assert said("stack block stat", block["cid"])["size"] == block["size"] == 8
    CliRunner().invoke(cli, ["car", "export", added["cid"], "tree.car"], catch_exceptions=False)
    assert len(said("stack car ls", "tree.car")["items"]) == 3
    assert said("stack car import", "tree.car")["roots"] == [added["cid"]]
    assert said("stack gc", "--dry-run")["dry_run"]
    assert said("stack repo verify")["problems"] == 0 and said("stack repo stat")["blocks"] > 0
    assert said("stack repo rebuild")["blocks"] > 0
    assert said("stack shares ls")["items"][0]["why"] == ["pinned"]
    assert said("stack ticket", added["cid"])["items"] and said("stack jobs")["items"] == []
    assert said("stack pin rm", added["cid"])["count"] == 1
    assert said("stack peers")["items"] == []
    assert said("stack config set", "upload_limit", "4M")["value"] == 4 << 20
    assert said("stack config get", "upload_limit")["origin"] == "file"
    assert said("stack config unset", "upload_limit")["origin"] == "default"
    assert len(said("stack config ls")["items"]) > 10 and said("stack config path")["path"].endswith("config.toml")
    assert said("stack key export", "key")["path"] == str(tmp_path / "key")
    assert said("stack key new", "--yes")["peer_id"] != info["peer_id"]
    assert said("stack key import", "key")["peer_id"] == info["peer_id"]
    assert {row["check"] for row in said("stack doctor", "--quick")["items"]} >= {"python", "settings"}
    assert said("stack bench hash", "--size", "1MiB")["items"][0]["mib_per_s"] > 0
    assert said("stack bench store", "--size", "1MiB")["items"]
    assert said("stack stop")["pid"] is None


ERRORS = {
    "stack block stat": ([CID], "BlockNotFound", 3),
    "stack car ls": (["not there"], "UsageError", 2),
    "stack config get": (["colour"], "ConfigError", 2),
    "stack connect": (["/ip4/127.0.0.1/tcp/1"], "DialError", 3),
    "stack id": (["--colour"], "UsageError", 2),
    "stack pin add": (["no cid"], "UsageError", 2),
    "stack pin rm": ([], "UsageError", 2),
}


@pytest.mark.parametrize("command", ERRORS)
def test_an_error_has_one_form_too(command: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, kind, code = ERRORS[command]
    with pytest.raises(SystemExit) as ended:
        run([*command.split()[1:], *words, "--json"])
    captured = capsys.readouterr()
    error = check(command, "--json", captured.out)["error"]
    assert (error["kind"], error["exit_code"], ended.value.code) == (kind, code, code), captured
    assert captured.err.rstrip().endswith(f"stack: {error['message']}")


def test_without_json_an_error_prints_nothing_on_stdout(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["block", "stat", CID])
    assert capsys.readouterr().out == ""


def test_what_is_not_there_is_told_beside_the_answer(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nobody = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
    for command, words in (
        ("stack pin rm", [CID]),
        ("stack shares rm", ["film"]),
        ("stack announce withdraw", [CID]),
        ("stack ticket", ["film"]),
        ("stack jobs rm", ["77", "78"]),
        ("stack disconnect", [nobody]),
        ("stack providers", [CID, "--timeout", "0.1"]),
        ("stack pubsub pub", ["talk", "hello"]),
    ):
        with pytest.raises(SystemExit) as ended:
            run([*command.split()[1:], *words, "--json"])
        captured = capsys.readouterr()
        (line,) = captured.out.splitlines()
        answer = check(command, "--json", line)
        assert (ended.value.code, answer["error"]["exit_code"], answer["error"]["kind"]) == (3, 3, "NotFound"), command
        assert len(answer) > 2 and captured.err.endswith(f"stack: {answer['error']['message']}\n")
    with pytest.raises(SystemExit):
        run(["providers", CID, "--timeout", "0.1", "--jsonl"])
    assert "error" in check("stack providers", "--jsonl", capsys.readouterr().out)


def test_one_form_is_asked_for(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for both in (["--json", "--jsonl"], ["--jsonl", "--json"]):
        with pytest.raises(SystemExit) as ended:
            run(["get", CID, *both])
        error = check("stack get", "--json", capsys.readouterr().out)["error"]
        assert (ended.value.code, error["kind"]) == (2, "UsageError")
