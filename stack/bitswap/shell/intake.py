"""Received blocks on their way through one worker thread, which hashes them and hands them over: reading goes on meanwhile.

The thread takes messages from a queue for as long as there are any and a little longer, and leaves what became of them in another
one, from which the event loop takes all that is there at a time: one wake-up serves many messages, and neither side waits for the
other. Of both each peer gets its turn, of one message and of TURN_SECONDS: who sends many, or of many small blocks, waits for itself.
One thread is enough (it hashes 1.5 GB/s), and two would wait for each other at one file.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Protocol

import anyio
import anyio.lowlevel
import anyio.to_thread

from stack.bitswap.messages import Payload
from stack.bitswap.shell.fair_queue import FairQueue
from stack.bitswap.shell.wire import Loan
from stack.bitswap.verify import Verdict, verify
from stack.bitswap.wants import PeerWants, WantedBlocks
from stack.identity.peer_id import PeerId
from stack.streams.threads import CallSoon, loop_caller
from stack.values import dataclass

TURN_SECONDS = 0.002
"""Verdicts are acted upon for so long before others have a turn: a message may hold thousands of small blocks."""

UNLENT_BYTES_MAX = 4 * 1024 * 1024
BLOCK_BYTES = 1024
"""Blocks that wait here in memory that nobody was lent (those of short messages, and those found in the store), and what each costs
besides its bytes. They wait for long only where a sink does, for a disk that does not answer: who brings more waits too."""

LINGER_SECONDS = 0.05
"""The thread waits for so long for the next message before it is given back: to fetch it anew costs ten times as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Blocks of one message."""

    peer: PeerId
    told: PeerWants | None
    """What the peer had been told on the connection that brought them; None when nothing."""
    blocks: Sequence[Payload]
    loan: Loan | None
    """Where they lie; given back once everybody has had them."""
    again: bool = False
    """They have come before, and go round once more for those who joined while they were handed over; or they were found here."""

    @property
    def queue(self) -> PeerId | None:
        """With whose others they wait: once they have been looked at they are ours."""
        return None if self.again else self.peer


class _Verified:
    """What the thread has found of one of them, acted upon by and by."""

    __slots__ = ("arrival", "left", "once_more")

    def __init__(self, arrival: Arrival, verdicts: Sequence[Verdict]) -> None:
        self.arrival = arrival
        self.left = zip(arrival.blocks, verdicts, strict=False)
        self.once_more: list[Payload] = []


class BlockHandler(Protocol):
    """The exchange."""

    def handle_verdict(self, arrival: Arrival, verdict: Verdict) -> bool:
        """A block has been hashed and handed over. Returns whether somebody waits for it who has not had it."""
        ...

    def handle_end(self, arrival: Arrival) -> None:
        """Those were all that came with this message."""
        ...

    def settle(self) -> None:
        """That was all for now: let the consequences happen."""
        ...


class Intake:
    """Commands: `add`, `room`, `drop`, `close`, `clear`. The owner runs `verify` and `deliver` as long as it lives."""

    def __init__(self, wanted: WantedBlocks, handler: BlockHandler) -> None:
        self._wanted = wanted
        self._handler = handler
        self._closed = False
        self._waiting: FairQueue[Arrival] = FairQueue()
        self._unlent = 0
        self._released = anyio.Event()
        self._bell: SimpleQueue[None] = SimpleQueue()
        """Rung for each of them, to wake a thread that lingers."""
        self._arrived = anyio.Event()
        self._verified: FairQueue[_Verified] = FairQueue()
        self._ready = anyio.Event()
        self._told = False
        """The loop will look into `_verified`; set by the thread, and taken back before the loop looks."""
        self._turn_ends = 0.0
        self._thread = anyio.CapacityLimiter(1)

    def add(self, arrival: Arrival) -> None:
        """A message with blocks has come; its loan is released once they are hashed and handed over."""
        self._unlent += _unlent(arrival)
        if self._closed:
            self._release(arrival)
            return
        self._waiting.add(arrival.queue, arrival)
        self._bell.put(None)
        self._arrived.set()

    async def room(self) -> None:
        """Wait until more may come for which nobody was lent memory."""
        while self._unlent > UNLENT_BYTES_MAX:
            await self._released.wait()

    def drop(self, peer: PeerId) -> None:
        """What waits of this peer is not looked at any more; what has been handed over is still acted upon."""
        for arrival in self._waiting.drop(peer):
            self._release(arrival)

    def close(self) -> None:
        """Nothing is wanted any more; what comes is let go."""
        self._closed = True
        self._bell.put(None)

    def clear(self) -> None:
        """Let go of what has come; `verify` and `deliver` have ended."""
        while (arrival := self._waiting.take()) is not None:
            self._release(arrival)
        while (verified := self._verified.take()) is not None:
            self._release(verified.arrival)

    async def verify(self) -> None:
        """Have a thread at work whenever there is something to do."""
        call_soon = loop_caller()
        while True:
            while not self._waiting:
                self._arrived = anyio.Event()
                await self._arrived.wait()
            await anyio.to_thread.run_sync(self._verify_all, call_soon, limiter=self._thread)

    async def deliver(self) -> None:
        """Act upon what the thread has found."""
        while True:
            while not self._verified:
                self._ready = anyio.Event()
                await self._ready.wait()
            self._turn_ends = time.monotonic() + TURN_SECONDS
            try:
                while (verified := self._verified.take()) is not None:
                    self._act_upon(verified)
                    if time.monotonic() >= self._turn_ends:
                        self._handler.settle()
                        await anyio.lowlevel.checkpoint()
                        self._turn_ends = time.monotonic() + TURN_SECONDS
            finally:
                self._handler.settle()

    def _act_upon(self, verified: _Verified) -> None:
        """Until the turn ends; what is left then has another one, after everybody else."""
        arrival, once_more = verified.arrival, verified.once_more
        over = False
        try:
            for payload, verdict in verified.left:
                if self._handler.handle_verdict(arrival, verdict):
                    once_more.append(payload)
                over = time.monotonic() >= self._turn_ends
                if over:
                    break
        finally:
            if over:
                self._verified.put_back(arrival.queue, verified)
            else:
                self._handler.handle_end(arrival)
                if once_more:
                    self.add(replace(arrival, blocks=once_more, again=True))
                if not once_more or arrival.loan is None:
                    self._release(arrival)

    def _verify_all(self, call_soon: CallSoon) -> None:
        """Runs in the worker thread."""
        while self._waiting or self._lingers():
            arrival = self._waiting.take()
            if arrival is None:
                continue
            verdicts: Sequence[Verdict] = ()
            try:
                verdicts = verify(arrival.blocks, self._wanted)
            finally:
                self._verified.add(arrival.queue, _Verified(arrival, verdicts))
                if not self._told:
                    self._told = True
                    call_soon(self._wake)

    def _lingers(self) -> bool:
        """Whether something may have come within a while."""
        try:
            self._bell.get(timeout=LINGER_SECONDS)
        except Empty:
            return False
        return not self._closed

    def _wake(self) -> None:
        self._told = False
        self._ready.set()

    def _release(self, arrival: Arrival) -> None:
        if arrival.loan is not None:
            arrival.loan.release()
            return
        self._unlent -= _unlent(arrival)
        if self._unlent <= UNLENT_BYTES_MAX:
            self._released.set()
            self._released = anyio.Event()


def _unlent(arrival: Arrival) -> int:
    return 0 if arrival.loan is not None else sum(BLOCK_BYTES + len(block.data) for block in arrival.blocks)
