"""A file over a far line: two namespaces, and between them a switch that waits, loses and lets through so much a second."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from interop.kubo.daemon import Kubo
from tests.acceptance.kit import MIB, Machine, Outcome, good
from tests.acceptance.namespaces import prefix
from tests.bench.figures import End, Figure
from tests.bench.meter import SECONDS_MAX, Meter, Scene, Work, end, ipfs, same
from tests.bench.rows.fetch import Torrents, torrent
from tests.lab.switch import Line, Switch, address, missing

PORT = 4001


@dataclass(frozen=True, slots=True)
class Far:
    """A line from end to end."""

    milliseconds: float
    """Round trip."""
    mbit: float
    loss: float = 0.0
    """Part of the packets, each way."""

    def __str__(self) -> str:
        lost = f", {self.loss:.0%} lost" if self.loss else ""
        return f"{self.milliseconds:g} ms, {self.mbit:g} Mbit/s{lost}"

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.mbit * 1e6 / 8

    @property
    def legs(self) -> list[Line]:
        """Each computer's line to the switch has half of the way and half of the loss."""
        return [Line(rate=self.rate, delay=self.milliseconds / 4000, loss=self.loss / 2)] * 2


LINES = (
    ("20", Far(20, 100), 120),
    ("100", Far(100, 100), 120),
    ("300", Far(300, 100), 120),
    ("slow", Far(100, 10), 12),
    ("fast", Far(20, 1000), 600),
    ("20-loss", Far(20, 100, 0.01), 16),
    ("100-loss", Far(100, 100, 0.01), 4),
    ("300-loss", Far(300, 100, 0.01), 2),
)
"""Name, line, and MiB: ten seconds of it, with loss as much as one TCP connection carries in half a minute."""

FIRST = Far(100, 100)
"""Over which the first byte is waited for."""


@contextmanager
def get(line: Far, scene: Scene) -> Iterator[Mapping[str, Work]]:
    """`stack get`, `ipfs get`, libtorrent: the part of the line that the file takes, with the start of a process and all round trips."""
    if _impossible(scene):
        yield {}
        return
    source, digest = scene.file()

    def figure(seconds: float, *ends: End) -> Figure:
        return Figure(100 * scene.size * MIB / seconds / line.rate, ends)

    def ours(place: Path) -> Figure:
        with _pair(line, scene, place, source) as (ticket, receiver, meter):
            got = good(receiver.run("get", ticket, "-o", "got.bin", "--json", timeout=SECONDS_MAX))
            sharer = meter.ends()
        same(receiver.folder / "got.bin", digest, "stack get")
        return figure(got.seconds, *sharer, end("receiver", got))

    def theirs(place: Path) -> Figure:
        with _kubos(line, place, source) as (root, receiver, inside, meter):
            got = ipfs(receiver, "get", "-o", place / "got.bin", root, place=place, prefix=inside)
            ends = meter.ends()
        same(place / "got.bin", digest, "ipfs get")
        return figure(got.seconds, *ends)

    kinds = {"stack": ours, **({"ipfs get": theirs} if scene.has("kubo") else {})}
    if (python := scene.libtorrent()) is not None:

        def torrents(place: Path) -> Figure:
            with Switch(line.legs, 1) as switch:
                inside = [prefix(name) for name in switch.names]
                addresses = [address(number) for number in range(2)]
                seconds, ends = torrent(Torrents(python, place, source), digest, addresses, inside)
            return figure(seconds, *ends)

        kinds["libtorrent"] = torrents
    yield kinds


@contextmanager
def first(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """`stack cat` of the first byte of a file beside `ipfs cat` by a daemon that is connected already: milliseconds from exec to end."""
    if _impossible(scene):
        yield {}
        return
    source, _ = scene.file()
    with source.open("rb") as file:
        byte = file.read(1)

    def figure(got: Outcome, *ends: End) -> Figure:
        assert good(got).stdout == byte, str(got)
        return Figure(1000 * got.seconds, ends)

    def ours(place: Path) -> Figure:
        with _pair(FIRST, scene, place, source) as (ticket, receiver, meter):
            got = receiver.run("cat", ticket, "--length", "1")
            return figure(got, *meter.ends(), end("receiver", got))

    def theirs(place: Path) -> Figure:
        with _kubos(FIRST, place, source) as (root, receiver, inside, meter):
            return figure(ipfs(receiver, "cat", "-l", "1", root, place=place, prefix=inside), *meter.ends())

    yield {"stack": ours, **({"ipfs cat": theirs} if scene.has("kubo") else {})}


def _impossible(scene: Scene) -> bool:
    """Whether there can be no line here, which is noted."""
    reason = missing()
    if reason is not None:
        scene.missing.append(f"all: {reason}")
    return reason is not None


@contextmanager
def _pair(line: Far, scene: Scene, place: Path, source: Path) -> Iterator[tuple[str, Machine, Meter]]:
    """The ticket of a file that is shared at the other end of a line, who is to fetch it, and what the sharer takes."""
    with Switch(line.legs, 1) as switch:
        sharer, receiver = (
            scene.machine(place / str(number), prefix=prefix(name), STACK_LISTEN=f"/ip4/{address(number)}/tcp/{PORT}")
            for number, name in enumerate(switch.names)
        )
        with sharer.sharing(source, timeout=SECONDS_MAX) as (process, shared):
            yield shared["ticket"], receiver, Meter(sharer=process.pid)


@contextmanager
def _kubos(line: Far, place: Path, source: Path) -> Iterator[tuple[str, Kubo, Sequence[str], Meter]]:
    """The CID of a file at the other end of a line, a daemon that is connected to it and where it runs, and what both take."""
    with Switch(line.legs, 1) as switch:
        one, other = (
            Kubo(
                place / str(number),
                settings={"Addresses.Swarm": [f"/ip4/{address(number)}/tcp/{PORT}"]},
                prefix=prefix(name),
            )
            for number, name in enumerate(switch.names)
        )
        with one.running(), other.running():
            root = one.run("add", "-Q", "--cid-version", "1", str(source)).decode().strip()
            other.run("swarm", "connect", one.address)
            assert one.process is not None and other.process is not None
            meter = Meter(sharer=one.process.pid, receiver=other.process.pid)
            yield root, other, prefix(switch.names[1]), meter
