"""CAR archives streamed into a store, out of one, or only looked at. The machines are in `stack/dag/car.py`."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio
import anyio.to_thread

from stack.bitswap.interfaces import Session
from stack.blocks.interfaces import Block, BlockStore
from stack.dag import links
from stack.dag.car import SECTION_MAX_IMPORT, BlockRead, CarReader, HeaderRead, header, section
from stack.errors import DecodeError, LimitExceeded
from stack.files.gather import Gatherer, Want
from stack.files.storage import hold
from stack.multiformats.cid import Cid
from stack.multiformats.multihash import IDENTITY
from stack.sansio.interfaces import Buffer

BATCH_BYTES = 4 * 1024 * 1024
"""Blocks put into the store, or got from it, at once."""

BATCH_BLOCKS = 64
PIECE_BYTES = 1024 * 1024
"""The reader is given at most so much at a time."""

BLOCKS_MAX = 10_000_000
"""Different blocks of one export: each is remembered (100 bytes), so that it is written once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CarContent:
    """What was in an archive."""

    roots: tuple[Cid, ...]
    blocks: int
    """Sections, duplicates counted each time."""
    bytes: int
    """Of their data."""


async def import_car(store: BlockStore, data: AsyncIterator[bytes]) -> CarContent:
    """Put all blocks of an archive into the store; each is checked. Returns when they are kept.

    Raises DecodeError (WrongBlock) where the archive is no longer sound; the blocks before that stay. Raises NoSpace.
    """
    roots: tuple[Cid, ...] = ()
    count = size = 0
    waiting: list[Block] = []
    waiting_bytes = 0
    with hold(store):
        try:
            async for event in _events(data):
                if isinstance(event, HeaderRead):
                    roots = event.roots
                    continue
                count += 1
                size += len(event.data)
                if event.cid.hash_code == IDENTITY:
                    continue  # the block is in its name
                waiting.append((event.cid, event.data))
                waiting_bytes += len(event.data)
                if waiting_bytes >= BATCH_BYTES:
                    batch, waiting, waiting_bytes = waiting, [], 0
                    await store.put(batch)
        except DecodeError:
            await store.put(waiting)
            raise
        await store.put(waiting)
    return CarContent(roots=roots, blocks=count, bytes=size)


async def list_car(data: AsyncIterator[bytes]) -> AsyncIterator[tuple[Cid, int | None]]:
    """The roots (with None) and then every block with its size, each checked. Raises DecodeError."""
    async for event in _events(data):
        if isinstance(event, HeaderRead):
            for root in event.roots:
                yield root, None
        else:
            yield event.cid, len(event.data)


async def _events(data: AsyncIterator[bytes]) -> AsyncIterator[HeaderRead | BlockRead]:
    reader = CarReader(section_max=SECTION_MAX_IMPORT)
    async for piece in data:
        for start in range(0, len(piece), PIECE_BYTES):
            for event in await anyio.to_thread.run_sync(_feed, reader, piece[start : start + PIECE_BYTES]):
                yield event
    for event in await anyio.to_thread.run_sync(_feed, reader, b""):
        yield event


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
    """The DAG below a root as an archive of version 1, in pieces: each block once, parents before children, depth first.

    Blocks that are not here are fetched, in batches of what is known to be needed. Raises DecodeError, LimitExceeded, and
    what the session raises.
    """
    gatherer = Gatherer(session, store)
    yield header([root])
    seen = {root.multihash}
    waiting = [root]
    while waiting:
        batch = waiting[-BATCH_BLOCKS:]
        blocks = await _get_all(gatherer, batch)
        # Depth first: only the last one's children are known to come next; the others have been read ahead.
        out: list[bytes] = []
        for cid in reversed(batch):
            waiting.pop()
            block = blocks[cid.multihash]
            if cid.hash_code != IDENTITY:
                out.append(section(cid, block))
            below = [link for link in links(cid, block) if link.multihash not in seen]
            if below:
                fresh = list({link.multihash: link for link in below}.values())
                seen.update(link.multihash for link in fresh)
                if len(seen) > BLOCKS_MAX:
                    raise LimitExceeded("blocks of an archive", BLOCKS_MAX)
                waiting += reversed(fresh)
                break
        yield b"".join(out)


async def _get_all(gatherer: Gatherer, cids: list[Cid]) -> dict[bytes, bytes]:
    blocks: dict[bytes, bytes] = {}

    def take(multihash: bytes) -> "Receiver":
        def receive(block: Buffer) -> None:
            blocks[multihash] = bytes(block)

        return receive

    await gatherer.fetch([Want(cid, take(cid.multihash)) for cid in cids])
    return blocks
