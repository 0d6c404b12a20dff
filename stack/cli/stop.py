"""`stack stop`: end the daemon of this home."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import anyio
import click

from stack.cli import output
from stack.cli.answers import answers
from stack.cli.app import run_async
from stack.cli.session import POLL_SECONDS, open_api
from stack.cli.types import config
from stack.errors import Refused
from stack.node.api import GetIdentity
from stack.values import dataclass

STOP_SECONDS = 30.0
"""A daemon that was told to stop has let go of everything within this time, or is stuck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Which process has ended; null when no node ran."""

    pid: int | None


@click.command()
@answers(Stopped)
def stop(as_json: bool) -> None:
    """End the daemon of this home, and wait until it has ended."""

    async def work() -> None:
        async with open_api(config("command")) as api:
            info = await api.ask(GetIdentity())
        if info.pid == os.getpid():
            output.note("no node runs")
            if as_json:
                output.json_line(Stopped(pid=None))
            return
        if info.role != "daemon":
            raise Refused(f"the node of this home is `stack {info.role}`, process {info.pid}: Ctrl-C there ends it")
        with suppress(ProcessLookupError):
            os.kill(info.pid, signal.SIGTERM)
        with anyio.move_on_after(STOP_SECONDS):
            while _runs(info.pid):
                await anyio.sleep(POLL_SECONDS)
            output.note("stopped")
            if as_json:
                output.json_line(Stopped(pid=info.pid))
            return
        raise Refused(f"process {info.pid} was told to stop, and has not in {STOP_SECONDS:.0f} s")

    run_async(work)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # Who has ended and is not yet asked for by its parent, as in a container whose first process asks for nobody.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return True
