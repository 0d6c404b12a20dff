"""Pictures as SVG text, with nothing but the standard library: lines, on plain or logarithmic axes, and bars side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log10

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 40, 48
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#999999")
"""Okabe and Ito's, which most colour-blind people can tell apart."""
TICKS = 5
BAR, GAP = 16, 30
"""Pixels: the height of a bar with its space, and of a group's name."""
NAMES, FIGURES = 190, 200
"""Pixels: left of the bars for their names, right of them for what they say."""


def picture(width: float, height: float, parts: Sequence[str], *, size: int = 12) -> str:
    """The whole text: these parts on white."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="{size}">'
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="#ffffff"/>', *parts, "</svg>", ""])


def label(
    x: float, y: float, words: str, *, anchor: str = "start", size: int | None = None, turned: bool = False
) -> str:
    """Words that begin, end or have their middle there; `turned` they go upwards."""
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    font = f' font-size="{size}"' if size else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{font}{turn}>{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, colour: str, *, hint: str = "") -> str:
    """A rectangle; the hint is shown when a pointer rests on it."""
    inside = f"<title>{escape(hint)}</title>" if hint else ""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}">{inside}</rect>'


def stroke(x: float, y: float, to_x: float, to_y: float, colour: str, width: float = 1) -> str:
    """A straight line."""
    ends = f'x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width:g}"/>'


@dataclass(frozen=True, slots=True)
class _Axis:
    """Values from `low` to `high` as parts of a length."""

    low: float
    high: float
    log: bool

    def part(self, value: float) -> float:
        if self.log:
            return log10(max(value, self.low) / self.low) / log10(self.high / self.low)
        return value / self.high

    def ticks(self) -> list[float]:
        if not self.log:
            return [self.high * tick / TICKS for tick in range(TICKS + 1)]
        first, last = round(log10(self.low)), round(log10(self.high))
        return [10.0**power for power in range(first, last + 1, max(1, (last - first) // TICKS))]


def _axis(values: Sequence[float], log: bool, high: float | None = None) -> _Axis:
    if not log:
        return _Axis(0.0, _nice(max(values, default=1.0)) if high is None else high, log)
    low, high = 10.0 ** floor(log10(min(values, default=1.0))), 10.0 ** ceil(log10(max(values, default=10.0)))
    return _Axis(low, max(high, 10 * low), log)


def line_chart(
    title: str,
    x_label: str,
    y_label: str,
    series: Mapping[str, Points],
    *,
    y_max: float | None = None,
    log: bool = False,
) -> str:
    """Lines through the points of each series; what is not finite is left out. Axes begin at 0.

    With `log` both axes are logarithmic, begin at a power of ten, and what is not above 0 is left out too.
    """
    kept = {
        name: [(x, y) for x, y in points if isfinite(x) and isfinite(y) and (not log or min(x, y) > 0)]
        for name, points in series.items()
    }
    across = _axis([x for points in kept.values() for x, _ in points], log)
    upward = _axis([y for points in kept.values() for _, y in points], log, y_max)
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def right(x: float) -> float:
        return LEFT + width * across.part(x)

    def down(y: float) -> float:
        return TOP + height * (1 - upward.part(min(y, upward.high)))

    parts = [
        label(LEFT, 22, title, size=15),
        label(LEFT + width / 2, HEIGHT - 10, x_label, anchor="middle"),
        label(16, TOP + height / 2, y_label, anchor="middle", turned=True),
    ]
    for y in upward.ticks():
        parts.append(stroke(LEFT, down(y), LEFT + width, down(y), "#dddddd"))
        parts.append(label(LEFT - 6, down(y) + 4, f"{y:g}", anchor="end"))
    parts += [label(right(x), HEIGHT - BOTTOM + 16, f"{x:g}", anchor="middle") for x in across.ticks()]
    for index, (name, points) in enumerate(kept.items()):
        colour, start, level = COLOURS[index % len(COLOURS)], WIDTH - RIGHT + 12, TOP + 10 + 18 * index
        path = " ".join(f"{right(x):.1f},{down(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(stroke(start, level, start + 20, level, colour, 3))
        parts.append(label(start + 26, level + 4, name))
    return picture(WIDTH, HEIGHT, parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar, with a whisker from the least to the most of what was seen."""

    name: str
    value: float
    least: float
    most: float
    says: str
    colour: int = 0
    """Which of COLOURS."""


def bar_chart(title: str, groups: Mapping[str, Sequence[Bar]]) -> str:
    """Bars below each other, each group on a scale of its own that begins at 0."""
    width = WIDTH - NAMES - FIGURES
    parts, y = [label(12, 22, title, size=15)], float(TOP)
    for name, bars in groups.items():
        y += GAP
        parts.append(label(12, y - 8, name, size=13))
        top = max((bar.most for bar in bars), default=0.0) or 1.0
        for bar in bars:
            middle, least, most = y + BAR / 2, NAMES + width * bar.least / top, NAMES + width * bar.most / top
            parts.append(label(NAMES - 6, middle + 3, bar.name, anchor="end"))
            parts.append(box(NAMES, y + 2, width * bar.value / top, BAR - 4, COLOURS[bar.colour % len(COLOURS)]))
            parts.append(stroke(least, middle, most, middle, "#000000"))
            parts.append(label(NAMES + width + 8, middle + 4, bar.says))
            y += BAR
    return picture(WIDTH, y + 12, parts)


def shares(values: Sequence[float]) -> list[tuple[float, float]]:
    """The part of all values up to each of them, as points of a line."""
    ordered = sorted(values)
    return [(0.0, 0.0), *((value, (index + 1) / len(ordered)) for index, value in enumerate(ordered))]


def _nice(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** floor(log10(value))
    return next(
        (power * step for step in (1, 2, 2.5, 5, 10) if power * step >= value * 0.999), power * ceil(value / power)
    )
