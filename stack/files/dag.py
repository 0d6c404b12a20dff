"""All blocks below a root, fetched into the store."""

from collections import deque

import anyio.to_thread

from stack.bitswap.interfaces import Session
from stack.blocks.interfaces import BlockStore
from stack.dag import links
from stack.errors import LimitExceeded
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import RAW
from stack.multiformats.multihash import IDENTITY

BATCH = 64
"""Blocks asked for at a time: at most 128 MiB under way, and enough to hide a round trip."""

BLOCKS_MAX = 50_000_000
"""Blocks remembered so that each is fetched once; a hostile DAG can be endless."""


async def fetch_dag(session: Session, store: BlockStore, root: Cid) -> int:
    """Have every block below a root in the store, breadth first; returns how many there are.

    Raises DecodeError, LimitExceeded, and what session and store raise.
    """
    seen: set[bytes] = {root.multihash}
    waiting = deque([root])
    count = 0
    while waiting:
        batch = [waiting.popleft() for _ in range(min(BATCH, len(waiting)))]
        blocks = [cid for cid in batch if cid.hash_code != IDENTITY]
        count += len(blocks)
        await session.fetch(blocks)
        for cid in batch:
            if cid.codec == RAW:
                continue
            block = cid.digest if cid.hash_code == IDENTITY else await store.get(cid)
            for link in await anyio.to_thread.run_sync(links, cid, block):
                if link.multihash not in seen:
                    seen.add(link.multihash)
                    waiting.append(link)
            if len(seen) > BLOCKS_MAX:
                raise LimitExceeded("blocks of a DAG", BLOCKS_MAX)
    return count
