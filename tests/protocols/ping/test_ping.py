"""Ping between hosts."""

import anyio
import pytest

from stack.errors import NegotiationError, RemoteProtocolError
from stack.protocols.ping import PING, Pinger, PingService, ping
from stack.protocols.ping import service as module
from stack.streams.interfaces import Stream
from tests.net.hosts import connect, hosts, settled

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("any_line")]


async def test_round_trips_are_measured() -> None:
    async with hosts(2) as [a, b]:
        await connect(a, b)
        times = await ping(a, b.peer_id, 3)
        assert len(times) == 3
        assert all(0 < seconds < 5 for seconds in times)


async def test_a_third_stream_of_one_peer_is_refused_and_a_place_becomes_free_again() -> None:
    async with hosts(2) as [a, b]:
        await connect(a, b)
        async with Pinger(a, b.peer_id) as first, Pinger(a, b.peer_id) as second:
            await first.ping()
            await second.ping()
            with pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)):
                await ping(a, b.peer_id)
            await second.ping()
        await settled(lambda: b.connections()[0].streams == 0)
        await ping(a, b.peer_id)


async def test_a_wrong_echo_is_told() -> None:
    async with hosts(2) as [a, b]:

        async def wrong(stream: Stream) -> None:
            await stream.receive()
            await stream.send(bytes(32))

        b.handle(PING, wrong)
        await connect(a, b)
        with pytest.raises(RemoteProtocolError):
            await ping(a, b.peer_id)


async def test_a_peer_without_ping_is_told() -> None:
    async with hosts(2, identify=False) as [a, b]:
        await connect(a, b)
        with pytest.raises(NegotiationError):
            await ping(a, b.peer_id)


async def test_a_peer_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PING_SECONDS", 0.02)
    async with hosts(2, identify=False) as [a, b]:

        async def silent(stream: Stream) -> None:
            await anyio.sleep_forever()

        b.handle(PING, silent)
        await connect(a, b)
        with pytest.raises(TimeoutError):
            await ping(a, b.peer_id)


async def test_A02_half_a_payload_and_then_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAYLOAD_SECONDS", 0.02)
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.05)
    async with hosts(2, identify=False) as [a, b]:
        PingService(b)
        await connect(a, b)
        for data in (b"x", b""):
            stream = await a.open_stream(b.peer_id, PING)
            await stream.send(data)
            with pytest.raises(anyio.BrokenResourceError):
                await stream.receive()
        await settled(lambda: b.connections()[0].streams == 0)


async def test_a_payload_that_comes_in_parts_is_echoed_whole() -> None:
    async with hosts(2) as [a, b]:
        await connect(a, b)
        stream = await a.open_stream(b.peer_id, PING)
        payload = bytes(range(32))
        for byte in payload:
            await stream.send(bytes([byte]))
        received = b""
        while len(received) < 32:
            received += await stream.receive()
        assert received == payload
        await stream.send_eof()
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
        await stream.aclose()
