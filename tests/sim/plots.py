"""The plots of docs/simulation.md from the figures of `tests.sim.long`: `python -m tests.sim.plots [FIGURES]`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.sim.long import FIGURES
from tests.svg import Points, line_chart, shares

Run = dict[str, Any]
"""A line of figures: JSON."""


def charts(runs: list[Run]) -> dict[str, str]:
    """File names and what is to be in them."""
    of = {name: [run for run in runs if run["scenario"] == name] for name in {str(run["scenario"]) for run in runs}}
    return {
        "attacks-reach.svg": line_chart(
            "Honest nodes that get each honest message",
            "message, one a second since the attack began",
            "part of honest nodes",
            _first(of.get("attack", []), "attack", lambda run: list(enumerate(run["reach"]))),
            y_max=1.0,
        ),
        "attacks-mesh.svg": line_chart(
            "Places in honest meshes that sybils have",
            "seconds since the attack began",
            "part of all places",
            _first(of.get("attack", []), "attack", lambda run: run["in_mesh"]),
            y_max=1.0,
        ),
        "partition.svg": line_chart(
            "Nodes that get each message: two halves part, and meet again",
            "message, one a second: 10 before, 20 while apart, 20 after",
            "part of all nodes within 10 s",
            {f"{_nodes(run)} nodes": _partition(run) for run in of.get("partition", [])[:1]},
            y_max=1.0,
        ),
        "flash-crowd.svg": line_chart(
            "Flash crowd: blocks that are there",
            "seconds since the first receiver came",
            "part of all blocks of all receivers",
            {f"{run['receivers']} receivers": run["curve"] for run in of.get("crowd", [])},
            y_max=1.0,
        ),
        "flash-crowd-size.svg": line_chart(
            "Flash crowd: all are done, as a multiple of the bound",
            "receivers",
            "time of the last one / bound",
            {
                "time": [(run["receivers"], max(run["times"]) / run["bound"]) for run in of.get("crowd", [])],
                "copies the seed sends": [(run["receivers"], run["seed_copies"]) for run in of.get("crowd", [])],
            },
        ),
        "liars.svg": line_chart(
            "Time to the first block among 20 named providers",
            "seconds",
            "part of fetches",
            _liars(of.get("liars", [])),
            y_max=1.0,
        ),
        "lookups.svg": line_chart(
            "Time to find a provider",
            "seconds",
            "part of look-ups",
            {
                f"{run['nodes']} nodes, {who}": shares([time for time in run[key] if time < 60])
                for run in _one_a_size(of.get("lookups", []))
                for who, key in (("at home", "settled"), ("just come", "fresh"))
            },
            y_max=1.0,
        ),
    }


def _first(runs: list[Run], key: str, points: Callable[[Run], Points]) -> dict[str, Points]:
    found: dict[str, Points] = {}
    for run in runs:
        found.setdefault(str(run[key]), points(run))
    return found


def _nodes(run: Run) -> int:
    return run["before"]["nodes"]


def _partition(run: Run) -> Points:
    return list(enumerate([*run["before"]["reach"], *run["during"], *run["after"]]))


def _liars(runs: list[Run]) -> dict[str, Points]:
    starts: dict[str, list[float]] = {}
    for run in runs:
        starts.setdefault(f"{run['honest_named']} of 20 are honest", []).extend(run["starts"])
    return {name: shares(times) for name, times in starts.items()}


def _one_a_size(runs: list[Run]) -> list[Run]:
    return list({run["nodes"]: run for run in reversed(runs)}.values())[::-1]


def main(figures: str = str(FIGURES)) -> None:
    """Writes beside the figures."""
    with open(figures) as file:
        runs = [json.loads(line) for line in file]
    for name, text in charts(runs).items():
        (Path(figures).parent / name).write_text(text)
        print(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
