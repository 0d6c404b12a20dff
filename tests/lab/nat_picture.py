"""docs/reach.svg: the tables of docs/reach.md as a picture, ours above, go-libp2p's below."""

import re
from pathlib import Path

from tests.svg import box, label, picture

DOCS = Path(__file__).resolve().parents[2] / "docs"
COLOURS = {"direct": "#2da44e", "punched": "#8ddb8c", "relayed": "#d4a72c", "failed": "#cf222e"}
EMPTY = "#ffffff"
WIDE, HIGH, LEFT, TOP = 96, 26, 110, 52
"""Pixels: of a cell, of the names of rows, and of a title with the names of columns."""
TITLES = (
    "stack share here (rows), stack get there (columns)",
    "go-libp2p 0.51: is dialled (rows), dials (columns)",
)

Table = list[list[str]]


def tables(page: str) -> list[Table]:
    """Those of the page that have kinds of routers on both sides: rows of words, their names first."""
    found: list[Table] = []
    for block in re.findall(r"(?:^\|.*\n)+", page, re.M):
        rows = [[word.strip(" `") for word in line.strip().strip("|").split("|")] for line in block.splitlines()]
        if " behind" in rows[0][0]:
            rows[0] = [word.rpartition("`")[2] for word in rows[0]]
            found.append([rows[0], *rows[2:]])
    return found


def draw(page: str) -> str:
    """The picture."""
    parts, top, widest = [], 0, 0
    for title, (names, *rows) in zip(TITLES, tables(page), strict=True):
        parts.append(label(LEFT, top + 20, title))
        widest = max(widest, len(names) - 1)
        for x, name in enumerate(names[1:]):
            parts.append(label(LEFT + WIDE * (x + 0.5), top + TOP - 8, name, anchor="middle"))
        top += TOP
        for name, *cells in rows:
            parts.append(label(LEFT - 8, top + HIGH * 0.65, name, anchor="end"))
            for x, cell in enumerate(cells):
                colour = COLOURS.get(cell.partition(",")[0], EMPTY)
                parts.append(box(LEFT + WIDE * x, top, WIDE - 2, HIGH - 2, colour))
                parts.append(label(LEFT + WIDE * (x + 0.5), top + HIGH * 0.65, cell, anchor="middle"))
            top += HIGH
    for number, (word, colour) in enumerate(COLOURS.items()):
        left = LEFT + 90 * number
        parts += [box(left, top + 14, 10, 10, colour), label(left + 14, top + 23, word)]
    return picture(LEFT + WIDE * widest + 18, top + 36, parts, size=11)


def write() -> None:
    """Into docs."""
    (DOCS / "reach.svg").write_text(draw((DOCS / "reach.md").read_text()))
