"""Many at once: from four, to eight, two hundred at one."""

import json
import os
import signal
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from interop.driver import Peer
from tests.acceptance.kit import MIB, Json, good, make_file
from tests.acceptance.namespaces import Star, missing
from tests.acceptance.process import Running
from tests.acceptance.swarm import from_all, made
from tests.acceptance.swarm import swarm as our_swarm
from tests.bench.figures import Figure
from tests.bench.meter import SECONDS_MAX, Meter, Scene, Work, end, memory, same
from tests.bench.rows.fetch import Torrents, complete

PROVIDERS = 4
CAP = 8_000_000
"""Bytes a second that each of the capped providers sends."""
RECEIVERS = 8
SWARM_RATE = 4_000_000
CROWD_FILE = 4 * MIB
FIRST = 16
SETTLE_SECONDS = 2.0
"""What a node takes once, for the first of its connections and for what begins a moment after its start, is no matter of how many."""
CROWDS = 4
"""Processes that the many peers are in."""


def _from(scene: Scene, place: Path, source: Path, digest: str, count: int, *options: str) -> tuple[float, Figure]:
    """Seconds, and MiB a second, of a fetch from so many who share the same file."""
    with ExitStack() as stack:
        sharers = [
            stack.enter_context(
                scene.machine(place / f"s{number}").sharing(source, "--open", *options, timeout=SECONDS_MAX)
            )
            for number in range(count)
        ]
        addresses = [_address(shared) for _, shared in sharers]
        meter = Meter(**{f"sharer {number}": process.pid for number, (process, _) in enumerate(sharers, 1)})
        receiver = scene.machine(place / "receiver")
        words = ("get", sharers[0][1]["cid"], "-o", "got.bin", "--json", *from_all(addresses))
        got = good(receiver.run(*words, timeout=SECONDS_MAX))
        ends = (*meter.ends(), end("receiver", got))
    same(receiver.folder / "got.bin", digest, "stack get")
    return got.seconds, Figure(scene.size / got.seconds, ends)


def _address(shared: Json) -> str:
    address = next(str(one) for one in shared["addresses"] if "/ws" not in one)
    return address if "/p2p/" in address else f"{address}/p2p/{shared['peer_id']}"


@contextmanager
def providers(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """From four processes that share the same file, and from one of them."""
    source, digest = scene.file()
    yield {
        f"stack, {PROVIDERS} providers": lambda place: _from(scene, place, source, digest, PROVIDERS)[1],
        "stack, 1 provider": lambda place: _from(scene, place, source, digest, 1)[1],
    }


@contextmanager
def capped(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """From four who send at most CAP bytes a second each: how much of that together the fetch takes, its start included."""
    source, digest = scene.file()

    def ours(place: Path) -> Figure:
        seconds, figure = _from(scene, place, source, digest, PROVIDERS, "--up", str(CAP))
        return Figure(100 * scene.size * MIB / seconds / (PROVIDERS * CAP), figure.ends)

    yield {"stack": ours}


@contextmanager
def swarm(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """One seed and eight receivers in namespaces of their own, each sends at most SWARM_RATE: seconds until the last has the file.

    The seed is killed when the receivers hold everything together. Receivers of `stack` know the seed's ticket; those of libtorrent are
    told everybody's address, as a tracker would do.
    """
    if (reason := missing()) is not None:
        scene.missing.append(f"all: {reason}")
        yield {}
        return
    source = made(scene.place, scene.size * MIB)
    with Star(RECEIVERS + 1) as star:
        kinds: dict[str, Work] = {"stack": lambda place: Figure(our_swarm(star, place, source, SWARM_RATE).seconds)}
        if (python := scene.libtorrent()) is not None:
            kinds["libtorrent"] = lambda place: Figure(_torrent_swarm(Torrents(python, place, source), star))
        yield kinds


def _torrent_swarm(torrents: Torrents, star: Star) -> float:
    def start(number: int) -> Running:
        others = [star.address(other) for other in range(len(star.computers)) if other != number]
        address, prefix = star.address(number), star.prefix(number)
        return torrents.peer(number, address, others, rate=SWARM_RATE, prefix=prefix)

    with ExitStack() as stack:
        seed = stack.enter_context(start(0))
        complete(seed)
        began = time.monotonic()
        peers = [stack.enter_context(start(number)) for number in range(1, len(star.computers))]
        while True:
            told = [_latest(peer) for peer in peers]
            if (
                all("1" in column for column in zip(*(said["pieces"] for said in told), strict=True))
                and told[0]["pieces"]
            ):
                break
        seed.kill()
        seconds = max(float(complete(peer)["at"]) for peer in peers) - began
    for number in range(1, len(star.computers)):
        assert (torrents.folder(number) / torrents.source.name).read_bytes() == torrents.source.read_bytes()
    return seconds


def _latest(peer: Running) -> Json:
    """What a peer says now."""
    now = time.monotonic()
    while True:
        said: Json = json.loads(peer.next_line())
        if said["at"] >= now:
            return said


@contextmanager
def connected(scene: Scene, *words: str, count: int) -> Iterator[list[Running]]:
    """So many peers, in a few processes, connected to an address. They stand for other computers, and take what the node leaves of this
    one: with its priority they were what it waited for."""
    machine = scene.machine(scene.place / "crowd", prefix=("nice", "-n", "15"))
    parts = [count // CROWDS + (number < count % CROWDS) for number in range(CROWDS)]
    with ExitStack() as stack:
        crowds = [
            stack.enter_context(machine.module("tests.bench.rows.crowd", words[0], str(part), *words[1:]))
            for part in parts
            if part
        ]
        for one in crowds:
            _says(one, "connected")
        yield crowds


def _says(process: Running, what: str) -> None:
    said = process.next_line(SECONDS_MAX)
    if said != what:
        raise RuntimeError(f"{process.arguments}: {said} where {what} was awaited")


def roomy(count: int) -> dict[str, str]:
    """Settings with which none of so many connections is closed to make room."""
    return {"STACK_HIGH_WATER": str(2 * count), "STACK_LOW_WATER": str(2 * count)}


def sockets(pid: int) -> int:
    """How many a process has open."""
    return sum(os.readlink(one).startswith("socket:") for one in Path(f"/proc/{pid}/fd").iterdir())


@contextmanager
def idle(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """What each of so many more connections that do nothing adds to a node's own memory: KiB."""

    def grown(pid: int, address: str) -> Figure:
        with connected(scene, address, count=FIRST):
            time.sleep(SETTLE_SECONDS)
            before, meter = memory(pid, "RssAnon"), Meter(listener=pid)
            with connected(scene, address, count=scene.size):
                if (stand := sockets(pid)) < FIRST + scene.size:
                    raise RuntimeError(f"of {scene.size} connections {stand} stand")
                return Figure((memory(pid, "RssAnon") - before) / 1024 / scene.size, meter.ends())

    def ours(place: Path) -> Figure:
        machine = scene.machine(place, **roomy(scene.size))
        with machine.daemon() as daemon:
            return grown(daemon.pid, machine.address())

    def go(_: Path) -> Figure:
        peer = Peer("go", "listener")
        try:
            return grown(peer.pid, peer.address)
        finally:
            peer.quit()

    yield {"stack": ours, **({"go": go} if scene.has("go") else {})}


@contextmanager
def crowd(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """So many peers fetch 4 MiB each from one node at the same time: milliseconds by which 99 of 100 looks at its loop are late at most."""
    source = make_file(scene.place / "file.bin", CROWD_FILE)

    def on(backend: str) -> Work:
        def run(place: Path) -> Figure:
            machine = scene.machine(place, STACK_BACKEND=backend, **roomy(scene.size))
            with machine.module("tests.bench.rows.observed", str(source)) as node:
                told = json.loads(node.next_line())
                with connected(scene, told["address"], told["cid"], count=scene.size) as crowds:
                    _late(node)
                    meter = Meter(node=node.pid)
                    for one in crowds:
                        one.send(signal.SIGUSR1)
                    for one in crowds:
                        _says(one, "fetched")
                    return Figure(1000 * statistics.quantiles(_late(node), n=100)[-1], meter.ends())

        return run

    yield {"stack": on("asyncio"), "stack on trio": on("trio")}


def _late(node: Running) -> list[float]:
    """Seconds, since the last time."""
    node.send(signal.SIGUSR1)
    late: list[float] = json.loads(node.next_line())
    return late
