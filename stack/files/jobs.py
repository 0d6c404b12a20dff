"""What this home fetches and shares, as rows that survive a restart: `<home>/jobs.sqlite`.

The blocks themselves and where they lie are the store's; these rows only say what the user asked for. Losing them loses
no content, so they are written with SQLite's ordinary durability.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import anyio.to_thread

from stack.blocks.sqlite import Locks, connect
from stack.errors import CorruptStore, NoSpace, Refused, RepoTooNew, StoreError
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid

T = TypeVar("T")

SCHEMA_VERSION = 1
BUSY_SECONDS = 10.0
"""Wait for another process that looks into the file (an sqlite3 shell)."""
ENDED_JOBS_MAX = 1000
"""Jobs that are done or failed and still listed; older ones go, so that the file does not grow for ever."""
PEERS_PER_SHARE_MAX = 4096
"""Receivers counted one by one for a share: peer ids cost nothing, so a stranger could make endless ones. The rest is
counted together, under no name."""

_SCHEMA = """
CREATE TABLE job (
    id INTEGER PRIMARY KEY AUTOINCREMENT, root BLOB NOT NULL, path TEXT NOT NULL, target TEXT NOT NULL, name TEXT NOT NULL,
    options TEXT NOT NULL, state TEXT NOT NULL, bytes_done INTEGER NOT NULL, bytes_total INTEGER NOT NULL, error TEXT,
    since REAL NOT NULL, UNIQUE (root, path, target));
CREATE TABLE share (
    root BLOB PRIMARY KEY, name TEXT NOT NULL, paths TEXT NOT NULL, size INTEGER NOT NULL, since REAL NOT NULL);
CREATE TABLE sent (
    root BLOB NOT NULL, peer BLOB NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (root, peer)) WITHOUT ROWID;
"""

_COPIES = (
    "CREATE TABLE IF NOT EXISTS copy (root BLOB NOT NULL, peer BLOB NOT NULL, PRIMARY KEY (root, peer)) WITHOUT ROWID"
)
"""Came later than the others; a program that does not know this table is not disturbed by it."""


class JobState(Enum):
    """`INTERRUPTED`: its process ended or it was stopped; the same command resumes it."""

    RUNNING = "running"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Something that is shared, and to whom it went."""

    root: Cid
    name: str
    paths: tuple[Path, ...]
    size: int
    since: float
    """Unix seconds."""
    sent: tuple[tuple[PeerId, int], ...]
    """Receivers with the bytes each was sent, most first."""
    sent_to_others: int
    """Bytes sent to receivers beyond `PEERS_PER_SHARE_MAX`."""
    complete: frozenset[PeerId]
    """Receivers of whom it is known that they have all of it."""

    @property
    def bytes_sent(self) -> int:
        """Block bytes that went out."""
        return sum(amount for _, amount in self.sent) + self.sent_to_others

    @property
    def copies(self) -> int:
        """Receivers who have all of it."""
        return len(self.complete)


class Jobs:
    """The rows. `open` makes one; every method may be cancelled and runs in a worker thread. Raises StoreErrors."""

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        self._connection = connection
        self._path = path
        self._lock = threading.Lock()
        self._locks = Locks(f"the list of jobs {path}")

    @classmethod
    async def open(cls, path: Path | None) -> "Jobs":
        """Open or make the file; None keeps the rows in memory. Jobs that were running are `INTERRUPTED` now.

        Raises RepoTooNew, CorruptStore, Refused.
        """
        jobs = cls(await anyio.to_thread.run_sync(_connect, path), path)
        try:
            await jobs._run(_prepare)
        except BaseException:
            jobs._connection.close()
            raise
        return jobs

    async def aclose(self) -> None:
        """Close the file; jobs that still run are `INTERRUPTED` when it is opened again."""

        def close() -> None:
            with self._lock:
                self._connection.close()

        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(close)

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
                " name = excluded.name, options = excluded.options, state = 'running', error = NULL",
                (bytes(root), path, _text(target), name, options, time.time()),
            )
            where = "WHERE root = ? AND path = ? AND target = ?"
            return _jobs(connection, where, (bytes(root), path, _text(target)))[0]

        return await self._run(start)

    async def progress(self, job: int, bytes_done: int, bytes_total: int) -> None:
        """How far a job is. Told with each checkpoint, not with each block."""
        await self._execute(
            "UPDATE job SET bytes_done = ?, bytes_total = ? WHERE id = ?", (bytes_done, min(bytes_total, _INT_MAX), job)
        )

    async def end_job(self, job: int, state: JobState, error: str | None = None) -> None:
        """A job stopped. Old ended rows go when there are too many."""

        def end(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE job SET state = ?, error = ? WHERE id = ?", (state.value, error, job))
            connection.execute(
                "DELETE FROM job WHERE state IN ('done', 'failed') AND id NOT IN"
                " (SELECT id FROM job WHERE state IN ('done', 'failed') ORDER BY id DESC LIMIT ?)",
                (ENDED_JOBS_MAX,),
            )

        await self._run(end)

    async def remove_job(self, job: int) -> bool:
        """Forget a job; False if there is none of this id."""
        return await self._execute("DELETE FROM job WHERE id = ?", (job,)) > 0

    async def jobs(self) -> list[Job]:
        """All jobs, oldest first."""
        return await self._run(lambda connection: _jobs(connection, "", ()))

    async def add_share(self, root: Cid, name: str, paths: Sequence[Path], size: int) -> None:
        """Remember a share; sharing the same root again replaces name and paths and keeps what was counted."""
        await self._execute(
            "INSERT INTO share (root, name, paths, size, since) VALUES (?, ?, ?, ?, ?) ON CONFLICT (root) DO UPDATE SET"
            " name = excluded.name, paths = excluded.paths, size = excluded.size",
            (bytes(root), name, json.dumps([_text(path) for path in paths]), size, time.time()),
        )

    async def remove_share(self, root: Cid) -> bool:
        """Forget a share and its counts; False if it was none."""

        def remove(connection: sqlite3.Connection) -> bool:
            connection.execute("DELETE FROM sent WHERE root = ?", (bytes(root),))
            connection.execute("DELETE FROM copy WHERE root = ?", (bytes(root),))
            return connection.execute("DELETE FROM share WHERE root = ?", (bytes(root),)).rowcount > 0

        return await self._run(remove)

    async def record_sent(self, counts: Mapping[tuple[Cid, PeerId], int]) -> None:
        """Count block bytes that went to peers, in one transaction; roots that are not shared are passed over."""

        def record(connection: sqlite3.Connection) -> None:
            known: dict[bytes, set[bytes] | None] = {}
            for (root, peer), amount in counts.items():
                key = bytes(root)
                if key not in known:
                    rows = connection.execute("SELECT peer FROM sent WHERE root = ?", (key,)).fetchall()
                    known[key] = {found for (found,) in rows} if _is_shared(connection, key) else None
                receivers = known[key]
                if receivers is None:
                    continue
                receiver = bytes(peer)
                if receiver not in receivers and len(receivers) >= PEERS_PER_SHARE_MAX:
                    receiver = b""
                receivers.add(receiver)
                connection.execute(
                    "INSERT INTO sent VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET bytes = min(bytes + excluded.bytes, ?)",
                    (key, receiver, amount, _INT_MAX),
                )

        await self._run(record)

    async def record_copy(self, root: Cid, peer: PeerId) -> None:
        """A peer has all of a share; of those beyond `PEERS_PER_SHARE_MAX` it is not kept."""
        key = bytes(root)
        await self._execute(
            "INSERT OR IGNORE INTO copy SELECT root, ? FROM share WHERE root = ?"
            " AND (SELECT count(*) FROM copy WHERE root = ?) < ?",
            (bytes(peer), key, key, PEERS_PER_SHARE_MAX),
        )

    async def share(self, root: Cid) -> Share | None:
        """One share; None when it is none."""
        found = await self._run(lambda connection: _shares(connection, "WHERE root = ?", (bytes(root),)))
        return found[0] if found else None

    async def shares(self) -> list[Share]:
        """All shares, oldest first."""
        return await self._run(lambda connection: _shares(connection, "", ()))

    async def _execute(self, statement: str, values: tuple[object, ...]) -> int:
        return await self._run(lambda connection: connection.execute(statement, values).rowcount)

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def locked() -> T:
            with self._lock, _translated(self._path), self._locks, self._connection:
                busy = 0 if self._locks.in_vain else round(BUSY_SECONDS * 1000)
                self._connection.execute(f"PRAGMA busy_timeout = {busy}")
                return work(self._connection)

        return await anyio.to_thread.run_sync(locked)


_INT_MAX = 2**63 - 1  # SQLite's integers; a foreign DAG may claim more


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
                f"{self._path} is damaged ({error}). It lists jobs and shares only: move it away and share again."
            ) from error


def _connect(path: Path | None) -> sqlite3.Connection:
    with _translated(path):
        return connect(path, timeout=BUSY_SECONDS)


def _prepare(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise RepoTooNew(
            f"the list of jobs has version {version}, this program knows {SCHEMA_VERSION}: a newer one is needed"
        )
    # One sync a transaction in place of three; where the file system cannot have it, SQLite stays with what it has.
    connection.execute("PRAGMA journal_mode = WAL")
    if version == 0:
        connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    connection.execute(_COPIES)
    connection.execute("UPDATE job SET state = 'interrupted' WHERE state = 'running'")


def _text(path: Path) -> str:
    # names that are not UTF-8 carry surrogates, which SQLite refuses
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _jobs(connection: sqlite3.Connection, where: str, values: tuple[object, ...]) -> list[Job]:
    rows = connection.execute(
        "SELECT id, root, path, target, name, options, state, bytes_done, bytes_total, error, since"
        f" FROM job {where} ORDER BY id",
        values,
    )
    return [
        Job(
            id=row[0],
            root=Cid.decode(row[1]),
            path=row[2],
            target=Path(row[3]),
            name=row[4],
            options=row[5],
            state=JobState(row[6]),
            bytes_done=row[7],
            bytes_total=row[8],
            error=row[9],
            since=row[10],
        )
        for row in rows
    ]


def _is_shared(connection: sqlite3.Connection, root: bytes) -> bool:
    return connection.execute("SELECT 1 FROM share WHERE root = ?", (root,)).fetchone() is not None


def _shares(connection: sqlite3.Connection, where: str, values: tuple[object, ...]) -> list[Share]:
    found = []
    statement = f"SELECT root, name, paths, size, since FROM share {where} ORDER BY since, root"
    for root, name, paths, size, since in connection.execute(statement, values).fetchall():
        copies = connection.execute("SELECT peer FROM copy WHERE root = ?", (root,))
        sent = connection.execute("SELECT peer, bytes FROM sent WHERE root = ? ORDER BY bytes DESC", (root,)).fetchall()
        found.append(
            Share(
                root=Cid.decode(root),
                name=name,
                paths=tuple(Path(path) for path in json.loads(paths)),
                size=size,
                since=since,
                sent=tuple((PeerId.decode(peer), amount) for peer, amount in sent if peer),
                sent_to_others=sum(amount for peer, amount in sent if not peer),
                complete=frozenset(PeerId.decode(peer) for (peer,) in copies),
            )
        )
    return found
