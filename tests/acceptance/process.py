"""A process that runs, and what came of it: output, exit code, time, memory. Ended by its own process id only.

What is waited for is a line, an event or the end of the process, always with a time limit.
"""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

START_SECONDS = 30.0
"""For a process to say its first line; a busy machine takes a few."""
SAMPLE_SECONDS = 0.02
"""Between two looks at a process's peak memory: only what it takes in its last moment can be missed."""

Json = dict[str, Any]


class StillRunning(AssertionError):
    """A process did not end in the time given; the message shows what it said."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a process."""

    arguments: tuple[str, ...]
    code: int
    """Exit code; minus the signal's number when a signal ended it."""
    stdout: bytes
    err: str
    seconds: float
    cpu_seconds: float
    """User and system together."""
    peak_memory: int
    """Bytes resident at most (VmHWM)."""

    @property
    def out(self) -> str:
        """Standard output as text."""
        return self.stdout.decode("utf-8", "surrogateescape")

    @property
    def lines(self) -> list[str]:
        """Standard output, line by line."""
        return self.out.splitlines()

    @property
    def json(self) -> Json:
        """The last line of standard output as a JSON object of the schema that is promised."""
        return parse(self.lines[-1])

    @property
    def events(self) -> list[Json]:
        """Every line of standard output as a JSON object."""
        return [parse(line) for line in self.lines]

    def __str__(self) -> str:
        shown = " ".join(argument if len(argument) < 200 else argument[:200] + "..." for argument in self.arguments)
        return f"{shown}\nexit {self.code} after {self.seconds:.1f} s\n--- stdout\n{self.out[-4000:]}\n--- stderr\n{self.err[-4000:]}"


def parse(line: str) -> Json:
    """One line of `--json`: an object with the version of the schema."""
    value: Json = json.loads(line)
    assert value["schema"] == 1
    return value


def good(outcome: Outcome) -> Outcome:
    """The outcome, if the exit code is 0."""
    assert outcome.code == 0, str(outcome)
    return outcome


def complaint(outcome: Outcome, code: int, *words: str) -> str:
    """The one line in which a command said what is wrong: it must end with `code`, say `words`, and show no traceback."""
    assert outcome.code == code, f"expected exit {code}: {outcome}"
    assert "Traceback" not in outcome.err and "internal error" not in outcome.err, str(outcome)
    lines = [line for line in outcome.err.splitlines() if line.startswith("stack: ")]
    assert len(lines) == 1, f"expected one line that starts with `stack: `: {outcome}"
    for word in words:
        assert word.lower() in lines[0].lower(), f"{word!r} is not said: {outcome}"
    return lines[0]


class Running:
    """A process that runs. A context: leaving it ends the process if it still runs."""

    def __init__(
        self, command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], data: bytes | None = None
    ) -> None:
        self.arguments = tuple(command)
        self._out: list[bytes] = []
        self._err: list[bytes] = []
        self._read = 0
        self._said = threading.Condition()
        self._open = 2
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._peak = 0
        self._start = time.monotonic()
        stdin = subprocess.DEVNULL if data is None else subprocess.PIPE
        self._process = subprocess.Popen(
            self.arguments, cwd=cwd, env=dict(environment), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._process.stdout is not None and self._process.stderr is not None
        self._threads = [
            threading.Thread(target=self._collect, args=(self._process.stdout, self._out), daemon=True),
            threading.Thread(target=self._collect, args=(self._process.stderr, self._err), daemon=True),
            threading.Thread(target=self._watch, daemon=True),
        ]
        if self._process.stdin is not None:
            self._threads.append(threading.Thread(target=self._feed, args=(self._process.stdin, data), daemon=True))
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self.send(signal.SIGKILL)
        self._ended.wait()
        for thread in self._threads:
            thread.join()

    def _collect(self, pipe: IO[bytes], lines: list[bytes]) -> None:
        with pipe:
            for line in pipe:
                with self._said:
                    lines.append(line)
                    self._said.notify_all()
        with self._said:
            self._open -= 1
            self._said.notify_all()

    def _feed(self, pipe: IO[bytes], data: bytes) -> None:
        try:
            with pipe:
                pipe.write(data)
        except BrokenPipeError:
            pass  # it ended without reading all: its exit code tells why

    def _watch(self) -> None:
        status = Path(f"/proc/{self.pid}/status")
        while os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            try:
                found = re.search(r"VmHWM:\s+(\d+)", status.read_text())
            except OSError:
                found = None
            self._peak = max(self._peak, int(found[1]) * 1024) if found else self._peak
            self._ended.wait(SAMPLE_SECONDS)
        with self._lock:
            _, ended, usage = os.wait4(self.pid, 0)
            self._process.returncode = os.waitstatus_to_exitcode(ended)
            self._seconds = time.monotonic() - self._start
            self._cpu = usage.ru_utime + usage.ru_stime
            self._ended.set()

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return not self._ended.is_set()

    @property
    def peak_memory(self) -> int:
        """Bytes resident at most so far."""
        return self._peak

    @property
    def err(self) -> str:
        """Standard error so far."""
        with self._said:
            return b"".join(self._err).decode("utf-8", "surrogateescape")

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when it has ended."""
        with self._lock:
            if self.running:
                os.kill(self.pid, number)

    def next_line(self, timeout: float = START_SECONDS) -> str:
        """The next line of standard output. Raises AssertionError when none comes."""
        with self._said:
            self._said.wait_for(lambda: len(self._out) > self._read or not self._open, timeout)
            if len(self._out) > self._read:
                self._read += 1
                return self._out[self._read - 1].decode("utf-8", "surrogateescape").rstrip("\n")
        raise AssertionError(f"no line came in {timeout:.0f} s: {self._story()}")

    def next_json(self, timeout: float = START_SECONDS) -> Json:
        """The next line of standard output as a JSON object."""
        return parse(self.next_line(timeout))

    def next_event(
        self, name: str, timeout: float = START_SECONDS, *, where: Callable[[Json], bool] = lambda _: True
    ) -> Json:
        """The next event of that name that fits, of a command with `--jsonl`; those before it are passed over."""
        deadline = time.monotonic() + timeout
        while True:
            event = self.next_json(max(0.0, deadline - time.monotonic()))
            if event["event"] == name and where(event):
                return event

    def next_progress(self, beyond: int, timeout: float = START_SECONDS) -> int:
        """Wait until a `get --jsonl` has more than so many bytes; how many it has."""
        done: int = self.next_event("FetchProgress", timeout, where=lambda event: event["bytes_done"] > beyond)[
            "bytes_done"
        ]
        return done

    def next_said(self, pattern: str, timeout: float = START_SECONDS) -> str:
        """Wait until standard error has a line in which `pattern` is found, from the beginning on."""

        def found() -> str | None:
            text = b"".join(self._err).decode("utf-8", "surrogateescape")
            return next((line for line in text.splitlines() if re.search(pattern, line)), None)

        with self._said:
            self._said.wait_for(lambda: found() is not None or not self._open, timeout)
            line = found()
        assert line is not None, f"{pattern!r} was not said in {timeout:.0f} s: {self._story()}"
        return line

    def goes_on_for(self, seconds: float) -> bool:
        """Whether it still runs after that time; False as soon as it ends."""
        return not self._ended.wait(seconds)

    def wait(self, timeout: float = 60.0) -> Outcome:
        """Its outcome. Raises StillRunning."""
        if not self._ended.wait(timeout):
            raise StillRunning(f"still running after {timeout:.0f} s: {self._story()}")
        for thread in self._threads:
            thread.join()
        return Outcome(
            self.arguments,
            self._process.returncode,
            b"".join(self._out),
            self.err,
            self._seconds,
            self._cpu,
            self._peak,
        )

    def kill(self) -> Outcome:
        """End it as a power cut would (SIGKILL)."""
        self.send(signal.SIGKILL)
        return self.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 30.0) -> Outcome:
        """Ask it to end."""
        self.send(number)
        return self.wait(timeout)

    def _story(self) -> str:
        with self._said:
            out = b"".join(self._out[-20:]).decode("utf-8", "surrogateescape")
        return f"{' '.join(self.arguments)[-400:]}\n--- stdout\n{out}\n--- stderr\n{self.err[-4000:]}"
