"""What hosts do with each other, by the peers of interop/: ours and go alike are driven by lines, on loopback."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from interop import build
from interop.driver import Peer, connect, wait_for_subscribers
from tests.acceptance.kit import MIB
from tests.bench.figures import Figure
from tests.bench.meter import SECONDS_MAX, Meter, Scene, Work, same

TOPIC, WARM_TOPIC = "flood", "warm"
WARM = 500
"""Messages before the clock runs, for what compiles itself as it runs."""
MESH_SECONDS = 2.0
"""Two heartbeats, until a mesh stands: go loses what is published before."""
MESSAGE_BYTES = 1024
SLOW = {"py": 8}
"""A slow kind gets so many times fewer messages."""

Talk = Callable[[Peer, Peer], Figure]
"""What two peers do: the dialler comes first."""


def _between(
    talk: Talk, dialler: str, listener: str, options: tuple[str, ...] = (), *, backend: str = "asyncio"
) -> Work:
    """A run of two peers; `connected` already unless the talk is about connecting."""

    def run(_: Path) -> Figure:
        with ExitStack() as stack:
            ends = []
            for kind, name in ((dialler, "dialler"), (listener, "listener")):
                command = ("env", f"STACK_BACKEND={backend}", *build.command(kind))
                ends.append(Peer(kind, name, *options, command=command))
                stack.callback(ends[-1].quit)
            return talk(ends[0], ends[1])

    return run


def _perf(scene: Scene, up: bool) -> Iterator[Mapping[str, Work]]:
    def talk(dialler: Peer, listener: Peer) -> Figure:
        connect(dialler, listener)
        amounts = (scene.size * MIB, 0) if up else (0, scene.size * MIB)
        meter = Meter(dialler=dialler.pid, listener=listener.pid)
        begun = time.monotonic()
        told = dialler.ask("perf", listener.id, *amounts, answer="performed", seconds=SECONDS_MAX)
        seconds = time.monotonic() - begun
        assert tuple(map(int, told[2:4])) == amounts
        return Figure(scene.size / seconds, meter.ends())

    kinds = {"stack": _between(talk, "ours", "ours"), "stack on trio": _between(talk, "ours", "ours", backend="trio")}
    kinds["stack, TLS"] = _between(talk, "ours", "ours", ("--security", "tls"))
    if scene.has("go"):
        kinds["go"] = _between(talk, "go", "go")
        kinds["go, TLS"] = _between(talk, "go", "go", ("--security", "tls"))
    yield kinds


@contextmanager
def perf_up(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """One stream of /perf/1.0.0, the dialler sends."""
    yield from _perf(scene, up=True)


@contextmanager
def perf_down(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """One stream of /perf/1.0.0, the dialler receives."""
    yield from _perf(scene, up=False)


def _ours_and_go(scene: Scene, talk: Talk, name: str) -> Iterator[Mapping[str, Work]]:
    kinds = {"stack": _between(talk, "ours", "ours")}
    if scene.has("go"):
        kinds[f"stack, go {name}"] = _between(talk, "go", "ours")
        kinds["go"] = _between(talk, "go", "go")
    yield kinds


@contextmanager
def connections(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """Dialled, secured, identified and ended one after the other: how many a second."""

    def once(dialler: Peer, listener: Peer) -> None:
        connect(dialler, listener)
        since = len(listener.catch_up())
        dialler.ask("disconnect", listener.id, answer="disconnected")
        listener.wait("disconnected", dialler.id, since=since)

    def talk(dialler: Peer, listener: Peer) -> Figure:
        once(dialler, listener)
        meter = Meter(dialler=dialler.pid, listener=listener.pid)
        begun = time.monotonic()
        for _ in range(scene.size):
            once(dialler, listener)
        return Figure(scene.size / (time.monotonic() - begun), meter.ends())

    yield from _ours_and_go(scene, talk, "dials")


@contextmanager
def ping(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """The median of round trips, each on a stream of its own: microseconds, by the dialler's clock."""

    def talk(dialler: Peer, listener: Peer) -> Figure:
        connect(dialler, listener)
        dialler.ask("ping", listener.id, answer="pong")
        meter = Meter(dialler=dialler.pid, listener=listener.pid)
        trips = [int(dialler.ask("ping", listener.id, answer="pong")[2]) for _ in range(scene.size)]
        return Figure(statistics.median(trips), meter.ends())

    yield from _ours_and_go(scene, talk, "pings")


@contextmanager
def bitswap(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """A file by bitswap alone, with stores in memory, into a file: blocks of 1 MiB."""
    source, digest = scene.file()

    def fetched(place: Path, dialler: Peer, listener: Peer) -> Figure:
        root = listener.ask("serve", source, 1, MIB, answer="serving", seconds=SECONDS_MAX)[1]
        connect(dialler, listener)
        meter = Meter(dialler=dialler.pid, listener=listener.pid)
        begun = time.monotonic()
        dialler.ask("fetch", listener.id, root, place / "got.bin", answer="fetched", seconds=SECONDS_MAX)
        seconds = time.monotonic() - begun
        same(place / "got.bin", digest, "bitswap")
        return Figure(scene.size / seconds, meter.ends())

    def kind(name: str, backend: str = "asyncio") -> Work:
        return lambda place: _between(partial(fetched, place), name, name, backend=backend)(place)

    kinds = {"stack": kind("ours"), "stack on trio": kind("ours", "trio")}
    if scene.has("go"):
        kinds["go"] = kind("go")
    yield kinds


@contextmanager
def gossipsub(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """Signed messages of 1 KiB from one publisher to one subscriber of the same kind, all of which must arrive: how many a second.

    The rate is the subscriber's: from the command to publish until it has counted all.
    """
    # In a short run only what CI has; else whatever is built.
    others = ["go"] if scene.quick else [kind for kind in build.KINDS if kind != "ours"]
    kinds: dict[str, Work] = {}
    for kind in ["ours", *(other for other in others if scene.has(other))]:
        count = max(WARM, scene.size // SLOW.get(kind, 1))

        def talk(publisher: Peer, subscriber: Peer, count: int = count) -> Figure:
            connect(publisher, subscriber)
            _flood(publisher, subscriber, WARM_TOPIC, WARM)
            return _flood(publisher, subscriber, TOPIC, count)

        kinds["stack" if kind == "ours" else kind] = _between(talk, kind, kind)
    yield kinds


def _flood(publisher: Peer, subscriber: Peer, topic: str, count: int) -> Figure:
    """Raises TimeoutError when one message is lost."""
    for peer in (publisher, subscriber):
        peer.ask("count", topic, count, answer="counting")
        peer.ask("subscribe", topic, answer="subscribed")
    for peer, other in ((publisher, subscriber), (subscriber, publisher)):
        wait_for_subscribers(peer, topic, [other])
    time.sleep(MESH_SECONDS)
    meter = Meter(publisher=publisher.pid, subscriber=subscriber.pid)
    begun = time.monotonic()
    publisher.say("flood", topic, count, MESSAGE_BYTES)
    subscriber.wait("counted", topic, str(count), seconds=60 + count / 100)
    return Figure(count / (time.monotonic() - begun), meter.ends())
