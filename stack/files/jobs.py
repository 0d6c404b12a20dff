"""What this home fetches and shares, as rows that survive a restart: `<home>/jobs.sqlite`.

The blocks themselves and where they lie are the store's; these rows only say what the user asked for. Losing them loses
no content, so they are written with SQLite's ordinary durability.
"""

import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import anyio.to_thread

from stack.blocks.ending import let_go_with
from stack.blocks.sqlite import Locks, connect
from stack.errors import CorruptStore, NoSpace, Refused, RepoTooNew, StoreError
from stack.files import share_rows
from stack.files.share_rows import Origin, Share
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.values import dataclass

__all__ = ["Job", "JobState", "Jobs", "Origin", "Share"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
BUSY_SECONDS = 10.0
"""Wait for another process that looks into the file (an sqlite3 shell)."""
ENDED_JOBS_MAX = 1000
"""Jobs that are done or failed and still known, so that a tree fetched again is known again; older ones go, so that the file does not
grow for ever."""
OWED_MAX = 1000
"""Ends of jobs that could not be written down yet."""
_SCHEMA = """
CREATE TABLE job (
    id INTEGER PRIMARY KEY AUTOINCREMENT, root BLOB NOT NULL, path TEXT NOT NULL, target TEXT NOT NULL, name TEXT NOT NULL,
    options TEXT NOT NULL, state TEXT NOT NULL, bytes_done INTEGER NOT NULL, bytes_total INTEGER NOT NULL, error TEXT,
    since REAL NOT NULL, UNIQUE (root, path, target));
"""

_PROGRESS = "UPDATE job SET bytes_done = ?, bytes_total = ? WHERE id = ?"

_LATER = ("ended REAL", "received INTEGER NOT NULL DEFAULT 0", "seconds REAL NOT NULL DEFAULT 0")
"""Columns that came later; a program that does not know them is not disturbed by them."""
_ADD_COLUMN = "ALTER TABLE job ADD COLUMN {};"


class JobState(Enum):
    """`INTERRUPTED`: its process ended or it was stopped; the same command resumes it. `PAUSED`: nobody goes on with it unasked."""

    RUNNING = "running"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A fetch that somebody asked for."""

    id: int
    root: Cid
    path: str
    """Below the root, without a slash in front; empty for the root itself."""
    target: Path
    name: str
    options: str
    """Whatever the caller needs to start it again; never interpreted here."""
    state: JobState
    bytes_done: int
    bytes_total: int
    error: str | None
    since: float
    """Unix seconds."""
    ended: float | None
    """When it last stopped, in Unix seconds; None while it runs, or where that was not written down."""
    received: int
    """Bytes that came from peers in its last run."""
    seconds: float
    """That its last run took."""


class Jobs:
    """The rows. `open` makes one; every method may be cancelled and runs in a worker thread. Raises StoreErrors."""

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        self._connection = connection
        self._path = path
        self._lock = threading.Lock()
        self._locks = Locks(f"the list of jobs {path}")
        self.found = 0
        """Shares of which only the store knew when the file was made."""
        self._owed: deque[Callable[[sqlite3.Connection], None]] = deque(maxlen=OWED_MAX)
        """What is to be written before anything else, in this order."""
        self._failing = False

    @classmethod
    async def open(cls, path: Path | None, kept: Sequence[tuple[Cid, str]] = ()) -> "Jobs":
        """Open or make the file; None keeps the rows in memory. Jobs that were running are `INTERRUPTED` now.

        `kept` are the roots that the store keeps as shares, and their names. Where the file is new (the old one was lost) they are
        shares of the home again, of which no more is known (`found`): nobody has ended them.

        Raises RepoTooNew, CorruptStore, Refused.
        """
        jobs = cls(await anyio.to_thread.run_sync(_connect, path), path)
        try:
            jobs.found = await jobs._run(partial(_prepare, kept=kept))
        except BaseException:
            jobs._connection.close()
            raise
        return jobs

    async def aclose(self) -> None:
        """Close the file; jobs that still run are `INTERRUPTED` when it is opened again."""

        def close() -> None:
            with self._lock:
                self._write_owed()
                self._connection.close()

        await let_go_with(close)

    async def __aenter__(self) -> "Jobs":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def start_job(self, root: Cid, path: str, target: Path, *, name: str, options: str = "{}") -> Job:
        """A row for a fetch that starts, or starts again: the same root, path and target keep their id and figures."""

        def start(connection: sqlite3.Connection) -> Job:
            connection.execute(
                "INSERT INTO job (root, path, target, name, options, state, bytes_done, bytes_total, error, since)"
                " VALUES (?, ?, ?, ?, ?, 'running', 0, 0, NULL, ?) ON CONFLICT (root, path, target) DO UPDATE SET"
                " name = excluded.name, options = excluded.options, state = 'running', error = NULL, ended = NULL",
                (bytes(root), _kept(path), _kept(target), name, options, time.time()),
            )
            where = "WHERE root = ? AND path = ? AND target = ?"
            return _jobs(connection, where, (bytes(root), _kept(path), _kept(target)))[0]

        return await self._run(start)

    async def progress(self, job: int, bytes_done: int, bytes_total: int) -> None:
        """How far a job is. Told with each checkpoint, not with each block; where it cannot be written down that is logged, once, and
        the job goes on: the next figures are tried anew."""
        try:
            await self._execute(_PROGRESS, (bytes_done, min(bytes_total, share_rows.INT_MAX), job))
            self._failing = False
        except (StoreError, Refused) as error:
            if not self._failing:
                self._failing = True
                _log.warning("how far a fetch is cannot be written down: %s", error)

    async def end_job(
        self,
        job: int,
        state: JobState,
        error: str | None = None,
        *,
        done: tuple[int, int] | None = None,
        received: int = 0,
        seconds: float = 0.0,
    ) -> None:
        """A job stopped; one that was paused meanwhile stays so, unless it came to its end. `done` are its last figures, as for `progress`.
        Old ended rows go when there are too many. What cannot be written down now is raised, and written as soon as it can be."""

        def end(connection: sqlite3.Connection) -> None:
            if done is not None:
                connection.execute(_PROGRESS, (done[0], min(done[1], share_rows.INT_MAX), job))
            connection.execute(
                "UPDATE job SET state = CASE WHEN state = 'paused' AND ?1 = 'interrupted' THEN state ELSE ?1 END,"
                " error = ?2, ended = ?3, received = ?4, seconds = ?5 WHERE id = ?6",
                (state.value, error, now, received, seconds, job),
            )
            connection.execute(
                "DELETE FROM job WHERE state IN ('done', 'failed') AND id NOT IN"
                " (SELECT id FROM job WHERE state IN ('done', 'failed') ORDER BY id DESC LIMIT ?)",
                (ENDED_JOBS_MAX,),
            )

        now = time.time()
        try:
            await self._run(end)
        except (StoreError, Refused):
            self._owed.append(end)
            raise

    async def move_job(self, job: int, target: Path) -> None:
        """A job turns out to fetch to another place."""
        await self._execute("UPDATE OR REPLACE job SET target = ? WHERE id = ?", (_kept(target), job))

    async def pause_job(self, job: int) -> bool:
        """Nobody goes on with a job until it is started or released; False if it is none, or has ended."""
        return (
            await self._execute(
                "UPDATE job SET state = 'paused', error = NULL, ended = ?"
                " WHERE id = ? AND state IN ('running', 'interrupted')",
                (time.time(), job),
            )
            > 0
        )

    async def release_job(self, job: int, options: str) -> None:
        """A job that does not run is no longer paused; `options` as in `start_job`."""
        await self._execute(
            "UPDATE job SET state = 'interrupted', error = NULL, options = ? WHERE id = ?", (options, job)
        )

    async def remove_job(self, job: int) -> bool:
        """Forget a job; False if there is none of this id."""
        return await self._execute("DELETE FROM job WHERE id = ?", (job,)) > 0

    async def jobs(self) -> list[Job]:
        """All jobs, oldest first."""
        return await self._run(lambda connection: _jobs(connection, "", ()))

    async def add_share(
        self,
        root: Cid,
        name: str,
        paths: Sequence[Path],
        size: int,
        *,
        owner: str = share_rows.HOME,
        origin: Origin = Origin.SHARED,
    ) -> None:
        """Remember a share for an owner; sharing the same root again replaces name and paths and keeps what was counted."""
        places = [str(path) for path in paths]
        await self._run(lambda connection: share_rows.add(connection, root, name, places, size, owner, origin))

    async def remove_share(self, root: Cid) -> bool:
        """Forget a share and its counts; False if it was none."""
        return await self._run(lambda connection: share_rows.remove(connection, root))

    async def disown_share(self, root: Cid, *owners: str) -> bool:
        """These owners no longer need a share; whether nobody does now."""
        return await self._run(lambda connection: share_rows.disown(connection, root, owners))

    async def abandon_share(self, root: Cid) -> None:
        """Nobody needs a share; its row stays until it is removed."""
        await self._run(lambda connection: share_rows.abandon(connection, root))

    async def record_sent(self, counts: Mapping[tuple[Cid, PeerId], int]) -> None:
        """Count block bytes that went to peers, in one transaction; roots that are not shared are passed over."""
        await self._run(lambda connection: share_rows.record_sent(connection, counts))

    async def record_copy(self, root: Cid, peer: PeerId) -> None:
        """A peer has all of a share."""
        await self._run(lambda connection: share_rows.record_copy(connection, root, peer))

    async def share(self, root: Cid) -> Share | None:
        """One share; None when it is none."""
        found = await self._run(lambda connection: share_rows.shares(connection, "WHERE root = ?", (bytes(root),)))
        return found[0] if found else None

    async def shares(self) -> list[Share]:
        """All shares, oldest first."""
        return await self._run(share_rows.shares)

    async def _execute(self, statement: str, values: tuple[object, ...]) -> int:
        return await self._run(lambda connection: connection.execute(statement, values).rowcount)

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def locked() -> T:
            with self._lock:
                self._write_owed()
                return self._in_transaction(work, 0.0 if self._locks.in_vain else BUSY_SECONDS)

        return await anyio.to_thread.run_sync(locked)

    def _in_transaction(self, work: Callable[[sqlite3.Connection], T], wait: float) -> T:
        with _translated(self._path), self._locks, self._connection:
            self._connection.execute(f"PRAGMA busy_timeout = {round(wait * 1000)}")
            return work(self._connection)

    def _write_owed(self) -> None:
        """Without waiting for anybody."""
        with suppress(StoreError, Refused):
            while self._owed:
                self._in_transaction(self._owed[0], 0.0)
                self._owed.popleft()


class _translated:
    """Turns what SQLite raises into our errors."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, sqlite3.OperationalError):
            if "full" in str(error):
                raise NoSpace(f"{self._path} cannot grow: the disk is full") from error
            if "unable to open" in str(error) or "readonly" in str(error):
                raise Refused(f"{self._path} cannot be written: {error}") from error
            raise StoreError(f"{self._path}: {error}") from error
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.ProgrammingError):
            raise CorruptStore(
                f"{self._path} is damaged ({error}). It lists jobs and shares only: move it away;"
                " what is shared is then listed by its name until it is shared again, or ended."
            ) from error


def _connect(path: Path | None) -> sqlite3.Connection:
    with _translated(path):
        return connect(path, timeout=BUSY_SECONDS)


def _prepare(connection: sqlite3.Connection, kept: Sequence[tuple[Cid, str]]) -> int:
    """How many of the `kept` shares became rows."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise RepoTooNew(
            f"the list of jobs has version {version}, this program knows {SCHEMA_VERSION}: a newer one is needed"
        )
    # One sync a transaction in place of three; where the file system cannot have it, SQLite stays with what it has.
    connection.execute("PRAGMA journal_mode = WAL")
    if version == 0:
        columns = " ".join(map(_ADD_COLUMN.format, _LATER))
        connection.executescript(
            f"BEGIN; {_SCHEMA} {share_rows.SCHEMA} {columns} PRAGMA user_version = {SCHEMA_VERSION};"
        )
    share_rows.prepare(connection)
    found = kept if version == 0 else ()
    for root, name in found:  # in the transaction that makes the file: who is cut off finds them again
        share_rows.add(connection, root, name, [], 0, share_rows.HOME, Origin.PART)
    known = [row[1] for row in connection.execute("PRAGMA table_info(job)")]
    for column in _LATER:
        if column.split()[0] not in known:
            connection.execute(_ADD_COLUMN.format(column))
    connection.execute("UPDATE job SET state = 'interrupted' WHERE state = 'running'")
    return len(found)


def _kept(path: str | Path) -> str | bytes:
    """A path as SQLite takes it: one that is not UTF-8, which carries surrogates, as its bytes."""
    data = os.fsencode(path)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _jobs(connection: sqlite3.Connection, where: str, values: tuple[object, ...]) -> list[Job]:
    rows = connection.execute(
        "SELECT id, root, path, target, name, options, state, bytes_done, bytes_total, error, since,"
        f" ended, received, seconds FROM job {where} ORDER BY id",
        values,
    )
    return [
        Job(
            id=row[0],
            root=Cid.decode(row[1]),
            path=os.fsdecode(row[2]),
            target=Path(os.fsdecode(row[3])),
            name=row[4],
            options=row[5],
            state=JobState(row[6]),
            bytes_done=row[7],
            bytes_total=row[8],
            error=row[9],
            since=row[10],
            ended=row[11],
            received=row[12],
            seconds=row[13],
        )
        for row in rows
    ]
