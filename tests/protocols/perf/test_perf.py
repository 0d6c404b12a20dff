"""Perf between hosts."""

import anyio
import pytest

from stack.errors import RemoteProtocolError
from stack.protocols.perf import PERF, PerfService, run_perf
from stack.protocols.perf import service as module
from stack.streams.interfaces import Stream
from tests.net.hosts import connect, hosts, settled

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("any_line")]


@pytest.mark.parametrize(("upload", "download"), [(0, 0), (1, 1), (1_000_000, 0), (0, 1_000_000), (700_001, 300_007)])
async def test_so_many_bytes_go_up_and_come_down(upload: int, download: int) -> None:
    async with hosts(2, identify=False) as [a, b]:
        PerfService(b)
        await connect(a, b)
        seconds = await run_perf(a, b.peer_id, upload, download)
        assert all(value >= 0 for value in seconds)
        await settled(lambda: b.connections()[0].streams == 0)


async def test_another_number_of_bytes_is_told() -> None:
    async with hosts(2, identify=False) as [a, b]:

        async def short(stream: Stream) -> None:
            await stream.receive()
            await stream.send(b"abc")

        b.handle(PERF, short)
        await connect(a, b)
        with pytest.raises((RemoteProtocolError, anyio.BrokenResourceError)):
            await run_perf(a, b.peer_id, 0, 10)


async def test_so_many_measurements_are_served_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STREAMS_MAX", 1)
    async with hosts(2, identify=False) as [a, b]:
        PerfService(b)
        await connect(a, b)
        stream = await a.open_stream(b.peer_id, PERF)
        with pytest.raises(anyio.BrokenResourceError):
            await run_perf(a, b.peer_id, 10, 10)
        await stream.send(bytes(8))
        await stream.send_eof()
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
        await stream.aclose()
        await settled(lambda: b.connections()[0].streams == 0)
        await run_perf(a, b.peer_id, 10, 10)


async def test_A02_a_client_that_stalls_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALL_SECONDS", 0.2)
    async with hosts(2, identify=False) as [a, b]:
        PerfService(b)
        await connect(a, b)
        for head in (b"\xff", b"\xff" * 8, b"\xff" * 9):
            stream = await a.open_stream(b.peer_id, PERF)
            await stream.send(head)
            with pytest.raises(anyio.BrokenResourceError):
                await stream.receive()
        await settled(lambda: b.connections()[0].streams == 0)


async def test_a_client_that_wants_everything_and_reads_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hosts(2, identify=False) as [a, b]:
        PerfService(b)
        await connect(a, b)
        stream = await a.open_stream(b.peer_id, PERF)
        monkeypatch.setattr(module, "STALL_SECONDS", 0.05)  # once it is open, however slow the line
        await stream.send(b"\xff" * 8)
        await stream.send_eof()
        await settled(lambda: b.connections()[0].streams == 1)
        await settled(lambda: b.connections()[0].streams == 0)
