"""How long a task keeps the event loop busy at a time."""

import asyncio
import gc
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType

import anyio
import anyio.lowlevel
import pytest
import sniffio
import trio

from stack.streams.turns import TURN_SECONDS

CALL_SECONDS = 1e-6
"""What a call of a function is taken to last: some do in less, those that copy a frame in more."""


class Calls:
    """A clock that goes on with every call of a function in this thread, so that it says the same on any machine, however busy."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self) -> float:
        """Seconds."""
        return self._count * CALL_SECONDS

    def count(self, frame: FrameType, event: str, argument: object) -> None:
        """For `sys.setprofile`."""
        if event in ("call", "c_call"):
            self._count += 1


class Steps(trio.abc.Instrument):
    """The longest step of a task between two awaits, by a clock."""

    def __init__(self, clock: Calls) -> None:
        self._clock = clock
        self._began = 0.0
        self.longest = 0.0
        self.whose = ""

    def before_task_step(self, task: object) -> None:
        self._began = self._clock()

    def after_task_step(self, task: object) -> None:
        taken = self._clock() - self._began
        if taken > self.longest:
            self.longest, self.whose = taken, repr(task)


class Counting(trio.abc.Instrument):
    """The steps of each task."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts

    def before_task_step(self, task: object) -> None:
        self._counts[repr(task)] += 1


@contextmanager
def steps_counted(most: float = 2.5 * TURN_SECONDS) -> Iterator[None]:
    """See that every task gives way after 2 ms of work, in calls of functions; `most` is for the piece that it was at just then.

    Inside, turns are measured by the same clock.
    """
    clock = Calls()
    steps = Steps(clock)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stack.streams.turns.perf_counter", clock)
        if sniffio.current_async_library() == "trio":
            trio.lowlevel.add_instrument(steps)
        else:
            run = asyncio.Handle._run

            def measured(handle: asyncio.Handle) -> None:
                steps.before_task_step(handle)
                run(handle)
                steps.after_task_step(handle)

            patch.setattr(asyncio.Handle, "_run", measured)
        sys.setprofile(clock.count)
        try:
            yield
        finally:
            sys.setprofile(None)
            if sniffio.current_async_library() == "trio":
                trio.lowlevel.remove_instrument(steps)
    assert steps.longest <= most, f"{1000 * steps.longest:.1f} ms: {steps.whose}"


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
    # Where coverage looks at each line, a line takes two to four times as long.
    assert longest < (most if sys.gettrace() is None else 3 * most), f"{1000 * longest:.1f} ms"


@contextmanager
def counting_steps() -> Iterator[Counter[str]]:
    """By whom the event loop is kept going, with how many steps each: an idle node has next to none."""
    counts: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        if sniffio.current_async_library() == "trio":
            instrument = Counting(counts)
            trio.lowlevel.add_instrument(instrument)
        else:
            run = asyncio.Handle._run

            def counted(handle: asyncio.Handle) -> None:
                counts[repr(handle)] += 1
                run(handle)

            patch.setattr(asyncio.Handle, "_run", counted)
        try:
            yield counts
        finally:
            if sniffio.current_async_library() == "trio":
                trio.lowlevel.remove_instrument(instrument)
