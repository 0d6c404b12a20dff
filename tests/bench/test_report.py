"""The table, the JSON and the picture of a run."""

import json
from xml.etree import ElementTree

from tests.bench.figures import End, Figure, Kind
from tests.bench.report import Measured, as_json, bars, from_json, text

MIB = 1 << 20


def row(**changes: object) -> Measured:
    figures = tuple(
        Figure(value, (End("sharer", 0.5, 60 * MIB), End("receiver", 1.0, 70 * MIB))) for value in (200.0, 300.0)
    )
    slower = tuple(Figure(figure.value / 2) for figure in figures)
    values: dict[str, object] = {
        "title": "get",
        "unit": "MiB/s",
        "more": True,
        "size": 512,
        "mib": True,
        "anchors": ("ipfs get",),
        "kinds": (Kind("stack", figures), Kind("ipfs get", slower)),
        "missing": ("libtorrent: is not there",),
        "load": (0.5, 2.0),
        "date": "2026-11-29",
    }
    return Measured(**{**values, **changes})  # type: ignore[arg-type]


def test_a_row_tells_sizes_load_what_each_took_how_they_compare_and_what_is_missing() -> None:
    head, ours, theirs, ratio, missing = text(row()).splitlines()
    assert head == "get: MiB/s, size 512 MiB, 2 times, load 0.5 to 2.0"
    words = "stack", "250 (200 to 300)", "CPU 1.00 + 2.00 s a GiB", "peak 60 + 70 MiB"
    assert ours.split() == " ".join(words).split()
    assert theirs.split() == ["ipfs", "get", "125", "(100", "to", "150)"]
    assert ratio.strip() == "stack : ipfs get = 2.00 (2.00 to 2.00)"
    assert missing.strip() == "not run: libtorrent: is not there"


def test_a_row_of_things_that_are_counted_tells_cpu_seconds_of_all_of_them_and_many_ends_together() -> None:
    ends = tuple(End(f"end {number}", 0.25, MIB) for number in range(4))
    said = text(row(mib=False, kinds=(Kind("stack", (Figure(1.0, ends),)),)))
    assert said.splitlines()[0].startswith("get: MiB/s, size 512, 1 times")
    assert said.splitlines()[1].endswith("CPU 1.00 s")


def test_a_row_that_could_not_be_run_says_so() -> None:
    said = text(row(kinds=(), load=(), missing=("all: needs root",)))
    assert said.splitlines() == ["get: MiB/s, size 512 MiB, 0 times, not run", "  not run: all: needs root"]


def test_json_brings_every_figure_back() -> None:
    rows = {"get": row(), "none": row(kinds=(), load=())}
    assert from_json(json.loads(json.dumps(as_json(rows)))) == rows
    assert as_json(rows)["get"]["ratios"] == {"stack : ipfs get": 2.0}


def test_the_picture_has_a_bar_for_each_kind_and_says_how_many_times_better_ours_is() -> None:
    said = [each.text for each in ElementTree.fromstring(bars([row(), row(more=False)])) if each.tag.endswith("text")]
    assert [words for words in said if words and words.startswith("125")] == ["125   ours 2.00 x", "125   ours 0.50 x"]
    assert any(words and words.endswith("less is better") for words in said)
