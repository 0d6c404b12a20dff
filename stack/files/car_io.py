"""CAR archives streamed into a store, out of one, or only looked at. The machines are in `stack/dag/car.py`."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import anyio.to_thread

from stack.bitswap.interfaces import Session
from stack.blocks.interfaces import Block, BlockStore
from stack.blocks.walk import Walk
from stack.dag import links
from stack.dag.car import SECTION_MAX_IMPORT, BlockRead, CarReader, HeaderRead, header, section
from stack.errors import DecodeError, LimitExceeded
from stack.files.dag import missing_below
from stack.files.gather import Gatherer
from stack.files.nodes import LINK_BYTES, take_apart
from stack.files.storage import hold, pins
from stack.files.work import LEAVE_SECONDS
from stack.multiformats.cid import Cid
from stack.multiformats.multihash import IDENTITY
from stack.values import dataclass

BATCH_BYTES = 4 * 1024 * 1024
"""Blocks put into the store at once."""

BATCH_BLOCKS = 16
"""Blocks got at once for an export, 32 MiB at the very most."""

AHEAD_BYTES = 32 * 1024 * 1024
"""Blocks got ahead and not yet needed: a deep DAG leaves some on each level."""

PIECE_BYTES = 1024 * 1024
"""The reader is given at most so much at a time."""

BLOCKS_MAX = 50_000_000
"""Different blocks of one export (each is remembered, 20 bytes, so that it is written once), and links that wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CarContent:
    """What was in an archive."""

    roots: tuple[Cid, ...]
    blocks: int
    """Sections, duplicates counted each time."""
    bytes: int
    """Of their data."""
    missing: tuple[Cid, ...] = ()
    """Blocks below the roots that are neither in the archive nor were here; none are looked for unless the roots are to be pinned."""


async def import_car(store: BlockStore, data: AsyncIterator[bytes], *, pin: bool = False) -> CarContent:
    """Put all blocks of an archive into the store; each is checked. Returns when they are kept, with `pin` the roots pinned: those
    of which all is here, since a pin says that nothing is lacking.

    Raises DecodeError (WrongBlock) where the archive is no longer sound; the blocks before that stay. Raises NoSpace.
    """
    taken = _Import(store)
    with hold(store):
        async with aclosing(_events(data)) as events:
            try:
                async for event in events:
                    await taken.take(event)
            except DecodeError:
                await taken.flush()
                raise
        await taken.flush()
        keeper = pins(store)
        missing: list[Cid] = []
        if pin and keeper is not None:
            for root in taken.roots:
                lacking = await missing_below(store, root)
                missing += lacking
                if not lacking:
                    await keeper.add_pin(root)
    return CarContent(roots=taken.roots, blocks=taken.blocks, bytes=taken.bytes, missing=tuple(missing))


class _Import:
    """Collects blocks for the store."""

    def __init__(self, store: BlockStore) -> None:
        self._store = store
        self._waiting: list[Block] = []
        self._waiting_bytes = 0
        self.roots: tuple[Cid, ...] = ()
        self.blocks = 0
        self.bytes = 0

    async def take(self, event: HeaderRead | BlockRead) -> None:
        """The next event of the archive."""
        if isinstance(event, HeaderRead):
            self.roots = event.roots
            return
        self.blocks += 1
        self.bytes += len(event.data)
        if event.cid.hash_code != IDENTITY:  # such a block is in its name
            self._waiting.append((event.cid, event.data))
            self._waiting_bytes += len(event.data)
            if self._waiting_bytes >= BATCH_BYTES:
                await self.flush()

    async def flush(self) -> None:
        """Keep what waits."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        await self._store.put(waiting)


async def list_car(data: AsyncIterator[bytes]) -> AsyncIterator[tuple[Cid, int | None]]:
    """The roots (with None) and then every block with its size, each checked. Raises DecodeError."""
    async with aclosing(_events(data)) as events:
        async for event in events:
            if isinstance(event, HeaderRead):
                for root in event.roots:
                    yield root, None
            else:
                yield event.cid, len(event.data)


async def _events(data: AsyncIterator[bytes]) -> AsyncGenerator[HeaderRead | BlockRead, None]:
    reader = CarReader(section_max=SECTION_MAX_IMPORT)
    begun = False
    try:
        async for piece in data:
            for start in range(0, len(piece), PIECE_BYTES):
                for event in await anyio.to_thread.run_sync(_feed, reader, piece[start : start + PIECE_BYTES]):
                    begun = True
                    yield event
        for event in await anyio.to_thread.run_sync(_feed, reader, b""):
            yield event
    except DecodeError as error:
        if begun:
            raise
        raise DecodeError(f"this is no CAR archive: {error}") from error


def _feed(reader: CarReader, piece: bytes) -> list[HeaderRead | BlockRead]:
    """All events of a piece; hashes, so it runs in a worker thread. An error is told once the events before it are taken."""
    events: list[HeaderRead | BlockRead] = []
    reader.receive_data(piece)
    try:
        while (event := reader.next_event()) is not None:
            events.append(event)
    except DecodeError:
        if not events:
            raise
    return events


async def export_car(session: Session, store: BlockStore, root: Cid) -> AsyncIterator[bytes]:
    """The DAG below a root as an archive of version 1, in pieces: each block once, depth first, parents before children.

    Blocks that are not here are fetched and kept. Raises DecodeError, LimitExceeded, and what the session raises.
    """
    ahead = _Ahead(Gatherer(session, store, must_keep=False))
    yield header([root])
    walk = Walk(links)
    walk.add(root)
    while batch := await take_apart(LINK_BYTES * walk.waiting, walk.next_batch, 1):
        [(cid, first, opens)] = batch
        if len(walk.met) + walk.waiting > BLOCKS_MAX:
            raise LimitExceeded("blocks of an archive", BLOCKS_MAX)
        block = await ahead.take(cid, walk)
        if first:
            yield section(cid, block)
        if opens:
            await anyio.to_thread.run_sync(walk.receive, cid, block)


class _Ahead:
    """Blocks of a walk, got some at a time before they are needed."""

    def __init__(self, gatherer: Gatherer) -> None:
        self._gatherer = gatherer
        self._blocks: dict[bytes, bytes] = {}

    async def take(self, cid: Cid, walk: Walk) -> bytes:
        """The block of `cid`, whose turn it is."""
        if cid.multihash not in self._blocks:
            if sum(map(len, self._blocks.values())) > AHEAD_BYTES:
                self._blocks.clear()  # they are in the store by now, if they can be kept
            await self._get([cid, *walk.coming(BATCH_BLOCKS - 1)], LEAVE_SECONDS)
        if cid.multihash not in self._blocks:
            await self._get([cid], None)
        return self._blocks.pop(cid.multihash)

    async def _get(self, cids: list[Cid], patience: float | None) -> None:
        wanted = [cid for cid in cids if cid.multihash not in self._blocks]
        self._blocks.update(await self._gatherer.nodes(wanted, patience))
