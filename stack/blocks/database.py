"""The SQLite file of a store: its tables, its connections, its errors. Everything here is called from worker threads.

One connection writes, behind a lock; readers take one of a few others and never wait for the writer (write-ahead log).
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from stack.blocks.sqlite import Locks, connect, why
from stack.errors import CorruptStore, NoSpace, RepoTooNew, StoreError

SCHEMA_VERSION = 2
"""2: realms. A program that does not know them would give everything to everybody."""

IDLE_READERS_MAX = 8
"""Reader connections kept open: as many as worker threads of a store. The one used last is taken first, so mostly one or two work."""

READER_CACHE_KIB = 8 * 1024
"""Page cache of each reader, taken as it is needed: who asks for 100,000 blocks asks all over the index."""

WRITER_CACHE_KIB = 64 * 1024
"""Page cache of the writer, taken as it is needed: leaves are recorded in the order of their hashes' chance, and with SQLite's 2 MiB
a tree of 30,000 files has 30,000 reads more, of 100,000 files 3 GB of them. The index of 100,000 files has 45 MiB."""

CHECKPOINT_PAGES = 16_384
"""So many pages, 64 MiB, wait in the write-ahead log before they are copied into the database, the newest of each alone. With SQLite's
1,000 nearly every transaction of a large tree would be copied by itself, with the same pages again and again; with 4,096 a tree of
100,000 files that is shared again, a hundredth of it changed, reads 243 MB, so 202."""

LOG_BYTES_MAX = 4 * 1024 * 1024
"""The write-ahead log is cut back to this when it has been copied into the database: it counts against the 1 % that the
index of a shared file may take."""

BUSY_MS = 5_000
"""Wait for another process that looks into the file (an sqlite3 shell); a second store is kept out by a lock of its own."""

REBUILD_HINT = (
    "The blocks themselves are in the packs beside it: `stack repo rebuild` makes a new index from them;"
    " files shared in place are then to be shared again."
)

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE segment (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    path BLOB NOT NULL UNIQUE,
    target BLOB,
    device INTEGER,
    inode INTEGER,
    size INTEGER,
    mtime_ns INTEGER,
    state TEXT NOT NULL
);
CREATE INDEX segment_by_kind ON segment (kind, state);
CREATE TABLE frame (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    prefix BLOB NOT NULL,
    suffix BLOB NOT NULL,
    UNIQUE (prefix, suffix)
);
CREATE TABLE location (
    multihash BLOB NOT NULL,
    segment INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    length INTEGER NOT NULL,
    frame INTEGER NOT NULL,
    PRIMARY KEY (multihash, segment, offset)
) WITHOUT ROWID;
CREATE INDEX location_by_segment ON location (segment, offset, length);
CREATE TABLE pin (
    cid BLOB NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (cid, kind)
) WITHOUT ROWID;
"""

_REALMS = """
CREATE TABLE realm (id INTEGER PRIMARY KEY AUTOINCREMENT, root BLOB, secret BLOB NOT NULL, state TEXT NOT NULL);
CREATE TABLE block_realm (
    multihash BLOB NOT NULL,
    realm INTEGER NOT NULL,
    PRIMARY KEY (multihash, realm)
) WITHOUT ROWID;
"""
# AUTOINCREMENT: an id is never used again, so what a reader remembers cannot come to mean another segment or frame.


class Database:
    """Connections to one index file. `reading` and `writing` are contexts for worker threads; `close` ends them all."""

    def __init__(self, path: Path) -> None:
        """Open, or make, the file. Raises CorruptStore, RepoTooNew, NoSpace, StoreError."""
        self._path = path
        self._write_lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._locks = Locks(f"the block index {path}")
        self._closed = False
        self._numbers = count(1)
        self.changes = 0
        """Another number after each transaction that may have changed something."""
        with self._translated():
            self._writer = self._connect(BUSY_MS)
            try:
                self._prepare()
                self._writer.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
            except BaseException:
                self._writer.close()
                raise

    def __repr__(self) -> str:
        return f"<Database {self._path}>"

    def _connect(self, busy_ms: int) -> sqlite3.Connection:
        connection = connect(self._path, timeout=busy_ms / 1000, isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
        return connection

    def _prepare(self) -> None:
        connection = self._writer
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES_MAX}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute("BEGIN IMMEDIATE")
        try:
            if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchone():
                for statement in (_SCHEMA + _REALMS).split(";\n"):
                    connection.execute(statement)
                connection.execute("INSERT INTO meta VALUES ('schema version', ?)", (SCHEMA_VERSION,))
            row = connection.execute("SELECT value FROM meta WHERE key = 'schema version'").fetchone()
            if row == (1,):
                for statement in _REALMS.split(";\n"):
                    connection.execute(statement)
                connection.execute("UPDATE meta SET value = 2 WHERE key = 'schema version'")
                row = (2,)
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise
        version = row[0] if row else None
        if not isinstance(version, int) or version < 1:
            raise CorruptStore(f"The block index {self._path} does not say its version. {REBUILD_HINT}")
        if version > SCHEMA_VERSION:
            raise RepoTooNew(
                f"the block index {self._path} has version {version}, this program knows versions up to {SCHEMA_VERSION};"
                " use a newer release"
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            with self._locks:
                yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0)
            if code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise CorruptStore(f"The block index {self._path} is damaged ({error}). {REBUILD_HINT}") from error
            # The shared memory beside the log is stretched first, and says so in a code of its own when it cannot.
            if code & 0xFF == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE:
                raise NoSpace(f"the block index {self._path} could not grow: the disk is full") from error
            raise StoreError(f"the block index {self._path} cannot be used: {why(error, self._path)}") from error

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees everything committed so far. Raises CorruptStore, StoreError.

        One that waits for no lock while locks cannot be had: what a command does on its way out would wait for each of them.
        """
        if self._closed:
            raise StoreError("the block store is closed")
        with self._translated():
            hurries = self._locks.in_vain
            connection = self._connect(0) if hurries else self._reader()
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            if hurries or self._closed or len(self._idle) >= IDLE_READERS_MAX:
                connection.close()
            else:
                self._idle.append(connection)

    def _reader(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect(BUSY_MS)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, on disk when the context ends; an exception takes all of it back. Raises NoSpace, CorruptStore."""
        with self._write_lock, self._translated():
            if self._closed:
                raise StoreError("the block store is closed")
            self._writer.execute(f"PRAGMA busy_timeout = {0 if self._locks.in_vain else BUSY_MS}")
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                _roll_back(self._writer)
                raise
            finally:
                self.changes = next(self._numbers)

    def quick_check(self) -> list[str]:
        """What SQLite finds wrong with the structure of the file, at most 100 sentences."""
        with self.reading() as connection:
            rows = [str(row[0]) for row in connection.execute("PRAGMA quick_check(100)")]
        return [] if rows == ["ok"] else rows

    def checkpoint(self) -> None:
        """Copy the log into the file, all of it, durably. Raises NoSpace, StoreError, also when somebody who reads is in the way."""
        with self._write_lock, self._translated():
            (busy, _, _) = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreError(f"the block index {self._path} is being read by another program")

    def size(self) -> int:
        """Bytes of the file on disk, its log included."""
        beside = (self._path, self._path.with_name(self._path.name + "-wal"))
        return sum(path.stat().st_size for path in beside if path.exists())

    def close(self) -> None:
        """Copy the log into the file and close every connection that is not in use; those in use follow when given back."""
        with self._write_lock:
            if self._closed:
                return
            self._closed = True
            while self._idle:
                self._idle.pop().close()
            self._writer.close()


def _roll_back(connection: sqlite3.Connection) -> None:
    # SQLite has taken some transactions back by itself (a full disk); asking again would be an error of its own.
    if connection.in_transaction:
        connection.execute("ROLLBACK")
