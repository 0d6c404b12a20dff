"""Two hosts that speak through a relay, over lines that fail at any moment; then without it."""

import anyio

from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host
from stack.protocols.dcutr.service import DcutrService
from stack.protocols.identify.service import IdentifyService
from stack.protocols.relay.service import RelayService
from stack.protocols.relay.shell.server import RelayServer
from stack.sansio.budget import Resource
from stack.streams.supervision import TaskFailed
from stack.testing.conformance.faults import FaultConformance
from stack.testing.lines import Line, LineTransport, Wire
from stack.testing.streams import receive_exactly
from stack.trace import TraceEvent
from tests.net.hosts import ANYWHERE, echo
from tests.net.identities import key

SAID = bytes(range(251)) * 100
ECHO = "/echo/1"


class TestRelayed(FaultConformance):
    moments = 3

    async def talk(self, line: Line, wires: list[Wire]) -> None:
        transport = LineTransport(line)
        transport.wires = wires
        self.faults: list[TaskFailed] = []

        def trace(event: TraceEvent) -> None:
            if isinstance(event, TaskFailed):
                self.faults.append(event)

        self.hosts = [Host(key(number), transports=[transport], trace=trace) for number in range(3)]
        relay, home, guest = self.hosts
        async with relay, home, guest:
            for host in self.hosts:
                IdentifyService(host)
                RelayService(host)
                DcutrService(host)
                host.handle(ECHO, echo)
                await host.listen(ANYWHERE)
            self.server = RelayServer(relay, allowed=[home.peer_id])
            circuit = relay.addresses()[0].with_peer(str(relay.peer_id)).encapsulate(Multiaddr.parse("/p2p-circuit"))
            await home.listen(circuit)
            await guest.connect(home.peer_id, [circuit])
            await self._speak(guest, home)
            await guest._swarm.establish(home.peer_id, home.addresses()[0])
            await self._speak(guest, home)

    async def _speak(self, one: Host, other: Host) -> None:
        stream = await one.open_stream(other.peer_id, ECHO)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.send, SAID)
            assert await receive_exactly(stream, len(SAID)) == SAID
        await stream.aclose()

    def check(self) -> None:
        assert self.faults == []
        assert self.server.places.circuits == 0
        for host in self.hosts:
            assert [host.budget.used(resource) for resource in Resource] == [0] * len(Resource)
