"""What a session waits for may come into the store by other ways: it is added, imported, or fetched by somebody else. Who waits and is
brought nothing looks into the store again."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import anyio

from stack.blocks.interfaces import NOT_HERE, BlockStore
from stack.errors import StoreError
from stack.multiformats.cid import Cid

LOOK_SECONDS = 1.0
"""Between two looks, of whom nothing was brought in between."""

LOOK_BLOCKS = 1024
LOOK_BYTES = 8 * 1024 * 1024
"""Asked for, and read, in one look at the most: who gets them asks for more, and finds that at once."""


async def look_into_store(
    store: BlockStore,
    received: Callable[[], int],
    wanted: Callable[[int], Sequence[Cid]],
    hand_over: Callable[[Cid, bytes], Awaitable[object]],
) -> None:
    """Hand over what of `wanted`, so many at the most, has come into the store. `received` counts what peers bring. Runs as long as
    the session."""
    while True:
        before = received()
        await anyio.sleep(LOOK_SECONDS)
        cids = wanted(LOOK_BLOCKS) if received() == before else ()
        with suppress(StoreError):  # a store that is busy now is asked again
            size = 0
            for cid, here in zip(cids, await store.has(cids) if cids else (), strict=True):
                if here and size < LOOK_BYTES:
                    with suppress(*NOT_HERE):
                        block = await store.get(cid)
                        size += len(block)
                        await hand_over(cid, block)
