"""Received blocks on their way through worker threads: reading from the stream goes on while they are hashed."""

import os
from collections import deque
from collections.abc import Callable, Sequence

import anyio
import anyio.to_thread

from stack.bitswap.messages import Payload
from stack.bitswap.shell.wire import Loan
from stack.bitswap.verify import Verdict, verify
from stack.bitswap.wants import WantedBlocks
from stack.identity.peer_id import PeerId
from stack.streams.supervision import Supervisor

VERIFY_BYTES = 2 * 1024 * 1024
"""Blocks hashed in one worker call: a call costs about 0.2 ms, a MiB about 0.7 ms."""

VERIFIERS_MAX = 4
"""Worker calls at a time, at most one a processor: one hashes 1.5 GB/s."""


class Intake:
    """Commands: `add`. `handle(verdicts)` is called on the event loop with what became of each block, and whose it was."""

    def __init__(
        self, tasks: Supervisor, wanted: WantedBlocks, handle: Callable[[Sequence[tuple[PeerId, Verdict]]], None]
    ) -> None:
        self._wanted = wanted
        self._handle = handle
        self._waiting: deque[tuple[PeerId, tuple[Payload, ...], Loan | None]] = deque()
        self._event = anyio.Event()
        verifiers = min(VERIFIERS_MAX, os.cpu_count() or 1)
        self.limiter = anyio.CapacityLimiter(verifiers)
        """Of worker calls for received blocks; never shared with what serves."""
        for _ in range(verifiers):
            tasks.keep(self._run, owner="hashing received blocks")

    def add(self, peer: PeerId, blocks: tuple[Payload, ...], loan: Loan | None) -> None:
        """A message with blocks has come; the loan is released once they are hashed and handed over."""
        self._waiting.append((peer, blocks, loan))
        self._event.set()

    async def _run(self) -> None:
        while True:
            while not self._waiting:
                event = self._event
                await event.wait()
                if event is self._event:
                    self._event = anyio.Event()
            batch = self._take()
            payloads = [payload for _, blocks, _ in batch for payload in blocks]
            try:
                verdicts = await anyio.to_thread.run_sync(verify, payloads, self._wanted, limiter=self.limiter)
            finally:
                for _, _, loan in batch:
                    if loan is not None:
                        loan.release()
            peers = [peer for peer, blocks, _ in batch for _ in blocks]
            self._handle(list(zip(peers, verdicts, strict=True)))

    def _take(self) -> list[tuple[PeerId, tuple[Payload, ...], Loan | None]]:
        """As many messages as make a worker call worth while, at least one."""
        batch = []
        size = 0
        while self._waiting and size < VERIFY_BYTES:
            batch.append(self._waiting.popleft())
            size += sum(len(payload.data) for payload in batch[-1][1])
        return batch
