"""Locks that cannot be had, for good: each use of a database ends with an error in bounded time."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stack.blocks import database, sqlite
from stack.blocks.database import Database
from stack.blocks.sqlite import Locks
from stack.errors import StoreError
from stack.files import jobs
from stack.files.jobs import Jobs

CANNOT = "cannot be locked: another program keeps it, or its file system gives no locks"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program writes and does not end."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.close()


class Clock:
    """Stands in for `time` of a module; a test moves it, so that what comes next comes soon after."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time stands still."""
    clock = Clock()
    monkeypatch.setattr(sqlite, "time", clock)
    return clock


def test_who_comes_after_a_lock_that_could_not_be_had_does_not_wait_for_it_too(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_MS", 20)
    index = Database(tmp_path / "index")
    with locked(tmp_path / "index"):
        with pytest.raises(StoreError, match=CANNOT), index.writing():
            pass
        monkeypatch.setattr(database, "BUSY_MS", 600_000)
        for _ in range(20):
            with pytest.raises(StoreError, match=CANNOT), index.writing():
                pass
    with index.writing() as connection:
        connection.execute("INSERT INTO meta VALUES ('written', 1)")
    with index.reading() as connection:
        assert connection.execute("SELECT value FROM meta WHERE key = 'written'").fetchone() == (1,)
    index.close()


def test_who_reads_soon_after_a_lock_that_could_not_be_had_does_not_wait_for_one(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without locks, from one moment on, held a share for half a minute after Ctrl-C."""
    monkeypatch.setattr(database, "BUSY_MS", 20)
    index = Database(tmp_path / "index")

    def waits() -> int:
        with index.reading() as connection:
            return int(connection.execute("PRAGMA busy_timeout").fetchone()[0])

    assert waits() == 20
    with locked(tmp_path / "index"), pytest.raises(StoreError, match=CANNOT), index.writing():
        pass
    assert [waits(), waits()] == [0, 0]
    clock.now += sqlite.AGAIN_SECONDS
    assert waits() == 20
    index.close()


@pytest.mark.anyio
async def test_the_list_of_jobs_does_not_wait_twice_either(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "BUSY_SECONDS", 0.02)
    rows = await Jobs.open(tmp_path / "jobs")
    with locked(tmp_path / "jobs"):
        for _ in range(3):
            with pytest.raises(StoreError, match=CANNOT):
                await rows.remove_job(1)
            monkeypatch.setattr(jobs, "BUSY_SECONDS", 600)
    await rows.progress(1, 1, 1)
    await rows.aclose()


def failing(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("as it may be")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize("code", [sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_IOERR_LOCK])
def test_a_file_system_without_locks_is_not_asked_again_at_once(code: int, clock: Clock) -> None:
    locks = Locks("it")
    with pytest.raises(StoreError, match=CANNOT), locks:
        raise failing(code)
    with pytest.raises(StoreError, match=CANNOT), locks:
        raise AssertionError("it was asked")
    clock.now += sqlite.AGAIN_SECONDS
    with locks:
        assert not locks.in_vain


def test_other_errors_of_a_database_say_nothing_about_its_locks() -> None:
    locks = Locks("it")
    with pytest.raises(sqlite3.OperationalError), locks:
        raise failing(sqlite3.SQLITE_IOERR_READ)
    with locks:
        pass
