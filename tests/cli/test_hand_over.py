"""Several commands of one home: who holds it ends when it is done, and the others go on (use 26)."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import anyio.abc
import pytest

from stack.cli import session
from stack.control.client import ControlClient
from stack.errors import StackError
from stack.node.api import GetIdentity
from stack.node.config import Config
from stack.node.home import Home
from tests.acceptance.kit import MIB, Machine, good, make_file, sha256, until


@contextmanager
def into_a_pipe(machine: Machine, *arguments: str) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """A command that holds the home and writes what nobody reads yet, with the pipe's other end."""
    read, write = os.pipe()
    command = [sys.executable, "-m", "stack", *arguments]
    process = subprocess.Popen(command, stdout=write, cwd=machine.folder, env=machine.environment)
    os.close(write)
    try:
        until(lambda: (machine.home / "control").exists(), 30, "the holder of the home")
        yield process, read
    finally:
        process.kill()
        process.wait()
        with suppress(OSError):
            os.close(read)


def test_use_26_a_share_lives_on_when_the_get_that_held_the_home_is_complete(
    place: Path, sharer: Machine, receiver: Machine
) -> None:
    film, mine = make_file(sharer.folder / "film.bin", 4 * MIB), make_file(receiver.folder / "mine.bin", MIB, seed=2)
    third = Machine(place / "c")
    with (
        sharer.sharing(film, "--up", "1M") as (_, shared),
        receiver.start("get", shared["ticket"], "--jsonl") as getting,
    ):
        getting.next_progress(1)
        with receiver.sharing(mine) as (sharing, other):
            assert len(receiver.shares()) == 1
            finished = good(getting.wait(60))
            assert "staying" not in finished.err
            sharing.next_said("going on")
            until(lambda: receiver.run("id", "--json").json["pid"] == sharing.pid, 20, "the home's new holder")
            good(third.run("get", other["ticket"], "--from", receiver.address(), "--timeout", "20", "-o", "mine.bin"))
            good(sharing.stop(signal.SIGINT))
        assert receiver.shares() == []
    assert sha256(third.folder / "mine.bin") == sha256(mine)
    assert sha256(receiver.folder / "film.bin") == sha256(film)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_use_26_a_get_goes_on_when_the_share_that_held_the_home_ends(
    sharer: Machine, receiver: Machine, stop: signal.Signals
) -> None:
    film, mine = make_file(sharer.folder / "film.bin", 4 * MIB), make_file(receiver.folder / "mine.bin", MIB, seed=2)
    with sharer.sharing(film, "--up", "1M") as (_, shared), receiver.sharing(mine) as (sharing, _):
        with receiver.start("get", shared["ticket"], "--jsonl") as getting:
            getting.next_progress(1)
            sharing.stop(stop)
            good(getting.wait(60))
        assert receiver.shares() == []
    assert sha256(receiver.folder / "film.bin") == sha256(film)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (("cat",), ("add", "-q", "-")),
        (("cat",), ("block", "put", "-")),
        (("block", "get"), ("add", "-q", "-")),
        (("car", "export"), ("car", "import", "-")),
    ],
)
def test_commands_of_one_home_in_a_pipeline_end(
    receiver: Machine, first: tuple[str, ...], then: tuple[str, ...]
) -> None:
    """The one waited for the other's answer, and that one for the end of what the first writes: both for ever."""
    make_file(receiver.folder / "film.bin", MIB)
    root = good(receiver.run("add", "-q", "film.bin")).out.split()[-1]
    with into_a_pipe(receiver, *first, root) as (process, end):
        command = [sys.executable, "-m", "stack", *then]
        second = subprocess.run(
            command, stdin=end, capture_output=True, timeout=60, cwd=receiver.folder, env=receiver.environment
        )
        assert second.returncode == 0, second.stderr
        assert process.wait(20) == 0
    assert root[10:] in second.stdout.decode()


def test_a_reader_that_takes_its_time_keeps_no_other_command_out(receiver: Machine) -> None:
    """`stack cat FILM | less`: who wrote into the pipe answered nobody."""
    film = make_file(receiver.folder / "film.bin", 4 * MIB)
    root = good(receiver.run("add", "-q", "film.bin")).out.split()[-1]
    with into_a_pipe(receiver, "cat", root) as (process, end):
        assert good(receiver.run("id", "--json")).json["pid"] == process.pid
        with os.fdopen(os.dup(end), "rb") as pipe:
            assert pipe.read() == film.read_bytes()
        assert process.wait(20) == 0
    with into_a_pipe(receiver, "cat", root) as (process, end):
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


@pytest.mark.anyio
async def test_who_fails_lets_others_go_as_who_is_done(tmp_path: Path) -> None:
    """An `add` beside a `pin add` that found nobody was broken off with it."""
    config = Config(home=tmp_path / "home", role="command", listen=(), mdns=False)
    assert config.home is not None
    answered: list[object] = []

    async def other(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        address = Home(tmp_path / "home").address()
        assert address is not None
        client = ControlClient(address)
        async with client.staying():
            task_status.started()
            await anyio.sleep(0.2)
            answered.append(await client.ask(GetIdentity()))

    async with anyio.create_task_group() as tasks:
        with pytest.raises(StackError, match="nobody has it"):
            async with session.open_api(config):
                await tasks.start(other)
                raise StackError("nobody has it")
        assert answered
