"""Private networks over lines on which everything waits, and that fail."""

import anyio

from stack.security.pnet.shell import PrivateNetwork
from stack.streams.buffers import POOL
from stack.testing.conformance.faults import FaultConformance, ends_of
from stack.testing.lines import Line, Wire
from stack.testing.streams import receive_exactly

SAID = (b"\x13/multistream/1.0.0\n" + bytes(range(251)) * 100, b"\x13/multistream/1.0.0\n" + bytes(range(241)) * 100)


class TestPrivateNetworks(FaultConformance):
    async def talk(self, line: Line, wires: list[Wire]) -> None:
        network = PrivateNetwork(bytes(32))
        ends = [network.protect(end, outbound=not number) for number, end in enumerate(ends_of(line, wires))]
        heard = [b"", b""]

        async def hear(side: int) -> None:
            heard[side] = await receive_exactly(ends[side], len(SAID[1 - side]))

        self.lent = POOL.lent
        try:
            async with anyio.create_task_group() as tasks:
                for side in (0, 1):
                    tasks.start_soon(ends[side].send_all, memoryview(SAID[side]))
                    tasks.start_soon(hear, side)
        finally:
            with anyio.CancelScope(shield=True):
                for end in ends:
                    await end.aclose()
        assert (heard[1], heard[0]) == SAID

    def check(self) -> None:
        assert POOL.lent == self.lent
