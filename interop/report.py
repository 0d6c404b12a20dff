"""The report of a whole run: docs/interop.md with its picture docs/interop.svg, and interop/results.json."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from interop.matrix import Direction, Matrix, Outcome, Result
from tests.svg import box, label
from tests.svg import picture as svg

ROOT = Path(__file__).resolve().parents[1]
PLACE = "<!-- results -->\n"
"""Where the results go in report.md."""
COLOURS = {
    Outcome.PASSED: "#2da44e",
    Outcome.FAILED: "#cf222e",
    Outcome.THEIRS: "#d4a72c",
    Outcome.ABSENT: "#d0d7de",
}
NOT_RUN = "#ffffff"
SIDE, LEFT, TOP = 18, 230, 150
"""Pixels: of a cell, of the names of rows, of the names of columns."""


def write(
    matrix: Matrix, results: Sequence[Result], missing: Mapping[str, str], seconds: float, folder: Path | None
) -> None:
    """Into a folder, or where they belong in this tree. `missing` says of peers why they were not run."""
    pages, data = (folder, folder) if folder else (ROOT / "docs", ROOT / "interop")
    pages.mkdir(parents=True, exist_ok=True)
    text = (ROOT / "interop" / "report.md").read_text()
    assert PLACE in text
    (pages / "interop.md").write_text(text.replace(PLACE, page(matrix, results, missing, seconds)))
    (pages / "interop.svg").write_text(picture(matrix, results))
    (data / "results.json").write_text(as_json(matrix, results, missing, seconds))


def as_json(matrix: Matrix, results: Sequence[Result], missing: Mapping[str, str], seconds: float) -> str:
    """All of it, for programs."""
    return json.dumps(
        {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "seconds": round(seconds),
            "peers": {peer: row["name"] for peer, row in matrix.peers.items()},
            "not run": dict(missing),
            "counts": _counts(results),
            "cells": [asdict(result) for result in results],
        },
        indent=1,
        ensure_ascii=False,
    )


def page(matrix: Matrix, results: Sequence[Result], missing: Mapping[str, str], seconds: float) -> str:
    """What stands in docs/interop.md about this run."""
    date, machine = datetime.now(UTC).date().isoformat(), f"{os.cpu_count()} cores"
    lines = [f"The run of {date}: {len(results)} cells in {seconds / 60:.0f} minutes on {machine}.", ""]
    lines += [
        "| peer | over | passed | failed | fails, their fault | has it not | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for peer, row in matrix.peers.items():
        if peer in missing:
            lines.append(f"| {row['name']} | | | | | | {missing[peer]} |")
        for line in row["lines"]:
            some = [result for result in results if (result.peer, result.line) == (peer, line)]
            if some:
                counts = " | ".join(str(count) for count in _counts(some).values())
                lines.append(f"| {row['name']} | {line} | {counts} | {sum(result.seconds for result in some):.0f} |")
    lines += ["", "![the cells of the matrix](interop.svg)", ""]
    for outcome, title in ((Outcome.FAILED, "What failed"), (Outcome.THEIRS, "What fails for a fault of the other")):
        rows = _notes(results, outcome)
        lines += [f"## {title}", "", *(rows or ["Nothing."]), ""]
    lines += ["## What a peer has not", "", *(_notes(results, Outcome.ABSENT) or ["Nothing."]), "", ""]
    return "\n".join(lines)


def _notes(results: Sequence[Result], outcome: Outcome) -> list[str]:
    """One line for each reason, with all the cells that share it."""
    cells: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if result.outcome == outcome:
            reason = result.note.partition(" (here: ")[0]
            variant = "" if result.variant == "default" else f" {result.variant}"
            name = f"{result.cell}{variant}, {result.direction}, {result.line}"
            cells.setdefault((result.peer, reason), []).append(name)
    return [f"* **{peer}**: {reason}. ({'; '.join(names)})" for (peer, reason), names in cells.items()]


def _counts(results: Sequence[Result]) -> dict[str, int]:
    return {outcome: sum(result.outcome == outcome for result in results) for outcome in Outcome}


def picture(matrix: Matrix, results: Sequence[Result]) -> str:
    """A square for each cell: rows are what is run, columns are with whom, over what, and who dials."""
    there = {(result.variant, result.cell) for result in results}
    rows = [(name, cell) for name, row in matrix.variants.items() for cell in row["cells"] if (name, cell) in there]
    columns = list(dict.fromkeys((result.peer, result.line, result.direction) for result in results))
    colours = {
        (result.variant, result.cell, result.peer, result.line, result.direction): (
            COLOURS[Outcome(result.outcome)],
            result,
        )
        for result in results
    }
    parts = []
    for x, (peer, line, direction) in enumerate(columns):
        name = f"{peer} {line}, {Direction(direction)}"
        parts.append(label(LEFT + SIDE * x + SIDE * 0.7, TOP - 6, name, turned=True))
    for y, (variant, cell) in enumerate(rows):
        name = cell if variant == "default" else f"{cell} ({variant})"
        top = TOP + SIDE * y
        parts.append(label(LEFT - 6, top + SIDE * 0.7, name, anchor="end"))
        for x, column in enumerate(columns):
            colour, result = colours.get((variant, cell, *column), (NOT_RUN, None))
            hint = "" if result is None else f"{result.outcome} {result.note}"[:300]
            parts.append(box(LEFT + SIDE * x, top, SIDE - 2, SIDE - 2, colour, hint=hint))
    left, top = SIDE, TOP + SIDE * (len(rows) + 1)
    for outcome, colour in COLOURS.items():
        parts += [box(left, top - 10, 10, 10, colour), label(left + 14, top, outcome)]
        left += 90
    return svg(LEFT + SIDE * len(columns) + SIDE, TOP + SIDE * (len(rows) + 2), parts, size=11)
