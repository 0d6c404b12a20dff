"""Hosts over lines that fail at any moment: dialling, negotiating, identifying, speaking, closing."""

import anyio
import pytest

from stack.net.events import CloseReason
from stack.net.host import Host
from stack.protocols.identify.service import IdentifyService
from stack.sansio.budget import Resource
from stack.streams.interfaces import Stream
from stack.streams.supervision import TaskFailed
from stack.testing.conformance.faults import FaultConformance
from stack.testing.lines import Line, LineTransport, Wire
from stack.testing.streams import receive_exactly
from stack.trace import TraceEvent
from tests.net.hosts import ANYWHERE, echo, settled
from tests.net.identities import key

SAID = bytes(range(251)) * 100

pytestmark = pytest.mark.anyio


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


@pytest.mark.parametrize("opens", ["who speaks", "who listens"])
async def test_a_stream_is_opened_over_a_line_that_is_full(opens: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proposal, or the answer to it, stands behind what other streams have under way: at 60 KB/s the stream was reset after 10 s."""
    monkeypatch.setattr("stack.net.connection.NEGOTIATION_SECONDS", 0.1)
    transport = LineTransport(Line(rate=1_000_000, capacity=60_000, piece=4096, turns=0))
    async with Host(key(0), transports=[transport]) as speaker, Host(key(1), transports=[transport]) as hearer:

        async def hear(stream: Stream) -> None:
            while True:
                await stream.receive()

        for host in speaker, hearer:
            host.handle("/hear/1", hear)
            host.handle("/echo/1", echo)
            await host.listen(ANYWHERE)
        await speaker.connect(hearer.peer_id, hearer.addresses())
        await settled(lambda: hearer.is_connected(speaker.peer_id))
        stream = await speaker.open_stream(hearer.peer_id, "/hear/1")
        opener, other = (speaker, hearer) if opens == "who speaks" else (hearer, speaker)
        [connection] = opener._swarm.of(other.peer_id)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.send, bytes(1_000_000))
            while speaker._swarm.of(hearer.peer_id)[0]._muxed.signs.handed_over < 50_000:
                await anyio.sleep(0.01)
            with anyio.fail_after(20):
                opened = await connection.open_stream(["/nobody/1", "/echo/1"])
            assert opened.protocol == "/echo/1"
            tasks.cancel_scope.cancel()
        transport.wires[0].reset()


@pytest.mark.parametrize("speaks", [True, False])
async def test_a_line_that_is_full_is_not_taken_for_a_dead_one(speaks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to a question waits behind what the peer has sent before, or the question itself behind what we have: for longer than
    any patience. A fetch over a slow line was dialled again and again."""
    monkeypatch.setattr("stack.net.connection.DOUBT_SECONDS", 0.5)
    transport = LineTransport(Line(rate=120_000, capacity=120_000, piece=4096, turns=0))
    said = 240_000
    async with Host(key(0), transports=[transport]) as asker, Host(key(1), transports=[transport]) as other:
        heard = anyio.Event()

        async def hear(stream: Stream) -> None:
            await receive_exactly(stream, said)
            heard.set()

        for host in asker, other:
            host.handle("/hear/1", hear)
            await host.listen(ANYWHERE)
        await asker.connect(other.peer_id, other.addresses())
        await settled(lambda: other.is_connected(asker.peer_id))
        [connection] = asker._swarm.of(other.peer_id)
        connection.latency = 0.01
        speaker, hearer = (other, asker) if speaks else (asker, other)
        stream = await speaker.open_stream(hearer.peer_id, "/hear/1")
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stream.send, bytes(said))
                while not heard.is_set():
                    asker.doubt(other.peer_id)
                    await anyio.sleep(0.05)
                    connection.latency = 0.01
        assert not connection.closed
        transport.wires[0].stand_still()
        connection.latency = 0.01
        with anyio.fail_after(10):
            asker.doubt(other.peer_id)
            await connection.wait_closed()
        assert connection.close_reason is CloseReason.UNRESPONSIVE
