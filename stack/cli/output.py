"""What commands print: data on stdout, everything else on stderr; JSON with a versioned schema; progress on a terminal.

Names, agents, addresses, topics and errors are whatever a stranger wrote. So every line goes out through here, without anything that a
terminal obeys; only `payload` passes bytes on as they are, because they are what the user asked for.
"""

import errno
import json
import os
import stat
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from stack.cli import is_utf_8
from stack.cli.layout import Figures, wrapped
from stack.cli.layout import size as size
from stack.dag.unixfs.names import is_visible, printable
from stack.node.schema import SCHEMA_VERSION, Json, to_json

if TYPE_CHECKING:
    from stack.cli.answers import Error
    from stack.cli.live import Live


_live: "Live | None" = None
"""What is at the bottom of the terminal now: lines go above it."""


class OutputLost(OSError):
    """Stdout takes no more: it is closed, or lies on a full disk. Where its reader has gone that is a BrokenPipeError, as everywhere."""

    def __str__(self) -> str:
        return f"output was lost: {'stdout is closed' if self.errno == errno.EBADF else self.strerror}"


@contextmanager
def _going_out() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(error.errno, error.strerror) from error


def data(line: str) -> None:
    """One line of data on stdout, at once, so that a pipe's reader sees it. Without control characters, as all lines. Raises OutputLost,
    as do all that write there."""
    if _live is not None:
        _live.pause()
    lines(harmless(line))


def lines(text: str) -> None:
    """Lines of our own on stdout, as they are."""
    with _going_out():
        click.echo(text)
        sys.stdout.flush()


async def payload(pieces: AsyncIterator[bytes]) -> None:
    """All bytes of a block, a file or an archive on stdout, as they are and at once. While the reader of a pipe or a terminal takes its
    time, everything else goes on; a pipe ends with them, and not with the process, which may wait for its reader. Raises OutputLost."""
    from anyio import to_thread  # here: what only tells how it is called does without

    fd = _waiting_fd()
    async for piece in pieces:
        with _going_out():
            if fd is not None:
                await to_thread.run_sync(_write_all, fd, piece, abandon_on_cancel=True)
            else:
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
    if fd is not None and not os.isatty(fd):
        with suppress(OSError):  # else it ends with the process
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, fd)
            os.close(nothing)


def _waiting_fd() -> int | None:
    """Of stdout, where its reader may let us wait."""
    try:
        fd = sys.stdout.fileno()
        mode = os.fstat(fd).st_mode
    except (OSError, ValueError):
        return None  # closed, which writing says; or no file of the system
    return fd if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd) else None


def _write_all(fd: int, data: bytes) -> None:
    """All of it, however long that takes. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def note(line: str) -> None:
    """A sentence for the person on stderr, without control characters; a terminal breaks it between words."""
    text = harmless(line)
    if sys.stderr.isatty():
        from stack.cli.live import columns_of

        text = "\n".join(wrapped(text, columns_of(sys.stderr.fileno())))
    _above(text)


def command(line: str) -> None:
    """A line to be copied, on stderr: as it is, because a line's end in the middle of it would end it where it is pasted."""
    _above(harmless(line))


def _above(text: str) -> None:
    if _live is not None:
        _live.above(text)
        return
    with suppress(OSError):  # a log on a full disk, a terminal that has gone: what is done goes on without it
        click.echo(text, err=True)


def harmless(line: str) -> str:
    """A line without what a terminal would obey. Names in it may have been made `printable` already: backslashes stay."""
    return line if is_visible(line) else "\\".join(map(printable, line.split("\\")))


def json_text(form: Json) -> str:
    """JSON in which whatever a terminal would obey is escaped too: C1, DEL, bidirectional and invisible characters; and all that is not
    ASCII where stdout is not UTF-8."""
    text = json.dumps(form, ensure_ascii=not is_utf_8(sys.stdout))
    if is_visible(text):
        return text
    return "".join(each if is_visible(each) else json.dumps(each)[1:-1] for each in text)


def json_line(value: object, error: "Error | None" = None) -> None:
    """One JSON object on one line of stdout: the fields of an answer, or many of them as its `items`; and why that is not what was
    hoped for."""
    form = to_json(value)
    body: dict[str, Json] = form if isinstance(form, dict) else {"items": form}
    _json_line(body if error is None else {**body, "error": to_json(error)})


def event_line(event: object) -> None:
    """The same of one event, with its name."""
    form = to_json(event)
    assert isinstance(form, dict)
    _json_line({"event": type(event).__name__, **form})


def error_line(error: "Error") -> None:
    """Why a command failed, for programs."""
    _json_line({"error": to_json(error)})


def _json_line(body: dict[str, Json]) -> None:
    lines(json_text({"schema": SCHEMA_VERSION, **body}))


def duration(seconds: float) -> str:
    """Seconds for people: `3 s`, `2 min 5 s`, `1 h 4 min`; none where a clock was set back meanwhile."""
    seconds = max(seconds, 0.0)
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def short_peer(peer: object) -> str:
    """A peer id that fits into a line: `12D3KooW…FJwq`."""
    text = str(peer)
    return text if len(text) <= 16 else f"{text[:8]}…{text[-4:]}"


def count(number: int, thing: str) -> str:
    """`1 file`, `3 files`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


class Progress:
    """How far something is, on stderr when that is a terminal, else silence."""

    def __init__(self, live: "Live | None" = None) -> None:
        self._live = live

    def update(
        self, done: int, total: int | None, text: str = "", *, files: int | None = None, moved: int | None = None
    ) -> None:
        """Where it stands; `text` goes to the right of the figures. The rate is of `moved`, or else of `done`."""
        if self._live is not None:
            label = self._live.figures.label
            self._live.show(
                Figures(label=label, done=done, total=total, files=files, moved=moved, text=printable(text))
            )

    def name(self, label: str) -> None:
        """What stands to the left from now on."""
        if self._live is not None:
            self._live.show(replace(self._live.figures, label=printable(label)))

    def sent(self, done: int, text: str, rows: Sequence[str]) -> None:
        """So much has gone out; `rows` say to whom."""
        if self._live is not None:
            label, shown = self._live.figures.label, tuple(map(printable, rows))
            self._live.show(Figures(label=label, verb="sent", done=done, text=printable(text), rows=shown))

    def wait(self, text: str) -> None:
        """Nothing moves; `text` says what is waited for. With figures before, they stay."""
        if self._live is not None:
            figures = self._live.figures
            self._live.show(replace(figures, is_counted=figures.done > 0, is_moving=False, text=printable(text)))

    def say(self, line: str) -> None:
        """A line above, or on stderr."""
        note(line)


def draws() -> bool:
    """Whether stderr is a terminal that knows more than lines."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def progress(label: str, *, wanted: bool = True) -> Iterator[Progress]:
    """Figures at the bottom of the terminal for as long as the context lasts."""
    global _live
    if not (wanted and draws()):
        yield Progress()
        return
    from stack.cli.live import Live

    with Live(Figures(label=printable(label), is_counted=False)) as live:
        _live = live
        try:
            yield Progress(live)
        finally:
            _live = None
