"""B12, B13, B17: a home that is in use, a port that is in use, and Ctrl-C at any time."""

import os
import re
import signal
import socket
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.acceptance import namespaces
from tests.acceptance.kit import MIB, Machine, complaint, good, make_file, sha256
from tests.acceptance.process import Outcome, Running
from tests.acceptance.relay import Relay
from tests.acceptance.scenarios import port_of

INTERRUPTED = (130, -signal.SIGINT)
"""By our own hand, or by the system's before Python listens to signals and after it stopped to."""


def test_B12_every_command_works_while_another_process_has_the_home(sharer: Machine, receiver: Machine) -> None:
    source = make_file(sharer.folder / "film.mkv", 2 * MIB)
    with sharer.sharing(source) as (process, _):
        assert good(sharer.run("id", "--json")).json["pid"] == process.pid
        other = make_file(sharer.folder / "other.bin", MIB, 3)
        cid = good(sharer.run("add", "-q", other)).out.strip()
        assert good(sharer.run("cat", cid)).stdout == other.read_bytes()
        for command in (
            ["repo", "stat"],
            ["repo", "verify"],
            ["pin", "ls"],
            ["peers"],
            ["jobs"],
            ["gc", "--dry-run"],
            ["shares", "ls"],
            ["key", "show"],
            ["config", "ls"],
            ["doctor"],
        ):
            assert sharer.run(*command).code == 0
        again = good(sharer.run("share", other, "--keep", "--json", "--no-qr")).json
        good(receiver.run("get", again["ticket"]))
        complaint(sharer.run("daemon"), 7, "runs already")
        complaint(sharer.run("key", "new", "--yes"), 7)
    assert sha256(receiver.folder / "other.bin") == sha256(other)


def test_B12_commands_that_start_at_once_all_do_their_work(sharer: Machine) -> None:
    sources = [make_file(sharer.folder / f"{number}.bin", 200_000, number) for number in range(4)]
    with ExitStack() as stack:
        processes = [stack.enter_context(sharer.start("add", "-q", source)) for source in sources]
        cids = [good(process.wait()).out.strip() for process in processes]
    for cid, source in zip(cids, sources, strict=True):
        assert good(sharer.run("cat", cid)).stdout == source.read_bytes()


def test_B12_a_node_that_was_killed_is_in_nobodys_way_and_one_that_stands_still_is_told(sharer: Machine) -> None:
    with sharer.daemon() as daemon:
        daemon.send(signal.SIGSTOP)
        outcome = sharer.run("id")
        complaint(outcome, 6)
        assert outcome.seconds < 20
        daemon.send(signal.SIGCONT)
        good(sharer.run("id"))
        daemon.kill()
    good(sharer.run("id"))


def test_B13_a_port_in_use_is_told_by_its_address(sharer: Machine) -> None:
    source = make_file(sharer.folder / "film.mkv", 1000)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"/ip4/127.0.0.1/tcp/{taken.getsockname()[1]}"
        complaint(sharer.run("share", source, "--listen", address), 7, address, "in use")
        complaint(sharer.run("daemon", "--listen", address), 7, address, "in use")
    with sharer.sharing(source, "--listen", address) as (_, shared):
        assert shared["addresses"][0].startswith(address)


def test_B13_when_the_own_port_is_taken_the_next_one_is_used_and_that_is_said(place: Path) -> None:
    reason = namespaces.missing()
    if reason is not None:
        pytest.skip(f"NOT TESTED: the stored port of all interfaces is taken; {reason}")
    with namespaces.Wire(100) as wire:
        machine = Machine(place / "a", prefix=wire.prefix(wire.left))
        del machine.environment["STACK_LISTEN"]
        source = make_file(machine.folder / "film.mkv", 1000)
        with machine.sharing(source) as (_, shared):
            port = port_of(shared)
        with machine.sharing(source) as (_, shared):
            assert port_of(shared) == port
        occupy = f"import socket, time; s = socket.create_server(('0.0.0.0', {port})); print('taken', flush=True); time.sleep(99)"
        command = (*wire.prefix(wire.left), sys.executable, "-c", occupy)
        with Running(command, cwd=place, environment=machine.environment) as occupant:
            assert occupant.next_line() == "taken"
            with machine.sharing(source) as (process, shared):
                assert port_of(shared) != port
                process.next_said(f"{port} is taken.*tickets")


def quiet(outcome: Outcome) -> None:
    """Interrupted, and no word of Python's; what it says of its own start, before our `main` has run, is not ours to catch."""
    if "KeyboardInterrupt" in outcome.err and not re.search(r"stack/\S+, line \d+, in main", outcome.err):
        return
    assert outcome.code in INTERRUPTED, str(outcome)
    assert "Traceback" not in outcome.err, str(outcome)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("moment", [0.06, 0.12, 0.18, 0.25, 0.35, 0.5])
@pytest.mark.parametrize("command", ["daemon", "get"])
def test_B17_ctrl_c_while_it_starts(sharer: Machine, command: str, moment: float) -> None:
    nothing = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
    with sharer.start(command, *([nothing] if command == "get" else [])) as process:
        assert process.goes_on_for(moment)
        outcome = process.stop(signal.SIGINT)
    if command == "get" or outcome.code:
        quiet(outcome)
    good(sharer.run("id"))


def test_B17_ctrl_c_in_a_fetch_keeps_what_came_and_says_how_to_go_on(sharer: Machine, receiver: Machine) -> None:
    source = make_file(sharer.folder / "film.mkv", 24 * MIB)
    with sharer.sharing(source, "--open") as (_, shared), Relay(port_of(shared), 8.0 * MIB) as relay:
        command = ("get", shared["cid"], "--from", relay.address(shared["peer_id"]), "-o", "got.mkv", "--jsonl")
        done = 0
        for twice in (False, True):
            with receiver.start(*command) as process:
                done = process.next_progress(done + 4 * MIB)
                process.send(signal.SIGINT)
                if twice:
                    process.send(signal.SIGINT)
                outcome = process.wait(5 if twice else 15)
            quiet(outcome)
            if not twice:
                complaint(outcome, 130, "to go on")
                assert f"stack get {shared['cid']}" in outcome.err
                (job,) = good(receiver.run("jobs", "--json")).json["items"]
                assert (job["state"], job["bytes_done"] > 0) == ("interrupted", True)
            assert list(receiver.folder.iterdir()) == [receiver.folder / "got.mkv.part"]
            receiver.verified()
        finished = good(receiver.run(*command)).events[-1]
    assert finished["received"] < 24 * MIB - 6 * MIB
    assert sha256(receiver.folder / "got.mkv") == sha256(source)


def test_B17_ctrl_c_cancels_the_job_of_an_attached_fetch_and_the_daemon_lives(
    sharer: Machine, receiver: Machine
) -> None:
    source = make_file(sharer.folder / "film.mkv", 24 * MIB)
    with sharer.sharing(source, "--open") as (_, shared), Relay(port_of(shared), 8.0 * MIB) as relay, receiver.daemon():
        command = ("get", shared["cid"], "--from", relay.address(shared["peer_id"]), "-o", "got.mkv", "--jsonl")
        with receiver.start(*command) as process:
            process.next_progress(4 * MIB)
            quiet(process.stop(signal.SIGINT))
        (job,) = good(receiver.run("jobs", "--json")).json["items"]
        assert job["state"] == "interrupted"
        good(receiver.run(*command))
    assert sha256(receiver.folder / "got.mkv") == sha256(source)


def opened(process: Running, path: Path) -> None:
    """Wait until the process has opened that file."""
    descriptors = Path(f"/proc/{process.pid}/fd")
    while process.goes_on_for(0.01):
        with suppress(OSError):  # of what was closed meanwhile
            if any(os.readlink(each) == str(path) for each in descriptors.iterdir()):
                return
    raise AssertionError(str(process.wait()))


@pytest.mark.parametrize("twice", [False, True])
def test_B17_ctrl_c_while_a_file_is_indexed_or_shared(sharer: Machine, twice: bool) -> None:
    source = sharer.folder / "film.mkv"
    source.touch()
    os.truncate(source, 256 << 30)  # of nothing: minutes to read, on any machine, and nothing to write
    with sharer.start("share", source, "--no-qr") as process:
        opened(process, source.resolve())
        process.send(signal.SIGINT)
        if twice:
            process.send(signal.SIGINT)
        quiet(process.wait(10))
    source = make_file(sharer.folder / "film.mkv", 2 * MIB)
    with sharer.start("share", source, "--no-qr") as process:
        process.next_said("Serving")
        process.send(signal.SIGINT)
        if twice:
            process.send(signal.SIGINT)
        ended = process.wait(10)
        assert ended.code in ((0, 130) if twice else (0,)) and "Traceback" not in ended.err
    sharer.verified()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_B17_what_else_tells_a_command_to_end_is_told_as_ctrl_c_is(
    sharer: Machine, receiver: Machine, number: signal.Signals, backend: str
) -> None:
    """It died without a word. Several come at once: a shell sends SIGHUP as the system does, `timeout` SIGTERM to the group too."""
    for machine in (sharer, receiver):
        machine.environment["STACK_BACKEND"] = backend
    source = make_file(sharer.folder / "film.mkv", 8 * MIB)
    with sharer.sharing(source) as (process, shared):
        with receiver.start("get", shared["ticket"], "--down", "2M", "--jsonl") as getting:
            getting.next_progress(MIB)
            getting.send(number)
            getting.send(number)
            outcome = getting.wait(15)
        complaint(outcome, 128 + number, "to go on")
        assert f"stack get {shared['ticket']}" in outcome.err
        (job,) = good(receiver.run("jobs", "--json")).json["items"]
        assert job["state"] == "interrupted"
        process.send(number)
        process.send(number)
        ended = good(process.wait(15))
    assert "to 1 peer, no whole copy" in ended.err
    with sharer.daemon() as daemon:
        assert "stopping" in good(daemon.stop(number)).err
    with sharer.start("share", source, "--once", "--no-qr") as process:
        process.next_said("Serving")
        assert process.stop(number).code == 128 + number
