"""What costs grow with: CPU-seconds and peak memory against size, rows of the index, peers, entries of a directory, shares of a home."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log10
from pathlib import Path
from typing import Any

from stack.node.sync import SyncNode
from tests.acceptance.kit import good
from tests.bench.figures import End, number
from tests.bench.meter import SECONDS_MAX, Meter, Scene, alive, end
from tests.bench.rows.fetch import whole_transfer
from tests.bench.rows.many import connected
from tests.bench.rows.small import make_tree
from tests.svg import line_chart

MIB = 1 << 20

Cost = Callable[[Scene], tuple[End, ...]]
"""What so much costs: `scene.size` is how much."""
Points = Mapping[int, tuple[End, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One picture of CPU-seconds and one of memory."""

    title: str
    x: str
    cost: Cost
    points: Sequence[int]
    quick: Sequence[int]


def size(scene: Scene) -> tuple[End, ...]:
    """A file of so many MiB, shared and fetched."""
    source, digest = scene.file()
    return whole_transfer(scene, scene.place, source, digest).ends


def rows(scene: Scene) -> tuple[End, ...]:
    """So many blocks in the index; then it is opened anew, and 10,000 of them are looked up."""
    machine = scene.machine(scene.place)
    ends = []
    for work in ("fill", "look-up"):
        with machine.module("tests.bench.rows.index", work, str(machine.home), str(scene.size)) as process:
            ends.append(end(work, good(process.wait(SECONDS_MAX))))
    return tuple(ends)


def peers(scene: Scene) -> tuple[End, ...]:
    """So many connections to a daemon, each of a peer of its own."""
    machine = scene.machine(scene.place)
    with machine.daemon() as daemon:
        meter = Meter(daemon=daemon.pid)
        with connected(scene, machine.address(), count=scene.size):
            return meter.ends()


def entries(scene: Scene) -> tuple[End, ...]:
    """A directory with so many files of 1 KiB, shared and listed."""
    tree = scene.place / "tree"
    make_tree(tree, scene.size, a_directory=scene.size)
    machine = scene.machine(scene.place)
    with machine.sharing(tree, timeout=SECONDS_MAX) as (process, shared):
        sharer = alive("share", process.pid)
        return sharer, end("ls", good(machine.run("ls", f"{shared['cid']}/0", timeout=SECONDS_MAX)))


def shares(scene: Scene) -> tuple[End, ...]:
    """So many shares, made one after the other by one daemon; then they are listed, and a daemon starts with them."""
    machine = scene.machine(scene.place)
    make_tree(scene.place / "tree", scene.size)
    with machine.daemon() as daemon:
        meter = Meter(share=daemon.pid)
        with SyncNode.running(machine.home) as node:
            for path in (scene.place / "tree").glob("*/*"):
                node.share(path)
        ends = meter.ends()
        listed = end("shares ls", good(machine.run("shares", "ls", "--json", timeout=SECONDS_MAX)))
    with machine.daemon() as daemon:
        return (*ends, listed, alive("start", daemon.pid))


CURVES: Mapping[str, Curve] = {
    "size": Curve(
        title="a file, shared and fetched", x="MiB", cost=size, points=(1, 8, 64, 512, 2048, 8192), quick=(1, 8, 64)
    ),
    "rows": Curve(
        title="blocks in the index", x="blocks", cost=rows, points=(10**4, 10**5, 10**6, 10**7), quick=(10**3, 10**4)
    ),
    "peers": Curve(
        title="connections to a daemon", x="peers", cost=peers, points=(1, 10, 50, 100, 200, 500), quick=(1, 10, 50)
    ),
    "entries": Curve(
        title="a directory, shared and listed",
        x="entries",
        cost=entries,
        points=(1, 10, 100, 1000, 10**4, 10**5, 10**6),
        quick=(1, 10, 100, 1000),
    ),
    "shares": Curve(
        title="shares of a home", x="shares", cost=shares, points=(1, 10, 100, 1000, 10**4), quick=(1, 10, 100)
    ),
}


def slope(points: Sequence[tuple[float, float]]) -> float:
    """With which power of what is on the x axis a cost grows, between the last point and the one at most a tenth of it.

    n log n is about 1.1 where n is thousands. 0 where there are not two points.
    """
    last_x, last_y = points[-1] if points else (0.0, 0.0)
    sooner = [(x, y) for x, y in points if 0 < x <= last_x / 10 and y > 0]
    if not sooner or last_y <= 0:
        return 0.0
    x, y = sooner[-1]
    return log10(last_y / y) / log10(last_x / x)


def series(points: Points, what: Callable[[End], float]) -> dict[str, list[tuple[float, float]]]:
    """The lines of a picture, one an end."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for count, ends in sorted(points.items()):
        for one in ends:
            lines.setdefault(one.name, []).append((count, what(one)))
    return lines


def told(name: str, curve: Curve, points: Points) -> str:
    """For the screen."""
    lines = [f"{name}: {curve.title}"]
    for count, ends in sorted(points.items()):
        each = ", ".join(f"{one.name} {number(one.cpu)} s, {one.peak / MIB:.0f} MiB" for one in ends)
        lines.append(f"  {count:>10,} {curve.x}: {each}")
    for end_name, line in series(points, lambda one: one.cpu).items():
        lines.append(f"  {end_name}: CPU-seconds grow with the power {slope(line):.2f}")
    return "\n".join(lines)


def pictures(name: str, curve: Curve, points: Points) -> dict[str, str]:
    """File names and what is to be in them."""
    cpu, peak = series(points, lambda one: one.cpu), series(points, lambda one: one.peak / MIB)
    return {
        f"growth-{name}.svg": line_chart(curve.title, curve.x, "CPU-seconds", cpu, log=True),
        f"growth-{name}-memory.svg": line_chart(curve.title, curve.x, "MiB at most", peak, log=True),
    }


def as_json(points: Points) -> dict[str, Any]:
    """For programs."""
    return {
        str(count): {one.name: {"cpu": round(one.cpu, 3), "peak": one.peak} for one in ends}
        for count, ends in sorted(points.items())
    }


def write(out: Path, curves: Mapping[str, Points]) -> None:
    """The figures, beside what stands there already, and the pictures."""
    before = json.loads(out.read_text()) if out.exists() else {}
    out.parent.mkdir(parents=True, exist_ok=True)
    found = {**before.get("growth", {}), **{name: as_json(points) for name, points in curves.items()}}
    out.write_text(json.dumps({**before, "growth": found}, indent=1) + "\n")
    for name, points in curves.items():
        for file, text in pictures(name, CURVES[name], points).items():
            (out.parent / file).write_text(text)
