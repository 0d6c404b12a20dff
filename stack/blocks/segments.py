"""Files in place: a user's own files, of which only the index knows something. Called from worker threads."""

import os
from collections.abc import Sequence
from pathlib import Path
from sqlite3 import Connection

from stack.blocks import disk
from stack.blocks.gc import Holds
from stack.blocks.gone import Fault, Gone
from stack.blocks.hashed import Hashed, Look, look_of
from stack.blocks.hashing import STORED_BLOCK_MAX
from stack.blocks.index import FILE, FRAME_BYTES_MAX, ROWS_BATCH, Index, Row
from stack.blocks.interfaces import FileStamp, Leaf, RealmId, Segment, SegmentId, SegmentState, SourceChanged
from stack.blocks.named import is_gone
from stack.blocks.reads import SourceWithdrawn
from stack.blocks.requests import Line, Request
from stack.errors import LimitExceeded, Refused, StoreError
from stack.trace import Trace

GROUP_ROWS_MAX = 16_384
"""Rows of one transaction for several files: 100 ms where few files have them all, some 600 ms where each file has one, for which
nobody else can write to the index. A transaction writes most pages of the index, however few its rows."""


def row_of(leaf: Leaf, size: int) -> Row:
    """The row of a leaf in a file of `size` bytes. Raises LimitExceeded, ValueError."""
    if len(leaf.prefix) + len(leaf.suffix) > FRAME_BYTES_MAX:
        raise LimitExceeded("bytes around a leaf in place", FRAME_BYTES_MAX)
    if leaf.length > STORED_BLOCK_MAX:
        raise LimitExceeded("bytes of a leaf in place", STORED_BLOCK_MAX)
    if leaf.offset < 0 or leaf.length < 0 or leaf.offset + leaf.length > size:
        raise ValueError(f"a leaf at {leaf.offset} + {leaf.length} is outside its file of {size} bytes")
    return leaf.cid.multihash, leaf.offset, leaf.length, leaf.prefix, leaf.suffix


class Addition(Request):
    """Leaves of a file to be recorded; its weight is their number. `number` is the file's segment when it is done."""

    __slots__ = ("checked", "first", "look", "number", "path", "realm", "rows", "stamp")

    def __init__(
        self,
        path: Path,
        stamp: FileStamp,
        leaves: Sequence[Leaf],
        realm: RealmId | None = None,
        *,
        checked: bool = False,
    ) -> None:
        """For a realm, or for everybody. `checked`: the caller has seen that the file, at an absolute path, looks like `stamp` still.
        Raises LimitExceeded, ValueError for leaves that no file has."""
        super().__init__(len(leaves))
        self.checked = checked
        self.path = path if checked else Path(os.path.abspath(path))
        self.stamp = stamp
        self.realm = realm
        self.rows = [row_of(leaf, stamp.size) for leaf in leaves]
        self.first = self.rows[0] if self.rows else None
        self.look: Look | None = None
        """Of a file that looks, now that its leaves are hashed, as it did before."""
        self.number = SegmentId(-1)


class Files:
    """The files of a store. `forget` and `check` are whole transactions; additions share one, as puts do."""

    def __init__(self, index: Index, holds: Holds, tell: Trace, hashed: Hashed, gone: Gone) -> None:
        self._index = index
        self._holds = holds
        self._tell = tell
        self._hashed = hashed
        self._gone = gone
        self._line: Line[Addition] = Line(GROUP_ROWS_MAX)

    def submit(self, addition: Addition) -> None:
        """Wait in line."""
        self._line.submit(addition)

    def add_next(self) -> None:
        """Record the next group; its additions are then done. One thread at a time.

        An addition fails with SourceChanged when the file no longer looks like its stamp, with Refused while it is fetched.
        """
        group = self._line.take()
        error: BaseException | None = None
        try:
            right = [addition for addition in group if addition.checked or _looks_right(addition)]
            with self._index.database.writing() as connection:
                self._add(connection, right)
            for addition in right:
                if addition.look is not None and addition.error is None:
                    blocks = ((row[0], row[1]) for row in addition.rows)
                    self._hashed.add(addition.number, addition.look, blocks)
        except StoreError as caught:
            error = caught
        except BaseException as caught:
            error = caught
            raise
        finally:
            for addition in group:
                addition.settle(error)

    def _add(self, connection: Connection, group: Sequence[Addition]) -> None:
        """What was known of a path before goes if it looked otherwise, and so does the place the file was moved from."""
        added: dict[SegmentId, list[Addition]] = {}
        for addition in group:
            self._find_segment(connection, addition, added)
        rows = [
            (addition.number, row, addition.realm)
            for additions in added.values()
            for addition in additions
            for row in addition.rows
        ]
        here_before = record_rows(self._index, connection, rows)
        for number, additions in added.items():
            self._holds.file_added(number)
            for addition in additions:
                if addition.first is not None and addition.first[0] in here_before:
                    self._remove_moved(connection, addition, *addition.first[:2])

    def _find_segment(self, connection: Connection, addition: Addition, added: dict[SegmentId, list[Addition]]) -> None:
        """The segment of a file, a new one if need be; `added` are those of this transaction, whose rows are still to come."""
        path, stamp = addition.path, addition.stamp
        known = self._index.segment_at(connection, path)
        if known is not None and known.state is SegmentState.FETCHING:
            addition.error = Refused(f"{path} is being fetched")
            return
        if known is not None and (
            known.state is SegmentState.MISSING or self._gone.covers(known.id) or not _same_content(known.stamp, stamp)
        ):
            self._index.remove_segment(connection, known.id)
            added.pop(known.id, None)
            known = None
        if known is None:
            addition.number = self._index.add_segment(connection, FILE, path, SegmentState.SEALED, stamp=stamp)
        else:
            addition.number = known.id
        added.setdefault(addition.number, []).append(addition)

    def _remove_moved(self, connection: Connection, addition: Addition, multihash: bytes, offset: int) -> None:
        for twin in self._index.twins(connection, addition.number, multihash, offset, addition.stamp):
            if is_gone(twin.path, twin.stamp):
                self._index.remove_segment(connection, twin.id)

    def forget(self, path: Path) -> int:
        """Withdraw everything that lies in a file; returns how many rows went. Raises Refused while it is being fetched."""
        path = Path(os.path.abspath(path))
        with self._index.database.writing() as connection:
            known = self._index.segment_at(connection, path)
            if known is None or known.kind != FILE:
                return 0
            if known.state is SegmentState.FETCHING:
                raise Refused(f"{path} is being fetched")
            return self._index.remove_segment(connection, known.id)

    def forget_below(self, places: Sequence[Path], kept: Sequence[Path]) -> int:
        """Withdraw, in one transaction, everything in files that are or lie below `places` and not below `kept`; returns how many
        rows went. A file that is being fetched belongs to that fetch and stays."""
        gone, stays = frozenset(places), frozenset(kept)
        with self._index.database.writing() as connection:
            return sum(
                self._index.remove_segment(connection, segment.id)
                for segment in self._index.segments(connection, FILE)
                if segment.state is not SegmentState.FETCHING
                and _is_below(segment.path, gone)
                and not _is_below(segment.path, stays)
            )

    def count_blocks(self, root: bytes, places: Sequence[Path], most: int) -> int | None:
        """How many different blocks lie in files that are or lie below `places`, with the root; None for more than `most`."""
        wanted = frozenset(places)
        found = {root}
        with self._index.database.reading() as connection:
            for segment in self._index.segments(connection, FILE):
                if _is_below(segment.path, wanted):
                    rows = connection.execute("SELECT multihash FROM location WHERE segment = ?", (segment.id,))
                    for (multihash,) in rows:
                        found.add(multihash)
                        if len(found) > most:
                            return None
        return len(found)

    def check(self, after: SegmentId) -> tuple[list[Segment], SegmentId | None]:
        """Look at the next files behind `after`: those that are no longer what they were, and where to go on, None at the end.

        A file that was gone and looks as before (a disk that was plugged in again) is served again.
        """
        files = self._index.files(after, ROWS_BATCH)
        changes = [(segment, state, fault) for segment in files for state, fault in _look(segment)]
        withdrawn = []
        if changes:
            with self._index.database.writing() as connection:
                for segment, state, fault in changes:
                    if self._index.segment(connection, segment.id) != segment:
                        continue
                    self._index.set_state(connection, segment.id, state)
                    self._gone.recorded(segment.id)
                    if fault is not None:
                        withdrawn.append(Segment(segment.id, segment.kind, segment.path, state, segment.stamp))
                        self._tell(SourceWithdrawn(path=segment.path, fault=fault))
        return withdrawn, files[-1].id if len(files) == ROWS_BATCH else None


def record_rows(index: Index, connection: Connection, rows: list[tuple[SegmentId, Row, RealmId | None]]) -> set[bytes]:
    """Record where blocks of several segments lie, each for a realm or for everybody, in the order in which the index keeps them. Returns
    the multihashes of those that may have been here before."""
    rows.sort(key=_multihash_of)
    before, here_before = None, set()
    for _, row, realm in rows:
        if (row[0], realm) != before:
            here = before is not None and before[0] == row[0]
            if index.realms.enclose(connection, row[0], realm, here=here) and not here:
                here_before.add(row[0])
            before = row[0], realm
    index.add_all(connection, ((number, row) for number, row, _ in rows))
    return here_before


def _multihash_of(entry: tuple[SegmentId, Row, RealmId | None]) -> bytes:
    return entry[1][0]


def _is_below(path: Path, places: frozenset[Path]) -> bool:
    return path in places or not places.isdisjoint(path.parents)


def _looks_right(addition: Addition) -> bool:
    stamp = addition.stamp
    try:
        status = addition.path.stat()
        right = disk.unchanged(stamp, status)
        if (status.st_dev, status.st_ino, status.st_ctime_ns) == (stamp.device, stamp.inode, stamp.ctime_ns):
            addition.look = look_of(status)
    except OSError:
        right = False
    if not right:
        addition.error = SourceChanged(addition.path)
    return right


def _same_content(known: FileStamp | None, stamp: FileStamp) -> bool:
    return known is not None and (known.size, known.mtime_ns) == (stamp.size, stamp.mtime_ns)


def _look(segment: Segment) -> list[tuple[SegmentState, Fault | None]]:
    """The state a file should have now, if that is another than it has."""
    try:
        same = disk.unchanged(segment.stamp, segment.path.stat())
        fault = Fault.CHANGED
    except OSError as error:
        if error.errno not in disk.ABSENT:
            return []  # a mount that does not answer, a disk that fails: it may be as it was
        same = False
        fault = Fault.GONE
    if same == (segment.state is SegmentState.SEALED):
        return []
    return [(SegmentState.SEALED, None)] if same else [(SegmentState.MISSING, fault)]
