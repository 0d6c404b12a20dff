"""Hosts over lines that fail at any moment: dialling, negotiating, identifying, speaking, closing."""

import anyio

from stack.net.host import Host
from stack.protocols.identify.service import IdentifyService
from stack.sansio.budget import Resource
from stack.streams.interfaces import Stream
from stack.streams.supervision import TaskFailed
from stack.testing.conformance.faults import FaultConformance
from stack.testing.lines import Line, LineTransport, Wire
from stack.testing.streams import receive_exactly
from stack.trace import TraceEvent
from tests.net.hosts import ANYWHERE, echo
from tests.net.identities import key

SAID = bytes(range(251)) * 100


class TestHosts(FaultConformance):
    moments = 12

    async def talk(self, line: Line, wires: list[Wire]) -> None:
        transport = LineTransport(line)
        transport.wires = wires
        self.faults: list[TaskFailed] = []

        def trace(event: TraceEvent) -> None:
            if isinstance(event, TaskFailed):
                self.faults.append(event)

        dialler, listener = (Host(key(number), transports=[transport], trace=trace) for number in (0, 1))
        self.hosts = dialler, listener
        async with listener, dialler:
            for host in self.hosts:
                IdentifyService(host)
                host.handle("/echo/1", echo)
                await host.listen(ANYWHERE)
            await dialler.connect(listener.peer_id, listener.addresses())
            stream = await dialler.open_stream(listener.peer_id, "/echo/1")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._say, stream)
                assert await receive_exactly(stream, len(SAID)) == SAID
            await stream.aclose()

    async def _say(self, stream: Stream) -> None:
        await stream.send(SAID)
        await stream.send_eof()

    def check(self) -> None:
        assert self.faults == []
        for host in self.hosts:
            assert [host.budget.used(resource) for resource in Resource] == [0] * len(Resource)
