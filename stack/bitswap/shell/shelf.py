"""Blocks of messages that go out a piece at a time: kept while there is room, read anew when there was not.

So a peer that takes nothing holds no more than the piece it does not take.
"""

from collections.abc import Awaitable, Callable, Sequence

import anyio

from stack.bitswap.served_peer import PIECE_BYTES
from stack.errors import LimitExceeded
from stack.multiformats.cid import Cid
from stack.sansio.interfaces import Buffer

SHELF_BYTES = 8 * 1024 * 1024
"""Kept in all. A few fast peers, of whom nothing is known yet, need no block twice; a crowd of slow ones has one read for each
piece, which costs a millisecond."""

READERS = 4
"""Messages that are read at a time: while they are, nothing can take their memory."""

ROOM_ATTEMPTS = 50
ROOM_PAUSE_SECONDS = 0.2
"""For memory of the node's budget: others give theirs back meanwhile."""


class Shelved:
    """A message, encoded. Getters: `size`, `blocks`, `missing`. Outputs: `piece`."""

    __slots__ = ("_parts", "blocks", "charged", "give_back", "missing", "size")

    def __init__(
        self,
        parts: Sequence[Buffer],
        blocks: Sequence[tuple[Cid, int]],
        missing: list[Cid],
        charged: int,
        give_back: Callable[[], None],
    ) -> None:
        self._parts = [memoryview(part) for part in parts]
        self.size = sum(map(len, self._parts))
        self.blocks = blocks
        """What is in it, with sizes."""
        self.missing = missing
        """What could not be read."""
        self.charged = charged
        """Bytes of memory."""
        self.give_back = give_back
        """Ends its life."""

    def piece(self, position: int) -> bytes:
        """A copy of what follows `position`, at most a piece; nothing at the end."""
        found: list[memoryview] = []
        room = PIECE_BYTES
        for part in self._parts:
            if position < len(part):
                found.append(part[position : position + room])
                room -= len(found[-1])
            position = max(position - len(part), 0)
            if not room:
                break
        return b"".join(found)


class Shelf:
    """Commands: `put`, `drop`. Getters: `find`, `used`."""

    def __init__(self, most: int = SHELF_BYTES) -> None:
        self._most = most
        self._kept: dict[int, Shelved] = {}
        """By message; what was used last is at the end."""
        self._readers = anyio.Semaphore(READERS)
        self.used = 0
        """Bytes that are kept."""

    def find(self, id: int) -> Shelved | None:
        """The message, if it is still there. To be used before anything is awaited."""
        shelved = self._kept.pop(id, None)
        if shelved is not None:
            self._kept[id] = shelved
        return shelved

    async def put(self, id: int, read: Callable[[], Awaitable[Shelved]]) -> Shelved:
        """Read a message and keep it until its place is needed. To be used before anything else is awaited.

        Raises LimitExceeded when the node's budget has no room for some seconds, and what `read` raises.
        """
        self.drop(id)
        async with self._readers:
            shelved = await self._read(read)
        self._kept[id] = shelved
        self.used += shelved.charged
        while self.used > self._most and len(self._kept) > 1:
            self.drop(next(iter(self._kept)))
        return shelved

    async def _read(self, read: Callable[[], Awaitable[Shelved]]) -> Shelved:
        for _ in range(ROOM_ATTEMPTS):
            try:
                return await read()
            except LimitExceeded:
                if not self._kept:
                    await anyio.sleep(ROOM_PAUSE_SECONDS)
                while self._kept:
                    self.drop(next(iter(self._kept)))
        return await read()

    def drop(self, id: int) -> None:
        """It is not needed any more; it may have gone before."""
        shelved = self._kept.pop(id, None)
        if shelved is not None:
            self.used -= shelved.charged
            shelved.give_back()
