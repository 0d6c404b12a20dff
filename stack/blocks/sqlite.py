"""How an SQLite file of the home is opened: by a version that knows what is asked of it, and readable by its owner alone."""

import errno
import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

from stack.errors import StoreError

VERSION_MIN = (3, 35)
"""`sqlite_schema` is of 3.33; 3.35 (2021) mended transactions that are taken back in WAL mode and is in every system still kept."""

NO_LOCK = frozenset({sqlite3.SQLITE_IOERR_LOCK, sqlite3.SQLITE_IOERR_RDLOCK, sqlite3.SQLITE_IOERR_SHMLOCK})
"""What SQLite says of a lock that the file system refuses; or that it had to wait for one for longer than it may
(SQLITE_BUSY), or for one that nobody keeps for long (SQLITE_PROTOCOL, after 10 s)."""

AGAIN_SECONDS = 5.0
"""Who comes this soon after somebody who waited for a lock in vain does not wait too: a command that ends by such an error has
a dozen things to write down on its way out."""


class Locks:
    """Around each use of a database by any thread: turns what SQLite says of its locks into StoreError.

    Getter: `in_vain`. After SQLITE_PROTOCOL, where waiting is not ours to shorten, the error comes at once for a while.
    """

    def __init__(self, name: str) -> None:
        """`name` of the database, for users."""
        self._name = name
        self._until = 0.0
        self._refused_until = 0.0

    @property
    def in_vain(self) -> bool:
        """Somebody has just waited in vain: a lock that cannot be had now is not to be waited for."""
        return time.monotonic() < self._until

    def __enter__(self) -> None:
        if time.monotonic() < self._refused_until:
            raise self._error()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, sqlite3.Error):
            code = getattr(error, "sqlite_errorcode", 0)
            if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL) or code in NO_LOCK:
                self._until = time.monotonic() + AGAIN_SECONDS
                if code & 0xFF != sqlite3.SQLITE_BUSY:
                    self._refused_until = self._until
                raise self._error() from error

    def _error(self) -> StoreError:
        return StoreError(f"{self._name} cannot be locked: another program keeps it, or its file system gives no locks")


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


def why(error: sqlite3.Error, path: Path) -> str:
    """What SQLite says of a database, or the system where SQLite says only that it cannot be opened.

    The file itself is not opened: closing it would drop SQLite's locks on it.
    """
    if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_CANTOPEN:
        return str(error)
    try:
        os.close(os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC))
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            return os.strerror(errno.EACCES)
    except OSError as reason:
        return reason.strerror or str(reason)
    return str(error)
