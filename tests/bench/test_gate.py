"""When the gate shuts, and that it is open where nothing can be compared."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bench import gate
from tests.bench.figures import End, Figure, Kind
from tests.bench.meter import Scene, Work
from tests.bench.table import Row

MIB = 1 << 20


def kind(*runs: tuple[float, float]) -> Kind:
    """CPU-seconds of both ends together, and MiB of the receiver, of each run."""
    return Kind(
        "",
        tuple(
            Figure(1.0, (End("sharer", cpu / 2, MIB), End("receiver", cpu / 2, int(mib * MIB)))) for cpu, mib in runs
        ),
    )


def test_the_same_is_not_more() -> None:
    assert gate.risen(kind((1.0, 80), (1.2, 90)), kind((1.0, 80), (1.2, 90))) == {}


def test_more_processor_time_or_memory_is_told_with_both_medians() -> None:
    found = gate.risen(kind((1.0, 80), (1.0, 80)), kind((1.2, 100), (1.2, 100)))
    assert found == {"CPU-seconds": (1.0, 1.2), "peak memory of the receiver": (80 * MIB, 100 * MIB)}


def test_less_is_welcome_and_so_is_work_that_moves_to_the_other_end() -> None:
    assert gate.risen(kind((2.0, 80)), kind((1.0, 40))) == {}
    moved = Kind("", (Figure(1.0, (End("sharer", 1.5, MIB), End("receiver", 0.5, MIB))),))
    assert gate.risen(Kind("", (Figure(1.0, (End("sharer", 0.5, MIB), End("receiver", 1.5, MIB))),)), moved) == {}


def test_one_run_that_was_disturbed_does_not_shut_the_gate_nor_does_a_busy_half() -> None:
    quiet = kind((1.0, 80), (1.0, 80), (1.0, 80))
    assert gate.risen(quiet, kind((1.0, 80), (1.0, 80), (5.0, 200))) == {}
    assert gate.risen(quiet, kind((1.0, 80), (1.5, 80), (1.5, 80))) == {}


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """CPU-seconds of the runs to come of each tree; the last goes on for ever."""
    taken = {"before": [1.0], "now": [1.0]}

    @contextmanager
    def opened(scene: Scene) -> Iterator[Mapping[str, Work]]:
        cpu = taken["now" if scene.tree is None else "before"]

        def run(_: Path) -> Figure:
            if cpu[0] < 0:
                raise RuntimeError("no such command")
            return Figure(1.0, (End("one", cpu.pop(0) if len(cpu) > 1 else cpu[0], MIB),))

        yield {"stack": run}

    row = Row(title="get", unit="MiB/s", open=opened, size=1, quick=1, mib=True)
    monkeypatch.setattr(gate, "ROWS", dict.fromkeys(gate.GATED, row))
    monkeypatch.setattr(os, "sync", lambda: None)
    return taken


def test_a_tree_that_takes_as_much_as_before_passes(
    rows: dict[str, list[float]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate.main(str(tmp_path), 1, None) == 0
    assert capsys.readouterr().out.startswith(
        "get, 1 MiB, 5 pairs: before 1,024 CPU-s a GiB, peak 1 MiB, 1.00 MiB/s; now 1,024 "
    )


def test_a_tree_that_takes_more_twice_fails_and_is_told_where(
    rows: dict[str, list[float]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows["now"][:] = [1.2]
    assert gate.main(str(tmp_path), 1, None) == 1
    assert "RISEN: get: CPU-seconds by more than 15 %" in capsys.readouterr().out


def test_a_row_that_has_risen_is_measured_again_before_it_fails(
    rows: dict[str, list[float]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once = 1 + gate.PAIRS  # with the run that only warms
    rows["now"][:] = [1.2] * once * len(gate.GATED) + [1.0]
    assert gate.main(str(tmp_path), 1, None) == 0
    said = capsys.readouterr().out
    assert "again: get" in said and "RISEN" not in said


def test_a_slow_machine_gets_fewer_pairs(
    rows: dict[str, list[float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gate, "SECONDS_MAX", -1.0)
    assert gate.main(str(tmp_path), 1, None) == 0
    assert f"{gate.PAIRS_LEAST} pairs" in capsys.readouterr().out


def test_where_the_tree_before_cannot_run_it_says_so_and_passes_but_not_where_this_one_cannot(
    rows: dict[str, list[float]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows["before"][:] = [-1.0]
    assert gate.main(str(tmp_path), 1, None) == 0
    assert "NOT COMPARED: the tree before cannot do get: no such command" in capsys.readouterr().out
    rows["now"][:] = [-1.0]
    with pytest.raises(RuntimeError):
        gate.main(str(tmp_path), 1, None)


def test_without_a_history_it_says_so_and_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gate, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert gate.main("", None, None) == 0
    assert gate.main("v0.0.0", None, None) == 0
    monkeypatch.setenv("PATH", "")
    assert gate.main("", None, None) == 0
    assert capsys.readouterr().out.splitlines() == [
        "NOT COMPARED: there is no commit before this one here",
        "NOT COMPARED: v0.0.0 is no folder and no commit",
        "NOT COMPARED: there is no commit before this one here",
    ]


def test_the_tree_before_is_where_the_branch_began_or_the_parent_of_what_is_published(
    rows: dict[str, list[float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str, at: Path) -> str:
        words = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(words, cwd=at, check=True, capture_output=True, text=True).stdout.strip()

    ours, published = tmp_path / "ours", tmp_path / "published"
    published.mkdir()
    git("init", "-q", "-b", "main", at=published)
    for number in range(2):
        (published / "stack").mkdir(exist_ok=True)
        (published / "stack" / "file").write_text(f"{number}")
        git("add", ".", at=published)
        git("commit", "-qm", f"{number}", at=published)
    git("clone", "-q", str(published), str(ours), at=tmp_path)
    monkeypatch.setattr(gate, "ROOT", ours)
    (tmp_path / "a").mkdir()
    base = gate._base("", tmp_path / "a")
    assert isinstance(base, Path) and (base / "stack" / "file").read_text() == "0"
    for _ in range(2):
        git("commit", "-q", "--allow-empty", "-m", "ours", at=ours)
    (tmp_path / "b").mkdir()
    base = gate._base("", tmp_path / "b")
    assert isinstance(base, Path) and (base / "stack" / "file").read_text() == "1"
    git("rm", "-qr", "stack", at=ours)
    git("commit", "-qm", "gone", at=ours)
    assert "cannot be read" in str(gate._base("HEAD", tmp_path / "b"))
