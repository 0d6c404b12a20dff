"""How a line of progress, and a sentence, fit into the columns that a terminal has. Pure.

Figures are never cut. Where there is little room the bar goes first, then the middle of the name, then there are more lines.
"""

import re
import unicodedata
from collections import deque
from collections.abc import Callable, Sequence

from stack.values import dataclass

RATE_SECONDS = 5.0
"""The rate is that of the last seconds: steady enough to read, and zero soon after nothing moves."""

LEFT_BYTES = 64 * 1024
"""Less than so much, in the first seconds, tells nothing of the time left: the first bytes are names and nodes."""

STEP_SECONDS = 1.0
"""Whoever tells how far something is does so at least as often while it moves."""

LEFT_SECONDS = 20.0
"""The time left is judged by more: it is to be believed, not to be quick."""

BAR_MIN, BAR_MAX = 8, 24
NAME_MIN = 12
"""Columns of a name below which it stands on a line of its own."""

KEPT_FREE = 3
"""Columns that stay free, so that a `^C` does not wrap."""

_UNIT = re.compile(r"(B|[KMGT]iB)(/s)?\W*$")
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def width(text: str) -> int:
    """Columns that a terminal takes for it."""
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


def cut(text: str, columns: int) -> str:
    """The text, with its middle left out if it is too wide: what tells names apart stands at either end."""
    if width(text) <= columns:
        return text
    head, tail = "", ""
    left, right = 0, len(text)
    while left < right:
        at_head = width(head) <= width(tail)
        piece = text[left] if at_head else text[right - 1]
        if width(head) + width(tail) + width(piece) + 1 > columns:
            break
        if at_head:
            head, left = head + piece, left + 1
        else:
            tail, right = piece + tail, right - 1
    return f"{head}…{tail}" if columns > 0 else ""


def wrapped(text: str, columns: int) -> list[str]:
    """Lines that break between words, and not between a figure and its unit. A word that is wider than a line is left to the
    terminal: it is copied whole."""
    words: list[str] = []
    for word in text.split(" "):
        if words and _UNIT.match(word):
            words[-1] += f" {word}"
        else:
            words.append(word)
    return packed(words, " ", columns)


def packed(parts: Sequence[str], gap: str, columns: int) -> list[str]:
    """As many parts in a line as fit."""
    lines: list[str] = []
    for part in parts:
        if lines and width(lines[-1]) + len(gap) + width(part) <= columns:
            lines[-1] += gap + part
        else:
            lines.append(part)
    return lines


def size(count: float) -> str:
    """Bytes for people: `1.4 GiB`."""
    number, unit = _scaled(count)
    return f"{number} {unit}"


def fraction(done: int, total: int) -> str:
    """`185.0/286.1 MiB`: both in the unit of the larger."""
    power = _power(max(done, total))
    return f"{_number(done, power)}/{_number(total, power)} {UNITS[power]}"


def _scaled(count: float) -> tuple[str, str]:
    power = _power(count)
    return _number(count, power), UNITS[power]


def _power(count: float) -> int:
    power = 0
    while power < len(UNITS) - 1 and float(_number(abs(count), power)) >= 1024:
        power += 1
    return power


def _number(count: float, power: int) -> str:
    return f"{count:.0f}" if power == 0 else f"{count / 1024**power:.1f}"


def clock(seconds: float) -> str:
    """`0:07`, `12:30`, `3:05:00`."""
    whole = round(seconds)
    minutes = f"{whole // 60 % 60}:{whole % 60:02}"
    return minutes if whole < 3600 else f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


class Window:
    """How fast something grows. Facts: `add`. Getters: `rate`, `left`."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, now: float, done: int) -> None:
        """So much is done now."""
        if self._samples and (done < self._samples[-1][1] or done == self._samples[0][1]):
            self._samples.clear()  # it began again, or nothing has moved yet
        if len(self._samples) == 1:
            at, before = self._samples.pop()  # it stood still until now
            self._samples.append((max(at, now - STEP_SECONDS), before))
        self._samples.append((now, done))
        while len(self._samples) > 2 and now - self._samples[1][0] > LEFT_SECONDS:
            self._samples.popleft()

    def rate(self, now: float, seconds: float = RATE_SECONDS) -> float:
        """A second, over the last ones."""
        if not self._samples:
            return 0.0
        since, before = self._samples[0]
        for at, done in self._samples:
            if now - at < seconds:
                break
            since, before = at, done
        passed = min(seconds, now - since)
        # Of a step that began before these seconds only what falls into them would count; that it is old is all that is known.
        return (self._samples[-1][1] - before) / passed if passed > 0 else 0.0

    def left(self, now: float, remaining: int) -> float | None:
        """Seconds until so much more is done; None while nothing moves, or too little has."""
        rate = self.rate(now, LEFT_SECONDS)
        if not (rate > 0 and self.rate(now) > 0):
            return None
        (since, before), (_, done) = self._samples[0], self._samples[-1]
        is_known = done - before >= min(LEFT_BYTES, remaining) or now - since >= LEFT_SECONDS / 2
        return remaining / rate if is_known else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is known of something that goes on."""

    label: str
    done: int = 0
    total: int | None = None
    """None where nobody knows."""
    files: int | None = None
    """Of a tree, those that are complete."""
    moved: int | None = None
    """What the rate is of, where that is not all of `done`: bytes that came, beside those that were there."""
    is_counted: bool = True
    """There is something to count; else only the words stand there."""
    is_moving: bool = True
    """Else a rate would say less than the words."""
    verb: str = ""
    """What happens to the bytes, as `sent`: for what goes on without an end, and is idle at times."""
    text: str = ""
    rows: tuple[str, ...] = ()
    """More lines below, cut where they are too wide."""

    def parts(self, rate: float, left: float | None) -> list[str]:
        """What is never cut."""
        parts: list[str] = []
        if self.is_counted:
            counted = fraction(self.done, self.total) if self.total is not None else size(self.done)
            parts.append(f"{self.verb} {counted}" if self.verb else counted)
            if self.files is not None:
                parts.append(f"{self.files:,} file{'' if self.files == 1 else 's'}")
        if self.is_counted and self.is_moving:
            parts.append("now idle" if self.verb and rate < 1 else f"{size(rate)}/s")
            if left is not None:
                parts.append(f"{clock(left)} left")
        return [*parts, self.text] if self.text else parts

    def lines(self, columns: int, rate: float, left: float | None, shown: Callable[[str], str] = str) -> list[str]:
        """What stands on the screen, at least one line. `shown` makes a part fit for a terminal that knows few characters."""
        room = max(columns - KEPT_FREE, 1)
        parts = self.parts(rate, left)
        figures = "  ".join(parts)
        free = room - width(figures) - 2 if figures else room
        label = cut(self.label, max(free, 0))
        if label == self.label or free >= NAME_MIN:
            bar = min(free - width(label) - 2, BAR_MAX)
            drawn = self._bar(bar) if self.total and self.is_counted and bar >= BAR_MIN else ""
            above = ["  ".join(filter(None, (label, drawn, figures)))]
        else:
            above = [cut(self.label, room), *packed(parts, "  ", room)]
        return [shown(line) for line in (*above, *(cut(row, room) for row in self.rows))]

    def _bar(self, columns: int) -> str:
        full = columns * min(self.done, self.total or 0) // (self.total or 1)
        return "━" * full + "─" * (columns - full)
