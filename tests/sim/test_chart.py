"""The charts: text that is an SVG, and the same for the same figures."""

import math
from xml.etree import ElementTree

from tests.sim.chart import line_chart, shares
from tests.sim.plots import charts


def test_a_chart_has_a_line_for_each_series_and_leaves_out_what_is_not_finite() -> None:
    text = line_chart("A & B", "x", "y", {"one": [(0, 0), (3, 4), (4, math.inf)], "two": [(1, 1)]})
    lines = [each for each in ElementTree.fromstring(text) if each.tag.endswith("polyline")]
    assert [len(line.attrib["points"].split()) for line in lines] == [2, 1]
    assert line_chart("", "", "", {}) == line_chart("", "", "", {})


def test_shares_rise_to_the_whole() -> None:
    assert shares([2.0, 1.0]) == [(0.0, 0.0), (1.0, 0.5), (2.0, 1.0)]


def test_every_plot_is_made_also_of_no_figures() -> None:
    assert all(ElementTree.fromstring(text) is not None for text in charts([]).values())
