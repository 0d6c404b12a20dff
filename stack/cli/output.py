"""What commands print: data on stdout, everything else on stderr; JSON with a versioned schema; progress on a terminal.

Names, agents, addresses, topics and errors are whatever a stranger wrote. So every line goes out through here, without anything that a
terminal obeys; only `payload` passes bytes on as they are, because they are what the user asked for.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from stack.dag.unixfs.names import printable
from stack.node.schema import SCHEMA_VERSION, Json, to_json

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


def data(line: str) -> None:
    """One line of data on stdout, at once, so that a pipe's reader sees it. Without control characters, as all lines."""
    click.echo(harmless(line))
    sys.stdout.flush()


def payload(piece: bytes) -> None:
    """Bytes of a block, a file or an archive on stdout, as they are; `flush` ends them."""
    sys.stdout.buffer.write(piece)


def flush() -> None:
    """What was written goes out."""
    sys.stdout.buffer.flush()


def note(line: str) -> None:
    """One line for the person on stderr, without control characters."""
    click.echo(harmless(line), err=True)


def harmless(line: str) -> str:
    """A line without what a terminal would obey. Names in it may have been made `printable` already: backslashes stay."""
    return line if line.isprintable() else "\\".join(map(printable, line.split("\\")))


def json_text(form: Json) -> str:
    """JSON in which whatever a terminal would obey is escaped too: C1, DEL, bidirectional and invisible characters."""
    text = json.dumps(form, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)


def json_line(value: object, **extra: object) -> None:
    """One JSON object on one line of stdout."""
    form = to_json(value)
    body = form if isinstance(form, dict) else {"items": form}
    click.echo(json_text({"schema": SCHEMA_VERSION, **body, **{name: to_json(item) for name, item in extra.items()}}))
    sys.stdout.flush()


def size(count: float) -> str:
    """Bytes for people: `1.4 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(count) < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """Seconds for people: `3 s`, `2 min 5 s`, `1 h 4 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(number: int, thing: str) -> str:
    """`1 file`, `3 files`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


LABEL_LENGTH_MAX = 40


class Progress:
    """A progress bar on stderr when that is a terminal, else silence."""

    def __init__(self, bar: "RichProgress | None", task: "TaskID | None") -> None:
        self._bar = bar
        self._task = task

    def update(self, done: int, total: int | None, text: str) -> None:
        """Where it stands; `text` goes to the right of the bar."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, text=printable(text))

    def name(self, label: str) -> None:
        """What stands to the left of the bar from now on."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=printable(label)[:LABEL_LENGTH_MAX])

    def say(self, line: str) -> None:
        """A line above the bar, or on stderr."""
        if self._bar is not None:
            self._bar.console.print(harmless(line), markup=False, highlight=False, soft_wrap=True)
        else:
            note(line)


@contextmanager
def progress(label: str, *, wanted: bool = True) -> Iterator[Progress]:
    """A bar for as long as the context lasts."""
    if not (wanted and sys.stderr.isatty()):
        yield Progress(None, None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield Progress(bar, bar.add_task(printable(label)[:LABEL_LENGTH_MAX], total=None, text=""))
