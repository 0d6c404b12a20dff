"""What a store puts right before its first read: torn ends of packs, packs without rows, files caught between two names."""

import os
from enum import Enum
from pathlib import Path
from sqlite3 import Connection

from stack.blocks import disk
from stack.blocks.index import PACK, Index
from stack.blocks.interfaces import Segment, SegmentId, SegmentState
from stack.blocks.named import is_gone
from stack.blocks.packs import Packs, Record, pack_number, pack_path, pack_stamp, scan
from stack.blocks.partfile import record_sealed
from stack.blocks.records import HEAD
from stack.trace import Trace, TraceEvent
from stack.values import dataclass


class Repair(Enum):
    """What was put right."""

    END_CUT = "torn end cut off"
    """Bytes behind the last whole record of a pack."""
    RECORDS_ADOPTED = "records adopted"
    """Whole records that the index did not know."""
    ROWS_DROPPED = "rows dropped"
    """Rows that pointed at what is not there any more: those blocks are lost."""
    SEAL_FINISHED = "seal finished"
    """A fetched file that had got its final name, but not its last row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRepaired(TraceEvent):
    """Something was put right at start. `amount` is bytes for END_CUT, blocks for the other two of packs."""

    repair: Repair
    path: Path
    amount: int


def recover(index: Index, packs: Packs, tell: Trace) -> None:
    """Make index and disk agree; then `packs` can append. Called once, before anything else. Raises OSError, StoreError."""
    with index.database.reading() as connection:
        segments = index.segments(connection, PACK)
        sealing = index.sealing(connection)
        empty = [each for each in index.fetching(connection) if not index.rows(connection, each.id, -1, 1)]
    for segment, target in sealing:
        _finish_seal(index, segment, target, tell)
    _forget_unmade(index, [segment for segment in empty if is_gone(segment.path, segment.stamp)])
    growing: Segment | None = None
    for segment in segments:
        if _recover_pack(index, packs.directory, segment, tell) and segment.state is SegmentState.FETCHING:
            if growing is not None:
                _seal(index, growing.id)
            growing = segment
    known = {segment.id for segment in segments}
    for path in sorted(packs.directory.iterdir()):
        number = pack_number(path)
        if number is not None and number not in known:
            _adopt(index, path, number, tell)
    _choose_growing(index, packs, growing)


def _recover_pack(index: Index, directory: Path, segment: Segment, tell: Trace) -> bool:
    """Whether the pack is there."""
    path = pack_path(directory, segment.id)
    if segment.state is SegmentState.MISSING:
        # Compaction had moved its blocks and was about to remove it.
        path.unlink(missing_ok=True)
        with index.database.writing() as connection:
            index.remove_segment(connection, segment.id)
        return False
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        with index.database.writing() as connection:
            lost = index.remove_segment(connection, segment.id)
        if lost:
            tell(StoreRepaired(repair=Repair.ROWS_DROPPED, path=path, amount=lost))
        return False
    valid = segment.stamp.size if segment.stamp is not None else 0
    if size < valid:
        with index.database.writing() as connection:
            lost = connection.execute(
                "DELETE FROM location WHERE segment = ? AND offset + length > ?", (segment.id, size)
            ).rowcount
            index.set_stamp(connection, segment.id, pack_stamp(size))
        tell(StoreRepaired(repair=Repair.ROWS_DROPPED, path=path, amount=lost))
    elif size > valid and segment.state is SegmentState.FETCHING:
        _recover_end(index, segment.id, path, valid, size, tell)
    return True


def _recover_end(index: Index, number: SegmentId, path: Path, valid: int, size: int, tell: Trace) -> None:
    """Adopt whole records behind the valid part (they were synced, then the power went), and cut what follows."""
    records = list(scan(path, valid, search=False))
    end = records[-1].offset + records[-1].length if records else valid
    if end < size:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.ftruncate(fd, end)
            disk.sync_data(fd)
        finally:
            os.close(fd)
        tell(StoreRepaired(repair=Repair.END_CUT, path=path, amount=size - end))
    if records:
        _record(index, number, records, end)
        tell(StoreRepaired(repair=Repair.RECORDS_ADOPTED, path=path, amount=len(records)))


def _adopt(index: Index, path: Path, number: SegmentId, tell: Trace) -> None:
    """Make rows for a pack that the index does not know (an index that was lost, or is older)."""
    with index.database.writing() as connection:
        taken = index.segment(connection, number) is not None
        adopted = index.add_segment(
            connection, PACK, Path(path.name), SegmentState.SEALED, number=None if taken else number
        )
        if taken:
            path = path.rename(pack_path(path.parent, adopted))
            index.set_path(connection, adopted, Path(path.name))
        records = list(scan(path, len(HEAD), search=True))
        _add(index, connection, adopted, records)
        index.set_stamp(connection, adopted, pack_stamp(path.stat().st_size))
    tell(StoreRepaired(repair=Repair.RECORDS_ADOPTED, path=path, amount=len(records)))


def _record(index: Index, number: SegmentId, records: list[Record], end: int) -> None:
    with index.database.writing() as connection:
        _add(index, connection, number, records)
        index.set_stamp(connection, number, pack_stamp(end))


def _add(index: Index, connection: Connection, number: SegmentId, records: list[Record]) -> None:
    # A block that another pack has as well (compaction was cut short) needs no second row.
    fresh = [record for record in records if index.packed(connection, record.multihash) is None]
    index.realms.enclose_found(connection, [record.multihash for record in fresh])
    index.add(connection, number, ((record.multihash, record.offset, record.length, b"", b"") for record in fresh))


def _choose_growing(index: Index, packs: Packs, growing: Segment | None) -> None:
    with index.database.reading() as connection:
        segments = index.segments(connection, PACK)
    for segment in segments:
        packs.made(segment.id)
        if growing is not None and segment.id == growing.id and segment.stamp is not None:
            packs.go_on(segment.id, segment.stamp.size)


def _seal(index: Index, number: SegmentId) -> None:
    with index.database.writing() as connection:
        index.set_state(connection, number, SegmentState.SEALED)


def _forget_unmade(index: Index, segments: list[Segment]) -> None:
    """The row of a fetched file comes before the file: of these neither a byte nor the file had come."""
    if segments:
        with index.database.writing() as connection:
            for segment in segments:
                index.remove_segment(connection, segment.id)


def _finish_seal(index: Index, segment: Segment, target: Path, tell: Trace) -> None:
    """A crash came between recording a final name and recording that the file has it."""
    part = segment.path
    try:
        begun, status = disk.status_at(part), disk.status_at(target)
    except OSError:
        return  # it may have that name: it is looked for again at the next start
    if begun is None and status is None and not is_gone(target, segment.stamp):
        return
    if begun is not None:
        named = status is not None and os.path.samestat(begun, status)
    else:
        named = status is not None and disk.unchanged(segment.stamp, status)
    if not named:
        with index.database.writing() as connection:
            index.set_target(connection, segment.id, None)
        return
    try:
        part.unlink(missing_ok=True)
        disk.sync_directory(target.parent)
    except OSError:
        return  # likewise
    record_sealed(index, segment.id, target)
    tell(StoreRepaired(repair=Repair.SEAL_FINISHED, path=target, amount=0))
