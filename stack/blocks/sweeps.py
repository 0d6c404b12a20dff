"""The sweep of garbage collection, and compaction: the two that remove blocks. Called from worker threads."""

import os
from collections.abc import Sequence
from pathlib import Path

from stack.blocks import disk
from stack.blocks.gc import Holds, SweepStep
from stack.blocks.index import PACK, ROWS_BATCH, Index, Row
from stack.blocks.interfaces import Segment, SegmentId, SegmentState
from stack.blocks.locations import Location, Locations
from stack.blocks.names import NameSet
from stack.blocks.packs import Entry, Pack, Packs, pack_path, pack_stamp
from stack.blocks.reads import BlockDamaged, load
from stack.blocks.records import HEAD, head_size
from stack.platform import punch_hole
from stack.trace import Trace
from stack.values import dataclass

COMPACT_LIVE_MAX = 0.5
"""A pack is rewritten when at most this part of it is alive: each byte that is copied then frees at least one."""

PUNCHED_BYTES_MIN = 16 * 1024
"""Between two blocks; less is not worth a piece more that the file lies in."""

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
    """Removes blocks nobody keeps (`sweep`), then the space they took (`compactable`, `compact`, `punch`); and certain ones (`remove`)."""

    def __init__(self, index: Index, packs: Packs, locations: Locations, holds: Holds, tell: Trace) -> None:
        self._index = index
        self._packs = packs
        self._locations = locations
        self._holds = holds
        self._tell = tell

    def sweep(self, after: tuple[bytes, int, int], marked: NameSet, generation: int, dry_run: bool) -> SweepStep | None:
        """See `Collectable.sweep`. In the same transaction that a put of the same block would need. Whoever begins to work meanwhile may
        still have seen what goes: it is put back then, none of it has left the disk.
        """
        with self._index.database.writing() as connection:
            if self._holds.generation != generation:
                return None
            rows = connection.execute(
                "SELECT l.multihash, l.segment, l.offset, l.length, l.frame, s.kind, s.state FROM location l CROSS JOIN segment s"
                " ON s.id = l.segment WHERE (l.multihash, l.segment, l.offset) > (?, ?, ?)"
                " AND (s.kind = 'pack' OR s.state != 'fetching') ORDER BY l.multihash, l.segment, l.offset LIMIT ?",
                (*after, ROWS_BATCH),
            ).fetchall()
            found = [row for row in rows if row[0] not in marked and not self._is_held(row[0], row[1], row[2], row[5])]
            garbage = [row[:5] for row in found]
            if not dry_run:
                connection.executemany(
                    "DELETE FROM location WHERE multihash = ? AND segment = ? AND offset = ?",
                    [row[:3] for row in garbage],
                )
        if self._changed(generation, () if dry_run else garbage):
            return None
        # What lay in a lost file was not here; a place in a file of the user takes no space.
        here = {row[0] for row in found if row[5] == PACK or row[6] != SegmentState.MISSING.value} - {after[0]}
        following = rows[-1][:3] if len(rows) == ROWS_BATCH else None
        return SweepStep(following, len(here), sum(row[3] for row in found if row[5] == PACK))

    def _is_held(self, name: bytes, segment: SegmentId, offset: int, kind: str) -> bool:
        """Whether a place must stay though its block was not marked."""
        holds = self._holds
        return holds.protects(name, segment, offset) if kind == PACK else holds.protects_file(segment)

    def remove(self, names: Sequence[bytes], kept: NameSet, generation: int) -> bool:
        """See `withdraw.Withdrawable.remove`: from packs and from files, but for those that are being fetched."""
        with self._index.database.writing() as connection:
            if self._holds.generation != generation:
                return False
            gone: list[tuple[bytes, int, int, int, int]] = []
            for name in sorted(names):  # in the order of the index
                if name in kept:
                    continue
                for kind, *row in connection.execute(
                    "SELECT s.kind, l.multihash, l.segment, l.offset, l.length, l.frame FROM location l CROSS JOIN segment s"
                    " ON s.id = l.segment WHERE l.multihash = ? AND (s.kind = 'pack' OR s.state != 'fetching')",
                    (name,),
                ):
                    _, segment, offset, length, frame = row
                    if not self._is_held(name, segment, offset, kind):
                        gone.append((name, segment, offset, length, frame))
            connection.executemany(
                "DELETE FROM location WHERE multihash = ? AND segment = ?", [row[:2] for row in gone]
            )
        return not self._changed(generation, gone)

    def _changed(self, generation: int, removed: Sequence[tuple[bytes, int, int, int, int]]) -> bool:
        """Whether somebody has begun to work since; what was removed is back then."""
        if self._holds.generation == generation:
            return False
        with self._index.database.writing() as connection:
            connection.executemany("INSERT OR IGNORE INTO location VALUES (?, ?, ?, ?, ?)", removed)
        return True

    def remove_empty_files(self) -> None:
        """Forget files of which no block is left. Walks all files."""
        with self._index.database.writing() as connection:
            connection.execute(
                "DELETE FROM segment WHERE kind = 'file' AND state != 'fetching'"
                " AND NOT EXISTS (SELECT 1 FROM location WHERE location.segment = segment.id)"
            )

    def compactable(self) -> list[SegmentId]:
        """Packs worth rewriting, those that free most first: on a full disk the empty ones make room for the others. What no place
        refers to any more is forgotten before."""
        self.remove_empty_files()
        with self._index.database.writing() as connection:
            self._index.remove_unused_frames(connection)
            self._index.realms.forget_unused(connection)
        worth = [
            use
            for use in pack_uses(self._index)
            if use.live <= COMPACT_LIVE_MAX * use.size and (use.live or use.size > len(HEAD))
        ]
        return [use.segment.id for use in sorted(worth, key=lambda use: (use.live, use.segment.id))]

    def retire(self, number: SegmentId) -> None:
        """Let nothing more be appended to a pack. Not at the same time as a commit."""
        with self._index.database.writing() as connection:
            if self._packs.is_growing(number):
                self._packs.roll(connection)

    def compact(self, number: SegmentId) -> int:
        """Move what is alive in a retired pack to a new one and remove it; returns the bytes freed.

        Safe at any moment: the new pack is synced before the rows change, all at once, and the old one goes after that.
        Raises NoSpace, StoreError; ReadFailed when a block cannot be read now: the old pack is kept then.
        """
        with self._index.database.reading() as connection:
            segment = self._index.segment(connection, number)
            rows = self._index.rows(connection, number, -1, _ALL)
        if segment is None or segment.stamp is None:
            return 0
        path = pack_path(self._packs.directory, number)
        with disk.translated(f"compacting {path}"):
            freed = (
                min(segment.stamp.size, 512 * path.stat().st_blocks) if path.exists() else 0
            )  # there may be holes in it
            if rows:
                freed = max(freed - self._rewrite(path, segment, rows), 0)
            else:
                with self._index.database.writing() as connection:
                    self._index.set_state(connection, number, SegmentState.MISSING)
            path.unlink(missing_ok=True)
            disk.sync_directory(path.parent)
        with self._index.database.writing() as connection:
            self._index.remove_segment(connection, number)
        return freed

    def punch(self, number: SegmentId) -> int:
        """Give back what is dead in a retired pack where it lies, if there is no room to rewrite it; returns the bytes freed.

        The pack keeps its size and its rows, and is rewritten when there is room. 0 where the file system cannot do that. Raises
        StoreError.
        """
        with self._index.database.reading() as connection:
            rows = self._index.rows(connection, number, -1, _ALL)
        path = pack_path(self._packs.directory, number)
        with disk.translated(f"making room in {path}"):
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                before = os.fstat(fd)
                dead = len(HEAD)
                for begin, end in [
                    *((row[1] - head_size(row[0]), row[1] + row[2]) for row in rows),
                    2 * (before.st_size,),
                ]:
                    if begin - dead >= PUNCHED_BYTES_MIN and not punch_hole(fd, dead, begin - dead):
                        break
                    dead = max(dead, end)
                return 512 * (before.st_blocks - os.fstat(fd).st_blocks)
            finally:
                os.close(fd)

    def _rewrite(self, path: Path, segment: Segment, rows: list[Row]) -> int:
        """Copy blocks to a new pack, move their rows there, and give the old pack up; returns the size of the new one."""
        with self._index.database.writing() as connection:
            target = Pack.create(self._index, connection, self._packs.directory)
        self._packs.made(target.number)
        try:
            moved = self._copy(path, segment, rows, target)
            with self._index.database.writing() as connection:
                connection.executemany(
                    "UPDATE location SET segment = ?, offset = ? WHERE multihash = ? AND segment = ? AND offset = ?",
                    [(target.number, new, multihash, segment.id, old) for multihash, old, new in moved],
                )
                self._index.set_stamp(connection, target.number, pack_stamp(target.end))
                self._index.set_state(connection, target.number, SegmentState.SEALED)
                connection.execute("DELETE FROM location WHERE segment = ?", (segment.id,))
                self._index.set_state(connection, segment.id, SegmentState.MISSING)
        except BaseException:
            with self._index.database.writing() as connection:
                self._index.remove_segment(connection, target.number)
            target.path.unlink(missing_ok=True)
            raise
        finally:
            target.close()
        return target.end

    def _copy(self, path: Path, segment: Segment, rows: list[Row], target: Pack) -> list[tuple[bytes, int, int]]:
        """Append the blocks to `target`: multihash, old offset, new offset of each. Damaged ones stay behind."""
        moved: list[tuple[bytes, int, int]] = []
        entries: list[Entry] = []
        olds: list[int] = []
        size = 0

        def flush() -> None:
            for (multihash, _), old, new in zip(entries, olds, target.append(entries), strict=True):
                moved.append((multihash, old, new))
            entries.clear()
            olds.clear()

        fd, _ = disk.open_regular(path)
        try:
            for multihash, offset, length, _, _ in rows:
                data = load(fd, Location(multihash, segment, offset, length))
                if data is None:
                    self._locations.found_good(multihash, segment.id)
                    self._tell(BlockDamaged(multihash=multihash, path=path))
                    continue
                entries.append((multihash, data))
                olds.append(offset)
                size += length
                if size >= COPY_BYTES:
                    flush()
                    size = 0
            flush()
        finally:
            os.close(fd)
        return moved


_ALL = 1 << 62
"""More rows than a pack can have."""
