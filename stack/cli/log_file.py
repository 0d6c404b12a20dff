"""The log of a daemon, a file of its home."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

from stack.cli.environment import asked_level
from stack.cli.logs import LINE, Harmless
from stack.errors import Refused

LOG_BYTES, LOG_FILES = 1 << 20, 3
"""Of the file that is written, and how many older ones are kept: `daemon.log.1` is the last of them."""


class _PrivateFile(RotatingFileHandler):
    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding="utf-8", errors="backslashreplace", opener=_private)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)  # a FIFO may have no reader


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
