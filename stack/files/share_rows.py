"""Rows of what this home shares, for whom, and to whom it went: the tables beside those of fetches (`jobs`).

A share lives as long as one of its owners: commands and nodes that run, each under a name of its own, or the home itself, for what is
kept until somebody ends it. Functions here are parts of the caller's transaction.
"""

import json
import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from pathlib import Path

from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.values import dataclass

PEERS_PER_SHARE_MAX = 4096
"""Receivers counted one by one for a share: peer ids cost nothing, so a stranger could make endless ones. The rest is
counted together, under no name."""

HOME = ""
"""The owner that does not end."""

SCHEMA = """
CREATE TABLE share (
    root BLOB PRIMARY KEY, name TEXT NOT NULL, paths TEXT NOT NULL, size INTEGER NOT NULL, since REAL NOT NULL);
CREATE TABLE sent (
    root BLOB NOT NULL, peer BLOB NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (root, peer)) WITHOUT ROWID;
"""

_LATER = (
    "CREATE TABLE IF NOT EXISTS copy (root BLOB NOT NULL, peer BLOB NOT NULL, PRIMARY KEY (root, peer)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS origin (root BLOB PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
)
"""Came later than the others; a program that does not know these tables is not disturbed by them."""

INT_MAX = 2**63 - 1  # SQLite's integers; a foreign DAG may claim more


class Origin(Enum):
    """How something came to be shared."""

    SHARED = "shared"
    """Somebody shared what is his."""
    SEEDED = "seeded"
    """It was fetched, and is given on."""
    PART = "partly seeded"
    """A part of it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Something that is shared, and to whom it went."""

    root: Cid
    name: str
    paths: tuple[Path, ...]
    size: int
    since: float
    """Unix seconds."""
    origin: Origin
    owners: frozenset[str]
    """For whom it is shared; with `HOME`, until it is ended."""
    sent: tuple[tuple[PeerId, int], ...]
    """Receivers with the bytes each was sent, most first."""
    sent_to_others: int
    """Bytes sent to receivers beyond `PEERS_PER_SHARE_MAX`."""
    complete: frozenset[PeerId]
    """Receivers of whom it is known that they have all of it."""

    @property
    def kept(self) -> bool:
        """Whether the home keeps it."""
        return HOME in self.owners

    @property
    def bytes_sent(self) -> int:
        """Block bytes that went out."""
        return sum(amount for _, amount in self.sent) + self.sent_to_others

    @property
    def copies(self) -> int:
        """Receivers who have all of it."""
        return len(self.complete)


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables that came later. What was shared before there were owners is the home's."""
    for statement in _LATER:
        connection.execute(statement)
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'owner'").fetchone():
        connection.execute(
            "CREATE TABLE owner (root BLOB NOT NULL, name TEXT NOT NULL, PRIMARY KEY (root, name)) WITHOUT ROWID"
        )
        connection.execute("INSERT INTO owner SELECT root, ? FROM share", (HOME,))


def add(
    connection: sqlite3.Connection, root: Cid, name: str, paths: Sequence[str], size: int, owner: str, origin: Origin
) -> None:
    """Remember a share. The same root again: its name, paths and origin are replaced, its counts and other owners kept."""
    key = bytes(root)
    connection.execute(
        "INSERT INTO share (root, name, paths, size, since) VALUES (?, ?, ?, ?, ?) ON CONFLICT (root) DO UPDATE SET"
        " name = excluded.name, paths = excluded.paths, size = excluded.size",
        (key, name, json.dumps(paths), size, time.time()),
    )
    connection.execute("INSERT OR IGNORE INTO owner VALUES (?, ?)", (key, owner))
    connection.execute("INSERT OR REPLACE INTO origin VALUES (?, ?)", (key, origin.value))


def remove(connection: sqlite3.Connection, root: Cid) -> bool:
    """Forget a share and its counts; False if it was none."""
    for table in ("sent", "copy", "owner", "origin"):
        connection.execute(f"DELETE FROM {table} WHERE root = ?", (bytes(root),))
    return connection.execute("DELETE FROM share WHERE root = ?", (bytes(root),)).rowcount > 0


def disown(connection: sqlite3.Connection, root: Cid, owners: Collection[str]) -> bool:
    """These no longer need it; whether nobody does now."""
    key = bytes(root)
    connection.executemany("DELETE FROM owner WHERE root = ? AND name = ?", [(key, owner) for owner in owners])
    known = is_shared(connection, key)
    return known and connection.execute("SELECT 1 FROM owner WHERE root = ?", (key,)).fetchone() is None


def abandon(connection: sqlite3.Connection, root: Cid) -> None:
    """Nobody needs it; the row says so until all of it has been taken back."""
    connection.execute("DELETE FROM owner WHERE root = ?", (bytes(root),))


def record_sent(connection: sqlite3.Connection, counts: Mapping[tuple[Cid, PeerId], int]) -> None:
    """Count block bytes that went to peers; roots that are not shared are passed over."""
    known: dict[bytes, set[bytes] | None] = {}
    for (root, peer), amount in counts.items():
        key = bytes(root)
        if key not in known:
            rows = connection.execute("SELECT peer FROM sent WHERE root = ?", (key,)).fetchall()
            known[key] = {found for (found,) in rows} if is_shared(connection, key) else None
        receivers = known[key]
        if receivers is None:
            continue
        receiver = bytes(peer)
        if receiver not in receivers and len(receivers) >= PEERS_PER_SHARE_MAX:
            receiver = b""
        receivers.add(receiver)
        connection.execute(
            "INSERT INTO sent VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET bytes = min(bytes + excluded.bytes, ?)",
            (key, receiver, amount, INT_MAX),
        )


def record_copy(connection: sqlite3.Connection, root: Cid, peer: PeerId) -> None:
    """A peer has all of a share; of those beyond `PEERS_PER_SHARE_MAX` it is not kept."""
    key = bytes(root)
    connection.execute(
        "INSERT OR IGNORE INTO copy SELECT root, ? FROM share WHERE root = ?"
        " AND (SELECT count(*) FROM copy WHERE root = ?) < ?",
        (bytes(peer), key, key, PEERS_PER_SHARE_MAX),
    )


def is_shared(connection: sqlite3.Connection, root: bytes) -> bool:
    """Whether there is a share of this root."""
    return connection.execute("SELECT 1 FROM share WHERE root = ?", (root,)).fetchone() is not None


def shares(connection: sqlite3.Connection, where: str = "", values: tuple[object, ...] = ()) -> list[Share]:
    """Shares, oldest first."""
    found = []
    statement = f"SELECT root, name, paths, size, since FROM share {where} ORDER BY since, root"
    for root, name, paths, size, since in connection.execute(statement, values).fetchall():
        copies = connection.execute("SELECT peer FROM copy WHERE root = ?", (root,))
        owners = connection.execute("SELECT name FROM owner WHERE root = ?", (root,))
        origin = connection.execute("SELECT value FROM origin WHERE root = ?", (root,)).fetchone()
        sent = connection.execute("SELECT peer, bytes FROM sent WHERE root = ? ORDER BY bytes DESC", (root,)).fetchall()
        found.append(
            Share(
                root=Cid.decode(root),
                name=name,
                paths=tuple(Path(path) for path in json.loads(paths)),
                size=size,
                since=since,
                origin=Origin(origin[0]) if origin else Origin.SHARED,
                owners=frozenset(owner for (owner,) in owners),
                sent=tuple((PeerId.decode(peer), amount) for peer, amount in sent if peer),
                sent_to_others=sum(amount for peer, amount in sent if not peer),
                complete=frozenset(PeerId.decode(peer) for (peer,) in copies),
            )
        )
    return found
