"""All blocks below a root: fetched into the store, or only looked for in it."""

from collections.abc import Sequence

import anyio.to_thread

from stack.bitswap.interfaces import Session
from stack.blocks.interfaces import BlockStore
from stack.blocks.walk import Walk
from stack.dag import links
from stack.errors import DecodeError, LimitExceeded
from stack.multiformats.cid import Cid

BATCH = 64
"""Blocks asked for at a time: at most 128 MiB under way, and enough to hide a round trip."""

BLOCKS_MAX = 50_000_000
"""Blocks remembered, and links that wait: a hostile DAG can be endless. Some GiB of memory; an honest DAG of 1 TiB has 4 million."""


async def fetch_dag(session: Session, store: BlockStore, root: Cid) -> int:
    """Have every block below a root in the store; returns how many there are.

    Raises DecodeError, LimitExceeded, and what session and store raise.
    """
    walk = Walk(links)
    walk.add(root)
    while batch := await anyio.to_thread.run_sync(walk.next_batch, BATCH):
        absent = [visit.cid for visit in batch if visit.first]
        if absent:
            await session.fetch(absent)
        # The last first: what is added is walked before all that waits, and those before it in the batch before that.
        for cid, _, opens in reversed(batch):
            if opens:
                await anyio.to_thread.run_sync(walk.receive, cid, await store.get(cid))
        if len(walk.met) + walk.waiting > BLOCKS_MAX:
            raise LimitExceeded("blocks of a DAG", BLOCKS_MAX)
    return len(walk.met)


async def missing_below(store: BlockStore, root: Cid) -> list[Cid]:
    """The blocks below a root that the store lacks, as far as those that it has refer to them, in the order of a walk.

    Raises LimitExceeded, and what the store raises.
    """
    walk = Walk(links)
    walk.add(root)
    missing: dict[bytes, Cid] = {}
    while batch := await anyio.to_thread.run_sync(walk.next_batch, BATCH):
        here = await store.has([visit.cid for visit in batch])
        for (cid, _, opens), is_here in reversed(list(zip(batch, here, strict=True))):
            if not is_here:
                missing[cid.multihash] = cid
            elif opens:
                await anyio.to_thread.run_sync(_open, walk, cid, await store.get(cid))
        if len(walk.met) + walk.waiting > BLOCKS_MAX:
            raise LimitExceeded("blocks of a DAG", BLOCKS_MAX)
    return list(missing.values())


async def unreached(store: BlockStore, roots: Sequence[Cid]) -> list[Cid]:
    """The blocks of a store that lie below none of these roots, of those that are there when this begins. Raises as above."""
    here = [cid async for cid in store.cids()]
    walk = Walk(links)
    walk.add(*roots)
    while batch := await anyio.to_thread.run_sync(walk.next_batch, BATCH):
        present = await store.has([visit.cid for visit in batch])
        for (cid, _, opens), is_here in reversed(list(zip(batch, present, strict=True))):
            if is_here and opens:
                await anyio.to_thread.run_sync(_open, walk, cid, await store.get(cid))
    return [cid for cid in here if cid.multihash not in walk.met]


def _open(walk: Walk, cid: Cid, data: bytes) -> None:
    try:
        walk.receive(cid, data)
    except DecodeError:
        pass  # it is here, whatever is in it
