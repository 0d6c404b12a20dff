"""A daemon: how it is ended, and that it goes on with what was handed to it."""

import logging
import os
import socket
from pathlib import Path

import pytest

from stack.cli import log_file as logs
from stack.cli import systemd
from stack.cli.daemon import daemon, typed
from tests.acceptance.kit import MIB, Machine, complaint, good, make_file, sha256, until


def test_use_36_a_daemon_goes_on_with_what_was_handed_to_it_when_it_starts_again(
    sharer: Machine, receiver: Machine
) -> None:
    film = make_file(sharer.folder / "film.bin", 4 * MIB)
    with sharer.sharing(film, "--up", "2M") as (_, shared):
        with receiver.daemon() as daemon:
            good(receiver.run("get", shared["ticket"], "--detach"))
            daemon.kill()
        assert not (receiver.folder / "film.bin").exists()
        with receiver.daemon():
            until((receiver.folder / "film.bin").exists, 30, "the fetch that was cut off")
    assert sha256(receiver.folder / "film.bin") == sha256(film)


def test_use_37_a_daemon_that_is_detached_answers_at_once_or_says_why_not_and_stop_ends_it_and_nothing_else(
    place: Path,
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as service:
        service.bind(str(place / "notify"))
        service.settimeout(30)
        machine = Machine(place / "a", settings={"NOTIFY_SOCKET": str(place / "notify")})
        complaint(machine.run("daemon", "--detach", "--listen", "/ip4/192.0.2.1/tcp/4001"), 7, "cannot listen")
        begun = good(machine.run("daemon", "--detach"))
        try:
            assert service.recv(100) == b"READY=1"
            assert begun.lines[-1] == "Daemon is ready" and "`stack stop` ends it" in begun.err
            complaint(machine.run("daemon", "--detach"), 7, "runs already")
            log = machine.home / "daemon.log"
            assert str(log) in begun.err and log.stat().st_mode & 0o777 == 0o600
        finally:
            good(machine.run("stop"))
        assert service.recv(100) == b"STOPPING=1"
        assert "ready: process" in log.read_text() and "stopping" in log.read_text()
    assert "no node runs" in good(machine.run("stop")).err
    with machine.sharing(make_file(machine.folder / "f", 1000)) as (process, _):
        complaint(machine.run("stop"), 7, "Ctrl-C there ends it")
        assert process.running


def test_a_log_stays_small_private_and_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOG_BYTES", 1000)
    monkeypatch.delenv("STACK_LOG", raising=False)
    file = logs.log_file(tmp_path)
    with logs.logged_to(file):
        for number in range(100):
            logging.getLogger("stack.test").info("line %d of a \x1b[31mstranger %s", number, "x" * 50)
        logging.getLogger("stack.test").debug("too much")
    logging.getLogger("stack.test").info("after it")
    written = sorted(tmp_path.iterdir())
    assert [path.name for path in written] == ["daemon.log", "daemon.log.1", "daemon.log.2", "daemon.log.3"]
    text = "".join(path.read_text() for path in written)
    assert "line 99 of a \\x1b[31m" in text and "too much" not in text and "after it" not in text
    assert all(path.stat().st_size <= 1000 and path.stat().st_mode & 0o777 == 0o600 for path in written)


def test_a_unit_carries_what_the_daemon_of_this_shell_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACK_HOME", 'a %h "$x"')
    monkeypatch.delenv("PYTHONPATH", raising=False)
    context = daemon.make_context(
        "daemon", ["--systemd", "--up", "1M", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns"]
    )
    assert typed(context) == ["--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--up", "1048576"]
    lines = systemd.unit([*typed(context), "$x"])
    assert "Type=notify" in lines and "WantedBy=default.target" in lines
    (command,) = [line for line in lines if line.startswith("ExecStart=")]
    assert command.endswith(' -P -m stack daemon --listen /ip4/127.0.0.1/tcp/0 --no-mdns --up 1048576 "$$x"')
    assert f'Environment="STACK_HOME={os.getcwd()}/a %%h \\"$x\\""' in lines


@pytest.mark.parametrize("place", ["", "relative", "/nowhere/socket"])
def test_nobody_who_waits_for_a_service_is_no_fault(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", place)
    systemd.tell("READY=1")


def test_a_socket_of_systemd_may_have_no_place_in_the_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as service:
        service.bind(f"\0stack-test-{os.getpid()}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@stack-test-{os.getpid()}")
        systemd.tell("READY=1")
        assert service.recv(100) == b"READY=1"


def test_what_is_logged_is_one_line_but_for_its_traceback() -> None:
    """A path with a line's end in it wrote a message of its own into the log."""

    def logged(message: str, error: Exception | None = None) -> str:
        record = logging.LogRecord("stack", logging.WARNING, "", 0, "lost %s", (message,), None)
        if error is not None:
            record.exc_info = type(error), error, None
        return logs.Harmless("%(levelname)s %(message)s").format(record)

    assert logged("a\nERROR forged\r\x85\u2028") == r"WARNING lost a\x0aERROR forged\x0d\x85\u2028"
    assert logged("a\\b") == "WARNING lost a\\b"
    assert logged("x", ValueError("oops\x85\x1b[2J")).split("\n") == ["WARNING lost x", r"ValueError: oops\x85\x1b[2J"]
