"""python -m interop [PEER ...]: runs the matrix, then the tests that belong to its peers; fails when one cell does.

What cannot be run on this machine is told loudly; in CI (CI=true) Kubo and go-libp2p must be.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from interop import build, report
from interop.matrix import RED, Direction, Matrix, Outcome, Result, Run

DIRECTIONS = tuple(Direction)


def options(arguments: Sequence[str], matrix: Matrix) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="interop", description="Our node against other implementations.")
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"one of {', '.join(matrix.peers)}; all without")
    parser.add_argument("--list", action="store_true", help="say what would be run")
    parser.add_argument("--short", action="store_true", help="small sizes, as in CI")
    parser.add_argument("--line", action="append", choices=list(matrix.lines), help="only this line; may be repeated")
    parser.add_argument("--cell", action="append", help="only this cell; may be repeated")
    parser.add_argument(
        "--jobs", type=int, help="how much goes on at a time: with --short 3, else 1, whose times are told"
    )
    parser.add_argument("--no-tests", action="store_true", help="only the matrix")
    parser.add_argument("--report", type=Path, help="where the report goes; docs/ and interop/ when all was run")
    given = parser.parse_args(arguments)
    if unknown := set(given.peers) - set(matrix.peers):
        parser.error(f"there is no peer {unknown.pop()!r}; there are {', '.join(matrix.peers)}")
    given.jobs = given.jobs or (3 if given.short else 1)
    return given


def runnable(peers: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The peers that are there once this returns, and why the others are not. Raises SystemExit in CI without those it must run."""
    missing = {peer: why for peer in peers if (why := build.why_not(peer)) is not None}
    for why in missing.values():
        print(f"== {why}", flush=True)
    if os.environ.get("CI") == "true" and (unmet := [peer for peer in build.IN_CI if peer in missing]):
        raise SystemExit(f"CI must run {' and '.join(unmet)}")
    present = [peer for peer in peers if peer not in missing]
    with ThreadPoolExecutor() as pool:  # some wait for the network, some for the processor
        list(pool.map(build.command, present))
    return present, missing


def tell(result: Result) -> None:
    """A line for each cell."""
    where = f"{result.peer:5} {result.line:4} {result.variant:13} {result.direction:9} {result.cell:13}"
    note = f": {result.note}" if result.outcome != Outcome.PASSED else ""
    print(f"{where} {result.outcome} {result.seconds:6.2f} s{note}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when no cell has failed, and no test."""
    matrix = Matrix()
    given = options(sys.argv[1:] if arguments is None else arguments, matrix)
    peers = given.peers or list(matrix.peers)
    groups = [group for group in matrix.groups(peers, short=given.short) if not given.line or group[1] in given.line]
    if given.list:
        for peer, line, variant in groups:
            print(f"{peer:5} {line:4} {variant:13} {', '.join(matrix.variants[variant]['cells'])}")
        return 0
    present, missing = runnable(peers)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="stack-interop-") as folder, ThreadPoolExecutor(given.jobs) as pool:
        run = Run(matrix, Path(folder), form="short" if given.short else "long", tell=tell)
        chosen = [group for group in groups if group[0] in present]
        list(pool.map(lambda group: run.run(*group, given.cell, DIRECTIONS), chosen))
    seconds = time.monotonic() - began
    failed = [result for result in run.results if result.outcome in RED]
    counts = {outcome: sum(result.outcome == outcome for result in run.results) for outcome in Outcome}
    print(f"== {', '.join(f'{count} {outcome}' for outcome, count in counts.items())}; {seconds:.0f} s", flush=True)
    shown = counts[Outcome.PASSED] > 0
    if not shown:
        print("== nothing was shown: not one cell has passed", flush=True)
    whole = not (given.peers or given.line or given.cell or given.short)
    if given.report or whole:
        report.write(matrix, run.results, missing, seconds, given.report)
    tested = given.no_tests or tests_pass(matrix, present, given.jobs)
    return 0 if shown and tested and not failed else 1


def tests_pass(matrix: Matrix, peers: Sequence[str], jobs: int) -> bool:
    """The tests that belong to peers, which drive commands and networks rather than two peers."""
    files = list(dict.fromkeys(file for peer in peers for file in matrix.peers[peer].get("tests", ())))
    how = ("--timeout", "1800", "-rs", "-n", str(jobs), "--dist", "worksteal")
    return not files or subprocess.run([sys.executable, "-m", "pytest", *files, *how]).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
