"""B17: what Ctrl-C does to a command, at moments that a real one passes too quickly to be hit; and what wakes it at all."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from stack.files.ticket import decode_ticket, encode_ticket
from stack.multiformats.multiaddr import Multiaddr
from tests.acceptance.kit import Machine, make_file, until
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

DEAF = """
import socket

send = socket.socket.send
def lost(self, data, *flags):
    return send(self, data, *flags) if threading.current_thread() is threading.main_thread() else len(data)

async def work():
    await anyio.to_thread.run_sync(threading.get_ident)
    socket.socket.send = lost
    return await anyio.to_thread.run_sync(str, "heard")
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


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_command_does_not_wait_for_ever_when_the_system_loses_what_wakes_it(tmp_path: Path, backend: str) -> None:
    """ENOBUFS where a thread writes a byte to wake the event loop, which is told to nobody."""
    with started(DEAF, tmp_path, backend) as process:
        assert process.wait(10).lines == ["ended heard"]


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


@pytest.mark.parametrize("transport", ["", "/ws"])
def test_B17_finding_16_a_share_over_a_slow_line_ends_at_once(
    sharer: Machine, receiver: Machine, transport: str
) -> None:
    """What the receiver has not taken yet keeps nobody from the prompt."""
    film = make_file(sharer.folder / "film", 20_000_000)
    with sharer.sharing(film, "--no-mdns", "--listen", f"/ip4/127.0.0.1/tcp/0{transport}") as (sharing, shared):
        ticket = decode_ticket(shared["ticket"])
        port = int(ticket.addresses[0].get("tcp") or "")
        with slow_line(port, bytes_per_second=100_000) as (line, passed):
            far = Multiaddr.parse(f"/ip4/127.0.0.1/tcp/{line}{transport}")
            slow = encode_ticket(replace(ticket, addresses=(far,)))
            with receiver.start("get", slow, "-o", receiver.folder / "film", "--no-mdns"):
                until(lambda: passed() > 100_000, 20, "nothing comes")
                pressed = time.monotonic()
                outcome = sharing.stop(signal.SIGINT)
                taken = time.monotonic() - pressed
    assert outcome.code == 0 and "Traceback" not in outcome.err, str(outcome)
    assert taken < 2.5  # within a second, unless the machine is busy; who ends in order waits for 3 s


@contextmanager
def slow_line(port: int, *, bytes_per_second: int) -> Iterator[tuple[int, Callable[[], int]]]:
    """A port that leads to `port`; what comes from there comes slowly. Also how many bytes that were."""
    passed = [0]

    def move(source: socket.socket, target: socket.socket, slowly: bool) -> None:
        with source, target:
            try:
                while data := source.recv(8192):
                    if slowly:
                        time.sleep(len(data) / bytes_per_second)
                        passed[0] += len(data)
                    target.sendall(data)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=move, args=(near, far.dup(), False), daemon=True).start()
            threading.Thread(target=move, args=(far, near.dup(), True), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], lambda: passed[0]


def ends(outcome: Outcome) -> None:
    assert (outcome.code, outcome.err) == (130, ""), str(outcome)
