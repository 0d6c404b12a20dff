"""Many small files from one program to another of the same kind over loopback: `stack`, Kubo, croc, magic-wormhole.

Every run ends with a comparison of what arrived. Relays of croc and wormhole run here too and are not counted. How often an end waits
for the disk is a row of its own, under `strace`, which slows what it counts.
"""

import filecmp
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from interop.kubo.daemon import Kubo
from tests.acceptance.kit import good, until
from tests.acceptance.process import Outcome, Running, StillRunning
from tests.bench.figures import End, Figure
from tests.bench.meter import SECONDS_MAX, Meter, Scene, Work, alive, end, ipfs

FILE_BYTES = 1024
FILES_A_DIRECTORY = 500
RELAY_PORTS = (19009, 19010)
MAILBOX_PORT, TRANSIT_PORT = 14000, 14001

SLOWEST, PATIENCE = 150, 60.0
"""An anchor that brings fewer files a second than this, after so many seconds more, is not waited for."""

SYNCS = ("fsync", "fdatasync", "sync_file_range", "syncfs", "sync", "msync")
STARTED = "execve"
"""Every process that is counted from its start has made this call: without it the table is not there yet."""
COUNTED_SECONDS = 30.0
"""For `strace` to write down what it counted."""

Sent = tuple[float, tuple[End, ...], Path]
"""Seconds from the start of the sender until the receiver has everything; what both took; where it is."""


class Counter:
    """How often ends call for the disk, where that is asked for. Getter: `total`."""

    def __init__(self, place: Path, *, counts: bool) -> None:
        self._place = place
        self._counts = counts
        self._files: list[Path] = []

    def _strace(self, end: str, *options: str) -> tuple[str, ...]:
        self._files.append(self._place / f"{end}.syncs")
        return ("strace", "-f", "-c", "-o", str(self._files[-1]), *options)

    def prefix(self, end: str) -> tuple[str, ...]:
        """In front of the command of an end, which stays the process that is started (-D)."""
        if not self._counts:
            return ()
        return self._strace(end, "-D", "--seccomp-bpf", "-e", f"trace={','.join((*SYNCS, STARTED))}")

    @contextmanager
    def watching(self, end: str, pid: int) -> Iterator[None]:
        """The same of a process that runs."""
        if not self._counts:
            yield
            return
        command = self._strace(end, "-e", f"trace={','.join(SYNCS)}", "-p", str(pid))
        written = self._files[-1]
        with _process(self._place / f"{end}.strace", *command) as strace:
            strace.next_said("attached", PATIENCE)
            yield
            strace.stop(signal.SIGINT)
        with written.open("a") as file:
            file.write(f"0 0 0 0 {STARTED}\n")  # it runs already, and what was counted is whole

    @property
    def total(self) -> int:
        """Of all ends, once they have ended."""
        return sum(until(partial(_counted, file), COUNTED_SECONDS, file.name) for file in self._files) - len(
            self._files
        )


def _counted(file: Path) -> int | None:
    """One more than the syncs in a table of `strace -c`; None as long as it is not whole."""
    rows = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    calls = {row[-1]: int(row[3]) for row in rows if row[-1:] and row[-1] in (*SYNCS, STARTED)}
    return 1 + sum(calls.get(name, 0) for name in SYNCS) if STARTED in calls else None


@contextmanager
def files(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """Files a second, from the start of the sender until the receiver has them all."""
    yield _kinds(scene, counts=False)


@contextmanager
def syncs(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """How often both ends wait for the disk meanwhile."""
    if shutil.which("strace") is None:
        scene.missing.append("all: there is no strace")
        yield {}
        return
    yield _kinds(scene, counts=True)


def _kinds(scene: Scene, *, counts: bool) -> Mapping[str, Work]:
    tree = scene.place / "tree"
    make_tree(tree, scene.size)

    def kind(send: Callable[[Path, Path, Counter], Sent]) -> Work:
        def run(place: Path) -> Figure:
            counter = Counter(place, counts=counts)
            seconds, ends, got = send(tree, place, counter)
            if not is_same(tree, got):
                raise RuntimeError("what arrived is something else")
            return Figure(counter.total) if counts else Figure(scene.size / seconds, ends)

        return run

    def ours(tree: Path, place: Path, counter: Counter) -> Sent:
        sender = scene.machine(place / "sender", prefix=counter.prefix("sender"))
        receiver = scene.machine(place / "receiver", prefix=counter.prefix("receiver"))
        begun = time.monotonic()
        with sender.sharing(tree, timeout=SECONDS_MAX) as (process, shared):
            got = good(receiver.run("get", shared["ticket"], "-o", "got", "--json", timeout=SECONDS_MAX))
            seconds = time.monotonic() - begun
            ends = (alive("sender", process.pid), end("receiver", got))
        return seconds, ends, receiver.folder / "got"

    limit = scene.size / SLOWEST + PATIENCE
    kinds = {"stack": kind(ours)}
    if scene.has("kubo"):
        kinds["Kubo"] = kind(kubo)
    for name, variable, send in (("croc", "STACK_CROC", croc), ("magic-wormhole", "STACK_WORMHOLE", wormhole)):
        if variable in os.environ:
            kinds[name] = kind(partial(send, limit))
        else:
            scene.missing.append(f"{name}: {variable} is not set")
    return kinds


def kubo(tree: Path, place: Path, counter: Counter) -> Sent:
    """The daemons run before the time begins. `ipfs get` alone asks for one file after the other and takes twenty times as long, so
    the tree is pinned first."""
    with ExitStack() as stack:
        one, other = (stack.enter_context(Kubo(place / name).running()) for name in ("one", "other"))
        other.run("swarm", "connect", one.address)
        assert one.process is not None and other.process is not None
        for name, process in (("sender", one.process), ("receiver", other.process)):
            stack.enter_context(counter.watching(name, process.pid))
        meter = Meter(sender=one.process.pid, receiver=other.process.pid)
        begun = time.monotonic()
        added = ipfs(one, "add", "-r", "-Q", "--raw-leaves", "--cid-version", "1", tree, place=place)
        root = added.out.split()[-1]
        pinned = ipfs(other, "pin", "add", "--progress=false", root, place=place)
        got = ipfs(other, "get", "--progress=false", "-o", place / "got", root, place=place)
        seconds = time.monotonic() - begun
        daemons = meter.ends()
    commands = (added.cpu_seconds, pinned.cpu_seconds + got.cpu_seconds)
    ends = tuple(End(daemon.name, daemon.cpu + cpu, daemon.peak) for daemon, cpu in zip(daemons, commands, strict=True))
    return seconds, ends, place / "got"


def croc(limit: float, tree: Path, place: Path, counter: Counter) -> Sent:
    """Its relay runs before the time begins."""
    program, ports = os.environ["STACK_CROC"], ",".join(map(str, RELAY_PORTS))
    secret = {"CROC_SECRET": "small-files-bench", "CROC_CONFIG_DIR": str(place / "settings")}
    relay = ("--relay", f"127.0.0.1:{RELAY_PORTS[0]}")
    with _process(place / "relay", program, "relay", "--host", "127.0.0.1", "--ports", ports) as server:
        _listens(server, RELAY_PORTS)
        send = (program, *relay, "send", "--no-local", str(tree))
        receive = (program, "--yes", "--overwrite", *relay)
        return *_sent(place, send, r"Code is", receive, limit, counter, **secret), place / "receiver" / tree.name


def wormhole(limit: float, tree: Path, place: Path, counter: Counter) -> Sent:
    """Its servers run before the time begins."""
    folder = Path(os.environ["STACK_WORMHOLE"])
    program, twist = ((str(folder / "python"), str(folder / name)) for name in ("wormhole", "twist"))
    servers = ("--relay-url", f"ws://127.0.0.1:{MAILBOX_PORT}/v1", "--transit-helper", f"tcp:127.0.0.1:{TRANSIT_PORT}")
    mailbox = (*twist, "wormhole-mailbox", "--port", f"tcp:{MAILBOX_PORT}:interface=127.0.0.1")
    transit = (*twist, "transitrelay", "--port", f"tcp:{TRANSIT_PORT}:interface=127.0.0.1")
    with _process(place / "mailbox", *mailbox) as first, _process(place / "transit", *transit) as second:
        _listens(first, (MAILBOX_PORT,))
        _listens(second, (TRANSIT_PORT,))
        send = (*program, *servers, "send", "--hide-progress", "--no-qr", "--code", "1-a-b", str(tree))
        receive = (*program, *servers, "receive", "--hide-progress", "--accept-file", "-o", "got", "1-a-b")
        ready = r"Wormhole code is|wormhole receive"
        return *_sent(place, send, ready, receive, limit, counter), place / "receiver" / "got"


def _sent(
    place: Path,
    send: tuple[str, ...],
    ready: str,
    receive: tuple[str, ...],
    limit: float,
    counter: Counter,
    **settings: str,
) -> tuple[float, tuple[End, ...]]:
    """A sender that ends when the receiver has everything, and says on stderr when that may start. Raises RuntimeError when that
    takes longer than the limit."""
    begun = time.monotonic()
    try:
        with _process(place / "sender", *counter.prefix("sender"), *send, **settings) as sending:
            sending.next_said(ready, limit)
            with _process(place / "receiver", *counter.prefix("receiver"), *receive, **settings) as receiving:
                got = good(receiving.wait(limit))
            seconds = time.monotonic() - begun
            gone: Outcome = sending.wait(limit)
    except StillRunning as error:
        raise RuntimeError(f"not done after {limit:.0f} s") from error
    return seconds, (end("sender", gone), end("receiver", got))


def _process(folder: Path, *command: str, **settings: str) -> Running:
    folder.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return Running(command, cwd=folder, environment={**kept, **settings})


def _listens(process: Running, ports: tuple[int, ...]) -> None:
    """Wait until a server takes connections."""
    heard = [f":{port:04X} 00000000:0000 0A" for port in ports]

    def listening() -> bool:
        tables = "".join(Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6"))
        return all(one in tables for one in heard)

    until(listening, 30.0, f"{process.arguments[0]} listens")


def make_tree(tree: Path, count: int, *, a_directory: int = FILES_A_DIRECTORY) -> None:
    """Files of random bytes, in directories of so many."""
    source = random.Random(count)
    for number in range(count):
        folder = tree / f"{number // a_directory}"
        if number % a_directory == 0:
            folder.mkdir(parents=True)
        (folder / f"{number}").write_bytes(source.randbytes(FILE_BYTES))


def is_same(left: Path, right: Path) -> bool:
    """Whether two trees have the same files."""
    waiting = [filecmp.dircmp(left, right)]
    while waiting:
        one = waiting.pop()
        if one.left_only or one.right_only or one.funny_files:
            return False
        if filecmp.cmpfiles(one.left, one.right, one.common_files, shallow=False)[0] != one.common_files:
            return False
        waiting += one.subdirs.values()
    return True
