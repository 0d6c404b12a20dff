"""B17: what Ctrl-C does to a command, at moments that a real one passes too quickly to be hit."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.acceptance.kit import Machine, until
from tests.acceptance.process import Outcome, Running

BACKENDS = ("asyncio", "trio")

START = """
import os, signal, threading
import anyio
from stack.cli.app import run_async

def main(work):
    try:
        print("ended", run_async(work))
    except KeyboardInterrupt:
        print("interrupted")

class Dropped:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
"""

TIDY = """
async def work():
    await anyio.to_thread.run_sync(threading.get_ident)
    try:
        print("working", flush=True)
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.1)
            print("tidy", flush=True)
main(work)
"""

STUCK = """
async def work():
    try:
        print("working", flush=True)
        await anyio.sleep_forever()
    finally:
        print("tidying", flush=True)
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(threading.Event().wait)
main(work)
"""

LOST = """
async def work():
    await anyio.to_thread.run_sync(threading.get_ident)
    try:
        Dropped()
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            Dropped()
            await anyio.sleep_forever()
main(work)
"""

LATE = """
async def work():
    os.kill(os.getpid(), signal.SIGINT)
    return "well"
main(work)
"""


def started(script: str, folder: Path, backend: str) -> Running:
    environment = {**os.environ, "STACK_BACKEND": backend}
    return Running((sys.executable, "-c", START + script), cwd=folder, environment=environment)


@pytest.mark.parametrize("backend", BACKENDS)
def test_B17_the_first_ctrl_c_lets_a_command_tidy_up(tmp_path: Path, backend: str) -> None:
    with started(TIDY, tmp_path, backend) as process:
        assert process.next_line() == "working"
        outcome = process.stop(signal.SIGINT)
    assert (outcome.code, outcome.lines[1:], outcome.err) == (0, ["tidy", "interrupted"], ""), str(outcome)


@pytest.mark.parametrize("backend", BACKENDS)
def test_B17_the_second_ctrl_c_ends_a_command_that_does_not_come_to_its_end(tmp_path: Path, backend: str) -> None:
    with started(STUCK, tmp_path, backend) as process:
        assert process.next_line() == "working"
        process.send(signal.SIGINT)
        assert process.next_line() == "tidying"
        ends(process.stop(signal.SIGINT))


@pytest.mark.parametrize("backend", BACKENDS)
def test_B17_no_ctrl_c_gets_lost_where_exceptions_do(tmp_path: Path, backend: str) -> None:
    with started(LOST, tmp_path, backend) as process:
        ends(process.wait(10))


@pytest.mark.parametrize("backend", BACKENDS)
def test_B17_who_is_done_when_ctrl_c_comes_has_not_been_interrupted(tmp_path: Path, backend: str) -> None:
    with started(LATE, tmp_path, backend) as process:
        assert process.wait(10).lines == ["ended well"]


@pytest.mark.parametrize("command", [("demo", "--size", "50000000"), ("bench", "store", "--size", "4000000000")])
def test_B17_however_often_ctrl_c_is_pressed_no_large_folder_stays(sharer: Machine, command: tuple[str, ...]) -> None:
    sharer.environment["TMPDIR"] = str(sharer.folder)
    bench = command[0] == "bench"
    place, pattern = (sharer.home, "bench-*") if bench else (sharer.folder, "stack-demo-*")
    with sharer.start(*command) as process:
        until(lambda: any(place.glob(f"{pattern}/*")), 30, "nothing is written")
        process.send(signal.SIGINT)
        outcome = process.stop(signal.SIGINT)
    assert outcome.code in (130, -signal.SIGINT) and "Traceback" not in outcome.err, str(outcome)
    assert list(place.glob(pattern)) == []


def ends(outcome: Outcome) -> None:
    assert (outcome.code, outcome.err) == (130, ""), str(outcome)
