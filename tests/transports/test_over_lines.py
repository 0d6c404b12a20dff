"""WebSockets and TLS over lines on which everything waits, and that fail at any moment."""

from dataclasses import replace

import anyio

from stack.multiformats.multiaddr import Multiaddr
from stack.streams.buffers import POOL
from stack.streams.interfaces import DirectStream
from stack.testing.conformance.faults import FaultConformance
from stack.testing.lines import Line, LineStream, Wire, line_stream_pair
from stack.testing.streams import receive_exactly
from stack.transports.websocket.frames import Upgrade
from stack.transports.websocket.stream import WebSocketStream, upgrade
from stack.transports.websocket.tls import handshake
from tests.transports.certificates import client_context, server_context

HERE, THERE = Multiaddr.parse("/memory/1"), Multiaddr.parse("/memory/2")
SAID = [bytes(range(251)) * 500, bytes(range(241)) * 500]


class TestWebSockets(FaultConformance):
    tls = False

    async def talk(self, line: Line, wires: list[Wire]) -> None:
        self.lent = POOL.lent
        # WebSockets stand on streams that can be tried, as TCP's are.
        raw = line_stream_pair(HERE, THERE, replace(line, direct=True))
        wires.append(raw[0].wire)
        ends: list[DirectStream] = [end for end in raw if isinstance(end, LineStream)]
        heard = [b"", b""]

        async def hear(side: int) -> None:
            heard[1 - side] = await receive_exactly(ends[side], len(SAID[1 - side]))

        try:
            async with anyio.create_task_group() as tasks:
                for side in (0, 1):
                    tasks.start_soon(self._rise, ends, side)
            async with anyio.create_task_group() as tasks:
                for side in (0, 1):
                    tasks.start_soon(ends[side].send_all, memoryview(SAID[side]))
                    tasks.start_soon(hear, side)
        finally:
            with anyio.CancelScope(shield=True):
                for end in (*ends, *raw):
                    await end.aclose()
        assert heard == SAID

    async def _rise(self, ends: list[DirectStream], side: int) -> None:
        if self.tls:
            context = server_context() if side else client_context()
            name = None if side else "127.0.0.1"
            ends[side] = await handshake(ends[side], context, server=bool(side), server_name=name)
        frames = await upgrade(ends[side], Upgrade() if side else Upgrade(host="a"))
        ends[side] = WebSocketStream(ends[side], frames, local=HERE, remote=THERE)

    def check(self) -> None:
        assert POOL.lent == self.lent


class TestWebSocketsOverTls(TestWebSockets):
    tls = True
    moments = 12
