"""What the leaves of local files were when they were last read: a file that has not been touched since need not be read again.

`<home>/known.sqlite`. It is a memory and no record: a row that is gone, or a file that cannot be opened, costs the time of a reading.
"""

import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from stack.blocks.ending import let_go_with
from stack.blocks.hashed import SETTLED_NS
from stack.blocks.sqlite import connect
from stack.dag.unixfs.chunkers import parse_chunker
from stack.dag.unixfs.options import ImportOptions
from stack.errors import StoreError
from stack.files.cutting import CutLeaf, OpenFile

NAME = "known.sqlite"

FILES_MAX = 2_000_000
"""Files remembered; those remembered longest ago go. A row has some 150 bytes, and 32 more for each leaf."""

ROWS_BATCH = 1000

CACHE_KIB = 32 * 1024
"""Page cache, taken as it is needed: that of 100,000 files has 24 MiB, and with SQLite's 2 a fifth of it is read twice."""

BUSY_SECONDS = 1.0

_SCHEMA = "CREATE TABLE IF NOT EXISTS file (path BLOB UNIQUE NOT NULL, stamp TEXT NOT NULL, digests BLOB NOT NULL)"

_REMEMBER = "INSERT INTO file VALUES (?, ?, ?) ON CONFLICT (path) DO UPDATE SET stamp = excluded.stamp, digests = excluded.digests"
"""A row that is there stays where it is: a new one would write pages of the index too, one for each file."""


class KnownFiles:
    """Commands: `remember`, `close`. Getter: `leaves`. For worker threads, several at once; nothing here raises."""

    def __init__(self, path: Path, options: ImportOptions, *, trust: bool = True) -> None:
        """Only leaves of one size are remembered, hashed as is usual. Without `trust` every file is read again."""
        self._leaf_size = parse_chunker(options.chunker).fixed_size or 0
        plain = options.raw_leaves and options.hash == "sha2-256" and not options.inline
        self._lock = threading.Lock()
        self._waiting: list[tuple[bytes, str, bytes]] = []
        self._database = _open(path) if plain and self._leaf_size else None
        self._trust = trust and self._has_rows()

    def leaves(self, path: Path, status: os.stat_result, file: OpenFile) -> list[CutLeaf] | None:
        """The leaves of a file that looks as it did then; None when they must be read."""
        if not self._trust or (file.options.trickle and not file.options.raw_leaves):
            return None
        with self._lock:
            row = self._row(_key(path, file.options))
        size, step = status.st_size, self._leaf_size
        if row is None or row[0] != self._stamp(status, file) or len(row[1]) != 32 * -(-size // step):
            return None
        return [
            file.known_leaf(number * step, min(step, size - number * step), row[1][32 * number : 32 * number + 32])
            for number in range(-(-size // step))
        ]

    def _has_rows(self) -> bool:
        """Without any nothing need be looked up, which takes a twentieth of a first share of small files."""
        if self._database is None:
            return False
        try:
            return self._database.execute("SELECT 1 FROM file LIMIT 1").fetchone() is not None
        except sqlite3.Error:
            self._let_go()
            return False

    def _row(self, path: bytes) -> tuple[str, bytes] | None:
        if self._database is None:
            return None
        try:
            found: tuple[str, bytes] | None = self._database.execute(
                "SELECT stamp, digests FROM file WHERE path = ?", (path,)
            ).fetchone()
        except sqlite3.Error:
            self._let_go()
            return None
        return found

    def _let_go(self) -> None:
        """Ask and tell it nothing more. After an error too: to wait for a lock that cannot be had costs more than a reading, each time."""
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
        self._database = None

    def remember(self, path: Path, status: os.stat_result, file: OpenFile, digests: bytes) -> None:
        """The SHA-256 of all leaves of a file that looked so when it was read, and looks so still."""
        if self._database is None or time.time_ns() - status.st_ctime_ns <= SETTLED_NS:
            return
        with self._lock:
            self._waiting.append((_key(path, file.options), self._stamp(status, file), digests))
            if len(self._waiting) >= ROWS_BATCH:
                self._write()

    def close(self) -> None:
        """Write down what is to be remembered."""
        with self._lock:
            self._write()
            self._let_go()

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        if self._database is None:
            return
        try:
            with self._database:
                self._database.executemany(_REMEMBER, waiting)
                newest = self._database.execute("SELECT max(rowid) FROM file").fetchone()[0] or 0
                self._database.execute("DELETE FROM file WHERE rowid <= ?", (newest - FILES_MAX,))
        except sqlite3.Error:
            self._let_go()

    def _stamp(self, status: os.stat_result, file: OpenFile) -> str:
        facts: list[object] = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        if not file.options.raw_leaves:  # then they stand in the leaf
            facts += [file.mode, file.mtime]
        return " ".join(map(str, [*facts, self._leaf_size]))


def _key(path: Path, options: ImportOptions) -> bytes:
    """A file may be known in both forms: with its mode and time in its leaf, and plain."""
    return os.fsencode(path) + (b"" if options.raw_leaves else b"\0")


@asynccontextmanager
async def known_files(home: Path | None, options: ImportOptions, *, rehash: bool) -> AsyncIterator[KnownFiles | None]:
    """What a home remembers of local files, for one import; None where there is no home. With `rehash` all is read again."""
    if home is None:
        yield None
        return
    known = await anyio.to_thread.run_sync(partial(KnownFiles, home / NAME, options, trust=not rehash))
    try:
        yield known
    finally:
        await let_go_with(known.close)


def _open(path: Path) -> sqlite3.Connection | None:
    for _ in range(2):
        try:
            database = connect(path, timeout=BUSY_SECONDS)
            try:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = NORMAL")
                database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
                database.execute(_SCHEMA)
            except BaseException:
                database.close()
                raise
            return database
        except sqlite3.OperationalError:
            return None  # the disk's or another program's, and not for us to put right
        except (sqlite3.Error, StoreError):
            with suppress(OSError):
                path.unlink()
    return None
