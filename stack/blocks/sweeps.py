"""The sweep of garbage collection, and compaction: the two that remove blocks. Called from worker threads."""

import os
from dataclasses import dataclass
from pathlib import Path

from stack.blocks import disk
from stack.blocks.gc import Holds, SweepStep
from stack.blocks.index import PACK, ROWS_BATCH, Index, Row
from stack.blocks.interfaces import Segment, SegmentId, SegmentState
from stack.blocks.locations import Location, Locations
from stack.blocks.packs import Entry, Pack, Packs, pack_path
from stack.blocks.reads import BlockDamaged, load
from stack.blocks.records import HEAD, head_size
from stack.errors import NoSpace
from stack.trace import Trace

COMPACT_LIVE_MAX = 0.5
"""A pack is rewritten when at most this part of it is alive: each byte that is copied then frees at least one."""

COPY_BYTES = 8 * 1024 * 1024
"""Copied and synced at once by compaction."""


@dataclass(frozen=True, slots=True)
class PackUse:
    """How much of a pack is alive."""

    segment: Segment
    size: int
    """Bytes of the file that are valid."""
    live: int
    """Bytes of records that the index refers to."""


def pack_uses(index: Index) -> list[PackUse]:
    """Every pack, in order of ids. Walks all rows of packs."""
    uses = []
    with index.database.reading() as connection:
        for segment in index.segments(connection, PACK):
            live = connection.execute(
                "SELECT coalesce(sum(length + length(multihash)), 0) + ? * count(*) FROM location WHERE segment = ?",
                (head_size(b""), segment.id),
            ).fetchone()[0]
            uses.append(PackUse(segment, segment.stamp.size if segment.stamp else 0, live))
    return uses


class Sweeper:
    """Removes blocks nobody keeps (`sweep`), then the space they took (`compactable`, `compact`)."""

    def __init__(self, index: Index, packs: Packs, locations: Locations, holds: Holds, tell: Trace) -> None:
        self._index = index
        self._packs = packs
        self._locations = locations
        self._holds = holds
        self._tell = tell

    def sweep(
        self, after: tuple[bytes, int, int], marked: set[bytes], generation: int, dry_run: bool
    ) -> SweepStep | None:
        """See `Collectable.sweep`. In the same transaction that a put of the same block would need."""
        with self._index.database.writing() as connection:
            if self._holds.generation != generation:
                return None
            rows = connection.execute(
                "SELECT l.multihash, l.segment, l.offset, l.length FROM location l CROSS JOIN segment s"
                " ON s.id = l.segment WHERE (l.multihash, l.segment, l.offset) > (?, ?, ?) AND s.kind = 'pack'"
                " ORDER BY l.multihash, l.segment, l.offset LIMIT ?",
                (*after, ROWS_BATCH),
            ).fetchall()
            garbage = [
                row for row in rows if row[0] not in marked and not self._holds.protects(row[0], (row[1], row[2]))
            ]
            if not dry_run:
                connection.executemany(
                    "DELETE FROM location WHERE multihash = ? AND segment = ? AND offset = ?",
                    [row[:3] for row in garbage],
                )
        following = rows[-1][:3] if len(rows) == ROWS_BATCH else None
        return SweepStep(following, len(garbage), sum(row[3] for row in garbage))

    def compactable(self) -> list[SegmentId]:
        """Packs worth rewriting, those that free most first: on a full disk the empty ones make room for the others."""
        with self._index.database.writing() as connection:
            self._index.remove_unused_frames(connection)
        worth = [
            use
            for use in pack_uses(self._index)
            if use.live <= COMPACT_LIVE_MAX * use.size and (use.live or use.size > len(HEAD))
        ]
        return [use.segment.id for use in sorted(worth, key=lambda use: (use.live, use.segment.id))]

    def compact(self, number: SegmentId) -> int:
        """Move what is alive in a pack to a new one and remove it; returns the bytes freed. Raises NoSpace, OSError.

        Safe at any moment: the new pack is synced before the rows change, all at once, and the old one goes after that.
        """
        with self._index.database.writing() as connection:
            if self._packs.position[0] == number:
                self._packs.roll(connection)
            segment = self._index.segment(connection, number)
            rows = [] if segment is None else self._index.rows(connection, number, -1, 1 << 62)
            if segment is None or segment.stamp is None:
                return 0
            target = Pack.create(self._index, connection, self._packs.directory) if rows else None
        path = pack_path(self._packs.directory, number)
        try:
            moved = [] if target is None else self._copy(path, segment, rows, target)
            with self._index.database.writing() as connection:
                if target is not None:
                    self._move_rows(connection_rows := moved, number, target)
        finally:
            if target is not None:
                target.close()
        return 0
