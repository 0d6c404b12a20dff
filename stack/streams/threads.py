"""Waking the event loop from elsewhere."""

import asyncio
from collections.abc import Callable

CallSoon = Callable[[Callable[[], object]], object]


def loop_caller() -> CallSoon:
    """What has the running event loop call a function soon. Any thread may use it, a signal handler too, and waits for nothing."""
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        import trio

        return trio.lowlevel.current_trio_token().run_sync_soon
