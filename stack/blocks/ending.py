"""Letting go, also where there is no thread for it."""

from collections.abc import Callable
from typing import TypeVarTuple, Unpack

from anyio import CancelScope, CapacityLimiter, to_thread

Ts = TypeVarTuple("Ts")


async def let_go_with(
    work: Callable[[Unpack[Ts]], object], *arguments: *Ts, limiter: CapacityLimiter | None = None
) -> None:
    """Run in a worker thread what lets go of something; it is not to be cancelled. Where no thread can be started it runs on the event
    loop: undone, it would be held as long as the process lives. Raises what `work` raises."""
    begun = False

    def run() -> None:
        nonlocal begun
        begun = True
        work(*arguments)

    with CancelScope(shield=True):
        try:
            await to_thread.run_sync(run, limiter=limiter)
        except Exception:
            if not begun:
                work(*arguments)
                return
            raise
