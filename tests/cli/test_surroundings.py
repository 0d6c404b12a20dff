"""What a shell, a supervisor or another tool leaves of a process's surroundings: closed streams, signals, names that are no text, settings
that are set to nothing. A command does its work there, or says in one sentence why not."""

import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

import pytest

from stack import Config, Node, RunningNode
from stack.cli.app import run
from stack.cli.daemon import _serve
from stack.cli.types import SOURCE
from stack.multiformats.cid import Cid
from stack.node.api import ListJobs
from tests.acceptance.kit import Machine, complaint, good
from tests.acceptance.process import Running

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)


@pytest.mark.parametrize("closed", [("1>&-",), ("0<&-", "1>&-", "2>&-")], ids=" ".join)
def test_a_command_does_its_work_without_standard_streams(sharer: Machine, closed: Sequence[str]) -> None:
    """It ended with a traceback; and the number of a closed stream must not become that of a database."""
    (sharer.folder / "note.txt").write_text("note\n")
    line = shlex.join([sys.executable, "-m", "stack", "add", "--copy", "note.txt"])
    shell = ["sh", "-c", f"{line} {' '.join(closed)}"]
    with Running(shell, cwd=sharer.folder, environment=sharer.environment) as process:
        outcome = process.wait()
    assert (outcome.code, outcome.out) == (7, "")
    assert outcome.err == ("" if "2>&-" in closed else "stack: output was lost: stdout is closed\n")
    assert good(sharer.run("cat", Cid.of(b"note\n").text)).out == "note\n"


def closed_stdout() -> TextIO:
    """As `keep_standard_streams` makes it where there is none."""
    return os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")


def full_stdout() -> TextIO:
    return open("/dev/full", "w")


def full_stdout_without_buffer() -> TextIO:
    """As PYTHONUNBUFFERED makes it: nothing of what was lost waits to go out."""
    return TextIOWrapper(open("/dev/full", "wb", buffering=0), write_through=True)


def stdout_without_reader() -> TextIO:
    receive, send = os.pipe()
    os.close(receive)
    return os.fdopen(send, "w")


LOST = {
    closed_stdout: (7, "stack: output was lost: stdout is closed\n"),
    full_stdout: (9, "stack: output was lost: No space left on device\n"),
    full_stdout_without_buffer: (9, "stack: output was lost: No space left on device\n"),
    stdout_without_reader: (141, ""),
}
WRITES = [
    "add --copy tree",
    "block get FILE",
    "car export TREE",
    "cat FILE",
    "cat TREE/note.txt",
    "cat --help",
    "get FILE -o -",
    "id",
    "id --json",
    "ls TREE --json",
    "pin add FILE",
    "pin --help",
    "repo stat",
    "schema",
    "--help",
    "--version",
]
"""Each way in which something gets to stdout: lines, bytes, JSON, and what click writes."""


def ended_with(line: str, stdout: TextIO, monkeypatch: pytest.MonkeyPatch) -> object:
    """The exit code of a command."""
    with monkeypatch.context() as patched, pytest.raises(SystemExit) as ended:
        patched.setattr(sys, "stdout", stdout)
        run(line.split())
    stdout.close()
    return ended.value.code


@pytest.mark.parametrize("opened", LOST, ids=lambda opened: opened.__name__)
def test_output_that_reaches_nobody_is_told(
    opened: Callable[[], TextIO],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`stack cat X >&-` ended with 0 and said nothing; `stack --help | true` with 1, which is kept for bugs."""
    monkeypatch.setenv("STACK_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "note.txt").write_text("note\n")
    with (tmp_path / "cid").open("w+") as cid:
        assert ended_with("add -q --copy tree", cid, monkeypatch) == 0
    tree, file = (tmp_path / "cid").read_text().strip(), Cid.of(b"note\n").text
    found = {}
    for line in WRITES:
        code = ended_with(line.replace("TREE", tree).replace("FILE", file), opened(), monkeypatch)
        found[line] = code, capsys.readouterr().err
    assert found == dict.fromkeys(WRITES, LOST[opened])


def test_a_daemon_without_stdout_runs_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some supervisors close it: nobody waits for what it prints there."""
    with closed_stdout() as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        settings = Config(home=tmp_path / "home", role="daemon", listen=LOOPBACK, mdns=False)
        _serve(settings, lambda: os.kill(os.getpid(), signal.SIGTERM), as_json=False)
        monkeypatch.undo()
    assert capsys.readouterr().err == "output was lost: stdout is closed; it runs on\nstopping\n"


@pytest.mark.parametrize("name", ["uvloop", "TRIO"])
def test_an_event_loop_that_is_none_is_told(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STACK_BACKEND", name)
    monkeypatch.setenv("STACK_HOME", str(tmp_path / "home"))
    with pytest.raises(SystemExit) as ended:
        run(["peers"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"stack: STACK_BACKEND: {name!r} is not one of asyncio, trio\n"
    monkeypatch.setenv("STACK_BACKEND", "")  # is as if it were not set
    with pytest.raises(SystemExit) as ended:
        run(["peers"])
    assert ended.value.code == 0


NAMES = ["caf\udce9", "two\nlines", "a b ", "unix ", "\u202ertl"]


@pytest.mark.anyio
@pytest.mark.parametrize("name", NAMES, ids=ascii)
async def test_a_home_may_have_any_name(tmp_path: Path, name: str) -> None:
    """One that is not UTF-8 could not be told to other commands of the home: each ended with a traceback."""
    home = tmp_path / name
    source = tmp_path / "note.txt"
    source.write_text("note\n")
    async with Node.open(Config(home=home, listen=LOOPBACK)) as node, RunningNode.open(home) as other:
        assert (await other.identity()).home == str(home)
        cid = await other.add(source)
        await other.share(source)
        assert await node.cat(cid) == b"note\n"


@pytest.mark.anyio
@pytest.mark.parametrize("name", NAMES, ids=ascii)
async def test_what_is_shared_and_fetched_may_lie_at_any_name(tmp_path: Path, name: str) -> None:
    """A target that is not UTF-8 ended a fetch with a traceback, and what lay below such a folder could not be ended by its path, since
    another path was written down."""
    folder = tmp_path / name
    folder.mkdir()
    (folder / "note.txt").write_text("note\n")
    home = tmp_path / "home"
    async with Node.open(Config(home=home, listen=LOOPBACK)) as node, Node.open() as other:
        async with RunningNode.open(home) as asked:
            ticket = await asked.share(folder / "note.txt")
            got = await other.get(ticket, tmp_path, out=f"got {name}")
            assert got.read_text() == "note\n" and got.name == f"got {name}"
            back = await asked.get(ticket, folder, out=f"again {name}", timeout=10, seed=True)
            (job,) = await asked.ask(ListJobs())
            assert (job.target, job.error) == (str(back), None)
            assert [each.paths for each in await asked.shares()] == [(str(back),)]
            assert [each.paths for each in await asked.unshare(back)] == [(str(back),)]
        assert await node.shares() == ()


def test_a_name_for_others_is_text(sharer: Machine) -> None:
    for words in (("pin", "add", Cid.of(b"").text, "--name"), ("share", ".", "--name"), ("pubsub", "sub")):
        complaint(sharer.run(*words, "\udcff"), 2, "no text")


def test_a_ticket_is_read_from_a_pipe_that_the_shell_makes() -> None:
    """`stack get <(pass show ticket)`."""
    cid = Cid.of(b"x").text
    receive, send = os.pipe()
    with os.fdopen(receive, "rb"), os.fdopen(send, "wb") as pipe:
        pipe.write(f"{cid}\n".encode())
        pipe.close()
        assert SOURCE.convert(f"/dev/fd/{receive}", None, None) == cid


def test_a_daemon_whose_terminal_is_closed_ends_as_when_it_is_told_to(sharer: Machine) -> None:
    """SIGHUP ended it there and then."""
    with sharer.daemon() as daemon:
        daemon.send(signal.SIGHUP)
        assert "stopping" in good(daemon.wait()).err
    assert not (sharer.home / "control").exists()


def test_a_path_is_that_of_who_typed_it_and_not_of_the_daemon(sharer: Machine) -> None:
    """`stack shares rm ./note.txt` was looked for where the daemon had been started, and could end what lay there."""
    below = sharer.folder / "below"
    below.mkdir()
    for place in (sharer.folder, below):
        (place / "note.txt").write_text(str(place))
    with sharer.daemon():
        for place in (sharer.folder, below):
            good(sharer.run("share", "--keep", "note.txt", cwd=place))
        assert str(below / "note.txt") in good(sharer.run("shares", "rm", "./note.txt", cwd=below)).out
        complaint(sharer.run("shares", "rm", ""), 2, "empty name")
        (left,) = sharer.shares()
    assert left["paths"] == [str(sharer.folder / "note.txt")]
