"""Where blocks lie, as reads see it: the index, what a running fetch has written since, less what is known to be damaged."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from sqlite3 import Connection

from stack.blocks.gone import Gone
from stack.blocks.hashing import STORED_BLOCK_MAX
from stack.blocks.index import FILE, Index
from stack.blocks.interfaces import RealmId, Segment, SegmentId, SegmentState
from stack.values import dataclass

TRIES_MAX = 64
"""Segments looked at for one block. A block of zeros may lie in any number of files; a read must not walk them all."""


@dataclass(frozen=True, slots=True)
class Location:
    """`prefix + segment[offset : offset + length] + suffix` are the block's bytes."""

    multihash: bytes
    segment: Segment
    offset: int
    length: int
    prefix: bytes = b""
    suffix: bytes = b""
    realm: RealmId | None = None
    """For whom it was fetched; read only until its row is on disk."""

    @property
    def plausible(self) -> bool:
        """Whether a block can have this length. Only a damaged index says otherwise; nothing is allocated for it."""
        return 0 <= self.length <= STORED_BLOCK_MAX

    @property
    def size(self) -> int:
        """Bytes of the whole block."""
        return len(self.prefix) + self.length + len(self.suffix)


_OTHER = bytes(range(0xFF, -1, -1))
"""Turns a multihash into one that nobody has."""


class Locations:
    """Getters: `candidates`, `sizes`. Facts: `left`, `opened`, `written`, `recorded`, `found_damaged`, `found_good`.

    Called from worker threads, several at once; each change is one operation on a dict or set.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._pending: dict[bytes, Location] = {}
        self._damaged: set[tuple[bytes, SegmentId]] = set()
        self._left: set[SegmentId] = set()
        self.gone = Gone()
        """Files in place that are MISSING, though the index does not say so yet."""

    def left(self, segments: Iterable[SegmentId]) -> None:
        """These files were being fetched and nobody does so now: until one is opened again, nothing in it can be read."""
        self._left.update(segments)

    def opened(self, segment: SegmentId) -> None:
        """A fetch writes this file."""
        self._left.discard(segment)

    def written(self, location: Location) -> None:
        """A fetch has written this block; its row follows with the next checkpoint."""
        self._damaged.discard((location.multihash, location.segment.id))
        self._pending[location.multihash] = location

    def recorded(self, location: Location) -> None:
        """The row is on disk (or the block is given up); the note in memory may go."""
        if self._pending.get(location.multihash) is location:
            self._pending.pop(location.multihash, None)

    def found_damaged(self, multihash: bytes, segment: SegmentId) -> None:
        """The bytes there are wrong: the block counts as absent there until it is put again."""
        self._damaged.add((multihash, segment))

    def found_good(self, multihash: bytes, segment: SegmentId) -> None:
        """The block is there as it should be, or has been written anew elsewhere."""
        self._damaged.discard((multihash, segment))

    def candidates(self, connection: Connection, multihash: bytes) -> Iterator[Location]:
        """One location after the other, at most one a segment, until the caller is content.

        In order of segment ids: a block that compaction moves meanwhile turns up again at a higher id.
        """
        pending = self._pending.get(multihash)
        if pending is not None:
            yield pending
        after = SegmentId(-1)
        for _ in range(TRIES_MAX):
            row = self._index.find(connection, multihash, after)
            if row is None:
                return
            segment, offset, length, prefix, suffix = row
            after = segment.id
            if (segment.id in self._left and segment.state is SegmentState.FETCHING) or self.gone.covers(segment.id):
                continue
            if segment.state is not SegmentState.MISSING and (multihash, segment.id) not in self._damaged:
                yield Location(multihash, segment, offset, length, prefix, suffix)

    def sizes(self, multihashes: Sequence[bytes]) -> list[int | None]:
        """The size of each block, None where it is absent."""
        return _sizes(self._places(multihashes))

    def sizes_for(self, multihashes: Sequence[bytes], admitted: frozenset[RealmId]) -> list[int | None]:
        """The same for a peer that was admitted to these realms: None too for what is not for it."""
        return _sizes(self.places_for(multihashes, admitted))

    def _places(self, multihashes: Sequence[bytes]) -> list[Location | None]:
        with self._index.database.reading() as connection:
            return [next(self.candidates(connection, multihash), None) for multihash in multihashes]

    def places_for(self, multihashes: Sequence[bytes], admitted: frozenset[RealmId]) -> list[Location | None]:
        """Where each block lies; None for what is absent and, after as much work, for what is not for this peer."""
        realms = self._index.realms
        if not realms.used:
            return self._places(multihashes)
        places: list[Location | None] = []
        with self._index.database.reading() as connection:
            for multihash in multihashes:
                pending = self._pending.get(multihash)
                realm = pending.realm if pending is not None else None
                seen = realms.is_for(connection, multihash, admitted, unrecorded=pending is not None, realm=realm)
                # Who asks for all blocks of a file could tell by the time that they are here: so one is looked for that is not.
                name = multihash if seen else multihash.translate(_OTHER)
                first = next(self.candidates(connection, name), None)
                places.append(first if seen else None)
        return places

    def pending(self) -> list[bytes]:
        """Multihashes whose rows are not on disk yet."""
        return list(self._pending)

    def files_of(self, multihashes: Sequence[bytes]) -> list[list[Path]]:
        """For each block the user's files in which it can be read."""
        with self._index.database.reading() as connection:
            return [
                [
                    location.segment.path
                    for location in self.candidates(connection, name)
                    if location.segment.kind == FILE
                ]
                for name in multihashes
            ]


def _sizes(places: Iterable[Location | None]) -> list[int | None]:
    return [None if place is None else place.size for place in places]
