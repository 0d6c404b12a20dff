"""Errors of the system at one place in a command: the n-th `pwrite`, `fdatasync`, `rename`, `openat`, `accept`... fails or stands still.

    python -m tests.lab.faults --count 1000 --seed 1

Each command runs with everything loaded under `strace --inject`, attached before its first step. Afterwards, without faults: what it
said is there is there, what it wrote is right, the repository is good, and it showed no traceback.
"""

import argparse
import gc
import importlib
import itertools
import json
import os
import pkgutil
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import stack
from tests.lab.switch import die_with_parent

MIB = 1 << 20
SECONDS = 60.0
"""For one command, strace included; `--patience` makes more of this and of all other times, on a busy machine."""
TICKET = re.compile(r"stack:[a-z0-9]{20,}")

ERRORS: dict[str, tuple[str, ...]] = {
    "pwrite64": ("EIO", "ENOSPC", "EDQUOT"),
    "pwritev2": ("EIO", "ENOSPC"),
    "write": ("ENOSPC", "EIO"),
    "pread64": ("EIO",),
    "preadv": ("EIO",),
    "fdatasync": ("EIO", "ENOSPC"),
    "fsync": ("EIO",),
    "syncfs": ("EIO", "ENOSPC"),
    "rename": ("EIO", "ENOSPC", "EROFS"),
    "renameat": ("EIO",),
    "link": ("EIO", "EPERM"),
    "linkat": ("EIO", "EPERM"),
    "unlink": ("EROFS", "EIO"),
    "mkdir": ("ENOSPC", "EROFS"),
    "ftruncate": ("ENOSPC", "EIO"),
    "openat": ("EMFILE", "ENFILE", "EIO", "EROFS", "ENOSPC"),
    "newfstatat": ("EIO", "ESTALE"),
    "utimensat": ("EROFS",),
    "fchmod": ("EROFS", "EPERM"),
    "accept4": ("EMFILE", "ENFILE", "ECONNABORTED", "ENOBUFS"),
    "socket": ("EMFILE",),
    "connect": ("ENETUNREACH", "EADDRNOTAVAIL"),
    "sendmsg": ("ENOBUFS", "ECONNRESET", "EPIPE"),
    "sendto": ("ENOBUFS", "ECONNRESET"),
    "recvfrom": ("ECONNRESET", "ETIMEDOUT"),
    "flock": ("ENOLCK",),
    "fcntl": ("ENOLCK",),
    "getdents64": ("EIO",),
}
DELAYED = ("pwrite64", "fdatasync", "fsync", "openat", "recvfrom", "sendmsg", "sendto", "pread64", "rename")
DELAY_MICROSECONDS = 700_000
INTERRUPTED = ("pwrite64", "write", "pread64", "fdatasync", "fsync", "openat", "accept4", "recvfrom", "sendto", "flock")
"""By a signal: once, because who tries again for ever is right."""
NOTHING_WRITTEN = ("pwrite64", "pwritev2")
"""The shortest of all short writes, the only one that strace can tell of without lying about what is on the disk."""

OF_THE_LOOP = ("_read_from_self", "signal wakeup fd")
"""asyncio's own pipe, of which Python says itself that it cannot be read or written."""


def preload() -> None:
    """Load all of the package, so that no fault falls on an import."""
    for module in pkgutil.walk_packages(stack.__path__, "stack."):
        importlib.import_module(module.name)
    for name in (
        "trio",
        "anyio._backends._asyncio",
        "anyio._backends._trio",
        "encodings.idna",
        "blake3",
        "cid",
        "multihash",
    ):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


_numbers = itertools.count()
_begun: "list[Command]" = []
"""What still runs when the next fault is placed, but for the sharer, is ended then."""
_patience = 1.0


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens, at which call of its kind in each thread."""

    syscall: str
    what: str
    number: int
    lasting: bool
    """At all later calls too."""

    def __str__(self) -> str:
        return f"{self.syscall}:{self.what}:{self.number}{'+' if self.lasting else ''}"

    @property
    def injection(self) -> str:
        """As strace wants it."""
        effect = {"delay": f"delay_enter={DELAY_MICROSECONDS}", "short": "retval=0"}.get(
            self.what, f"error={self.what}"
        )
        return f"inject={self.syscall}:{effect}:when={self.number}{'+' if self.lasting else ''}"


def trace(pid: int, options: Sequence[str]) -> subprocess.Popen[bytes]:
    """Have strace look at a process that stands still; returns when it does. Raises RuntimeError when it does not come."""
    tracer = subprocess.Popen(["strace", *options, "-p", str(pid)], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 10
    while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
        if time.monotonic() > until or tracer.poll() is not None:
            raise RuntimeError("strace does not come")
        time.sleep(0.005)
    return tracer


class Command:
    """`stack ARGUMENTS` in a forked child, with faults or without."""

    def __init__(
        self, place: Path, home: Path, *arguments: str, fault: Fault | None = None, log: Path | None = None
    ) -> None:
        number = next(_numbers)
        self.out, self.err = place / f".out{number}", place / f".err{number}"
        traced = fault is not None or log is not None
        self.pid = os.fork()
        if not self.pid:
            _be_command(place, home, arguments, self.out, self.err, traced)
        _begun.append(self)
        self.tracer: subprocess.Popen[bytes] | None = None
        self.code: int | None = None
        if traced:
            os.waitpid(self.pid, os.WUNTRACED)
            options = ["-f", "-qq", "-e", "signal=none"]
            if fault is not None:
                options += ["-o", "/dev/null", "-e", f"trace={fault.syscall}", "-e", fault.injection]
            else:
                options += ["-o", str(log), "-e", "trace=" + ",".join(ERRORS)]
            self.tracer = trace(self.pid, options)
            os.kill(self.pid, signal.SIGCONT)

    def wait(self, seconds: float = SECONDS) -> int:
        """Its exit code, or minus its signal; it is killed when its time is over, which is told as -999."""
        until = time.monotonic() + seconds * _patience
        while not self.ended():
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                self.code = -999
            else:
                time.sleep(0.01)
        if self.tracer is not None:
            self.tracer.wait()
        assert self.code is not None
        return self.code

    def ended(self) -> bool:
        """Whether it has; `code` is known then."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def ticket(self, seconds: float = 20) -> str | None:
        """What `share` prints, when it does in this time."""
        until = time.monotonic() + seconds * _patience
        while time.monotonic() < until:
            found = TICKET.search(self.out.read_text()) if self.out.exists() else None
            if found and self.out.read_text().endswith("\n"):
                return found.group()
            if self.ended():
                return None
            time.sleep(0.01)
        return None

    def interrupt(self) -> int:
        """Ctrl-C; its exit code."""
        if self.code is None:
            os.kill(self.pid, signal.SIGINT)
        return self.wait(20)


def _be_command(place: Path, home: Path, arguments: Sequence[str], out: Path, err: Path, traced: bool) -> None:
    code = 1
    try:
        die_with_parent()
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT), 1)
        os.dup2(os.open(err, os.O_WRONLY | os.O_CREAT), 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(place)
        os.environ |= {"STACK_HOME": str(home), "STACK_LISTEN": "/ip4/127.0.0.1/tcp/0", "STACK_MDNS": "0"}
        sys.argv = ["stack", *arguments]
        if traced:
            os.kill(os.getpid(), signal.SIGSTOP)
        from stack.cli import main

        main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:  # noqa: BLE001 - a child must never go on in its parent's code
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Bench:
    """A home with things in it that must stay, a folder, and another computer that shares."""

    def __init__(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="faults-"))
        self.home = self.place / "home"
        chance = random.Random(1)
        piece = chance.randbytes(256 * 1024)
        self.kept = self._file("kept", piece * 3 + bytes(MIB) + chance.randbytes(MIB))
        self.shared = self._file("shared", chance.randbytes(MIB) + piece * 2)
        self.film = self._file("film", chance.randbytes(2 * MIB) + bytes(MIB) + piece * 2)
        tree = self.place / "tree"
        tree.mkdir()
        for number in range(30):
            (tree / f"{number}").write_bytes(chance.randbytes(100) if number % 3 else b"the same")
        self.tree = tree
        (self.place / "work").mkdir()
        self.kept_cid = self.run("add", "-q", "--copy", str(self.kept)).strip()
        garbage = self._file("garbage", chance.randbytes(MIB))
        rubbish = self.run("add", "-q", "--copy", str(garbage)).strip()
        self.run("pin", "rm", rubbish)
        share = Command(self.place, self.home, "share", str(self.shared))
        assert share.ticket()
        share.interrupt()
        shutil.copytree(self.home, self.place / "home.as.made", ignore=shutil.ignore_patterns("*.sock"))
        (self.place / "peer").mkdir()
        self.sharer = Command(
            self.place / "peer", self.place / "peer" / "home", "share", str(self.film), str(self.tree)
        )
        self.ticket = self.sharer.ticket() or ""
        assert self.ticket

    def _file(self, name: str, data: bytes) -> Path:
        path = self.place / name
        path.write_bytes(data)
        return path

    def renew(self) -> None:
        """The home as it was made, an empty folder; what did not end is killed."""
        for command in _begun:
            if command is not self.sharer:
                command.wait(0)
        _begun[:] = [self.sharer]
        for folder in (self.home, self.place / "work"):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.place / "home.as.made", self.home)
        (self.place / "work").mkdir()
        for folder in (self.place, self.place / "peer"):
            for file in (*folder.glob(".out*"), *folder.glob(".err*")):
                if file not in (self.sharer.out, self.sharer.err):
                    file.unlink()

    def close(self) -> None:
        """Remove everything."""
        self.sharer.interrupt()
        shutil.rmtree(self.place, ignore_errors=True)

    def run(self, *arguments: str, seconds: float = SECONDS) -> str:
        """A command without faults; its output. Raises AssertionError when it fails."""
        command = Command(self.place, self.home, *arguments)
        code = command.wait(seconds)
        said = command.err.read_text(errors="replace")
        assert code == 0, f"afterwards `stack {' '.join(arguments)[:80]}` ended with {code}: {said[-500:]}"
        return command.out.read_bytes().decode("latin-1")

    # --- what is done under faults: each returns what does not hold of what it said

    def add(self, **faults: object) -> None:
        command = self._command("add", "-q", "--copy", str(self.film), **faults)
        if self._code(command) == 0:
            cid = command.out.read_text().strip()
            assert self.run("cat", cid).encode("latin-1") == self.film.read_bytes(), "what was added is not there"

    def share(self, **faults: object) -> None:
        command = self._command("share", str(self.film), str(self.tree), **faults)
        ticket = command.ticket()
        if ticket is None:
            self._code(command, interrupted=True)
        else:
            # It may be unable to serve while faults last; what it serves must be right.
            other = Command(
                self.place / "work", self.place / "work" / "home", "get", ticket, "--timeout", "5", "--deadline", "8"
            )
            served = self._code(other, traced=False) == 0
            command.interrupt()
            self._code(command, interrupted=True)
            if served:
                self._compare(self.place / "work", command.err.read_text(errors="replace"))
        self._told(command)
        again = Command(self.place, self.home, "share", str(self.film), str(self.tree))
        ticket = again.ticket()
        try:
            assert ticket, f"afterwards it cannot be shared: {again.err.read_text()[-300:]}"
            shutil.rmtree(self.place / "work")
            (self.place / "work").mkdir()
            third = Command(self.place / "work", self.place / "work" / "home", "get", ticket)
            assert third.wait() == 0, f"afterwards nobody can fetch it: {third.err.read_text()[-300:]}"
            self._compare(self.place / "work")
        finally:
            again.interrupt()

    def get(self, **faults: object) -> None:
        work = self.place / "work"
        command = self._command("get", self.ticket, "--timeout", "8", "--deadline", "15", place=work, **faults)
        if self._code(command) == 0:
            self._compare(work)
        again = Command(work, self.home, "get", self.ticket, "--timeout", "20")
        code = again.wait()
        assert code == 0, f"afterwards it cannot be fetched: {code} {again.err.read_text()[-300:]}"
        self._compare(work)

    def gc(self, **faults: object) -> None:
        self._code(self._command("gc", **faults))

    def daemon(self, **faults: object) -> None:
        command = self._command("daemon", place=self.place / "work", **faults)
        asked = self.place / "peer"
        until = time.monotonic() + 10 * _patience
        while not (self.home / "control").exists() and time.monotonic() < until and command.ticket(0.02) is None:
            if command.code is not None:
                break
        added = Command(asked, self.home, "add", "-q", "--copy", str(self.film))
        code = self._code(added, traced=False)
        target = str(self.place / "work" / "got")
        fetched = Command(asked, self.home, "get", self.ticket, "--timeout", "8", "--deadline", "12", "-o", target)
        self._code(fetched, traced=False)
        self._code(Command(asked, self.home, "gc"), traced=False)
        if not command.ended():
            command.interrupt()
        self._code(command, interrupted=True)
        self._told(command)
        if code == 0:
            cid = added.out.read_text().strip()
            assert self.run("cat", cid).encode("latin-1") == self.film.read_bytes(), "what was added is not there"

    def _command(self, *arguments: str, place: Path | None = None, fault: object = None, log: object = None) -> Command:
        return Command(place or self.place, self.home, *arguments, fault=fault, log=log)  # type: ignore[arg-type]

    def _code(self, command: Command, *, interrupted: bool = False, traced: bool = True) -> int:
        code = command.code if command.code is not None else command.wait()
        self._told(command)
        assert code != -999, f"it did not end: {command.err.read_text(errors='replace')[-300:]}"
        assert code >= 0 or interrupted, f"it ended by signal {-code}"
        assert code != 1, f"it ended as by a bug of ours: {command.err.read_text(errors='replace')[-500:]}"
        return code

    def _told(self, command: Command) -> None:
        said = command.err.read_text(errors="replace") if command.err.exists() else ""
        said = "" if any(pipe in said for pipe in OF_THE_LOOP) else said
        assert "Traceback" not in said and "internal error" not in said, f"it said: {said[-1500:]}"

    def _compare(self, work: Path, told: str = "") -> None:
        """What was fetched is as it was shared; only what `told` names was left out."""
        film = next((path for path in work.rglob("film") if path.is_file()), None)
        assert film is not None and film.read_bytes() == self.film.read_bytes(), "the film is not as it was shared"
        trees = [path for path in work.rglob("tree") if path.is_dir()]
        assert trees, "the tree is not there"
        for source in self.tree.iterdir():
            copy = trees[0] / source.name
            if not copy.exists() and f"{self.tree.name}/{source.name}" in told:
                continue
            assert copy.exists(), f"{source.name} is not there"
            assert copy.read_bytes() == source.read_bytes(), f"{source.name} is not as it was shared"

    def check(self) -> None:
        """What was there before is there and good."""
        assert self.run("cat", self.kept_cid).encode("latin-1") == self.kept.read_bytes(), (
            "what was pinned is not right"
        )
        self.run("repo", "verify")


def calls(bench: Bench, work: Callable[..., None]) -> dict[str, int]:
    """How often a thread makes each call when nothing fails."""
    log = bench.place / "calls"
    bench.renew()
    work(log=log)
    counts: Counter[tuple[str, str]] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        found = re.match(r"(\d+) +(\w+)\(", line)
        if found:
            counts[found.group(1), found.group(2)] += 1
    most: dict[str, int] = {}
    for (_, name), count in counts.items():
        most[name] = max(most.get(name, 0), count)
    return most


def choose(chance: random.Random, syscall: str, calls_made: int) -> Fault:
    """One of the faults that this call may have."""
    rare = {"delay": DELAYED, "EINTR": INTERRUPTED, "short": NOTHING_WRITTEN}
    seldom = [what for what, having in rare.items() if syscall in having and chance.random() < 0.15]
    what = chance.choice(seldom or ERRORS[syscall])
    lasting = what not in ("delay", "EINTR") and chance.random() < 0.25
    return Fault(syscall, what, chance.randint(1, calls_made), lasting)


def chosen(bench: Bench, chance: random.Random, options: argparse.Namespace) -> Iterator[tuple[str, Fault]]:
    """As many as are wanted, by chance, among the calls that the commands make when nothing fails."""
    names = [options.only] if options.only else ["add", "share", "get", "gc", "daemon"]
    kinds = {name: calls(bench, getattr(bench, name)) for name in names}
    print(json.dumps(kinds), flush=True)
    for _ in range(options.count):
        name = chance.choice(names)
        syscall = chance.choice([call for call in kinds[name] if call in ERRORS])
        yield name, choose(chance, syscall, kinds[name][syscall])


def read_fault(text: str) -> tuple[str, Fault]:
    """A fault that was told: `share:openat:EMFILE:151+`."""
    name, syscall, what, number = text.split(":")
    return name, Fault(syscall, what, int(number.rstrip("+")), number.endswith("+"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Place faults; 1 when something did not hold."""
    global _patience
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one of add, share, get, gc, daemon")
    parser.add_argument("--patience", type=float, default=1.0, help="how much longer everything may take here")
    parser.add_argument(
        "--place", action="append", help="one fault, as it is told of one that did not hold; several times"
    )
    options = parser.parse_args(arguments)
    _patience = options.patience
    preload()
    chance = random.Random(options.seed)
    bench = Bench()
    bad = placed = 0
    try:
        for name, fault in map(read_fault, options.place) if options.place else chosen(bench, chance, options):
            bench.renew()
            try:
                getattr(bench, name)(fault=fault)
                bench.check()
            except AssertionError as error:
                bad += 1
                print(f"{placed}: --place {name}:{fault}: {error}", flush=True)
            placed += 1
            if placed % 50 == 0:
                print(f"{placed} faults placed so far", flush=True)
    finally:
        bench.close()
    print(f"{placed} faults placed, {bad} did not hold")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
