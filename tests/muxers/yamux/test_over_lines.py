"""Yamux over Noise over lines that fail at any moment."""

import anyio

from stack.sansio.budget import Resource, Scope
from stack.streams.buffers import BufferPool
from stack.testing.conformance.faults import FaultConformance, ends_of
from stack.testing.lines import Line, Wire
from stack.testing.streams import Ends, receive_all
from tests.muxers.yamux.test_shell import running

SAID = bytes(range(251)) * 200


class TestYamux(FaultConformance):
    async def talk(self, line: Line, wires: list[Wire]) -> None:
        self.pool = BufferPool()
        self.budgets = Scope("test", {}), Scope("test", {})
        raw = ends_of(line, wires)
        try:
            async with running(*raw, self.budgets, pool=self.pool) as ends, anyio.create_task_group() as tasks:
                for side in (0, 1):
                    tasks.start_soon(self._ask, ends, side)
                    tasks.start_soon(self._answer, ends, side)
        finally:
            with anyio.CancelScope(shield=True):
                for end in raw:
                    await end.aclose()

    async def _ask(self, ends: Ends, side: int) -> None:
        assert await ends[side].ping() >= 0
        async with await ends[side].open_stream() as stream:  # type: ignore[attr-defined] # a MachineStream
            await stream.send(SAID)
            await stream.send_eof()
            assert await receive_all(stream) == SAID

    async def _answer(self, ends: Ends, side: int) -> None:
        async with await ends[side].accept_stream() as stream:  # type: ignore[attr-defined] # a MachineStream
            try:
                while True:
                    await stream.send(await stream.receive())
            except anyio.EndOfStream:
                return

    def check(self) -> None:
        assert self.pool.lent == 0
        assert all(budget.used(resource) == 0 for budget in self.budgets for resource in Resource)
