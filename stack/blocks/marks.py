"""Why blocks are kept, and for whom: the part of `DiskStore` that is about pins and realms."""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple, Unpack

from stack.blocks.core import StoreCore
from stack.blocks.interfaces import PinKind, Realm, RealmId, RealmState
from stack.multiformats.cid import Cid

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class StoredMarks:
    """Implements PinStore, and RealmStore but for `within` and what is asked for peers."""

    _core: StoreCore

    async def _read(self, function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        """In a worker thread that reads."""
        raise NotImplementedError

    async def _change(self, function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        """In one that writes."""
        raise NotImplementedError

    async def realms_of(self, cid: Cid) -> list[RealmId]:
        """See RealmStore."""

        def read() -> list[RealmId]:
            with self._core.index.database.reading() as connection:
                return self._core.index.realms.of(connection, cid.multihash)

        return await self._read(read)

    async def realms(self) -> list[Realm]:
        """See RealmStore."""
        return await self._read(self._core.index.realms.all)

    async def add_realm(
        self, secret: bytes, *, root: Cid | None = None, state: RealmState = RealmState.CLOSED
    ) -> Realm:
        """See RealmStore."""
        return await self._change(self._core.index.realms.add, secret, root, state)

    async def change_realm(self, id: RealmId, *, root: Cid | None, state: RealmState) -> None:
        """See RealmStore."""
        await self._change(self._core.index.realms.change, id, root, state)

    async def merge_realms(self, source: RealmId, into: RealmId) -> None:
        """See RealmStore."""
        await self._change(self._core.index.realms.merge, source, into)

    async def add_pin(self, cid: Cid, name: str = "", *, kind: PinKind = PinKind.USER) -> None:
        """Keep this root, and what is below it, when garbage is collected."""

        def write() -> None:
            with self._core.index.database.writing() as connection:
                self._core.index.add_pin(connection, bytes(cid), kind, name)
                # Within the transaction: a collection reads its roots in one, so that it sees both or neither.
                self._core.holds.changed()

        await self._change(write)

    async def remove_pin(self, cid: Cid, *, kind: PinKind = PinKind.USER) -> bool:
        """Whether there was such a pin; it is gone now."""

        def write() -> bool:
            with self._core.index.database.writing() as connection:
                return self._core.index.remove_pin(connection, bytes(cid), kind)

        return await self._change(write)

    async def pins(self, *, kind: PinKind = PinKind.USER) -> list[tuple[Cid, str]]:
        """All pins of a kind with their names, ordered by CID."""
        return [(cid, name) for cid, found, name in await self._read(self._core.all_pins) if found is kind]
