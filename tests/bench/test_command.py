"""The command itself, at its smallest."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from interop import build
from tests.bench import __main__ as command
from tests.bench.figures import Figure
from tests.bench.meter import Scene, Work
from tests.bench.table import ROWS, Row


def test_a_row_is_measured_told_and_kept_beside_those_that_were_measured_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, unmeasured: None
) -> None:
    monkeypatch.setattr(build, "why_not", lambda kind: f"NOT TESTED: {kind}; it is not here")
    out = tmp_path / "results.json"
    assert command.main(["--rows", "share", "--size", "1", "--pairs", "1", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "share in place, to the ticket: MiB/s, size 1 MiB, 1 times" in said
    assert "not run: kubo: it is not here" in said
    monkeypatch.setattr(command, "ROWS", {"made up": row({"stack": lambda _: Figure(1.0)}), **ROWS})
    assert command.main(["--rows", "made up", "--pairs", "1", "--out", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert list(figures["rows"]) == ["made up", "share"]
    (run,) = figures["rows"]["share"]["kinds"]["stack"]
    assert run["value"] > 0 and run["ends"]["sharer"]["cpu"] > 0 and run["ends"]["sharer"]["peak"] > 1 << 20
    assert (tmp_path / "rows.svg").exists()


def row(kinds: Mapping[str, Work]) -> Row:
    @contextmanager
    def opened(scene: Scene) -> Iterator[Mapping[str, Work]]:
        yield kinds

    return Row(title="made up", unit="a second", open=opened, size=1, quick=1)


def fails(_: Path) -> Figure:
    raise RuntimeError("it broke")


def test_an_anchor_that_fails_is_told_and_left_out_and_ours_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "ROWS", {"one": row({"stack": lambda _: Figure(1.0), "other": fails})})
    assert command.main(["--pairs", "2"]) == 0
    said = capsys.readouterr().out
    assert "made up: a second, size 1, 2 times" in said and "not run: other: it broke" in said


def test_what_fails_of_ours_fails_the_command_after_the_other_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {"one": row({"stack": fails}), "two": row({"stack": lambda _: Figure(1.0)})}
    monkeypatch.setattr(command, "ROWS", rows)
    assert command.main([]) == 1
    said = capsys.readouterr().out
    assert "made up: FAILED: it broke" in said and "1 rows in" in said


def test_the_list_tells_every_row_and_a_name_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(ROWS)
    with pytest.raises(SystemExit):
        command.main(["--rows", "nothing"])
    assert "no row nothing" in capsys.readouterr().err


def test_sizes_are_those_of_the_row_unless_the_user_says_mib_or_how_many() -> None:
    assert [ROWS["get"].size_of(quick, mib) for quick, mib in ((False, None), (True, None), (True, 7))] == [
        1024,
        128,
        7,
    ]
    assert ROWS["ping"].size_of(False, 7) == ROWS["ping"].size
    assert (ROWS["ping"].size_of(False, 7, 9), ROWS["get"].size_of(False, 7, 9)) == (9, 7)
