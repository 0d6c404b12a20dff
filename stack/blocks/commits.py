"""Group commit: several `put`s become one sync of a pack and one transaction. Called from worker threads, one at a time."""

from collections import deque
from collections.abc import Sequence

from stack.blocks.disk import store_error
from stack.blocks.gc import Holds
from stack.blocks.index import Index
from stack.blocks.interfaces import Block, SegmentId
from stack.blocks.locations import Locations
from stack.blocks.packs import Entry, Packs
from stack.errors import NoSpace, StoreError
from stack.sansio.interfaces import Buffer

GROUP_BYTES_MAX = 16 * 1024 * 1024
"""Written and synced at once. A group is whatever has been put while the one before was on its way, so nobody waits for a
clock; at 16 MiB a slow disk (300 MB/s) answers within 50 ms."""


class Put:
    """Blocks to be kept. `done` says that it is over; `error` how it went; a `given_up` one is passed over if not begun."""

    __slots__ = ("done", "entries", "error", "given_up", "size")

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self.size = sum(len(data) for _, data in entries)
        self.done = False
        self.given_up = False
        self.error: StoreError | None = None

    def settle(self, error: BaseException | None) -> None:
        """It is over. Each put has an error of its own: several tasks raise it."""
        if error is not None:
            self.error = NoSpace(str(error)) if isinstance(error, NoSpace) else StoreError(str(error))
        self.done = True


def puts_of(blocks: Sequence[Block]) -> list[Put]:
    """Cut what is to be kept into puts of at most a group each (or one block, if that is larger)."""
    puts = []
    entries: list[Entry] = []
    size = 0
    for cid, data in blocks:
        if entries and size + len(data) > GROUP_BYTES_MAX:
            puts.append(Put(entries))
            entries, size = [], 0
        entries.append((cid.multihash, data))
        size += len(data)
    return [*puts, Put(entries)] if entries else puts


class Commits:
    """The queue of puts. Commands: `submit` (any thread), `commit_next` (one thread at a time)."""

    def __init__(self, index: Index, packs: Packs, locations: Locations, holds: Holds) -> None:
        self._index = index
        self._packs = packs
        self._locations = locations
        self._holds = holds
        self._queue: deque[Put] = deque()

    def submit(self, put: Put) -> None:
        """Wait in line."""
        self._queue.append(put)

    def commit_next(self) -> None:
        """Write the next group, sync it, record it; its puts are then done, well or not."""
        group: list[Put] = []
        size = 0
        while self._queue and (not group or size + self._queue[0].size <= GROUP_BYTES_MAX):
            put = self._queue.popleft()
            if not put.given_up:
                group.append(put)
                size += put.size
        error: BaseException | None = None
        try:
            self._commit([entry for put in group for entry in put.entries])
        except (StoreError, OSError) as caught:
            error = caught if isinstance(caught, StoreError) else store_error("keeping blocks", caught)
        except BaseException as caught:
            error = caught
            raise
        finally:
            for put in group:
                put.settle(error)

    def _commit(self, entries: Sequence[Entry]) -> None:
        try:
            with self._index.database.writing() as connection:
                fresh: dict[bytes, Buffer] = {}
                replaced: list[tuple[bytes, SegmentId]] = []
                for multihash, data in entries:
                    where = self._index.packed(connection, multihash)
                    if where is None:
                        fresh[multihash] = data
                    elif self._locations.is_damaged(multihash, where[0]):
                        self._index.remove(connection, multihash, where[0])
                        replaced.append((multihash, where[0]))
                        fresh[multihash] = data
                    else:
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
        for multihash, segment in replaced:
            self._locations.found_good(multihash, segment)
