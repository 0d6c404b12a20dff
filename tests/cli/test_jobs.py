"""What `stack jobs` says of each job, and of what it did to it (point 36)."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stack.cli import jobs as module
from stack.cli.app import run
from stack.files.events import WaitingForProvider
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.node.api import JobInfo, JobRemoved, ListJobs, PauseJobs, RemoveJob, ResumeJobs

PEER = PeerId.parse("12D3KooWLS5s8EtEo9ugm5vwqtxzQQBTcQGRKcLBzGjyhx83tyzD")
NOW = 1_790_000_000.0
JOB = JobInfo(
    id=3,
    cid=Cid.of(b"film"),
    name="film.mkv",
    target="/home/bob/film.mkv",
    bytes_done=40 << 20,
    bytes_total=100 << 20,
    state="running",
    error=None,
    command="stack get stack:abc -o /home/bob/film.mkv",
    since=NOW - 125,
    rate=2 << 20,
)
REFUSED = WaitingForProvider(seconds=3, tried=1, peer=PEER, address="10.0.0.2:4001", reason="connection refused")
DONE = replace(JOB, id=1, state="done", ended=NOW - 3600, bytes_done=JOB.bytes_total)
FAILED = replace(JOB, id=2, state="failed", ended=NOW - 61, error="it is too large", command="")
PAUSED = replace(JOB, state="paused", ended=NOW - 5)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[object, Any]:
    """What a node answers."""
    answers: dict[object, Any] = {ListJobs(): ()}

    class Answering:
        async def ask(self, request: object) -> Any:
            return answers[request]

    @asynccontextmanager
    async def open_api(*_: object) -> AsyncIterator[Answering]:
        yield Answering()

    monkeypatch.setattr(module, "open_api", open_api)
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setenv("STACK_HOME", str(tmp_path))
    return answers


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[object, list[str], str]:
    """Exit code, lines of stdout, stderr."""
    with pytest.raises(SystemExit) as ended:
        run(["jobs", *words])
    out, err = capsys.readouterr()
    return ended.value.code, out.splitlines(), err


@pytest.mark.parametrize(
    ("job", "lines"),
    [
        (JOB, ["3  running  40 % of 100.0 MiB  2.0 MiB/s  since 2 min 5 s  /home/bob/film.mkv"]),
        (
            replace(JOB, rate=0.0, waiting=REFUSED),
            [
                "3  running  40 % of 100.0 MiB  since 2 min 5 s  /home/bob/film.mkv",
                "    waiting: 10.0.0.2:4001: connection refused; is `stack share` still running there?",
            ],
        ),
        (
            PAUSED,
            [
                "3  paused  40 % of 100.0 MiB  2.0 MiB/s  5.0 s ago  /home/bob/film.mkv",
                "    to go on: stack jobs resume 3",
            ],
        ),
        (
            FAILED,
            [
                "2  failed  40 % of 100.0 MiB  2.0 MiB/s  1 min 1 s ago  /home/bob/film.mkv",
                "    it is too large",
            ],
        ),
        (
            replace(JOB, state="interrupted", ended=NOW - 5),
            [
                "3  interrupted  40 % of 100.0 MiB  2.0 MiB/s  5.0 s ago  /home/bob/film.mkv",
                "    to go on: stack get stack:abc -o /home/bob/film.mkv",
            ],
        ),
        (DONE, ["1  done  100.0 MiB  2.0 MiB/s  1 h 0 min ago  /home/bob/film.mkv"]),
    ],
    ids=lambda value: value.state if isinstance(value, JobInfo) else "",
)
def test_a_job_is_listed_with_how_far_it_is_or_how_it_ended(
    job: JobInfo, lines: list[str], asked: dict[object, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked[ListJobs()] = (job,)
    assert said(capsys) == said(capsys, "ls") == (0, lines, "")


def test_pause_and_resume_say_what_became_of_each(asked: dict[object, Any], capsys: pytest.CaptureFixture[str]) -> None:
    asked[PauseJobs(ids=(3,))] = asked[PauseJobs()] = (PAUSED,)
    for words in (["3"], ["--all"]):
        assert said(capsys, "pause", *words) == (0, ["job 3 is paused: film.mkv, 40 % of 100.0 MiB"], "")
    asked[ResumeJobs()] = (JOB, replace(JOB, id=4, state="interrupted", bytes_total=0))
    assert said(capsys, "resume", "--all")[1] == [
        "job 3 goes on: film.mkv, 40 % of 100.0 MiB",
        "job 4 goes on when a daemon runs (`stack daemon --detach`): film.mkv",
    ]
    asked[PauseJobs()] = ()
    assert said(capsys, "pause", "--all") == (0, [], "nothing runs\n")


@pytest.mark.parametrize("words", [("pause",), ("resume", "--all", "3"), ("rm",), ("cancel", "--ended", "1")])
def test_which_jobs_are_meant_is_said_one_way(
    words: tuple[str, ...], asked: dict[object, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = said(capsys, *words)
    assert (code, out) == (2, []) and "`stack jobs` lists them" in err


@pytest.mark.parametrize("verb", ["rm", "cancel"])
def test_what_is_removed_is_said_exactly(
    verb: str, asked: dict[object, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked[RemoveJob(id=3)] = JobRemoved(count=1, job=JOB, kept=Path("/home/bob/film.mkv.part"))
    code, out, err = said(capsys, verb, "3")
    assert (code, out) == (0, ["job 3 was cancelled: film.mkv, 40 % of 100.0 MiB"])
    assert "stays in /home/bob/film.mkv.part" in err
    asked[RemoveJob(id=1)] = JobRemoved(count=1, job=DONE)
    asked[RemoveJob(id=2)] = JobRemoved(count=1, job=FAILED)
    asked[ListJobs()] = (DONE, FAILED, PAUSED)
    code, out, err = said(capsys, verb, "--ended")
    assert code == 0 and out == [
        "job 1 is forgotten; it was done: film.mkv, 100.0 MiB",
        "job 2 is forgotten; it had failed: film.mkv, 40 % of 100.0 MiB",
    ]
    assert err == "what it fetched stays in /home/bob/film.mkv\nnothing of it is on the disk\n"


def test_a_job_that_is_none_is_told_and_the_others_are_removed(
    asked: dict[object, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked[RemoveJob(id=7)] = JobRemoved()
    asked[RemoveJob(id=1)] = JobRemoved(count=1, job=DONE)
    code, out, err = said(capsys, "rm", "7", "1")
    assert code == 3 and len(out) == 1 and "stack: there is no job 7;" in err
