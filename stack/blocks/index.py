"""Rows of the block index: segments, where each block lies in them, frames, pins. Called from worker threads.

Functions that take a connection are parts of the caller's transaction (`Database.writing`, `Database.reading`).
"""

import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from sqlite3 import Connection

from stack.blocks.database import Database
from stack.blocks.interfaces import FileStamp, PinKind, Segment, SegmentId, SegmentState
from stack.blocks.realms import Realms

FILE = "file"
PACK = "pack"

FRAMES_CACHED_MAX = 4096
"""Frames remembered; a file has one or two, and a foreign DAG must not make us remember one for each of its leaves."""

SEGMENTS_CACHED_MAX = 1024
"""Rows of segments remembered as objects; the key is the whole row, so nothing goes stale."""

FRAME_BYTES_MAX = 256
"""Prefix and suffix together. A UnixFS leaf has at most 14 + 11 bytes, with mode and mtime some 20 more."""

ROWS_BATCH = 1024
"""Rows read or written between two looks at whether anybody else waits."""

NUMBER_MASK = (1 << 63) - 1
"""SQLite's integers are signed; device and inode numbers are not, and are only shown."""

_SEGMENT = "s.id, s.kind, s.path, s.state, s.device, s.inode, s.size, s.mtime_ns"

SegmentColumns = tuple[int, str, bytes, str, int | None, int | None, int | None, int | None]

Row = tuple[bytes, int, int, bytes, bytes]
"""multihash, offset, length, prefix, suffix of a block in a segment that is known."""


@lru_cache(maxsize=SEGMENTS_CACHED_MAX)
def segment_of(row: SegmentColumns) -> Segment:
    """A segment from its columns. Remembered: it is made anew for each block that is looked up (8 of 18 us)."""
    number, kind, path, state, device, inode, size, mtime_ns = row
    stamp = None
    if device is not None and inode is not None and size is not None and mtime_ns is not None:
        stamp = FileStamp(device, inode, size, mtime_ns)
    return Segment(SegmentId(number), kind, Path(os.fsdecode(path)), SegmentState(state), stamp)


def _columns(stamp: FileStamp | None) -> tuple[int | None, ...]:
    if stamp is None:
        return None, None, None, None
    return stamp.device & NUMBER_MASK, stamp.inode & NUMBER_MASK, stamp.size, stamp.mtime_ns


class Index:
    """The tables by their meaning. Safe to use from several threads at once."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.realms = Realms(database)
        self._frames: dict[int, tuple[bytes, bytes]] = {}

    # Blocks

    def find(
        self, connection: Connection, multihash: bytes, after: SegmentId
    ) -> tuple[Segment, int, int, bytes, bytes] | None:
        """The block's first row in a segment behind `after`: segment, offset, length, prefix, suffix."""
        row = connection.execute(
            f"SELECT {_SEGMENT}, l.offset, l.length, l.frame FROM location l CROSS JOIN segment s ON s.id = l.segment"
            " WHERE l.multihash = ? AND l.segment > ? ORDER BY l.segment, l.offset LIMIT 1",
            (multihash, after),
        ).fetchone()
        if row is None:
            return None
        prefix, suffix = self._frame(connection, row[10])
        return segment_of(row[:8]), row[8], row[9], prefix, suffix

    def rows(self, connection: Connection, segment: SegmentId, after: int, limit: int) -> list[Row]:
        """Blocks of a segment whose offset is above `after`, in order of offset; a few more than `limit` when several
        blocks share the last offset."""
        rows = connection.execute(
            "SELECT multihash, offset, length, frame FROM location WHERE segment = ? AND offset > ?"
            " ORDER BY offset LIMIT ?",
            (segment, after, limit),
        ).fetchall()
        if len(rows) == limit:
            last = rows[-1][1]
            rows = [row for row in rows if row[1] != last]
            rows += connection.execute(
                "SELECT multihash, offset, length, frame FROM location WHERE segment = ? AND offset = ?",
                (segment, last),
            ).fetchall()
        return [(row[0], row[1], row[2], *self._frame(connection, row[3])) for row in rows]

    def add(self, connection: Connection, segment: SegmentId, rows: Iterable[Row]) -> None:
        """Record where blocks lie; rows that are there already are left alone."""
        self.add_all(connection, ((segment, row) for row in rows))

    def add_all(self, connection: Connection, rows: Iterable[tuple[SegmentId, Row]]) -> None:
        """The same for blocks of several segments. Many are best told in the order of their multihashes, in which they are kept."""
        frames = {(b"", b""): 0}
        for segment, (multihash, offset, length, prefix, suffix) in rows:
            frame = frames.get((prefix, suffix))
            if frame is None:
                frame = frames[prefix, suffix] = self._frame_id(connection, prefix, suffix)
            connection.execute(
                "INSERT OR IGNORE INTO location VALUES (?, ?, ?, ?, ?)", (multihash, segment, offset, length, frame)
            )

    def remove(self, connection: Connection, multihash: bytes, segment: SegmentId | None = None) -> int:
        """Forget a block, everywhere or in one segment; returns how many rows went."""
        if segment is None:
            return connection.execute("DELETE FROM location WHERE multihash = ?", (multihash,)).rowcount
        return connection.execute(
            "DELETE FROM location WHERE multihash = ? AND segment = ?", (multihash, segment)
        ).rowcount

    def multihashes(self, after: bytes, limit: int) -> list[bytes]:
        """Distinct blocks that can be read, in order, from behind `after`."""
        with self.database.reading() as connection:
            rows = connection.execute(
                "SELECT DISTINCT l.multihash FROM location l CROSS JOIN segment s ON s.id = l.segment"
                " WHERE l.multihash > ? AND s.state != 'missing' ORDER BY l.multihash LIMIT ?",
                (after, limit),
            ).fetchall()
        return [row[0] for row in rows]

    def packed(self, connection: Connection, multihash: bytes) -> tuple[SegmentId, int] | None:
        """Where in our packs the block lies: segment and offset."""
        row = connection.execute(
            "SELECT l.segment, l.offset FROM location l CROSS JOIN segment s ON s.id = l.segment"
            " WHERE l.multihash = ? AND s.kind = 'pack' LIMIT 1",
            (multihash,),
        ).fetchone()
        return None if row is None else (SegmentId(row[0]), row[1])

    def is_packed(self, multihash: bytes) -> bool:
        """Whether the block lies in our packs."""
        with self.database.reading() as connection:
            return self.packed(connection, multihash) is not None

    def in_frames(self, multihashes: Sequence[bytes]) -> list[bool]:
        """For each block whether it is recorded as a leaf of a file in place with a frame around it."""
        with self.database.reading() as connection:
            query = (
                "SELECT 1 FROM location l CROSS JOIN segment s ON s.id = l.segment"
                " WHERE l.multihash = ? AND l.frame != 0 AND s.kind = 'file' LIMIT 1"
            )
            return [connection.execute(query, (multihash,)).fetchone() is not None for multihash in multihashes]

    # Segments

    def segments(self, connection: Connection, kind: str | None = None) -> list[Segment]:
        """All segments, or those of one kind, in order of their ids."""
        where, values = (" WHERE kind = ?", (kind,)) if kind else ("", ())
        return [
            segment_of(row)
            for row in connection.execute(f"SELECT {_SEGMENT} FROM segment s{where} ORDER BY id", values)
        ]

    def fetching(self, connection: Connection) -> list[Segment]:
        """Files that are being fetched, or were when the last process ended. Of a million others none is looked at."""
        query = f"SELECT {_SEGMENT} FROM segment s WHERE kind = ? AND state = ? ORDER BY id"
        return [segment_of(row) for row in connection.execute(query, (FILE, SegmentState.FETCHING.value))]

    def files(self, after: SegmentId, limit: int) -> list[Segment]:
        """Files that are not being fetched, in order of their ids, from behind `after`."""
        with self.database.reading() as connection:
            rows = connection.execute(
                f"SELECT {_SEGMENT} FROM segment s WHERE id > ? AND kind = 'file' AND state != 'fetching'"
                " ORDER BY id LIMIT ?",
                (after, limit),
            ).fetchall()
        return [segment_of(row) for row in rows]

    def sealing(self, connection: Connection) -> list[tuple[Segment, Path]]:
        """Files that were about to get their final name, and that name."""
        rows = connection.execute(
            f"SELECT {_SEGMENT}, s.target FROM segment s"
            " WHERE kind = 'file' AND state = 'fetching' AND target IS NOT NULL"
        ).fetchall()
        return [(segment_of(row[:8]), Path(os.fsdecode(row[8]))) for row in rows]

    def pack_bytes(self, connection: Connection) -> int:
        """Valid bytes of all packs."""
        return int(connection.execute("SELECT coalesce(sum(size), 0) FROM segment WHERE kind = 'pack'").fetchone()[0])

    def segment(self, connection: Connection, number: SegmentId) -> Segment | None:
        """A segment by its id."""
        row = connection.execute(f"SELECT {_SEGMENT} FROM segment s WHERE id = ?", (number,)).fetchone()
        return None if row is None else segment_of(row)

    def segment_at(self, connection: Connection, path: Path | str) -> Segment | None:
        """A segment by its path."""
        row = connection.execute(f"SELECT {_SEGMENT} FROM segment s WHERE path = ?", (os.fsencode(path),)).fetchone()
        return None if row is None else segment_of(row)

    def add_segment(
        self,
        connection: Connection,
        kind: str,
        path: Path | str,
        state: SegmentState,
        *,
        stamp: FileStamp | None = None,
        number: SegmentId | None = None,
    ) -> SegmentId:
        """A new segment; its id is chosen unless given."""
        cursor = connection.execute(
            "INSERT INTO segment (id, kind, path, state, device, inode, size, mtime_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (number, kind, os.fsencode(path), state.value, *_columns(stamp)),
        )
        assert cursor.lastrowid is not None
        return SegmentId(cursor.lastrowid)

    def set_stamp(self, connection: Connection, number: SegmentId, stamp: FileStamp | None) -> None:
        """What the file looks like now; None while it is being written."""
        connection.execute(
            "UPDATE segment SET device = ?, inode = ?, size = ?, mtime_ns = ? WHERE id = ?", (*_columns(stamp), number)
        )

    def set_state(self, connection: Connection, number: SegmentId, state: SegmentState) -> None:
        """Blocks of a segment that is missing are withdrawn; their rows wait for its return."""
        connection.execute("UPDATE segment SET state = ? WHERE id = ?", (state.value, number))

    def set_written(
        self, connection: Connection, number: SegmentId, stamp: FileStamp | None, target: Path | str
    ) -> None:
        """What a file looks like that is whole now, and the name it is about to get."""
        connection.execute(
            "UPDATE segment SET device = ?, inode = ?, size = ?, mtime_ns = ?, target = ? WHERE id = ?",
            (*_columns(stamp), os.fsencode(target), number),
        )

    def set_target(self, connection: Connection, number: SegmentId, target: Path | None) -> None:
        """The name a file is about to get."""
        connection.execute(
            "UPDATE segment SET target = ? WHERE id = ?", (None if target is None else os.fsencode(target), number)
        )

    def set_path(self, connection: Connection, number: SegmentId, path: Path) -> None:
        """The name a pack has got."""
        connection.execute("UPDATE segment SET path = ? WHERE id = ?", (os.fsencode(path), number))

    def set_sealed(self, connection: Connection, number: SegmentId, path: Path | str) -> None:
        """The name a file has got, for good."""
        connection.execute(
            "UPDATE segment SET path = ?, target = NULL, state = ? WHERE id = ?",
            (os.fsencode(path), SegmentState.SEALED.value, number),
        )

    def remove_segment(self, connection: Connection, number: SegmentId) -> int:
        """Forget a segment and all that lies in it; returns how many rows went."""
        gone = connection.execute("DELETE FROM location WHERE segment = ?", (number,)).rowcount
        connection.execute("DELETE FROM segment WHERE id = ?", (number,))
        return gone

    def twins(
        self, connection: Connection, number: SegmentId, multihash: bytes, offset: int, stamp: FileStamp
    ) -> list[Segment]:
        """Other files of the same size and time that have the same block at the same place: what a moved file looked like before."""
        rows = connection.execute(
            f"SELECT {_SEGMENT} FROM location l CROSS JOIN segment s ON s.id = l.segment"
            " WHERE l.multihash = ? AND l.offset = ? AND s.kind = 'file' AND s.state != 'fetching'"
            " AND s.id != ? AND s.size = ? AND s.mtime_ns = ? LIMIT ?",
            (multihash, offset, number, stamp.size, stamp.mtime_ns, ROWS_BATCH),
        ).fetchall()
        return [segment_of(row) for row in rows]

    # Frames

    def _frame(self, connection: Connection, number: int) -> tuple[bytes, bytes]:
        if number == 0:
            return b"", b""
        known = self._frames.get(number)
        if known is None:
            row = connection.execute("SELECT prefix, suffix FROM frame WHERE id = ?", (number,)).fetchone()
            # A row without its frame (a damaged index) then fails its hash, like any other wrong bytes.
            known = (row[0], row[1]) if row else (b"", b"")
            if len(self._frames) >= FRAMES_CACHED_MAX:
                self._frames.clear()
            self._frames[number] = known
        return known

    def _frame_id(self, connection: Connection, prefix: bytes, suffix: bytes) -> int:
        cursor = connection.execute("INSERT OR IGNORE INTO frame (prefix, suffix) VALUES (?, ?)", (prefix, suffix))
        if cursor.rowcount == 1 and cursor.lastrowid is not None:
            return cursor.lastrowid
        row = connection.execute("SELECT id FROM frame WHERE prefix = ? AND suffix = ?", (prefix, suffix)).fetchone()
        return int(row[0])

    def remove_unused_frames(self, connection: Connection) -> None:
        """Forget frames that no row refers to any more. Walks all rows."""
        connection.execute("DELETE FROM frame WHERE id NOT IN (SELECT DISTINCT frame FROM location)")

    # Pins

    def add_pin(self, connection: Connection, cid: bytes, kind: PinKind, name: str) -> None:
        """Keep a root; a new name replaces the old one."""
        connection.execute("INSERT OR REPLACE INTO pin VALUES (?, ?, ?)", (cid, kind.value, name))

    def remove_pin(self, connection: Connection, cid: bytes, kind: PinKind) -> bool:
        """Whether there was such a pin; it is gone now."""
        return connection.execute("DELETE FROM pin WHERE cid = ? AND kind = ?", (cid, kind.value)).rowcount > 0

    def pins(self, connection: Connection) -> list[tuple[bytes, PinKind, str]]:
        """All pins, ordered by CID."""
        return [
            (row[0], PinKind(row[1]), row[2])
            for row in connection.execute("SELECT cid, kind, name FROM pin ORDER BY cid, kind")
        ]
