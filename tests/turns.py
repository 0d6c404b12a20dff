"""How long a task keeps the event loop busy at a time."""

import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel


@asynccontextmanager
async def turns_measured(name: str, most: float) -> AsyncIterator[None]:
    """See that nobody keeps the event loop busy for longer, in seconds of its thread's processor time."""
    longest = 0.0
    over = anyio.Event()

    async def tick() -> None:
        nonlocal longest
        before = time.thread_time()
        while not over.is_set():
            await anyio.lowlevel.checkpoint()
            now = time.thread_time()
            longest, before = max(longest, now - before), now

    # A collection looks at all that the tests before have left, and is nobody's turn.
    gc.disable()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick)
            await anyio.lowlevel.checkpoint()
            yield
            over.set()
    finally:
        gc.enable()
    print(f"\n{name}: {1000 * longest:.1f} ms at most")
    assert longest < most, f"{1000 * longest:.1f} ms"
