"""Files in place: a user's own files, of which only the index knows something. Called from worker threads."""

import os
from collections.abc import Sequence
from pathlib import Path

from stack.blocks import disk
from stack.blocks.index import FILE, FRAME_BYTES_MAX, ROWS_BATCH, Index, Row
from stack.blocks.interfaces import FileStamp, Leaf, Segment, SegmentId, SegmentState, SourceChanged
from stack.blocks.reads import Fault, SourceWithdrawn
from stack.errors import LimitExceeded, Refused
from stack.trace import Trace


def row_of(leaf: Leaf, size: int) -> Row:
    """The row of a leaf in a file of `size` bytes. Raises LimitExceeded, ValueError."""
    if len(leaf.prefix) + len(leaf.suffix) > FRAME_BYTES_MAX:
        raise LimitExceeded("bytes around a leaf in place", FRAME_BYTES_MAX)
    if leaf.offset < 0 or leaf.length < 0 or leaf.offset + leaf.length > size:
        raise ValueError(f"a leaf at {leaf.offset} + {leaf.length} is outside its file of {size} bytes")
    return leaf.cid.multihash, leaf.offset, leaf.length, leaf.prefix, leaf.suffix


class Files:
    """The files of a store. `add`, `forget` and `check` are whole transactions."""

    def __init__(self, index: Index, tell: Trace) -> None:
        self._index = index
        self._tell = tell

    def add(self, path: Path, stamp: FileStamp, leaves: Sequence[Leaf]) -> SegmentId:
        """Record leaves of a file that looks like `stamp`. What was known of the path before goes if it looked otherwise.

        Raises SourceChanged when the file no longer looks so, Refused while it is being fetched.
        """
        path = Path(os.path.abspath(path))
        rows = [row_of(leaf, stamp.size) for leaf in leaves]
        try:
            changed = not disk.unchanged(stamp, path.stat())
        except OSError:
            changed = True
        if changed:
            raise SourceChanged(path)
        with self._index.database.writing() as connection:
            known = self._index.segment_at(connection, path)
            if known is not None and known.state is SegmentState.FETCHING:
                raise Refused(f"{path} is being fetched")
            if known is not None and (known.state is SegmentState.MISSING or not _same_content(known.stamp, stamp)):
                self._index.remove_segment(connection, known.id)
                known = None
            if known is None:
                number = self._index.add_segment(connection, FILE, path, SegmentState.SEALED, stamp=stamp)
            else:
                number = known.id
            self._index.add(connection, number, rows)
            if leaves:
                # Where the file lay before it was moved.
                for twin in self._index.twins(connection, number, leaves[0], stamp.size):
                    if not os.path.lexists(twin.path):
                        self._index.remove_segment(connection, twin.id)
        return number

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
                    if fault is not None:
                        withdrawn.append(Segment(segment.id, segment.kind, segment.path, state, segment.stamp))
                        self._tell(SourceWithdrawn(path=segment.path, fault=fault))
        return withdrawn, files[-1].id if len(files) == ROWS_BATCH else None


def _same_content(known: FileStamp | None, stamp: FileStamp) -> bool:
    return known is not None and (known.size, known.mtime_ns) == (stamp.size, stamp.mtime_ns)


def _look(segment: Segment) -> list[tuple[SegmentState, Fault | None]]:
    """The state a file should have now, if that is another than it has."""
    try:
        same = disk.unchanged(segment.stamp, segment.path.stat())
        fault = Fault.CHANGED
    except OSError:
        same = False
        fault = Fault.GONE
    if same == (segment.state is SegmentState.SEALED):
        return []
    return [(SegmentState.SEALED, None)] if same else [(SegmentState.MISSING, fault)]
