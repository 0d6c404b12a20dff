"""The lines at the bottom of a terminal that change while something goes on. Nothing of them stays behind."""

import os
import sys
import threading
import time
from types import TracebackType

from stack.cli.layout import Figures, Window, width

REDRAWN_SECONDS = 0.25
"""Often enough for figures that somebody reads, and the screen follows when nothing is told any more, or its width changes."""

COLUMNS_USUAL, ROWS_USUAL = 80, 24


def columns_of(descriptor: int) -> int:
    """How wide a terminal is now."""
    try:
        return os.get_terminal_size(descriptor).columns or COLUMNS_USUAL
    except OSError:
        return COLUMNS_USUAL


def rows_of(descriptor: int) -> int:
    """How high it is now."""
    try:
        return os.get_terminal_size(descriptor).lines or ROWS_USUAL
    except OSError:
        return ROWS_USUAL


class Live:
    """Figures on stderr, drawn again by a thread. A context. Commands: `show`, `above`, `pause`."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._window = Window()
        self._drawn: list[str] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_drawing, name="progress", daemon=True)

    def __enter__(self) -> "Live":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        with self._lock:
            self._write(self._erased())

    @property
    def figures(self) -> Figures:
        """What is shown now."""
        return self._figures

    def show(self, figures: Figures) -> None:
        """Show this from the next drawing on."""
        with self._lock:
            self._figures = figures
            self._window.add(time.monotonic(), figures.done if figures.moved is None else figures.moved)

    def above(self, text: str) -> None:
        """A text that stays, above what changes."""
        with self._lock:
            self._write(f"{self._erased()}{text}\n")
            self._draw()

    def pause(self) -> None:
        """Make room: something is printed by others. It comes back by itself, below."""
        with self._lock:
            self._write(self._erased())

    def _keep_drawing(self) -> None:
        while not self._over.wait(REDRAWN_SECONDS):
            with self._lock:
                self._draw()

    def _draw(self) -> None:
        now, figures = time.monotonic(), self._figures
        remaining = 0 if figures.total is None else max(figures.total - figures.done, 0)
        left = self._window.left(now, remaining) if remaining else None
        lines = figures.lines(columns_of(sys.stderr.fileno()), self._window.rate(now), left, _drawable)
        del lines[max(rows_of(sys.stderr.fileno()) - 1, 1) :]  # what has scrolled away cannot be drawn again
        self._write(self._back() + "\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J")
        self._drawn = lines

    def _back(self) -> str:
        """To the start of what was drawn, which a narrower terminal has wrapped."""
        columns = columns_of(sys.stderr.fileno())
        rows = sum(max(1, -(-width(line) // columns)) for line in self._drawn)
        return "\r" + (f"\x1b[{rows - 1}A" if rows > 1 else "")

    def _erased(self) -> str:
        back = self._back() + "\x1b[J" if self._drawn else ""
        self._drawn = []
        return back

    def _write(self, text: str) -> None:
        if not text:
            return
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):
            self._over.set()  # the terminal has gone: what is done there goes on without it


def _drawable(line: str) -> str:
    """The same in what the terminal's encoding has."""
    encoding = sys.stderr.encoding or "ascii"
    try:
        line.encode(encoding)
    except UnicodeEncodeError:
        line = (
            line.translate({ord("━"): "#", ord("─"): "-", ord("…"): "~"}).encode(encoding, "replace").decode(encoding)
        )
    return line
