"""Several `put`s become one sync of a pack and one transaction. Called from worker threads, one at a time."""

from collections.abc import Sequence

from stack.blocks.disk import store_error
from stack.blocks.gc import Holds
from stack.blocks.index import Index
from stack.blocks.interfaces import Block, RealmId, SegmentId
from stack.blocks.locations import Locations
from stack.blocks.packs import Entry, Packs
from stack.blocks.requests import Line, Request
from stack.errors import NoSpace, StoreError
from stack.sansio.interfaces import Buffer

GROUP_BYTES_MAX = 16 * 1024 * 1024
"""Written and synced at once: some 50 ms of a disk that writes 300 MB/s."""


class Put(Request):
    """Blocks to be kept, for a realm or for everybody; its weight is their bytes."""

    __slots__ = ("entries", "realm")

    def __init__(self, entries: list[Entry], realm: RealmId | None = None) -> None:
        super().__init__(sum(len(data) for _, data in entries))
        self.entries = entries
        self.realm = realm


def puts_of(blocks: Sequence[Block], realm: RealmId | None = None) -> list[Put]:
    """Cut what is to be kept into puts of at most a group each (or one block, if that is larger)."""
    puts = []
    entries: list[Entry] = []
    size = 0
    for cid, data in blocks:
        if entries and size + len(data) > GROUP_BYTES_MAX:
            puts.append(Put(entries, realm))
            entries, size = [], 0
        entries.append((cid.multihash, data))
        size += len(data)
    return [*puts, Put(entries, realm)] if entries else puts


class Commits:
    """Puts that wait. Commands: `submit` (any thread), `commit_next` (one thread at a time)."""

    def __init__(self, index: Index, packs: Packs, locations: Locations, holds: Holds) -> None:
        self._index = index
        self._packs = packs
        self._locations = locations
        self._holds = holds
        self._line: Line[Put] = Line(GROUP_BYTES_MAX)

    def submit(self, put: Put) -> None:
        """Wait in line."""
        self._line.submit(put)

    def commit_next(self) -> None:
        """Write the next group, sync it, record it; its puts are then done, well or not."""
        group = self._line.take()
        error: BaseException | None = None
        try:
            self._commit([(*entry, put.realm) for put in group for entry in put.entries])
        except (StoreError, OSError) as caught:
            error = caught if isinstance(caught, StoreError) else store_error("keeping blocks", caught)
        except BaseException as caught:
            error = caught
            raise
        finally:
            for put in group:
                put.settle(error)

    def _commit(self, entries: Sequence[tuple[bytes, Buffer, RealmId | None]]) -> None:
        try:
            with self._index.database.writing() as connection:
                fresh: dict[bytes, Buffer] = {}
                checked: list[tuple[bytes, SegmentId]] = []
                for multihash, data, realm in entries:
                    self._index.realms.enclose(connection, multihash, realm, here=multihash in fresh)
                    where = self._index.packed(connection, multihash)
                    if where is None:
                        fresh[multihash] = data
                    elif not self._packs.holds(where[0], where[1], data):
                        self._index.remove(connection, multihash, where[0])
                        checked.append((multihash, where[0]))
                        fresh[multihash] = data
                    else:
                        checked.append((multihash, where[0]))
                        self._holds.put_again(multihash)
                if fresh:
                    self._packs.append(connection, list(fresh.items()))
        except BaseException as error:
            self._packs.taken_back()
            if not isinstance(error, NoSpace):
                # What a failed sync has left of the pack's end nobody knows: go on in another.
                self._packs.close()
            raise
        self._packs.recorded()
        self._holds.came(fresh)
        for multihash, segment in checked:
            self._locations.found_good(multihash, segment)
