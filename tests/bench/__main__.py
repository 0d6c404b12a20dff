"""What this machine does, row by row: ours and others alternating in one run, each first in turn, with what it took of each end.

    python -m tests.bench [--quick] [--rows NAME,NAME] [--size MIB] [--count N] [--pairs N] [--out FILE]
    python -m tests.bench --growth [size,peers]   # curves: what cost grows with
    python -m tests.bench --gate                  # ours beside the commit before; fails when it takes more

Others are found as interop/ finds them (`STACK_KUBO`, else built), libtorrent by an interpreter that has it (`STACK_LIBTORRENT`). One
that is missing is told, and the row runs alone. All that came is compared with what was sent.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import stack
from tests.bench import gate, growth
from tests.bench.figures import End, Figure, Kind, turn
from tests.bench.growth import CURVES
from tests.bench.meter import Scene, compile_modules, in_a_folder, machine_facts
from tests.bench.report import Measured, as_json, bars, from_json, text
from tests.bench.table import ROWS, Row

PAIRS, PAIRS_QUICK = 5, 2


def measure(row: Row, size: int, pairs: int, *, quick: bool, place: Path) -> Measured:
    """All runs of a row, alternating. An anchor that fails is left out from then on; what fails of ours is raised."""
    scene = Scene(place=place, size=size, quick=quick)
    load: list[float] = []
    with row.open(scene) as kinds:
        names, figures = list(kinds), {name: list[Figure]() for name in kinds}
        for number in range(pairs):
            for name in turn(names, number):
                load.append(os.getloadavg()[0])
                try:
                    figures[name].append(in_a_folder(place, kinds[name]))
                except Exception as error:
                    if name.startswith("stack"):
                        raise
                    scene.missing.append(f"{name}: {str(error)[-300:]}")
                    names = [other for other in names if other != name]
    done = {name: figures[name] for name in kinds if figures[name]}
    return Measured(
        title=row.title,
        unit=row.unit,
        more=row.more,
        size=size,
        mib=row.mib,
        anchors=tuple(row.anchors(list(done))),
        kinds=tuple(Kind(name, tuple(runs)) for name, runs in done.items()),
        missing=tuple(scene.missing),
        load=tuple(load),
        date=datetime.now(UTC).date().isoformat(),
    )


def write(out: Path, rows: dict[str, Measured]) -> None:
    """The figures, beside those of other rows that stand there already, and their pictures."""
    before = json.loads(out.read_text()) if out.exists() else {}
    all_rows = {**from_json(before.get("rows", {})), **rows}
    ordered = {name: all_rows[name] for name in ROWS if name in all_rows}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**before, "machine": machine_facts(), "rows": as_json(ordered)}, indent=1) + "\n")
    (out.parent / "rows.svg").write_text(bars(list(ordered.values())))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, two pairs: under five minutes")
    parser.add_argument("--rows", help="only these, with commas between")
    parser.add_argument(
        "--growth",
        nargs="?",
        const=",".join(CURVES),
        metavar="NAME,NAME",
        help="not rows but curves: cost against size",
    )
    parser.add_argument("--list", action="store_true", help="the names of all rows")
    parser.add_argument("--size", type=int, metavar="MIB", help="of files and streams, in every row that has them")
    parser.add_argument(
        "--count", type=int, metavar="N", help="of files, peers, messages, in every row that counts them"
    )
    parser.add_argument("--pairs", type=int, help=f"runs of each kind ({PAIRS}; with --quick {PAIRS_QUICK})")
    parser.add_argument("--out", type=Path, metavar="FILE", help="figures as JSON; pictures are written beside it")
    parser.add_argument("--directory", type=Path, help="where files, homes and repositories are while it runs")
    parser.add_argument(
        "--gate",
        nargs="?",
        const="",
        metavar="TREE",
        help="beside the commit before, or this tree or commit: fails when CPU-seconds or memory rise",
    )
    chosen = parser.parse_args(arguments)
    chosen.names = (
        chosen.rows.split(",") if chosen.rows else [name for name, row in ROWS.items() if not chosen.quick or row.quick]
    )
    if unknown := [name for name in chosen.names if name not in ROWS]:
        parser.error(f"no row {unknown[0]}; --list shows them")
    chosen.curves = chosen.growth.split(",") if chosen.growth else []
    if unknown := [name for name in chosen.curves if name not in CURVES]:
        parser.error(f"no curve {unknown[0]}: {', '.join(CURVES)}")
    return chosen


def grow(names: Sequence[str], *, quick: bool, out: Path | None, directory: Path | None) -> int:
    """Measure curves and print; 1 when one fails. A point that fails, or takes too long, is the last of its curve."""
    failed = False
    for name in names:
        curve, points = CURVES[name], dict[int, tuple[End, ...]]()
        for count in curve.quick if quick else curve.points:
            with tempfile.TemporaryDirectory(prefix="bench-", dir=directory) as folder:
                try:
                    points[count] = curve.cost(Scene(place=Path(folder), size=count))
                except Exception as error:  # noqa: BLE001 - the other curves are measured all the same
                    failed = True
                    print(f"{name}: {count:,} {curve.x} FAILED: {error}", flush=True)
                    break
        print(f"{growth.told(name, curve, points)}\n", flush=True)
        if out is not None:
            growth.write(out, {name: points})
    return int(failed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when something of ours failed, or takes more than before."""
    chosen = parsed(arguments)
    if chosen.list:
        for name, row in ROWS.items():
            print(f"{name:18} {row.title} ({row.unit}){'' if row.quick else ', not with --quick'}")
        return 0
    compile_modules(Path(stack.__file__).parent.parent)
    if chosen.gate is not None:
        return gate.main(chosen.gate, chosen.size, chosen.pairs)
    if chosen.curves:
        return grow(chosen.curves, quick=chosen.quick, out=chosen.out, directory=chosen.directory)
    pairs, failed, began = chosen.pairs or (PAIRS_QUICK if chosen.quick else PAIRS), [], time.monotonic()
    rows: dict[str, Measured] = {}
    for name in chosen.names:
        row = ROWS[name]
        with tempfile.TemporaryDirectory(prefix="bench-", dir=chosen.directory) as folder:
            try:
                size = row.size_of(chosen.quick, chosen.size, chosen.count)
                rows[name] = measure(row, size, pairs, quick=chosen.quick, place=Path(folder))
            except Exception as error:  # noqa: BLE001 - the other rows are measured all the same
                failed.append(name)
                print(f"{row.title}: FAILED: {error}\n", flush=True)
                continue
        print(f"{name}: {text(rows[name])}\n", flush=True)
        if chosen.out is not None:  # each as it comes: whoever ends a run of hours keeps what it has told
            write(chosen.out, rows)
    print(f"{len(rows)} rows in {time.monotonic() - began:.0f} s{f', FAILED: {failed}' if failed else ''}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
