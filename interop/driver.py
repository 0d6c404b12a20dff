"""Drives a peer by the lines of lines.md."""

import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from interop import build

START_SECONDS = 60.0
SECONDS = 30.0
"""For what a peer is waited for."""
QUIT_SECONDS = 10.0
POLL_SECONDS = 0.05
LISTEN = "/ip4/127.0.0.1/tcp/0"
ROOT = Path(__file__).resolve().parents[1]

Line = tuple[str, ...]


class Peer:
    """A running peer. `heard` holds all its lines, each split into words."""

    def __init__(
        self,
        kind: str,
        name: str,
        *options: str,
        listen: str = LISTEN,
        command: Sequence[str] | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`command` starts another program than the kind's; `environment` is what it has on top of ours."""
        self.kind = kind
        self.name = name
        self.heard: list[Line] = []
        self._lines: queue.Queue[Line | None] = queue.Queue()
        self._ended = False
        self._process = subprocess.Popen(
            [*(command or build.command(kind)), "--listen", listen, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None,
            text=True,
            cwd=ROOT,
            env={**os.environ, **environment, **({"PYTHONPATH": str(ROOT)} if kind in ("ours", "kubo") else {})},
        )
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()
        try:
            _, self.id, self.address = self.wait("ready", seconds=START_SECONDS)
        except BaseException:
            self.quit()
            raise

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def say(self, *words: object) -> None:
        """Give a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()

    def wait(self, *begin: str, since: int = 0, seconds: float = SECONDS) -> Line:
        """The first line that begins with these words, among those after the first `since`. Raises TimeoutError.

        An `error` after `since` is not waited out: it is raised as RuntimeError.
        """
        return self.until(
            lambda: next((line for line in self.heard[since:] if line[: len(begin)] == begin), None),
            f"say {' '.join(begin)}",
            seconds,
        )

    def until(self, look: Callable[[], Line | None], what: str, seconds: float = SECONDS) -> Line:
        """What `look` returns, which is called after every line, once that is not None. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while (found := look()) is None:
            left = deadline - time.monotonic()
            try:
                line = self._lines.get(timeout=left) if left > 0 and not self._ended else None
            except queue.Empty:
                line = None
            if line is None:
                said = "\n".join(" ".join(line)[:200] for line in self.heard[-20:])
                raise TimeoutError(f"{self.name} did not {what}{' before it ended' * self._ended}; it said\n{said}")
            self.heard.append(line)
        return found

    def catch_up(self) -> list[Line]:
        """All that it has said so far, without waiting."""
        while not self._lines.empty():
            line = self._lines.get()
            if line is not None:
                self.heard.append(line)
        return self.heard

    def ask(self, *words: object, answer: str, seconds: float = SECONDS) -> Line:
        """Give a command, and wait for the line that answers it."""
        since = len(self.catch_up())
        self.say(*words)
        return self.wait(*answer.split(" "), since=since, seconds=seconds)

    def messages(self, topic: str) -> list[tuple[str, str]]:
        """Author and data (hexadecimal) of each message of a topic so far."""
        return [(line[2], line[3]) for line in self.catch_up() if line[:2] == ("message", topic)]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def quit(self) -> None:
        """End it, politely at first; nothing happens when it has ended."""
        try:
            self.say("quit")
        except (BrokenPipeError, ValueError):
            pass
        try:
            self._process.wait(QUIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # what was not written before it ended
            self._process.stdin.close()
        self._listening.join(QUIT_SECONDS)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for text in lines:
                self._lines.put(tuple(text.rstrip("\n").split(" ")))
        self._ended = True
        self._lines.put(None)


@contextmanager
def peers(*kinds: str) -> Iterator[list[Peer]]:
    """A peer of each kind, while the context lasts."""
    with ExitStack() as stack:
        started = []
        for number, kind in enumerate(kinds):
            peer = Peer(kind, f"{kind}-{number}")
            stack.callback(peer.quit)
            started.append(peer)
        yield started


def connect(dialler: Peer, listener: Peer) -> None:
    """Have one dial the other; returns when both know of it."""
    since = len(dialler.catch_up()), len(listener.catch_up())
    dialler.say("connect", listener.address)
    dialler.wait("connected", listener.id, since=since[0])
    listener.wait("connected", dialler.id, since=since[1])


def wait_for_subscribers(peer: Peer, topic: str, others: Sequence[Peer], seconds: float = SECONDS) -> None:
    """Return when a peer knows that all the others are in a topic."""
    deadline = time.monotonic() + seconds
    wanted = {other.id for other in others}
    while not wanted <= set(peer.ask("peers", topic, answer="peers")[2].split(",")):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{peer.name} does not know that {others} are in {topic}")
        time.sleep(POLL_SECONDS)
