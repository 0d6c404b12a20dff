"""What Tab offers, and that asking costs nothing and disturbs nobody (point 38)."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from click.shell_completion import ShellComplete

from stack import Config, Node
from stack.cli import completing
from stack.cli.app import cli
from stack.files.jobs import Jobs, JobState
from stack.multiformats.cid import Cid
from stack.node.settings import PROFILES
from tests.acceptance.kit import Machine

FILM, EVIL = Cid.of(b"film"), Cid.of(b"evil")
NAMES = ["film.mkv", "$(reboot).mkv", "a b", "-rf", "x;y", "new\nline", "\x1b[31m", "*", "~root", "`id`", "é"]


def offered(*words: str) -> list[str]:
    """What comes for the last of these words."""
    *before, begun = words
    items = ShellComplete(cli, {}, "stack", "_STACK_COMPLETE").get_completions(before, begun)
    return [item.value if item.type == "plain" else item.type for item in items]


class Unreadable:
    """The terminal of a person who is typing."""

    def isatty(self) -> bool:
        return True

    def __getattr__(self, name: str) -> object:
        raise AssertionError("what the user types was read")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STACK_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "stdin", Unreadable())
    return tmp_path / "home"


@pytest.fixture
def filled(home: Path) -> Path:
    """A home with jobs and shares."""

    async def fill() -> None:
        home.mkdir()
        async with await Jobs.open(home / "jobs.sqlite") as jobs:
            for name, state in (("done", "DONE"), ("cut", "INTERRUPTED"), ("bad", "FAILED")):
                job = await jobs.start_job(Cid.of(name.encode()), "", home / name, name=name)
                await jobs.end_job(job.id, JobState[state])
            for number, name in enumerate(NAMES):
                await jobs.add_share(FILM if not number else Cid.of(name.encode()), name, [], 1)

    anyio.run(fill)
    return home


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("share", ""), "file"),
        (("add", ""), "file"),
        (("get", "CID", "-o", ""), "file"),
        (("get", ""), "file"),
        (("car", "import", ""), "file"),
        (("key", "export", ""), "file"),
        (("config", "set", ""), "bootstrap"),
        (("config", "explain", "mdns", "up"), "upload_limit"),
        (("config", "set", "mdns", ""), "true"),
        (("config", "set", "profile", "unixfs-v1"), "unixfs-v1-2025"),
        (("add", "--profile", ""), PROFILES[0]),
        (("pin", ""), "ls"),
        (("jobs", "pa"), "pause"),
    ],
    ids=" ".join,
)
def test_tab_offers_paths_settings_profiles_and_commands(words: tuple[str, ...], expected: str, home: Path) -> None:
    assert expected in offered(*words)
    assert not home.exists()


def test_tab_offers_to_unset_what_is_set(home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("perf = true\n")
    assert offered("config", "unset", "") == ["perf"]


def test_tab_offers_jobs_that_the_command_is_for(filled: Path) -> None:
    assert offered("jobs", "rm", "") == ["3", "2", "1"] and offered("jobs", "cancel", "2") == ["2"]
    assert offered("jobs", "resume", "") == ["3", "2"] and offered("jobs", "pause", "") == ["2"]


def test_tab_offers_shares_and_no_name_that_a_shell_would_act_on(filled: Path) -> None:
    """Whoever shares something chooses its name, and what Tab puts on the line is run by the next Enter."""
    for words in (("shares", "rm", ""), ("ticket", "")):
        plain = {word for word in offered(*words) if not word.startswith("baf")}
        assert plain == {"film.mkv", "file"}
        assert FILM.text in offered(*words)
    assert set(offered("get", "baf")) - {"file"} == {FILM.text, *(Cid.of(name.encode()).text for name in NAMES[1:])}


@pytest.mark.parametrize("state", ["absent", "damaged", "locked", "a file"])
def test_a_home_that_is_not_well_offers_nothing_and_says_nothing(state: str, home: Path) -> None:
    if state == "a file":
        home.write_text("no folder")
    elif state != "absent":
        home.mkdir()
        (home / "jobs.sqlite").write_bytes(b"no database" * 100 if state == "damaged" else b"")
    with sqlite3.connect(home / "jobs.sqlite" if state == "locked" else ":memory:") as other:
        other.execute("CREATE TABLE job (id)")
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        assert offered("jobs", "rm", "") == [] and set(offered("get", "")) <= {"file"}
    other.close()


def test_nothing_is_read_of_what_the_user_types(home: Path) -> None:
    """`stack get <Tab>` asked for a ticket, and waited for it."""
    for words in (("get", ""), ("get", "-", ""), ("cat", "--"), ("pin", "rm", "x", "-"), ("ls", "--", "")):
        offered(*words)
    fifo = home.parent / "fifo"
    os.mkfifo(fifo)
    assert "--output" in offered("get", str(fifo), "--o")


def test_what_lies_below_a_cid_is_offered_where_a_node_runs(home: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("b.txt", "dir/c.txt", "$(x)"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)

    said = rest = ""

    async def below() -> list[list[str]]:
        nonlocal said, rest
        async with Node.open(Config(home=home)) as node:
            root = await node.add(tree)
            rest = (await node.share(tree)).removeprefix("stack:")
            patch.setenv("COMP_WORDS", "\n".join(["stack", "ls", "--timeout", "5", "stack", ":", f"{rest}/b"]))
            patch.setenv("COMP_CWORD", "6")
            bash = completing.Bash(cli, {}, "stack", "_STACK_COMPLETE")
            said = await anyio.to_thread.run_sync(bash.complete)
            lines = [f"{root.text}/", f"{root.text}/dir/", f"{root.text}/b"]
            return [await anyio.to_thread.run_sync(offered, "cat", line) for line in lines]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(completing, "NODE_SECONDS", 30.0)
        first, second, third = anyio.run(below)
    root = first[0].partition("/")[0]
    assert first == [f"{root}/b.txt", f"{root}/dir/", "file"]
    assert second == [f"{root}/dir/c.txt", "file"] and third == [f"{root}/b.txt", "file"]
    assert said.splitlines()[-1] == f"plain,{rest}/b.txt"  # bash has parted the ticket at its colon


@pytest.mark.skipif(shutil.which("bash") is None, reason="NOT TESTED: completion in bash itself; there is none")
def test_bash_itself_shows_what_is_offered_beside_files(filled: Path, tmp_path: Path) -> None:
    """`stack shares rm <Tab>` showed files alone."""
    wrapper = tmp_path / "stack"
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -m stack "$@"\n')
    wrapper.chmod(0o700)
    script = 'eval "$(stack completion bash)"; compopt() { :; }; COMP_WORDS=(stack shares rm fi); COMP_CWORD=3'
    done = subprocess.run(
        ["bash", "-c", f'{script}; _stack_completion stack; echo "${{COMPREPLY[@]}}"'],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "STACK_HOME": str(filled)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("film.mkv\n", "")


@pytest.mark.parametrize(
    ("shell", "at", "expected"),
    [("bash", "2", "pause"), ("zsh", "2", "pause"), ("fish", "pau", "pause"), ("bash", "x", "")],
)
def test_every_shell_is_answered_and_a_broken_question_is_silence(
    shell: str, at: str, expected: str, place: Path
) -> None:
    machine = Machine(place)
    asked = {"COMP_WORDS": "stack jobs pau", "COMP_CWORD": at, "_STACK_COMPLETE": f"{shell}_complete"}
    done = subprocess.run(
        [sys.executable, "-m", "stack"],
        env={**machine.environment, **asked},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert expected in done.stdout and done.stderr == "" and bool(done.stdout) == bool(expected)
    assert not machine.home.exists()
