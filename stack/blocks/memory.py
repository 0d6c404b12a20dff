"""A store that forgets everything at the end: the reference for all others."""

import copy
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

from stack.blocks.hashing import check_blocks
from stack.blocks.interfaces import EVERYBODY, Block, BlockNotFound, PinKind, Realm, RealmId, RealmState
from stack.blocks.realms import may_see
from stack.errors import NoSpace
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import RAW
from stack.trace import Trace
from stack.values import dataclass


@dataclass(slots=True)
class _Usage:
    bytes: int = 0
    holders: int = 0


class MemoryStore:
    """Blocks, pins and realms in dictionaries. Implements BlockStore, DirectReads, ReadsMany, PinStore, RealmStore.

    Blocks are hashed when they come in and not again when they go out: `bytes` in memory cannot change.
    """

    def __init__(self, *, quota: int | None = None) -> None:
        self._blocks: dict[bytes, bytes] = {}
        self._pins: dict[tuple[PinKind, Cid], str] = {}
        self._quota = quota
        self._usage = _Usage()
        self._realms: dict[RealmId, Realm] = {}
        self._in_realms: dict[bytes, set[RealmId]] = {}
        self._realm: RealmId | None = None

    def __repr__(self) -> str:
        return f"<MemoryStore {len(self._blocks)} blocks, {self._usage.bytes} bytes>"

    @classmethod
    @asynccontextmanager
    async def open(
        cls, home: Path, *, quota: int | None = None, trace: Trace | None = None
    ) -> AsyncIterator["MemoryStore"]:
        """An empty store; `home` is not touched and nothing is traced. `quota` is the most bytes of blocks it keeps."""
        del home, trace
        store = cls(quota=quota)
        try:
            yield store
        finally:
            await store.aclose()

    async def has(self, cids: Sequence[Cid]) -> list[bool]:
        """For each CID whether its block is here."""
        return [cid.multihash in self._blocks for cid in cids]

    async def sizes(self, cids: Sequence[Cid]) -> list[int | None]:
        """The size of each block, None where it is absent."""
        found = (self._blocks.get(cid.multihash) for cid in cids)
        return [None if data is None else len(data) for data in found]

    async def get(self, cid: Cid) -> bytes:
        """The block. Raises BlockNotFound."""
        try:
            return self._blocks[cid.multihash]
        except KeyError:
            raise BlockNotFound(cid) from None

    async def read_into(self, cids: Sequence[Cid], out: memoryview) -> list[int | None]:
        """Copy blocks one behind the other into `out`; None for one that is absent or does not fit any more."""
        sizes: list[int | None] = []
        position = 0
        for cid in cids:
            data = self._blocks.get(cid.multihash)
            if data is None or len(data) > len(out) - position:
                sizes.append(None)
                continue
            out[position : position + len(data)] = data
            position += len(data)
            sizes.append(len(data))
        return sizes

    async def get_many(self, cids: Sequence[Cid], most: int) -> list[bytes | None]:
        """Blocks of `most` bytes in all; None for one that is absent or too much."""
        blocks: list[bytes | None] = []
        for cid in cids:
            data = self._blocks.get(cid.multihash)
            blocks.append(data if data is not None and len(data) <= most else None)
            most -= len(blocks[-1] or b"")
        return blocks

    async def put(self, blocks: Sequence[Block]) -> None:
        """Keep all blocks or none. Raises NoSpace, BlockMismatch, LimitExceeded."""
        check_blocks(blocks)
        fresh = {cid.multihash: data for cid, data in blocks if cid.multihash not in self._blocks}
        size = sum(map(len, fresh.values()))
        if self._quota is not None and self._usage.bytes + size > self._quota:
            raise NoSpace(
                f"the store may hold {self._quota} B; {self._usage.bytes} B are used, {size} B more were to be kept"
            )
        for cid, _ in blocks:
            self._enclose(cid.multihash)
        self._blocks.update((multihash, bytes(data)) for multihash, data in fresh.items())
        self._usage.bytes += size

    def _enclose(self, multihash: bytes) -> None:
        """As `Realms.enclose`."""
        if multihash not in self._blocks:
            self._in_realms.pop(multihash, None)
        elif (self._realm is None) is (multihash in self._in_realms):
            self._in_realms.setdefault(multihash, set()).add(EVERYBODY)
        if self._realm is not None:
            self._in_realms.setdefault(multihash, set()).add(self._realm)

    async def delete(self, cids: Sequence[Cid]) -> int:
        """Forget blocks; returns how many were here."""
        gone = [data for cid in cids if (data := self._blocks.pop(cid.multihash, None)) is not None]
        self._usage.bytes -= sum(map(len, gone))
        return len(gone)

    async def cids(self) -> AsyncIterator[Cid]:
        """Every block that was here when the listing began, as a CIDv1 with the raw codec."""
        for multihash in list(self._blocks):
            yield Cid.v1(RAW, multihash)

    async def add_pin(self, cid: Cid, name: str = "", *, kind: PinKind = PinKind.USER) -> None:
        """Keep what is below this root."""
        self._pins[kind, cid] = name

    async def remove_pin(self, cid: Cid, *, kind: PinKind = PinKind.USER) -> bool:
        """Whether there was such a pin; it is gone now."""
        return self._pins.pop((kind, cid), None) is not None

    async def pins(self, *, kind: PinKind = PinKind.USER) -> list[tuple[Cid, str]]:
        """All pins of a kind with their names, ordered by CID."""
        return sorted((cid, name) for (pinned, cid), name in self._pins.items() if pinned is kind)

    @contextmanager
    def hold(self, *roots: Cid) -> Iterator[None]:
        """While the context lasts, nothing is garbage."""
        self._usage.holders += 1
        try:
            yield
        finally:
            self._usage.holders -= 1

    @property
    def held(self) -> bool:
        """Whether somebody is at work on what no pin reaches yet."""
        return self._usage.holders > 0

    def within(self, realm: RealmId) -> "MemoryStore":
        """See RealmStore."""
        view = copy.copy(self)
        view._realm = realm
        return view

    async def sizes_for(self, cids: Sequence[Cid], admitted: frozenset[RealmId]) -> list[int | None]:
        """See RealmStore."""
        states = {realm.id: realm.state for realm in self._realms.values()}
        sizes: list[int | None] = []
        for cid, size in zip(cids, await self.sizes(cids), strict=True):
            realms = self._in_realms.get(cid.multihash)
            seen = may_see(realms or (), states, admitted)  # also of what is absent: it takes as long then
            sizes.append(size if realms is None or seen else None)
        return sizes

    async def realms_of(self, cid: Cid) -> list[RealmId]:
        """See RealmStore."""
        return sorted(self._in_realms.get(cid.multihash, ()))

    async def realms(self) -> list[Realm]:
        """See RealmStore."""
        return list(self._realms.values())

    async def add_realm(
        self, secret: bytes, *, root: Cid | None = None, state: RealmState = RealmState.CLOSED
    ) -> Realm:
        """See RealmStore."""
        number = RealmId(max(self._realms, default=EVERYBODY) + 1)
        self._realms[number] = Realm(number, root, secret, state)
        return self._realms[number]

    async def change_realm(self, id: RealmId, *, root: Cid | None, state: RealmState) -> None:
        """See RealmStore."""
        self._realms[id] = replace(self._realms[id], root=root, state=state)

    async def merge_realms(self, source: RealmId, into: RealmId) -> None:
        """See RealmStore."""
        for realms in self._in_realms.values():
            if source in realms:
                realms.discard(source)
                realms.add(into)
        del self._realms[source]

    async def aclose(self) -> None:
        """Forget everything."""
        self._blocks.clear()
        self._pins.clear()
        self._usage.bytes = 0
