"""A terminal of our own: runs a command in a pty and knows what a person would see on the screen."""

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

COLUMNS, ROWS = 100, 40
_PIECES = re.compile(r"\x1b\[\??([0-9;]*)([A-Za-z])|\x1b[()][A-Z0-9]|(\r|\n|\x08)|([^\x1b\r\n\x08]+)")


class Screen:
    """Text with a cursor; obeys as much of a terminal's language as progress bars speak. Lines wrap as a terminal's do."""

    def __init__(self, columns: int = COLUMNS) -> None:
        self._columns = columns
        self._lines: list[str] = [""]
        self._row = self._column = 0

    def feed(self, text: str) -> None:
        """Show what a program wrote."""
        for match in _PIECES.finditer(text):
            numbers, command, control, plain = match.groups()
            if plain:
                for each in plain:
                    self._write(each)
            elif control == "\n":
                self._feed_line()
            elif control == "\r":
                self._column = 0
            elif control == "\x08":
                self._column = max(0, self._column - 1)
            elif command == "A":
                self._row = max(0, self._row - int(numbers or 1))
            elif command == "J":
                self._lines[self._row] = self._lines[self._row][: self._column]
                del self._lines[self._row + 1 :]
            elif command == "K":
                line = self._lines[self._row]
                self._lines[self._row] = "" if numbers == "2" else line[: self._column]

    def _feed_line(self) -> None:
        self._row += 1
        if self._row == len(self._lines):
            self._lines.append("")

    def _write(self, text: str) -> None:
        if self._column >= self._columns:
            self._feed_line()
            self._column = 0
        line = self._lines[self._row].ljust(self._column)
        self._lines[self._row] = line[: self._column] + text + line[self._column + len(text) :]
        self._column += len(text)

    @property
    def text(self) -> str:
        """What is seen, without blanks at the ends."""
        return "\n".join(line.rstrip() for line in self._lines).rstrip()


class Terminal:
    """A command on a screen. A context: leaving it ends the command if it still runs."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        columns: int = COLUMNS,
        rows: int = ROWS,
        shown: Callable[[str], str] = str,
    ) -> None:
        """`shown` is applied to what the command writes, as to folders of a test that should look like a person's."""
        self._shown = shown
        self.screen = Screen(columns)
        self._rows = rows
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        colourless = {"TERM": "xterm", "NO_COLOR": "1", "LANG": "C.UTF-8"}
        self._process = subprocess.Popen(
            command, cwd=cwd, env={**environment, **colourless}, stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._master)

    @property
    def window(self) -> str:
        """What a person sees now: what has not scrolled away."""
        return "\n".join(self.screen.text.splitlines()[-self._rows :])

    def send(self, number: signal.Signals) -> None:
        """Send a signal; Ctrl-C shows as a terminal shows it."""
        if number is signal.SIGINT:
            self.screen.feed("^C")
        self._process.send_signal(number)

    def see(self, pattern: str, timeout: float = 30.0) -> str:
        """Wait until the screen shows something; what it shows then. Raises AssertionError."""
        deadline = time.monotonic() + timeout
        while not re.search(pattern, self.screen.text):
            if not self._read(deadline):
                raise AssertionError(f"{pattern!r} was not seen:\n{self.screen.text}")
        return self.screen.text

    def end(self, timeout: float = 60.0) -> tuple[int, str]:
        """Wait until the command ends: its exit code and the screen it leaves."""
        deadline = time.monotonic() + timeout
        while self._read(deadline):
            pass
        return self._process.wait(max(1.0, deadline - time.monotonic())), self.screen.text

    def _read(self, deadline: float) -> bool:
        """Take what the command writes next; False when it ends or the time is over."""
        if not select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux: the other side of the pty is closed
            return False
        text = self._rest + self._decoder.decode(data)
        self._rest = ""
        cut = text.rfind("\x1b")
        if cut >= 0 and not _PIECES.match(text, cut):
            text, self._rest = text[:cut], text[cut:]  # the command's end comes with the next bytes
        self.screen.feed(self._shown(text))
        return bool(data)
