"""The pictures: text that is an SVG, and the same for the same figures."""

import math
from xml.etree import ElementTree

import pytest

from tests.sim.plots import charts
from tests.svg import Bar, bar_chart, line_chart, shares


def test_a_chart_has_a_line_for_each_series_and_leaves_out_what_is_not_finite() -> None:
    text = line_chart("A & B", "x", "y", {"one": [(0, 0), (3, 4), (4, math.inf)], "two": [(1, 1)]})
    lines = [each for each in ElementTree.fromstring(text) if each.tag.endswith("polyline")]
    assert [len(line.attrib["points"].split()) for line in lines] == [2, 1]
    assert line_chart("", "", "", {}) == line_chart("", "", "", {})


def test_shares_rise_to_the_whole() -> None:
    assert shares([2.0, 1.0]) == [(0.0, 0.0), (1.0, 0.5), (2.0, 1.0)]


def test_every_plot_is_made_also_of_no_figures() -> None:
    assert all(ElementTree.fromstring(text) is not None for text in charts([]).values())


def test_a_logarithmic_chart_puts_powers_of_ten_at_equal_distances_and_leaves_out_what_is_not_above_zero() -> None:
    text = line_chart("", "", "", {"one": [(0, 1), (1, 1), (10, 10), (100, 100)]}, log=True)
    (line,) = [each for each in ElementTree.fromstring(text) if each.tag.endswith("polyline")]
    first, second, third = [[float(part) for part in point.split(",")] for point in line.attrib["points"].split()]
    assert [second[way] - first[way] for way in (0, 1)] == [
        pytest.approx(third[way] - second[way], abs=0.11) for way in (0, 1)
    ]
    assert line_chart("", "", "", {}, log=True)


def test_bars_are_as_long_as_what_they_stand_for_within_their_group() -> None:
    def bar(name: str, value: float) -> Bar:
        return Bar(name=name, value=value, least=value, most=value, says="")

    text = bar_chart("A & B", {"one": [bar("a", 1), bar("b", 2)], "two": [bar("c", 50)], "none": []})
    lengths = [float(each.attrib["width"]) for each in ElementTree.fromstring(text) if each.tag.endswith("rect")][1:]
    assert lengths == [pytest.approx(lengths[1] / 2, abs=0.1), lengths[1], lengths[1]]
