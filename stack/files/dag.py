"""All blocks below a root: fetched into the store, or only looked for in it."""

from collections.abc import Sequence

import anyio
import anyio.to_thread

from stack.bitswap.interfaces import Session
from stack.blocks.interfaces import BlockStore
from stack.blocks.walk import Visit, Walk
from stack.dag import links
from stack.errors import DecodeError, LimitExceeded
from stack.files.gather import LOOK_SECONDS, Lack
from stack.files.tasks import task_group
from stack.files.work import LEAVE_SECONDS
from stack.multiformats.cid import Cid

BATCH = 64
"""Blocks asked for at a time: at most 128 MiB under way, and enough to hide a round trip."""

BLOCKS_MAX = 50_000_000
"""Blocks remembered, and links that wait: a hostile DAG can be endless. Some GiB of memory; an honest DAG of 1 TiB has 4 million."""


async def fetch_dag(session: Session, store: BlockStore, root: Cid) -> int:
    """Have every block below a root in the store; returns how many there are. What nobody has is for the end, when all else is there.

    Raises DecodeError, LimitExceeded, and what session and store raise.
    """
    walk = Walk(links)
    walk.add(root)
    lost: dict[bytes, list[Visit]] = {}
    while (batch := await anyio.to_thread.run_sync(walk.next_batch, BATCH)) or lost:
        if batch:
            absent = [visit.cid for visit in batch if visit.first]
            left = await _fetch(session, store, absent) if absent else set()
        else:
            await session.fetch([visits[0].cid for visits in lost.values()])
            batch, left, lost = [visit for visits in lost.values() for visit in visits], set(), {}
        # The last first: what is added is walked before all that waits, and those before it in the batch before that.
        for visit in reversed(batch):
            if visit.cid.multihash in left or visit.cid.multihash in lost:
                lost.setdefault(visit.cid.multihash, []).append(visit)
            elif visit.opens:
                await anyio.to_thread.run_sync(walk.receive, visit.cid, await store.get(visit.cid))
        if len(walk.met) + walk.waiting > BLOCKS_MAX:
            raise LimitExceeded("blocks of a DAG", BLOCKS_MAX)
    return len(walk.met)


async def _fetch(session: Session, store: BlockStore, cids: list[Cid]) -> set[bytes]:
    """Have these in the store; returns the multihashes of those that nobody has."""
    done, lack = anyio.Event(), Lack(session, LEAVE_SECONDS)

    async def ask() -> None:
        await session.fetch(cids)
        done.set()

    async with task_group() as group:
        group.start_soon(ask)
        while not done.is_set():
            with anyio.move_on_after(LOOK_SECONDS):
                await done.wait()
                break
            here = await store.has(cids)
            left = {cid.multihash for cid, is_here in zip(cids, here, strict=True) if not is_here}
            if lack.lasts(left):
                group.cancel_scope.cancel()
                return left
    return set()


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
