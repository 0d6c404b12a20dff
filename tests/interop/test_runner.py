"""The runner of the interop matrix: a cell that is wrong turns the run red. The other peer is ours with a fault, not another's."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop import __main__ as runner
from interop import matrix, report
from interop.cells import CELLS, Wrong
from interop.driver import Peer
from interop.matrix import Direction, Matrix, Outcome, Result, Run

FAULTY = Path(__file__).with_name("faulty.py")
ROOT = FAULTY.parents[2]


@pytest.fixture(scope="module")
def ours() -> Iterator[Peer]:
    """One of ours for all tests: only the others have faults."""
    peer = Peer("ours", "ours")
    end, peer.quit = peer.quit, lambda: None  # type: ignore[method-assign]
    yield peer
    end()


@pytest.fixture(autouse=True)
def one_of_ours(ours: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs do not start another one."""
    monkeypatch.setattr(matrix, "Peer", lambda kind, *a, **k: ours if kind == "ours" else Peer(kind, *a, **k))


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, fault: str, *arguments: str) -> int:
    """The exit code of a run of two cells, we dial, with a peer of this fault in place of go-libp2p."""
    program = folder / "peer"
    program.write_text(
        f"#!/bin/sh\nPYTHONPATH={ROOT} PYTHONDONTWRITEBYTECODE=1 exec {sys.executable} {FAULTY} '{fault}' \"$@\"\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("STACK_PEER_GO", str(program))
    monkeypatch.setattr(runner, "DIRECTIONS", (Direction.OUT,))
    monkeypatch.setattr(Matrix, "groups", lambda self, peers, short: [("go", "tcp", "default")])
    cells = ("--cell", "connect", "--cell", "half-close")
    return runner.main(["go", "--short", "--no-tests", *cells, *arguments])


def test_a_peer_that_is_right_makes_a_green_run_and_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(tmp_path, monkeypatch, "is right", "--report", str(tmp_path)) == 0
    assert "| tcp | 2 | 0 | 0 | 0 |" in (tmp_path / "interop.md").read_text()
    assert (tmp_path / "interop.svg").read_text().count(report.COLOURS[Outcome.PASSED]) == 3  # one is the legend
    assert '"passed": 2' in (tmp_path / "results.json").read_text()


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("exits", "did not say ready before it ended"),
        ("agrees", "ours has not met go"),
        ("leaves", "half-close    failed"),
        ("has another key", "PeerIdMismatch"),
        ("has another muxer", "no muxer in common"),
        ("drops bytes", "half-close    failed"),
    ],
)
def test_a_peer_with_a_fault_makes_a_red_run(
    fault: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, monkeypatch, fault) == 1
    assert says in capsys.readouterr().out


def test_a_cell_that_nobody_has_foreseen_to_break_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer with too few words, say."""
    monkeypatch.setattr(matrix, "connect", lambda pair: None)
    monkeypatch.setattr(Run, "_start", lambda *arguments: None)
    monkeypatch.setitem(CELLS, "half-close", lambda pair: [][0])
    one = Run(Matrix(), Path(), form="short", tell=lambda result: None)
    one.run("go", "tcp", "default", ["connect", "half-close"], [Direction.OUT])
    assert [result.outcome for result in one.results] == [Outcome.PASSED, Outcome.FAILED]


def test_a_fault_that_is_known_is_no_failure_until_it_is_mended() -> None:
    table = Matrix()
    table._faults = [{"peer": "go", "line": ["ws", "tcp"], "cells": ["ping"], "why": "theirs", "shows": "no answer"}]
    told: list[Result] = []
    judge = Run(table, Path(), form="short", tell=told.append)._judge
    for error in (Wrong("there was no answer"), Wrong("they have not met"), None):
        judge("go", "tcp", "default", "ping", Direction.IN, 0.0, error)
    assert [result.outcome for result in told] == [Outcome.THEIRS, Outcome.FAILED, Outcome.FAILED]


def test_a_run_in_which_nothing_passes_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Matrix, "groups", lambda self, peers, short: [])
    monkeypatch.setenv("STACK_PEER_GO", "/bin/true")
    tested: list[list[str]] = []
    monkeypatch.setattr(runner, "tests_pass", lambda matrix, peers, jobs: tested.append(peers) or True)
    assert runner.main(["go"]) == 1
    assert tested == [["go"]]  # all the same
    assert runner.main(["go", "--no-tests"]) == 1
    assert tested == [["go"]]


def test_three_groups_at_a_time_are_run_in_the_short_form(monkeypatch: pytest.MonkeyPatch) -> None:
    everybody = threading.Barrier(3, timeout=30)
    monkeypatch.setattr(Matrix, "groups", lambda self, peers, short: [("go", "tcp", "default")] * 3)
    monkeypatch.setattr(Run, "run", lambda *arguments: everybody.wait())
    monkeypatch.setenv("STACK_PEER_GO", "/bin/true")
    assert runner.main(["go", "--short", "--no-tests"]) == 1  # nothing has passed


def test_ci_does_without_no_peer_that_it_must_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program: None)
    for name in ("STACK_KUBO", "STACK_PEER_GO"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(SystemExit, match="kubo and go"):
        runner.main(["kubo", "go"])
    monkeypatch.setenv("CI", "")
    assert runner.runnable(["kubo", "go"])[0] == []


def test_the_matrix_names_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    table = Matrix()
    assert runner.main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(list(table.groups(list(table.peers))))
    for row in table.variants.values():
        assert set(row["cells"]) <= set(CELLS)
    for row in [*table._faults, *table._absent]:
        assert row.get("peer", "go") in table.peers and set(row["cells"]) <= set(CELLS) and row["why"]
        assert row.get("direction", Direction.IN) in list(Direction)
        lines = row.get("line", "tcp")
        assert set(lines if isinstance(lines, list) else [lines]) <= set(table.lines)
        assert row.get("variant", "default") in table.variants
    assert all(row["shows"] for row in table._faults)
    for peer in table.peers.values():
        assert set(peer["lines"]) <= set(table.lines) and set(peer["variants"]) <= set(table.variants)
        assert all((ROOT / file).exists() for file in peer["tests"])


def test_a_peer_that_nobody_knows_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        runner.main(["java"])
    assert "there are kubo, go" in capsys.readouterr().err
