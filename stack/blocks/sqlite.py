"""How an SQLite file of the home is opened: by a version that knows what is asked of it, and readable by its owner alone."""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Literal

from stack.errors import StoreError

VERSION_MIN = (3, 35)
"""`sqlite_schema` is of 3.33; 3.35 (2021) mended transactions that are taken back in WAL mode and is in every system still kept."""


def connect(
    path: Path | None, *, timeout: float, isolation_level: Literal["DEFERRED"] | None = "DEFERRED"
) -> sqlite3.Connection:
    """A connection for several threads; None is a database in memory. `timeout` is in seconds.

    The file is made with mode 0600 whatever the umask is; SQLite gives the log beside it the same mode. Raises StoreError
    when SQLite is too old, sqlite3.Error.
    """
    if sqlite3.sqlite_version_info < VERSION_MIN:
        needed = ".".join(map(str, VERSION_MIN))
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old: {needed} or newer is needed below this Python")
    if path is not None:
        # Only a new file is opened here: closing a descriptor of a database that is in use would drop SQLite's locks on it.
        # Where it cannot be made, SQLite is asked all the same and says so in its own way.
        with suppress(OSError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    return sqlite3.connect(
        ":memory:" if path is None else path,
        timeout=timeout,
        isolation_level=isolation_level,
        check_same_thread=False,
    )
