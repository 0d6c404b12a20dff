"""Where what is logged goes: to stderr as far as that is asked for, and of a daemon into a file of its home."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

from stack.cli.environment import asked_level
from stack.cli.output import harmless
from stack.errors import Refused

LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"

LOG_BYTES, LOG_FILES = 1 << 20, 3
"""Of the file that is written, and how many older ones are kept: `daemon.log.1` is the last of them."""


class Harmless(logging.Formatter):
    """What is logged may have a stranger's words in it."""

    def format(self, record: logging.LogRecord) -> str:
        """Without what a terminal would obey. The lines are those of a traceback, if there is one."""
        return "\n".join(map(harmless, super().format(record).split("\n")))

    def formatMessage(self, record: logging.LogRecord) -> str:
        """One line, whatever ends of lines are in it: what comes after one would be taken for a message of its own."""
        return harmless(super().formatMessage(record))


class _PrivateFile(RotatingFileHandler):
    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding="utf-8", errors="backslashreplace", opener=_private)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)  # a FIFO may have no reader


def log_to_stderr() -> None:
    """What `STACK_LOG` asks for; without it warnings, where nobody has set up anything else. Raises ConfigError."""
    logging.raiseExceptions = False  # a log on a full disk is nothing to show a traceback for
    level = asked_level()
    if level is not None:
        handler = logging.StreamHandler()
        handler.setFormatter(Harmless(LINE))
        logging.basicConfig(level=level, handlers=[handler], force=True)
        logging.getLogger("asyncio").setLevel(logging.WARNING)
    elif logging.lastResort is not None:
        logging.lastResort.setFormatter(Harmless())


def log_file(home: Path) -> Path:
    """The log of a home's daemon."""
    return home / "daemon.log"


@contextmanager
def logged_to(file: Path) -> Iterator[None]:
    """What `STACK_LOG` asks for, else all from INFO on, also goes into a file that never gets large. Raises Refused."""
    try:
        handler = _PrivateFile(file, maxBytes=LOG_BYTES, backupCount=LOG_FILES)
    except OSError as error:
        raise Refused(f"{file} cannot be written: {error.strerror}") from error
    handler.setFormatter(Harmless(LINE))
    root = logging.getLogger()
    level, asyncio = root.level, logging.getLogger("asyncio")
    if asked_level() is None:
        root.setLevel(logging.INFO)
        asyncio.setLevel(logging.WARNING)
    # Python shows on stderr what nobody handles: now somebody does.
    stderr = logging.lastResort if not root.handlers else None
    for each in filter(None, (handler, stderr)):
        root.addHandler(each)
    try:
        yield
    finally:
        for each in filter(None, (handler, stderr)):
            root.removeHandler(each)
        root.setLevel(level)
        with suppress(OSError):
            handler.close()
