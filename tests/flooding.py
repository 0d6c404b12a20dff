"""What a flood leaves behind in memory: measured, bounded, printed (pytest -s shows the lines)."""

import gc
import sys
import time
import tracemalloc
from collections.abc import Callable

KIB = 1024
MIB = 1024 * KIB


def flood(name: str, identities: int, messages: int, act: Callable[[], object], *, bound: int) -> int:
    """Do `act`, print and return how many bytes are held after it that were not before, and see that it is at most `bound`.

    What the flood itself is made of is to stand ready before, what is only on its way (effects) to be taken within.
    """
    gc.collect()
    tracemalloc.start()
    try:
        act()
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    told = f"{identities:,} identities, {messages:,} messages: {held / KIB:,.0f} KiB held (bound {bound / MIB:g} MiB)"
    print(f"\nflood {name}: {told}")
    assert held <= bound, told
    return held


def quickest(act: Callable[[], object], tries: int = 3) -> float:
    """Seconds of this thread's processor time that `act` takes, at the best of some tries: what it costs, whoever else is busy.

    A collection in it would look at all that the tests before have left, and is not its own cost.
    """
    best = float("inf")
    tracing = sys.gettrace()
    sys.settrace(None)  # coverage makes it some times dearer
    gc.disable()
    try:
        for _ in range(tries):
            started = time.thread_time()
            act()
            best = min(best, time.thread_time() - started)
    finally:
        gc.enable()
        sys.settrace(tracing)
    return best
