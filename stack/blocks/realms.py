"""For whom a block is: rows of the block index that say which realms each block is in. Called from worker threads.

A realm is what is given to the same people: one share, or what was fetched with one ticket. A block without a row is for
everybody, as all blocks were before there were realms; one with rows is for whoever may enter one of its realms. Functions that take
a connection are parts of the caller's transaction.
"""

from collections.abc import Iterable, Sequence
from sqlite3 import Connection

from stack.blocks.database import Database
from stack.blocks.interfaces import EVERYBODY, Realm, RealmId, RealmState
from stack.multiformats.cid import Cid

NOBODY = RealmId(-1)
"""Of a block that came back without its rows (a crash, an index that was lost): it is closed until it is put again."""

RealmRow = tuple[int, bytes | None, bytes, str]
BlockRow = tuple[bytes, int]


def may_see(realms: Iterable[int], states: dict[RealmId, RealmState], admitted: frozenset[RealmId]) -> bool:
    """Whether a block in these realms, at least one, is for a peer that was admitted to those."""
    for number in realms:
        realm = RealmId(number)
        state = states.get(realm)
        if realm == EVERYBODY or (state is not None and state.is_open):
            return True
        if state is RealmState.CLOSED and realm in admitted:
            return True
    return False


class Realms:
    """The tables by their meaning. Getters: `used`, `all`, `of`, `is_for`.

    Commands: `add`, `change`, `merge`, `enclose`, `forget_unused`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.reading() as connection:
            rows = connection.execute("SELECT id, state FROM realm").fetchall()
        self._states = {RealmId(number): RealmState(state) for number, state in rows}
        """Replaced, never changed: several threads read it."""

    @property
    def used(self) -> bool:
        """Whether any block can be in a realm. Until then nothing is looked up."""
        return bool(self._states)

    # realms

    def all(self) -> list[Realm]:
        """Every realm there has been, the oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT id, root, secret, state FROM realm WHERE id > 0 ORDER BY id").fetchall()
        return [
            Realm(RealmId(number), Cid.decode(root) if root is not None else None, secret, RealmState(state))
            for number, root, secret, state in rows
        ]

    def add(self, secret: bytes, root: Cid | None, state: RealmState) -> Realm:
        """A new realm; its root may be told later."""
        with self._database.writing() as connection:
            cursor = connection.execute(
                "INSERT INTO realm (root, secret, state) VALUES (?, ?, ?)",
                (bytes(root) if root is not None else None, secret, state.value),
            )
            assert cursor.lastrowid is not None
            realm = Realm(RealmId(cursor.lastrowid), root, secret, state)
        self._states = {**self._states, realm.id: state}
        return realm

    def change(self, id: RealmId, root: Cid | None, state: RealmState) -> None:
        """What it is of, and who may enter."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE realm SET root = ?, state = ? WHERE id = ?",
                (bytes(root) if root is not None else None, state.value, id),
            )
        self._states = {**self._states, id: state}

    def merge(self, source: RealmId, into: RealmId) -> None:
        """All blocks of one realm are in another instead, and the one is no more."""
        with self._database.writing() as connection:
            connection.execute("UPDATE OR IGNORE block_realm SET realm = ? WHERE realm = ?", (into, source))
            connection.execute("DELETE FROM block_realm WHERE realm = ?", (source,))
            connection.execute("DELETE FROM realm WHERE id = ?", (source,))
        self._states = {number: state for number, state in self._states.items() if number != source}

    # blocks

    def enclose(self, connection: Connection, multihash: bytes, realm: RealmId | None, *, here: bool = False) -> bool:
        """A block is about to be recorded, for a realm or (None) for everybody; to be called before its row is written. `here` says
        that it was recorded earlier in this transaction. What it was before counts only while it has been here. Returns whether it may
        be here already."""
        if realm is None and not self.used:
            return True
        here = here or self._is_here(connection, multihash)
        if not here:
            connection.execute("DELETE FROM block_realm WHERE multihash = ?", (multihash,))
            if realm is not None:
                self._put(connection, multihash, realm)
        elif (realm is None) is (self._first(connection, multihash) is not None):
            # It was closed and is put for everybody, or it was everybody's and is put for a realm too.
            self._put(connection, multihash, EVERYBODY)
            if realm is not None:
                self._put(connection, multihash, realm)
        elif realm is not None:
            self._put(connection, multihash, realm)
        return here

    def enclose_found(self, connection: Connection, multihashes: Iterable[bytes]) -> None:
        """Blocks whose rows may be lost: those without any are closed."""
        if self.used:
            for multihash in multihashes:
                if self._first(connection, multihash) is None and not self._is_here(connection, multihash):
                    self._put(connection, multihash, NOBODY)

    def of(self, connection: Connection, multihash: bytes) -> list[RealmId]:
        """The realms of a block; none when it is for everybody and was never for fewer."""
        rows = connection.execute("SELECT realm FROM block_realm WHERE multihash = ?", (multihash,))
        return [RealmId(number) for (number,) in rows]

    def is_for(
        self,
        connection: Connection,
        multihash: bytes,
        admitted: frozenset[RealmId],
        *,
        unrecorded: bool = False,
        realm: RealmId | None = None,
    ) -> bool:
        """Whether a block that is here is for a peer that was admitted to those realms. `unrecorded`: it was written, for `realm`, and
        has no row yet."""
        if unrecorded and (realm is None or may_see((realm,), self._states, admitted)):
            return True
        realms = self.of(connection, multihash)
        seen = may_see(realms or (NOBODY,), self._states, admitted)  # also where it has none: both are to take as long
        if realms:
            return seen
        return not unrecorded or self._is_here(connection, multihash)

    def forget_unused(self, connection: Connection) -> None:
        """Rows of blocks that are not here any more. Walks all rows."""
        connection.execute("DELETE FROM block_realm WHERE multihash NOT IN (SELECT multihash FROM location)")

    # a lost index

    def rows(self, connection: Connection) -> tuple[list[RealmRow], list[BlockRow]]:
        """Everything, for an index that is made anew."""
        return (
            connection.execute("SELECT id, root, secret, state FROM realm").fetchall(),
            connection.execute("SELECT multihash, realm FROM block_realm").fetchall(),
        )

    def restore(self, rows: tuple[Sequence[RealmRow], Sequence[BlockRow]] | None) -> None:
        """Everything again, in a new index; None when it could not be read: then what was found is for nobody."""
        with self._database.writing() as connection:
            if rows is None:
                connection.execute("INSERT INTO realm VALUES (?, NULL, x'', ?)", (NOBODY, RealmState.ENDED.value))
                connection.execute("INSERT INTO block_realm SELECT DISTINCT multihash, ? FROM location", (NOBODY,))
            else:
                connection.executemany("INSERT INTO realm VALUES (?, ?, ?, ?)", rows[0])
                connection.executemany("INSERT INTO block_realm VALUES (?, ?)", rows[1])
            found = connection.execute("SELECT id, state FROM realm").fetchall()
        self._states = {RealmId(number): RealmState(state) for number, state in found}

    def _is_here(self, connection: Connection, multihash: bytes) -> bool:
        query = "SELECT 1 FROM location WHERE multihash = ? LIMIT 1"
        return connection.execute(query, (multihash,)).fetchone() is not None

    def _first(self, connection: Connection, multihash: bytes) -> int | None:
        row = connection.execute("SELECT realm FROM block_realm WHERE multihash = ? LIMIT 1", (multihash,)).fetchone()
        return None if row is None else int(row[0])

    def _put(self, connection: Connection, multihash: bytes, realm: RealmId) -> None:
        connection.execute("INSERT OR IGNORE INTO block_realm VALUES (?, ?)", (multihash, realm))
