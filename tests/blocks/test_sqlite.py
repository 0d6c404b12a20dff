"""How the SQLite files of a home are opened."""

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from stack.blocks.database import Database
from stack.blocks.sqlite import connect
from stack.errors import StoreError
from stack.files.jobs import Jobs


def test_a_new_file_and_its_log_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        connection = connect(tmp_path / "rows.sqlite", timeout=1)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (x)")
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
        assert len(list(tmp_path.iterdir())) == 3
        connection.close()
    finally:
        os.umask(before)


@pytest.mark.anyio
async def test_finding_40_an_sqlite_that_is_too_old_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding 40: `sqlite_schema` needs 3.33; what an older one says of it helps nobody."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 31, 1))
    with pytest.raises(StoreError, match=r"too old: 3\.35 or newer"):
        Database(tmp_path / "index.sqlite")
    with pytest.raises(StoreError, match="too old"):
        await Jobs.open(tmp_path / "jobs.sqlite")
