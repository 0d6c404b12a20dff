"""`repo verify`: read everything, hash everything, say what is wrong. Called from worker threads, in batches."""

import os
from dataclasses import field, replace
from enum import Enum
from pathlib import Path

from stack.blocks import disk
from stack.blocks.gc import Nodes
from stack.blocks.gone import Fault
from stack.blocks.index import PACK, Index, Row
from stack.blocks.interfaces import ReadFailed, Segment, SegmentId, SegmentState
from stack.blocks.locations import Location, Locations
from stack.blocks.reads import Reader, fill
from stack.blocks.walk import Links, Walk
from stack.errors import DecodeError
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB, RAW
from stack.values import dataclass

VERIFY_BYTES = 16 * 1024 * 1024
"""Read and hashed in one worker call: some 15 ms, so that a cancel is soon heard."""

VERIFY_VISITS = 64
"""Blocks below a pin looked at in one worker call; those that are nodes are read."""

VERIFY_ROWS = 4096
"""The same by number, for small blocks."""

PROBLEMS_MAX = 100_000
"""Problems told one by one; beyond that they are only counted (a lost disk has millions)."""


class ProblemKind(Enum):
    """What is wrong."""

    WRONG_BYTES = "wrong bytes"
    """A block does not hash to its name, or ends behind the end of its file."""
    FILE_GONE = "file gone"
    """A file in place, or a pack, is not there or may not be read."""
    UNREADABLE = "cannot be read"
    """The disk does not give a block or a file now. Nothing is withdrawn for that."""
    FILE_CHANGED = "file changed"
    """A file in place has another size or mtime than when it was indexed."""
    INDEX_DAMAGED = "index damaged"
    """SQLite finds the structure of the index wrong."""
    PINNED_MISSING = "pinned and missing"
    """Blocks below a pin are not here, or damaged."""
    NOT_A_NODE = "not a node"
    """A block below a pin is not what its codec says: what it refers to cannot be told, and nothing can be collected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, and where."""

    kind: ProblemKind
    path: Path | None = None
    """The file in which it is; None for what is nowhere."""
    cid: Cid | None = None
    """The block, as a CIDv1 with the raw codec where it is known by its place; None when the whole file is meant."""
    offset: int | None = None
    """Where the block's payload lies in the file."""
    detail: str = ""
    segment: SegmentId | None = None
    """Of a user's file that went or changed."""
    lost: bool = True
    """False for such a file when all that was in it lies elsewhere too, or is below no pin."""


@dataclass(slots=True)
class VerifyReport:
    """What was read, and what was wrong with it."""

    blocks: int = 0
    """Locations read: a block that lies in two places counts twice."""
    bytes: int = 0
    problem_count: int = 0
    problems: list[Problem] = field(default_factory=list)
    """The first `PROBLEMS_MAX` of them."""

    def add(self, problem: Problem) -> None:
        """One more problem."""
        self.problem_count += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)


class Verifier:
    """Walks the segments one after the other: `check_index`, then `check` for each of `segments` until it returns None.
    Then the pins: `start` for each, `check_below` until it returns False. Then the files that went or changed: `check_lost`
    until it returns False.

    What is found wrong is withdrawn, as if a read had found it. A user's file that changed or went is told once, by whoever
    withdraws it: that was his doing. After that only the pins are told that lack it.
    """

    def __init__(self, index: Index, locations: Locations, reader: Reader, nodes: Nodes, links: Links) -> None:
        self.report = VerifyReport()
        self._nodes = nodes
        self._walk = Walk(links)
        self._index = index
        self._locations = locations
        self._reader = reader
        self._lost_files: list[tuple[SegmentId, int]] | None = None
        """Those that are still to be looked at, and from where."""
        self._harmless: set[SegmentId] = set()

    def check_index(self, path: Path) -> None:
        """The structure of the index."""
        for sentence in self._index.database.quick_check():
            self.report.add(Problem(kind=ProblemKind.INDEX_DAMAGED, path=path, detail=sentence))

    def segments(self) -> list[SegmentId]:
        """What is to be walked."""
        with self._index.database.reading() as connection:
            return [segment.id for segment in self._index.segments(connection)]

    def check(self, number: SegmentId, after: int) -> int | None:
        """Read blocks of a segment behind offset `after` (-1 at first); where to go on, None at its end."""
        with self._index.database.reading() as connection:
            segment = self._index.segment(connection, number)
            rows = self._index.rows(connection, number, after, VERIFY_ROWS)
        if segment is None or (segment.kind == PACK and segment.state is SegmentState.MISSING):
            return None
        path = self._reader.path(segment)
        try:
            fd, status = disk.open_regular(path)
        except OSError as error:
            if error.errno not in disk.ABSENT:
                self.report.add(Problem(kind=ProblemKind.UNREADABLE, path=path, detail=error.strerror or ""))
                return None
            if segment.state is SegmentState.MISSING:
                return None
            if self._stands(segment):
                more = " or more" if len(rows) == VERIFY_ROWS else ""
                detail = f"{len(rows)} block{'' if len(rows) == 1 else 's'}{more}" if rows else ""
                number_of_file = number if segment.kind != PACK else None
                self.report.add(Problem(kind=ProblemKind.FILE_GONE, path=path, detail=detail, segment=number_of_file))
                self._withdraw(segment, Fault.GONE)
                return None
            return after
        try:
            in_place = segment.kind != PACK and segment.state is not SegmentState.FETCHING
            if in_place and after < 0 and not disk.unchanged(segment.stamp, status):
                if segment.state is SegmentState.MISSING and segment.stamp is not None:
                    return None
                self.report.add(Problem(kind=ProblemKind.FILE_CHANGED, path=path, segment=number))
                self._withdraw(segment, Fault.CHANGED)
            return self._check_rows(fd, segment, path, rows)
        finally:
            os.close(fd)

    def _check_rows(self, fd: int, segment: Segment, path: Path, rows: list[Row]) -> int | None:
        done = 0
        scratch = bytearray()
        for position, (multihash, offset, length, prefix, suffix) in enumerate(rows):
            if done >= VERIFY_BYTES and offset > rows[position - 1][1]:
                return rows[position - 1][1]
            location = Location(multihash, segment, offset, length, prefix, suffix)
            size = location.size if location.plausible else 0
            if len(scratch) < size:
                scratch = bytearray(size)
            self.report.blocks += 1
            self.report.bytes += size
            done += size
            try:
                right = fill(fd, location, memoryview(scratch)[:size])
            except ReadFailed:
                self.report.add(
                    Problem(kind=ProblemKind.UNREADABLE, path=path, cid=Cid.v1(RAW, multihash), offset=offset)
                )
                continue
            if right:
                self._locations.found_good(multihash, segment.id)
            elif self._stands(segment):
                cid = Cid.v1(RAW, multihash)
                self.report.add(Problem(kind=ProblemKind.WRONG_BYTES, path=path, cid=cid, offset=offset))
                if segment.kind == PACK or segment.state is SegmentState.FETCHING:
                    self._reader.blame(location, Fault.WRONG_BYTES, path)
                else:
                    self._withdraw(segment, Fault.WRONG_BYTES)
        return rows[-1][1] if len(rows) >= VERIFY_ROWS else None

    def start(self, root: Cid) -> None:
        """Go on with what lies below a pin. What lies below one before it too is not looked at again."""
        self._root = root
        self._missing: Cid | None = None
        self._missing_count = 0
        self._walk.add(root)

    def check_below(self) -> bool:
        """Whether some more blocks below the pin are here; False when all have been seen."""
        try:
            batch = self._walk.next_batch(VERIFY_VISITS)
        except DecodeError as error:
            self._not_a_node(self._root, error)
            return True
        sizes = self._locations.sizes([visit.cid.multihash for visit in batch])
        framed = self._nodes.in_frames([visit.cid for visit in batch])
        for (cid, first, opens), size, leaf in zip(batch, sizes, framed, strict=True):
            if size is None:
                self._count_missing(cid, first)
            elif opens and not (leaf and cid.codec == DAG_PB):
                self._open(cid, first)
        if not batch and self._missing_count:
            detail = f"{self._missing_count} of its blocks, {self._missing} among them"
            self.report.add(Problem(kind=ProblemKind.PINNED_MISSING, cid=self._root, detail=detail))
        return bool(batch)

    def check_lost(self) -> bool:
        """Whether some more files that went or changed have been looked at; False when all have. What lay in one, is below a pin and
        nowhere else, is lost."""
        if self._lost_files is None:
            damaged = any(each.kind is ProblemKind.INDEX_DAMAGED for each in self.report.problems)
            found = () if damaged else [each.segment for each in self.report.problems if each.segment is not None]
            self._lost_files = [(number, -1) for number in found]
        rows_left = VERIFY_ROWS
        while self._lost_files and rows_left > 0:
            number, after = self._lost_files.pop()
            with self._index.database.reading() as connection:
                rows = self._index.rows(connection, number, after, VERIFY_ROWS)
            rows_left -= len(rows) + 1
            if None in self._locations.sizes([row[0] for row in rows if row[0] in self._walk.met]):
                continue
            if len(rows) >= VERIFY_ROWS:
                self._lost_files.append((number, rows[-1][1]))
            else:
                self._harmless.add(number)
        if self._lost_files:
            return True
        paths = {each.path for each in self.report.problems if each.segment in self._harmless}
        for position, each in enumerate(self.report.problems):
            in_one = each.kind is ProblemKind.WRONG_BYTES and each.path in paths
            if each.segment in self._harmless or in_one:
                self.report.problems[position] = replace(each, lost=False)
        return False

    def _open(self, cid: Cid, first: bool) -> None:
        try:
            [data] = self._nodes.read_nodes([cid])
        except ReadFailed:
            return  # told where it lies
        if data is None:
            self._count_missing(cid, first)
            return
        try:
            self._walk.receive(cid, data)
        except DecodeError as error:
            self._not_a_node(cid, error)

    def _not_a_node(self, cid: Cid, error: DecodeError) -> None:
        self.report.add(Problem(kind=ProblemKind.NOT_A_NODE, cid=cid, detail=f"below {self._root}: {error}"))

    def _count_missing(self, cid: Cid, first: bool) -> None:
        self._missing_count += first or not self._missing_count
        self._missing = self._missing or cid

    def _stands(self, segment: Segment) -> bool:
        """Whether the segment is still where it was: a fetch may have ended, or compaction moved its blocks."""
        with self._index.database.reading() as connection:
            now = self._index.segment(connection, segment.id)
        return now is not None and (now.path == segment.path) and (segment.kind != PACK or now.state == segment.state)

    def _withdraw(self, segment: Segment, fault: Fault) -> None:
        if segment.kind != PACK and segment.state is SegmentState.SEALED:
            self._reader.withdraw(segment, fault)
