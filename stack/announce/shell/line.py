"""Whose question is answered next, and when: what all of them together cost is bounded by time, and peers take turns."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import field

import anyio

from stack.identity.peer_id import PeerId
from stack.sansio.pace import Pace
from stack.values import dataclass

MICROSECONDS = 1_000_000

SHARE = 8
"""All questions together may take one second in so many of the event loop, whoever asks them (attack 2)."""

BURST = MICROSECONDS // 2
"""And so much at once, after a silence."""

STREAM_COST = 500
"""What a stream costs for a question, besides the answer: it is opened, agreed on and closed."""

BYTES_PER_MICROSECOND = 100
"""In which an answer is sealed and written."""


@dataclass(slots=True)
class Work:
    """For one question."""

    answer_bytes: int = 0


@dataclass(slots=True)
class _Place:
    """Of a peer, however many streams it asks on."""

    lock: anyio.Lock = field(default_factory=lambda: anyio.Lock(fast_acquire=True))
    waiting: int = 0


class Line:
    """One question of each peer stands in it, so that who asks one waits for as many others as there are peers, not for
    as many as they have streams. Command: `turn`, around the work."""

    def __init__(self, now: float, *, clock: Callable[[], float] = time.thread_time) -> None:
        """`now` as in `anyio.current_time`; `clock` is of the processor's time: a busy machine is nobody's fault."""
        self._clock = clock
        self._pace = Pace(MICROSECONDS // SHARE, now, burst=BURST)
        self._line = anyio.Lock(fast_acquire=True)
        self._places: dict[PeerId, _Place] = {}

    @asynccontextmanager
    async def turn(self, peer: PeerId) -> AsyncIterator[Work]:
        """Wait for the peer's turn; what is done in the context, without waiting, is what it costs."""
        place = self._places.setdefault(peer, _Place())
        place.waiting += 1
        try:
            async with place.lock, self._line:
                if delay := self._pace.take(0, anyio.current_time()):
                    await anyio.sleep(delay)
                began, work = self._clock(), Work()
                try:
                    yield work
                finally:
                    spent = int((self._clock() - began) * MICROSECONDS)
                    self._pace.take(
                        spent + STREAM_COST + work.answer_bytes // BYTES_PER_MICROSECOND, anyio.current_time()
                    )
        finally:
            place.waiting -= 1
            if not place.waiting:
                del self._places[peer]
