"""What every acceptance test needs: computers with homes of their own, files, comparisons.

Every process listens on loopback only; nothing is waited for by guessing how long it takes.
"""

import hashlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import stack
from tests.acceptance.process import START_SECONDS, Json, Outcome, Running, complaint, good

T = TypeVar("T")

MIB = 1 << 20
LOOPBACK = "/ip4/127.0.0.1/tcp/0"
POLL_SECONDS = 0.02

__all__ = [
    "MIB",
    "Json",
    "Machine",
    "Outcome",
    "Running",
    "complaint",
    "disk_usage",
    "good",
    "make_file",
    "sha256",
    "snapshot",
    "temporary_place",
    "until",
]


class Machine:
    """One computer of a user: a home, a folder to work in, and how commands are started (`prefix`: in which namespace)."""

    def __init__(
        self,
        place: Path,
        *,
        listen: str = LOOPBACK,
        prefix: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.home = place / "home"
        self.folder = place / "folder"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._prefix = tuple(prefix)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("STACK_", "XDG_", "PYTHON"))}
        self.environment = {
            **kept,
            "HOME": str(place),
            "XDG_RUNTIME_DIR": str(place),
            "STACK_HOME": str(self.home),
            "STACK_LISTEN": listen,
            "STACK_MDNS": "0",
            "STACK_PORTMAP": "0",
            "STACK_REMEMBER_PEERS": "0",
            "PYTHONPATH": str(Path(stack.__file__).parent.parent),
            **(settings or {}),
        }

    def start(self, *arguments: str | Path, cwd: Path | None = None, data: bytes | None = None) -> Running:
        """`stack ARGUMENTS`, running."""
        command = (*self._prefix, sys.executable, "-m", "stack", *map(str, arguments))
        return Running(command, cwd=cwd or self.folder, environment=self.environment, data=data)

    def run(
        self, *arguments: str | Path, timeout: float = 60.0, cwd: Path | None = None, data: bytes | None = None
    ) -> Outcome:
        """`stack ARGUMENTS` until it ends by itself."""
        with self.start(*arguments, cwd=cwd, data=data) as process:
            return process.wait(timeout)

    def module(self, name: str, *arguments: str) -> Running:
        """`python -m NAME` of this repository, running."""
        command = (*self._prefix, sys.executable, "-m", name, *arguments)
        return Running(command, cwd=Path(stack.__file__).parent.parent, environment=self.environment)

    def python(self, code: str, timeout: float = 60.0) -> Outcome:
        """A small program with this machine's settings: for what cannot be typed, as arguments of 10 MB."""
        command = (*self._prefix, sys.executable, "-c", code)
        with Running(command, cwd=self.folder, environment=self.environment) as process:
            return process.wait(timeout)

    @contextmanager
    def sharing(self, *arguments: str | Path, timeout: float = START_SECONDS) -> Iterator[tuple[Running, Json]]:
        """`stack share ARGUMENTS`: the process that serves, and what it printed."""
        with self.start("share", "--json", "--no-qr", *arguments) as process:
            yield process, process.next_json(timeout)

    @contextmanager
    def daemon(self, *arguments: str) -> Iterator[Running]:
        """`stack daemon`, ready."""
        with self.start("daemon", *arguments) as process:
            while process.next_line() != "Daemon is ready":
                pass
            yield process

    def shares(self) -> list[Json]:
        """What this machine's node shares, by its own counters."""
        return list(good(self.run("shares", "ls", "--json")).json["items"])

    def bytes_sent(self) -> int:
        """Block bytes that this machine's node sent for its shares, by its own counters."""
        return sum(share["bytes_sent"] for share in self.shares())

    def address(self) -> str:
        """A dialable address of the node that runs, with its peer id."""
        addresses: list[str] = good(self.run("id", "--json")).json["addresses"]
        return next(address for address in addresses if "/ws" not in address)

    def verified(self) -> Json:
        """`stack repo verify`: nothing is wrong."""
        report = good(self.run("repo", "verify", "--json", timeout=300)).json
        assert report["problems"] == 0
        return report


def until(condition: Callable[[], T | None], timeout: float, what: str) -> T:
    """What `condition` returns as soon as it is something. Raises AssertionError."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"{what}: not in {timeout:.0f} s")


def make_file(path: Path, size: int, seed: int = 1) -> Path:
    """A file of `size` bytes that no compression or deduplication shortens; the same for the same seed."""
    source = random.Random(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        for start in range(0, size, MIB):
            out.write(source.randbytes(min(MIB, size - start)))
    return path


def sha256(path: Path) -> str:
    """Of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def snapshot(root: Path) -> dict[str, str]:
    """Every entry below a folder by its path, with what it holds: hash, link target or `directory`."""
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        else:
            found[name] = "directory" if path.is_dir() else sha256(path)
    return found


def disk_usage(root: Path) -> int:
    """Bytes that all files below a folder take on disk."""
    return sum(path.stat().st_blocks * 512 for path in root.rglob("*") if path.is_file())


@contextmanager
def temporary_place() -> Iterator[Path]:
    """A folder with a short path, so that control sockets fit, that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="stack-kit-") as folder:
        yield Path(folder)
