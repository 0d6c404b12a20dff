"""Questions to a file system that may never answer: a network mount whose server has gone holds whoever asks for hours."""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple, Unpack

import anyio
import anyio.to_thread

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

ASKED_AT_ONCE_MAX = 4
"""Threads that may hang at the same time; apart from all others, so that what does not ask such a mount goes on."""

ANSWER_SECONDS = 2.0
"""A disk that sleeps needs longer to begin, but nobody who lists what there is should wait for that."""


class Aside:
    """Asks in threads of its own and does not wait for ever."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(ASKED_AT_ONCE_MAX)

    async def ask(self, question: Callable[[Unpack[Ts]], T], *arguments: *Ts, otherwise: T) -> T:
        """What `question` returns, or `otherwise` when there is no answer in time; the thread is left to itself then."""
        with anyio.move_on_after(ANSWER_SECONDS):
            return await anyio.to_thread.run_sync(question, *arguments, limiter=self._limiter, abandon_on_cancel=True)
        return otherwise
