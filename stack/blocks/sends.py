"""What is given out many at a time: the part of `DiskStore` for peers, and for who reads a file."""

from collections.abc import Callable, Sequence
from typing import TypeVar, TypeVarTuple, Unpack

from stack.blocks.core import StoreCore
from stack.blocks.interfaces import RealmId
from stack.multiformats.cid import Cid

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class StoredSends:
    """Implements ReadsMany, ReadsToSend, and of RealmStore what is asked for peers."""

    _core: StoreCore

    async def _read(self, function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        """In a worker thread that reads."""
        raise NotImplementedError

    async def get_many(self, cids: Sequence[Cid], most: int) -> list[bytes | None]:
        """See ReadsMany."""
        return await self._read(self._core.reader.load_many, [cid.multihash for cid in cids], most)

    async def sizes_for(self, cids: Sequence[Cid], admitted: frozenset[RealmId]) -> list[int | None]:
        """See RealmStore."""
        names = [cid.multihash for cid in cids]
        changes = self._core.database.changes
        places = await self._read(self._core.locations.places_for, names, admitted)
        self._core.warm.found(places, changes)
        return [None if place is None else place.size for place in places]

    async def read_to_send(self, cids: Sequence[Cid], out: memoryview) -> list[int | None]:
        """See ReadsToSend."""
        names = [cid.multihash for cid in cids]
        warm = self._core.warm
        hash_all = warm.is_time_to_hash()
        if not hash_all and (found := warm.read(names, out)) is not None:
            return found
        sizes, files = await self._read(self._core.reader.read_to_send, names, out, hash_all)
        warm.opened(files)
        return sizes

    async def let_go(self) -> None:
        """See ReadsToSend."""
        await self._core.warm.let_go()
