"""Twenty nodes with all services for an hour, with churn: memory, descriptors and tasks of each, and whether they stay flat.

python -m tests.lab.soak --minutes 60 --nodes 20 --out docs/soak
"""

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import anyio
import anyio.to_thread

from stack.control.errors import NodeUnreachable
from stack.multiformats.cid import Cid
from stack.node.api import RemovePin, RemoveShare
from tests.lab.mother import Mother
from tests.lab.node import preload
from tests.lab.scenario import CALL_SECONDS, Computer, Offer, Run
from tests.lab.switch import Line, Switch
from tests.svg import line_chart

SAMPLE_SECONDS = 30.0
CHURN_SECONDS = 20.0
"""Between two nodes that are killed and begin again; every fourth stands still instead. The first five are left alone and measured."""
SHARES_MAX = 40
"""Of all nodes together; the oldest goes, so that what a node has to remember is the same all the time (it is deleted everywhere)."""
STEADY = 5
FIGURES = {"memory": "MB resident", "descriptors": "open", "tasks": "living", "threads": "living"}
SETTLING = 0.25
"""Of the time, at its beginning: caches, tables of peers and the shares that are kept fill up."""
GROWTH_MAX = 0.1
"""Of each figure, over the whole run."""


class Soak(Run):
    """A scenario that goes on."""

    def __init__(self, seed: int, place: Path, mother: Mother, count: int, seconds: float) -> None:
        super().__init__(seed, place, mother)
        self.lines = [Line(rate=5e6, delay=0.01, buffer=131072) for _ in range(count)]
        self.size = 600_000
        self.seconds = seconds
        self.samples: list[dict[str, float]] = []
        self.old: list[tuple[Offer, float]] = []
        """What is to be forgotten, and since when nobody takes it up any more."""
        self.deleted: list[str] = []

    async def go(self, switch: Switch) -> None:
        """For as long as it is to last."""
        self.computers = [
            Computer(number, self.place / f"n{number}", self._config(number), name, ("asyncio", "trio")[number % 2])
            for number, name in enumerate(switch.names)
        ]
        for computer in self.computers:
            computer.place.mkdir()
            self._start(computer)
        await self._all_up()
        until = anyio.current_time() + self.seconds
        async with anyio.create_task_group() as actors:
            for _ in range(4):
                actors.start_soon(self._act_slowly, random.Random(self.chance.random()), until)
            actors.start_soon(self._forget_old, until)
            actors.start_soon(self._churn, random.Random(self.chance.random()), until)
            actors.start_soon(self._sample, until)
        await self._all_up()
        self._look_for_dead()
        await self._last_fetch()
        await self._look_for_rest()
        await self._end()

    async def _act_slowly(self, chance: random.Random, until: float) -> None:
        while anyio.current_time() < until:
            await self._act(chance, min(until, anyio.current_time() + 0.01))
            await anyio.sleep(chance.uniform(0.5, 3.0))

    async def _forget_old(self, until: float) -> None:
        """What is old is shared and pinned by nobody any more, and then deleted."""
        while anyio.current_time() < until:
            await anyio.sleep(1.0)
            while len(self.offers) > SHARES_MAX:
                self.old.append((self.offers.pop(0), anyio.current_time()))
            # Once no call is on its way that knows of it.
            while (
                self.old
                and anyio.current_time() > self.old[0][1] + CALL_SECONDS
                and await self._forgotten(self.old[0][0])
            ):
                for place in self.old.pop(0)[0].places:
                    self.deleted.append(str(place))
                    await anyio.to_thread.run_sync(_delete, place)

    async def _forgotten(self, offer: Offer) -> bool:
        """By all computers; False while one of them is down."""
        try:
            for computer in self.computers:
                await computer.api().ask(RemoveShare(target=offer.root))
                await computer.api().ask(RemovePin(cid=Cid.parse(offer.root)))
        except (NodeUnreachable, anyio.BrokenResourceError, anyio.EndOfStream):
            return False
        return True

    def verified(self, computer: Computer, problem: str) -> None:
        """A file that the run has deleted is rightly told to be gone, and so is a run of zeros, or of nothing, that lay in it: what others
        have pinned has the same."""
        if any(place in problem for place in self.deleted):
            return
        missing = re.search(r"missing: .*(bafkrei\w+) among them", problem)
        if missing is None or not _is_of_zeros(Cid.parse(missing[1]).digest, self.size):
            super().verified(computer, problem)

    async def _churn(self, chance: random.Random, until: float) -> None:
        while anyio.current_time() < until:
            await anyio.sleep(CHURN_SECONDS)
            computer = chance.choice(self.computers[STEADY:])
            computer.disturbed = time.monotonic()
            if chance.random() < 0.25:
                os.kill(computer.pid, signal.SIGSTOP)
                await anyio.sleep(chance.uniform(1, 10))
                os.kill(computer.pid, signal.SIGCONT)
            else:
                await self._kill(computer, chance.uniform(0, 5))
            computer.disturbed = time.monotonic()

    async def _sample(self, until: float) -> None:
        begun = anyio.current_time()
        while anyio.current_time() < until:
            for computer in self.computers[:STEADY]:
                report = await self._report(computer)
                if report is not None:
                    threads = len(os.listdir(f"/proc/{computer.pid}/task"))
                    self.samples.append(
                        {
                            "minute": (anyio.current_time() - begun) / 60,
                            "node": computer.number,
                            "memory": report.memory / 1e6,
                            "descriptors": report.descriptors,
                            "tasks": report.tasks,
                            "threads": threads,
                            "connections": report.connections,
                        }
                    )
            await anyio.sleep(SAMPLE_SECONDS)


def _is_of_zeros(digest: bytes, most: int) -> bool:
    """Whether it is the SHA-256 of a run of zeros of at most so many bytes, or of none."""
    hashed = hashlib.sha256()
    for _ in range(most):
        if hashed.copy().digest() == digest:
            return True
        hashed.update(b"\0")
    return False


def _delete(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()


def growth(samples: Sequence[dict[str, float]], what: str) -> float:
    """By which part of itself it grew while it was measured, in the median of all nodes, after a first quarter to settle in.

    The slope is the median of those between any two samples of one node: a node that was busy for a minute does not move it.
    """
    end = max(sample["minute"] for sample in samples)
    settled = [sample for sample in samples if sample["minute"] >= SETTLING * end]
    slopes = [
        (later[what] - sooner[what]) / (later["minute"] - sooner["minute"])
        for sooner, later in combinations(sorted(settled, key=lambda sample: sample["minute"]), 2)
        if sooner["node"] == later["node"] and later["minute"] > sooner["minute"]
    ]
    if not slopes:
        raise ValueError("too short: no node was measured twice")
    return statistics.median(slopes) * end * (1 - SETTLING) / statistics.median(sample[what] for sample in settled)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, draw it; 1 when something did not hold or grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    preload()
    place = Path(tempfile.mkdtemp(prefix="soak-"))
    mother = Mother()
    run = Soak(1, place, mother, options.nodes, options.minutes * 60)
    try:
        with Switch(run.lines, 1) as switch:
            anyio.run(run.go, switch)
    finally:
        mother.close()
        logs = {
            path.parent.name: path.read_text(errors="replace")[-3000:]
            for path in place.glob("n*/log")
            if path.stat().st_size
        }
        shutil.rmtree(place, ignore_errors=True)
    figures = {what: round(growth(run.samples, what), 3) for what in FIGURES}
    print(json.dumps({"faults": run.faults, "growth": figures, "done": run.done, "logs": logs}, indent=1))
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        for what, unit in FIGURES.items():
            series = {
                f"node {number}": [(s["minute"], s[what]) for s in run.samples if s["node"] == number]
                for number in range(STEADY)
            }
            title = f"{what}, {options.nodes} nodes with churn"
            (options.out / f"soak-{what}.svg").write_text(line_chart(title, "minutes", unit, series))
    return int(bool(run.faults) or any(value > GROWTH_MAX for value in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
