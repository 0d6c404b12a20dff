"""Whether this tree takes more than another for the same work: both in one run, each first in turn.

CPU-seconds and peak memory decide; what the clock says is printed and decides nothing.
"""

import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from tests.bench.figures import Figure, Kind, Spread, number, turn
from tests.bench.meter import Scene, Work, compile_modules, in_a_folder
from tests.bench.table import ROWS, Row

MORE = 1.15
"""So many times what the tree before takes is too much."""
GATED = ("get", "share")
MIB_OF_EACH = 256
PAIRS = 5
PAIRS_LEAST = 3
SECONDS_MAX = 30.0
"""After which no further pair of all rows begins: what is measured again has to find room too."""
ROOT = Path(__file__).resolve().parents[2]
NOW, BEFORE = "now", "before"


def risen(before: Kind, now: Kind) -> dict[str, tuple[float, float]]:
    """What takes more than MORE times as much as before, by the medians and by the least of all runs; with both medians.

    The least of some runs is the least disturbed: on a busy machine a median alone wanders by more than what is looked for.
    """
    was, new = _totals(before), _totals(now)
    return {
        what: (was[what].median, new[what].median)
        for what in was.keys() & new.keys()
        if new[what].median > MORE * was[what].median and new[what].least > MORE * was[what].least
    }


def _totals(kind: Kind) -> dict[str, Spread]:
    """CPU-seconds of all ends together, since work may move from one to the other, and bytes of each."""
    cpu = Spread.of([sum(end.cpu for end in figure.ends) for figure in kind.figures])
    return {"CPU-seconds": cpu, **{f"peak memory of the {name}": peak for name, peak in kind.peak.items()}}


def line(name: str, kinds: Mapping[str, Kind], mib: int) -> str:
    """What was measured of a row."""
    parts = [f"{name}, {mib} MiB, {len(kinds[NOW].figures)} pairs: "]
    for kind in (kinds[BEFORE], kinds[NOW]):
        totals = _totals(kind)
        peaks = " + ".join(f"{peak.median / (1 << 20):.0f}" for peak in kind.peak.values())
        cpu = number(totals["CPU-seconds"].median * 1024 / mib)
        parts.append(f"{kind.name} {cpu} CPU-s a GiB, peak {peaks} MiB, {number(kind.value.median)} MiB/s")
    return parts[0] + "; ".join(parts[1:])


def main(tree: str, mib: int | None, pairs: int | None) -> int:
    """1 when a row takes more than before, twice. 0 when not, and where nothing can be compared, which is told."""
    mib, pairs = mib or MIB_OF_EACH, pairs or PAIRS
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        base = _base(tree, Path(folder))
        if isinstance(base, str):
            print(f"NOT COMPARED: {base}")
            return 0
        compile_modules(base)
        works: dict[str, Mapping[str, Work]] = {}
        for name in GATED:
            if (reason := _warm(ROWS[name], Path(folder), base)) is not None:
                print(f"NOT COMPARED: the tree before cannot do {name}: {reason}")
                return 0
            works[name] = {
                kind: stack.enter_context(ROWS[name].open(_scene(Path(folder), mib, of)))["stack"]
                for kind, of in ((NOW, None), (BEFORE, base))
            }
        measured = _measure(works, pairs, Path(folder))
        for name, kinds in measured.items():
            print(line(name, kinds, mib), flush=True)
        again = {name: works[name] for name, kinds in measured.items() if risen(kinds[BEFORE], kinds[NOW])}
        failed = False
        for name, kinds in _measure(again, pairs, Path(folder)).items():
            print(f"again: {line(name, kinds, mib)}", flush=True)
            # Only what has risen both times has risen.
            twice = risen(kinds[BEFORE], kinds[NOW]).keys() & risen(*(measured[name][kind] for kind in (BEFORE, NOW)))
            for what in sorted(twice):
                print(f"RISEN: {name}: {what} by more than {100 * (MORE - 1):.0f} %")
            failed = failed or bool(twice)
    return int(failed)


def _measure(works: Mapping[str, Mapping[str, Work]], pairs: int, place: Path) -> dict[str, dict[str, Kind]]:
    began = time.monotonic()
    figures: dict[str, dict[str, list[Figure]]] = {name: {NOW: [], BEFORE: []} for name in works}
    for round_number in range(pairs):
        if round_number >= PAIRS_LEAST and time.monotonic() - began > SECONDS_MAX:
            break
        for name, work in works.items():
            for kind in turn(list(work), round_number):
                figures[name][kind].append(in_a_folder(place, work[kind]))
    return {name: {kind: Kind(kind, tuple(runs)) for kind, runs in kinds.items()} for name, kinds in figures.items()}


def _scene(place: Path, size: int, tree: Path | None) -> Scene:
    return Scene(place=Path(tempfile.mkdtemp(prefix="s", dir=place)), size=size, tree=tree, alone=True)


def _warm(row: Row, place: Path, base: Path) -> str | None:
    """Run both trees once, which compiles what they load; why the other cannot, if so."""
    for tree in (None, base):
        with row.open(_scene(place, 1, tree)) as kinds:
            try:
                in_a_folder(place, kinds["stack"])
            except Exception as error:
                if tree is None:
                    raise
                return str(error)[-500:]
    return None


def _base(tree: str, place: Path) -> Path | str:
    """A folder with the other tree, or why there is none. `tree`: a folder, a commit, or empty for the commit before."""
    if tree and Path(tree).is_dir():
        return Path(tree).resolve()
    commit = _git("rev-parse", "--verify", "--quiet", f"{tree}^{{commit}}") if tree else _before()
    if commit is None:
        return f"{tree} is no folder and no commit" if tree else "there is no commit before this one here"
    archive = subprocess.run(["git", "archive", commit, "stack"], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        return f"commit {commit} cannot be read: {archive.stderr.decode()[-300:]}"
    folder = place / "before"
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    print(f"beside commit {commit[:12]}", flush=True)
    return folder


def _before() -> str | None:
    """Where this branch left the published one, or the first parent of a commit that is published itself."""
    head = _git("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    fork = _git("merge-base", "HEAD", "origin/HEAD")
    return fork if fork not in (None, head) else _git("rev-parse", "--verify", "--quiet", "HEAD~1^{commit}")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None
