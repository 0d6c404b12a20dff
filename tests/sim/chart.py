"""Line charts as SVG text, with nothing but the standard library."""

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, isfinite, log10

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 40, 48
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#999999")
"""Okabe and Ito's, which most colour-blind people can tell apart."""
TICKS = 5


def line_chart(
    title: str, x_label: str, y_label: str, series: Mapping[str, Points], *, y_max: float | None = None
) -> str:
    """Lines through the points of each series; what is not finite is left out. Axes begin at 0."""
    kept = {name: [(x, y) for x, y in points if isfinite(x) and isfinite(y)] for name, points in series.items()}
    x_top = _nice(max((x for points in kept.values() for x, _ in points), default=1.0))
    y_top = _nice(max((y for points in kept.values() for _, y in points), default=1.0)) if y_max is None else y_max
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(x: float, y: float) -> str:
        return f"{LEFT + width * x / x_top:.1f},{TOP + height * (1 - y / y_top):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT, 22, title, size=15),
        _text(LEFT + width / 2, HEIGHT - 10, x_label, anchor="middle"),
        f'<text x="16" y="{TOP + height / 2}" text-anchor="middle" transform="rotate(-90 16 {TOP + height / 2})">'
        f"{escape(y_label)}</text>",
    ]
    for tick in range(TICKS + 1):
        x, y = x_top * tick / TICKS, y_top * tick / TICKS
        left, right = at(0, y).split(","), at(x_top, y).split(",")
        parts.append(f'<line x1="{left[0]}" y1="{left[1]}" x2="{right[0]}" y2="{right[1]}" stroke="#dddddd"/>')
        parts.append(_text(LEFT - 6, float(left[1]) + 4, f"{y:g}", anchor="end"))
        parts.append(_text(float(at(x, 0).split(",")[0]), HEIGHT - BOTTOM + 16, f"{x:g}", anchor="middle"))
    for index, (name, points) in enumerate(kept.items()):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(at(x, min(y, y_top)) for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        height_of_name = TOP + 10 + 18 * index
        start = WIDTH - RIGHT + 12
        parts.append(
            f'<line x1="{start}" y1="{height_of_name}" x2="{start + 20}" y2="{height_of_name}" stroke="{colour}" stroke-width="3"/>'
        )
        parts.append(_text(start + 26, height_of_name + 4, name))
    return "\n".join([*parts, "</svg>", ""])


def shares(values: Sequence[float]) -> list[tuple[float, float]]:
    """The part of all values up to each of them, as points of a line."""
    ordered = sorted(values)
    return [(0.0, 0.0), *((value, (index + 1) / len(ordered)) for index, value in enumerate(ordered))]


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'


def _nice(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** floor(log10(value))
    return next(
        (power * step for step in (1, 2, 2.5, 5, 10) if power * step >= value * 0.999), power * ceil(value / power)
    )
