"""Many small files from one program to another of the same kind over loopback: `stack`, Kubo, croc, magic-wormhole.

Every run ends with a comparison of what arrived. Relays of croc and wormhole run here too and are not counted.
"""

import filecmp
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from interop.kubo.daemon import Kubo
from tests.acceptance.kit import good, until
from tests.acceptance.process import Outcome, Running
from tests.bench.figures import End, Figure
from tests.bench.meter import SECONDS_MAX, Meter, Scene, Work, alive, end, ipfs

FILE_BYTES = 1024
FILES_A_DIRECTORY = 500
RELAY_PORTS = (19009, 19010)
MAILBOX_PORT, TRANSIT_PORT = 14000, 14001

Sent = tuple[float, tuple[End, ...], Path]
"""Seconds from the start of the sender until the receiver has everything; what both took; where it is."""


@contextmanager
def files(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """Files a second, from the start of the sender until the receiver has them all."""
    tree = scene.place / "tree"
    make_tree(tree, scene.size)

    def kind(send: Callable[[Path, Path], Sent]) -> Work:
        def run(place: Path) -> Figure:
            seconds, ends, got = send(tree, place)
            if not is_same(tree, got):
                raise RuntimeError("what arrived is something else")
            return Figure(scene.size / seconds, ends)

        return run

    def ours(tree: Path, place: Path) -> Sent:
        receiver = scene.machine(place / "receiver")
        begun = time.monotonic()
        with scene.machine(place / "sender").sharing(tree, timeout=SECONDS_MAX) as (process, shared):
            got = good(receiver.run("get", shared["ticket"], "-o", "got", "--json", timeout=SECONDS_MAX))
            seconds = time.monotonic() - begun
            ends = (alive("sender", process.pid), end("receiver", got))
        return seconds, ends, receiver.folder / "got"

    kinds = {"stack": kind(ours)}
    if scene.has("kubo"):
        kinds["Kubo"] = kind(kubo)
    for name, variable, send in (("croc", "STACK_CROC", croc), ("magic-wormhole", "STACK_WORMHOLE", wormhole)):
        if variable in os.environ:
            kinds[name] = kind(send)
        else:
            scene.missing.append(f"{name}: {variable} is not set")
    yield kinds


def kubo(tree: Path, place: Path) -> Sent:
    """The daemons run before the time begins."""
    with Kubo(place / "one").running() as one, Kubo(place / "other").running() as other:
        other.run("swarm", "connect", one.address)
        assert one.process is not None and other.process is not None
        meter = Meter(sender=one.process.pid, receiver=other.process.pid)
        begun = time.monotonic()
        added = ipfs(one, "add", "-r", "-Q", "--raw-leaves", "--cid-version", "1", tree, place=place)
        got = ipfs(other, "get", "--progress=false", "-o", place / "got", added.out.split()[-1], place=place)
        seconds = time.monotonic() - begun
        daemons = meter.ends()
    ends = tuple(
        End(daemon.name, daemon.cpu + command.cpu_seconds, daemon.peak)
        for daemon, command in zip(daemons, (added, got), strict=True)
    )
    return seconds, ends, place / "got"


def croc(tree: Path, place: Path) -> Sent:
    """Its relay runs before the time begins."""
    program, ports = os.environ["STACK_CROC"], ",".join(map(str, RELAY_PORTS))
    secret = {"CROC_SECRET": "small-files-bench", "CROC_CONFIG_DIR": str(place / "settings")}
    relay = ("--relay", f"127.0.0.1:{RELAY_PORTS[0]}")
    with _process(place / "relay", program, "relay", "--host", "127.0.0.1", "--ports", ports) as server:
        _listens(server, RELAY_PORTS)
        send = (program, *relay, "send", "--no-local", str(tree))
        receive = (program, "--yes", "--overwrite", *relay)
        return *_sent(place, send, r"Code is", receive, **secret), place / "receiver" / tree.name


def wormhole(tree: Path, place: Path) -> Sent:
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
        return *_sent(place, send, r"Wormhole code is|wormhole receive", receive), place / "receiver" / "got"


def _sent(
    place: Path, send: tuple[str, ...], ready: str, receive: tuple[str, ...], **settings: str
) -> tuple[float, tuple[End, ...]]:
    """A sender that ends when the receiver has everything, and says on stderr when that may start."""
    begun = time.monotonic()
    with _process(place / "sender", *send, **settings) as sending:
        sending.next_said(ready, SECONDS_MAX)
        with _process(place / "receiver", *receive, **settings) as receiving:
            got = good(receiving.wait(SECONDS_MAX))
        seconds = time.monotonic() - begun
        gone: Outcome = sending.wait(SECONDS_MAX)
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
