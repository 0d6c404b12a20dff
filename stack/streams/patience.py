"""A few words with a peer on a line that may be busy with something else: a limit that moves while the line does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import anyio

from stack.streams.interfaces import MuxedStream
from stack.streams.signs import Patience, Signs

SECONDS_MAX = 120.0
"""Though the line moves: what is said, and its answer, stand behind what all streams have under way, 7 MiB at 60 KB/s. Who holds a stream
so long pays with what moves, LEAST_BYTES_PER_SECOND or more."""


class Moving(Protocol):
    """Something that tells how much of it has come."""

    @property
    def signs(self) -> Signs: ...


@asynccontextmanager
async def patient(stream: MuxedStream | Moving, seconds: float, most: float = SECONDS_MAX) -> AsyncIterator[None]:
    """What is inside may take `seconds`, and as long again while enough moves on the stream's connection, but no longer than `most` in
    all. Raises TimeoutError. A stream that tells no `signs` has `seconds`."""
    still = Signs(anyio.current_time())
    begun = anyio.current_time()
    patience = Patience(lambda: getattr(stream, "signs", still), seconds, begun)
    failure: Exception | None = None
    over = late = False
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            nonlocal late
            try:
                while patience.until < begun + most:
                    await anyio.sleep_until(patience.until)
                    patience.look(anyio.current_time())
                await anyio.sleep_until(begun + most)
            except TimeoutError:
                pass
            late = True
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised below, as it is and not in a group
            failure = error
        over = failure is None
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if late and not over:
        raise TimeoutError(f"no answer within {seconds:g} s")
