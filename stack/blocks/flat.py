"""A store of plain files, one a block, in the layout that Kubo calls flatfs, `next-to-last/2`.

`<home>/flat/SHARDING` names the layout; a block lies in `XY/KEY.data`, where KEY is its multihash in base32 (upper case, no
padding) and XY the two characters before the last. Slow for small blocks, and readable by anything. Source: ipfs/go-ds-flatfs.
"""

import base64
import binascii
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from stack.blocks import disk
from stack.blocks.hashing import check_blocks, matches
from stack.blocks.interfaces import Block, BlockMismatch, BlockNotFound
from stack.errors import CorruptStore, NoSpace, StoreError
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import RAW
from stack.trace import Trace

T = TypeVar("T")

SHARDING = "/repo/flatfs/shard/v1/next-to-last/2\n"
WORKERS = 4
"""Calls at once: enough to keep a disk busy, few enough not to starve other users of two cores."""

_SUFFIX = ".data"
_TEMPORARY = "put-"
"""How flatfs too begins the names of files that are not whole yet."""


class FlatStore:
    """Implements BlockStore. A block is written beside its place, synced, and renamed: it is there whole or not at all."""

    def __init__(self, directory: Path, *, quota: int | None) -> None:
        self._directory = directory
        self._quota = quota
        self._used = 0
        self._limiter = CapacityLimiter(WORKERS)
        self._writes = CapacityLimiter(1)
        self._closed = False

    def __repr__(self) -> str:
        return f"<FlatStore {self._directory}>"

    @classmethod
    @asynccontextmanager
    async def open(
        cls, home: Path, *, quota: int | None = None, trace: Trace | None = None
    ) -> AsyncIterator["FlatStore"]:
        """The store in `<home>/flat`, made when it is not there. `quota` is the most bytes of blocks it keeps.

        Nothing is traced. Raises CorruptStore for another layout, NoSpace, StoreError.
        """
        del trace
        store = cls(home / "flat", quota=quota)
        await to_thread.run_sync(store._prepare)
        try:
            yield store
        finally:
            await store.aclose()

    async def has(self, cids: Sequence[Cid]) -> list[bool]:
        """For each CID whether its block is here."""
        return [size is not None for size in await self.sizes(cids)]

    async def sizes(self, cids: Sequence[Cid]) -> list[int | None]:
        """The size of each block, None where it is absent."""
        return await self._work(lambda: [self._size(cid.multihash) for cid in cids])

    async def get(self, cid: Cid) -> bytes:
        """The block, re-hashed. Raises BlockNotFound, BlockMismatch, StoreError."""
        return await self._work(lambda: self._read(cid))

    async def put(self, blocks: Sequence[Block]) -> None:
        """Keep blocks. Raises BlockMismatch (nothing is kept), NoSpace (some may be), LimitExceeded, StoreError."""
        await self._work(lambda: check_blocks(blocks))
        await self._work(lambda: self._write(blocks), self._writes)

    async def delete(self, cids: Sequence[Cid]) -> int:
        """Forget blocks; returns how many were here."""
        return await self._work(lambda: self._delete(cids), self._writes)

    async def cids(self) -> AsyncIterator[Cid]:
        """Every block as a CIDv1 with the raw codec, directory by directory. Raises StoreError."""
        for directory in await self._work(self._shards):
            for multihash in await self._work(lambda directory=directory: _listing(directory)):  # type: ignore[misc]
                yield Cid.v1(RAW, multihash)

    async def aclose(self) -> None:
        """Nothing is open between calls."""
        self._closed = True

    async def _work(self, function: Callable[[], T], limiter: CapacityLimiter | None = None) -> T:
        if self._closed:
            raise StoreError("the block store is closed")

        def call() -> T:
            with disk.translated(f"using {self._directory}"):
                return function()

        return await to_thread.run_sync(call, limiter=limiter or self._limiter)

    def _path(self, multihash: bytes) -> Path:
        key = base64.b32encode(multihash).decode().rstrip("=")
        return self._directory / key[-3:-1] / (key + _SUFFIX)

    def _prepare(self) -> None:
        with disk.translated(f"opening {self._directory}"):
            disk.make_private(self._directory)
            layout = self._directory / "SHARDING"
            if not layout.exists():
                disk.write_whole(layout, SHARDING.encode())
                disk.sync_directory(self._directory.parent)
            if layout.read_text().strip() != SHARDING.strip():
                raise CorruptStore(
                    f"{layout} names another layout than {SHARDING.strip()}; convert it with flatfs first"
                )
            for shard in self._shards():
                for entry in os.scandir(shard):
                    if entry.name.startswith(_TEMPORARY):
                        os.unlink(entry.path)
                    elif self._quota is not None:
                        self._used += entry.stat().st_size

    def _shards(self) -> list[Path]:
        return sorted(path for path in self._directory.iterdir() if path.is_dir() and not path.name.startswith("."))

    def _size(self, multihash: bytes) -> int | None:
        try:
            return self._path(multihash).stat().st_size
        except FileNotFoundError:
            return None

    def _read(self, cid: Cid) -> bytes:
        path = self._path(cid.multihash)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise BlockNotFound(cid) from None
        if not matches(cid.multihash, data):
            raise BlockMismatch(cid, str(path))
        return data

    def _write(self, blocks: Sequence[Block]) -> None:
        shards = {self._path(cid.multihash).parent for cid, _ in blocks}
        if missing := [shard for shard in shards if not shard.is_dir()]:
            for shard in missing:
                shard.mkdir(exist_ok=True)
            disk.sync_directory(self._directory)
        for cid, data in blocks:
            path = self._path(cid.multihash)
            old = self._size(cid.multihash)
            if old == len(data) and matches(cid.multihash, path.read_bytes()):
                continue
            grown = len(data) - (old or 0)
            if self._quota is not None and self._used + grown > self._quota:
                raise NoSpace(f"the quota of the store is {self._quota} bytes; {self._used} are used")
            disk.write_whole(path, data, prefix=_TEMPORARY)
            self._used += grown

    def _delete(self, cids: Sequence[Cid]) -> int:
        gone = 0
        for cid in cids:
            size = self._size(cid.multihash)
            if size is not None:
                self._path(cid.multihash).unlink()
                self._used -= size
                gone += 1
        return gone


def _listing(directory: Path) -> list[bytes]:
    found = []
    for name in os.listdir(directory):
        key = name.removesuffix(_SUFFIX)
        if key == name or name.startswith(_TEMPORARY):
            continue
        try:
            found.append(base64.b32decode(key + "=" * (-len(key) % 8)))
        except binascii.Error as error:
            raise CorruptStore(f"{directory / name} is not named like a block") from error
    return found
