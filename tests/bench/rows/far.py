"""A file over a far line: two namespaces, and between them a switch that waits, loses and lets through so much a second."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from interop.kubo.daemon import Kubo
from tests.acceptance.kit import MIB, good
from tests.acceptance.namespaces import prefix
from tests.bench.figures import Figure
from tests.bench.meter import SECONDS_MAX, Meter, Scene, Work, end, ipfs, same
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


@contextmanager
def get(line: Far, scene: Scene) -> Iterator[Mapping[str, Work]]:
    """`stack get` beside `ipfs get`: the part of the line that the file takes, its process's start and all round trips included."""
    if (reason := missing()) is not None:
        scene.missing.append(f"all: {reason}")
        yield {}
        return
    source, digest = scene.file()

    def part(seconds: float) -> float:
        return 100 * scene.size * MIB / seconds / line.rate

    def ours(place: Path) -> Figure:
        with Switch(line.legs, 1) as switch:
            listen = [f"/ip4/{address(number)}/tcp/{PORT}" for number in range(2)]
            sharer, receiver = (
                scene.machine(place / str(number), prefix=prefix(switch.names[number]), STACK_LISTEN=listen[number])
                for number in range(2)
            )
            with sharer.sharing(source, timeout=SECONDS_MAX) as (process, shared):
                meter = Meter(sharer=process.pid)
                got = good(receiver.run("get", shared["ticket"], "-o", "got.bin", "--json", timeout=SECONDS_MAX))
                ends = (*meter.ends(), end("receiver", got))
        same(receiver.folder / "got.bin", digest, "stack get")
        return Figure(part(got.seconds), ends)

    def theirs(place: Path) -> Figure:
        with Switch(line.legs, 1) as switch:
            one, other = (
                Kubo(
                    place / str(number),
                    settings={"Addresses.Swarm": [f"/ip4/{address(number)}/tcp/{PORT}"]},
                    prefix=prefix(switch.names[number]),
                )
                for number in range(2)
            )
            with one.running(), other.running():
                root = one.run("add", "-Q", "--cid-version", "1", str(source)).decode().strip()
                other.run("swarm", "connect", one.address)
                assert one.process is not None and other.process is not None
                meter = Meter(sharer=one.process.pid, receiver=other.process.pid)
                got = ipfs(other, "get", "-o", place / "got.bin", root, place=place, prefix=prefix(switch.names[1]))
                ends = meter.ends()
        same(place / "got.bin", digest, "ipfs get")
        return Figure(part(got.seconds), ends)

    yield {"stack": ours, **({"ipfs get": theirs} if scene.has("kubo") else {})}
