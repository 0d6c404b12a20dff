"""The scenarios at their full sizes, for `tox -e sim`: `python -m tests.sim.long [short|long] [OUT] [resume]`, a JSON line for each run.

`short` is what the page docs/simulation.md shows unless it says otherwise: some minutes on one core. `long` takes hours; with
`resume`, runs whose lines are in OUT already are not made again.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import process_time

from stack.bitswap.session_parameters import SessionParameters
from tests.sim.scenarios import announcing, attacks, gossip, lying, swarm
from tests.sim.scenarios.attacks import FLOODING, Attack

FIGURES = Path(__file__).parents[2] / "docs" / "simulation" / "figures.jsonl"

AGED_10_000 = {"nodes": 10_000, "seed": 1, "aged": True, "warm": 10.0, "seconds": 30.0, "each_second": 5.0}
"""Nine minutes of one core and 11 GB: 210 s for making the network, 6 to 9 s for each simulated second."""

MINUTES = {"steady": 0.7, "churn": 0.7, "partition": 0.6, "attack": 0.3, "liars": 0.3, "lying": 2.5, "lookups": 1.1}
"""Of one core, for 1,000 nodes, seen: from these the estimate at the beginning. Ten times the nodes take ten times as long."""

Task = tuple[str, Callable[..., object], dict[str, object]]


def short() -> Iterator[Task]:
    """One seed of each, at a size that can be waited for."""
    yield "steady", gossip.steady, {"nodes": 1000, "seed": 1, "seconds": 60}
    yield "churn", gossip.churn, {"nodes": 500, "seed": 1, "seconds": 30}
    yield "partition", gossip.partition, {"nodes": 500, "seed": 1}
    for kind in Attack:
        yield "attack", attacks.attack, {"kind": kind, "honest": 40, "seed": 1, "ratio": _ratio(kind), "seconds": 60}
    for receivers in (1, 4, 8, 16, 32):
        yield "crowd", swarm.flash_crowd, {"receivers": receivers, "seed": 1, "leaves": 64}
    for seed in range(1, 6):
        for honest in (1, 4, 16):
            yield "liars", swarm.lying_providers, {"fetches": 10, "seed": seed, "honest_named": honest}
    for honest, groups in ((40, None), (4, None), (1, None), (1, 4)):
        yield "lying", lying.lying_announcers, {"nodes": 200, "seed": 1, "honest": honest, "groups": groups}
    yield "lookups", announcing.lookups, {"nodes": 200, "seed": 1, "seconds": 120}
    yield "lookups", announcing.lookups, {"nodes": 1000, "seed": 1, "seconds": 120, "aged": True}


def long() -> Iterator[Task]:
    """1,000 nodes and 20 seeds, 10,000 nodes and one."""
    for seed in range(1, 21):
        yield "steady", gossip.steady, {"nodes": 1000, "seed": seed, "seconds": 60}
        yield "churn", gossip.churn, {"nodes": 1000, "seed": seed, "seconds": 60}
        yield "partition", gossip.partition, {"nodes": 1000, "seed": seed}
        for kind in Attack:
            options = {"kind": kind, "honest": 200, "seed": seed, "ratio": _ratio(kind), "seconds": 30}
            yield "attack", attacks.attack, options
        for honest in (1, 4, 16):
            yield "liars", swarm.lying_providers, {"fetches": 50, "seed": seed, "nodes": 1000, "honest_named": honest}
        yield "lying", lying.lying_announcers, {"nodes": 1000, "seed": seed, "honest": 1, "files": 2}
        yield "lookups", announcing.lookups, {"nodes": 1000, "seed": seed, "seconds": 120, "aged": True}
    yield "steady", gossip.steady, {"nodes": 10_000, "seed": 1, "seconds": 60}
    yield "churn", gossip.churn, {"nodes": 10_000, "seed": 1, "seconds": 30}
    for kind in (Attack.SYBIL, Attack.ECLIPSE, Attack.COLD_BOOT):
        yield "attack", attacks.attack, {"kind": kind, "honest": 2000, "seed": 1, "seconds": 30}
    yield "lookups", announcing.lookups, AGED_10_000
    for receivers in (1, 8, 32):
        yield "crowd", swarm.flash_crowd, {"receivers": receivers, "seed": 1, "leaves": 64}
    # Sessions of 16 peers in place of 64, for speed.
    few = SessionParameters(peers_max=16)
    for receivers in (100, 500):
        options = {"receivers": receivers, "seed": 1, "leaves": 64, "limit": 3600.0, "parameters": few}
        yield "crowd", swarm.flash_crowd, options
    for _ in range(100):
        yield "again", gossip.churn, {"nodes": 100, "seed": 1, "seconds": 10}


def _ratio(kind: Attack) -> int:
    return 1 if kind in FLOODING else 4


def minutes(task: Task) -> float:
    """Of one core, roughly."""
    name, _, options = task
    size = options.get("nodes", options.get("honest", 20)) if name != "crowd" else options["receivers"]
    assert isinstance(size, int)
    if name == "crowd":
        return 1.0 * (size / 32) ** 2 if size <= 32 else 5.0 * (size / 100) ** 0.75
    return MINUTES.get(name, 0.1) * max(size / (200 if name == "attack" else 1000), 0.1)


def asked(task: Task) -> dict[str, object]:
    """What tells a run from others, as its line has it."""
    return {"scenario": task[0], "asked": {key: str(value) for key, value in task[2].items()}}


def run(task: Task) -> dict[str, object]:
    """One run: what it was asked, how long the processor worked for it, its figures."""
    _, scenario, options = task
    began = process_time()
    result = scenario(**options)
    assert dataclasses.is_dataclass(result) and not isinstance(result, type)
    return {**asked(task), "cpu_seconds": round(process_time() - began, 1), **dataclasses.asdict(result)}


def main(plan: str = "long", out: str = str(FIGURES), resume: str = "") -> None:
    """Runs as many at a time as there are processors; lines are in the order of the plan."""
    tasks = list({"short": short, "long": long}[plan]())
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().splitlines() if resume and path.exists() else []
    made = [json.loads(line) for line in lines]
    for line in made:
        # Runs that are asked for several times have several lines.
        task = next((each for each in tasks if asked(each) == {key: line[key] for key in ("scenario", "asked")}), None)
        if task is not None:
            tasks.remove(task)
    again = {str(line["trace"]) for line in made if line["scenario"] == "again"}
    jobs = int(os.environ.get("STACK_SIM_JOBS", os.cpu_count() or 1))
    estimate = sum(map(minutes, tasks))
    print(f"{len(tasks)} runs, about {estimate:.0f} minutes of one core, {jobs} at a time", file=sys.stderr)
    done = 0.0
    with (
        ProcessPoolExecutor(jobs) as pool,
        path.open("a" if resume else "w") as file,
    ):
        for task, figures in zip(tasks, pool.map(run, tasks), strict=True):
            done += minutes(task)
            file.write(json.dumps(figures) + "\n")
            file.flush()
            named = json.dumps(figures["asked"])
            print(f"{done / estimate:4.0%} {task[0]} {named} {figures['cpu_seconds']} s", file=sys.stderr)
            if task[0] == "again":
                again.add(str(figures["trace"]))
    if len(again) > 1:
        sys.exit("the same seed gave different traces")


if __name__ == "__main__":
    main(*sys.argv[1:])
