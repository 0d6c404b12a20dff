"""A new index, made from the packs and from what can be read of the old one. Called from worker threads, by who has the store's lock.

It is made whole under a name that nobody opens, and only then takes the place of the old one: who is cut off before that has the old
index as it was, who is cut off after it the new one.
"""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from stack.blocks import disk
from stack.blocks.database import Database
from stack.blocks.index import Index
from stack.blocks.interfaces import PinKind
from stack.blocks.packs import Packs
from stack.blocks.realms import BlockRow, RealmRow
from stack.blocks.recovery import recover
from stack.blocks.reserve import Reserve
from stack.errors import CorruptStore, StoreError
from stack.trace import Trace

INDEX_NAME = "index.sqlite"
DAMAGED_NAME = "index.sqlite.damaged"
"""With a number behind it, from 2 on, for those after the first."""
_BEGUN_NAME = "index.sqlite.new"
_WHOLE_NAME = "index.sqlite.rebuilt"

_FILES = ("-wal", "-shm", "")
"""What SQLite keeps beside a database, and the database. A log must not be found beside another than its own."""

Pin = tuple[bytes, PinKind, str]


def settle(directory: Path) -> None:
    """Put the new index in its place where a rebuild was cut off when it was whole; take away one that was not. Raises OSError."""
    _remove_begun(directory)
    if disk.status_at(directory / _WHOLE_NAME) is not None:
        aside = _aside(directory)
        for suffix in _FILES:
            with suppress(FileNotFoundError):
                os.rename(directory / (INDEX_NAME + suffix), directory / (aside + suffix))
        disk.sync_directory(directory)
        os.rename(directory / _WHOLE_NAME, directory / INDEX_NAME)
        disk.sync_directory(directory)


def rebuild(directory: Path, packs: Path, tell: Trace) -> None:
    """Make the index anew, with the pins that can still be read; the old one is kept as `DAMAGED_NAME`. Where it cannot be read for whom
    the blocks were, they are for nobody until they are added or shared again.

    Raises OSError, NoSpace, and StoreError also when the old index cannot be looked into now, be it damaged or not.
    """
    settle(directory)
    Reserve(directory).give_up()
    pins, realms = _salvage(directory / INDEX_NAME)
    begun = directory / _BEGUN_NAME
    try:
        database = Database(begun)
        try:
            index = Index(database)
            recover(index, Packs(index, packs, None), tell)
            with database.writing() as connection:
                for cid, kind, name in pins:
                    index.add_pin(connection, cid, kind, name)
            index.realms.restore(realms)
            database.checkpoint()
        finally:
            database.close()
        _sync(begun)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            _remove_begun(directory)
        raise
    os.rename(begun, directory / _WHOLE_NAME)
    disk.sync_directory(directory)
    settle(directory)


def _remove_begun(directory: Path) -> None:
    for suffix in _FILES:
        (directory / (_BEGUN_NAME + suffix)).unlink(missing_ok=True)


def _aside(directory: Path) -> str:
    """A name under which no index lies; of one that was put there in part only, its own."""
    number, name = 1, DAMAGED_NAME
    while disk.status_at(directory / name) is not None or any(
        disk.status_at(directory / (INDEX_NAME + suffix)) is not None
        and disk.status_at(directory / (name + suffix)) is not None
        for suffix in _FILES
    ):
        number += 1
        name = f"{DAMAGED_NAME}.{number}"
    return name


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        disk.sync_file(fd)
    finally:
        disk.let_go(fd)


def _salvage(path: Path) -> tuple[list[Pin], tuple[list[RealmRow], list[BlockRow]] | None]:
    """Pins and realms of a damaged index; None for realms that cannot be read. Raises OSError, and StoreError for what says nothing
    about the index: it is locked, of a newer version, the disk is full or fails."""
    if disk.status_at(path) is None:
        return [], ([], [])
    try:
        database = Database(path)
    except StoreError as error:
        _refuse_unless_damaged(error)
        return [], None
    try:
        return _pins(database), _realms(database)
    finally:
        database.close()


def _pins(database: Database) -> list[Pin]:
    try:
        with database.reading() as connection:
            return Index(database).pins(connection)
    except (StoreError, ValueError) as error:
        _refuse_unless_damaged(error)
        return []


def _realms(database: Database) -> tuple[list[RealmRow], list[BlockRow]] | None:
    try:
        with database.reading() as connection:
            return Index(database).realms.rows(connection)
    except (StoreError, ValueError) as error:
        _refuse_unless_damaged(error)
        return None


def _refuse_unless_damaged(error: Exception) -> None:
    cause = error.__cause__
    lacks_tables = isinstance(cause, sqlite3.Error) and cause.sqlite_errorcode & 0xFF == sqlite3.SQLITE_ERROR
    if isinstance(error, StoreError) and not isinstance(error, CorruptStore) and not lacks_tables:
        raise error
