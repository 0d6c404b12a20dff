"""WebSockets and TLS over lines on which everything waits."""

import anyio
import pytest

from stack.errors import TransportError
from stack.multiformats.multiaddr import Multiaddr
from stack.streams.interfaces import DirectStream
from stack.testing.lines import Fault, Line, LineStream, line_stream_pair
from stack.testing.streams import receive_exactly
from stack.transports.websocket.frames import Upgrade
from stack.transports.websocket.stream import WebSocketStream, upgrade
from stack.transports.websocket.tls import handshake
from tests.transports.certificates import client_context, server_context

pytestmark = pytest.mark.anyio

HERE, THERE = Multiaddr.parse("/memory/1"), Multiaddr.parse("/memory/2")
SAID = [bytes(range(251)) * 3000, bytes(range(241)) * 3000]


async def web_sockets(line: Line, *, tls: bool) -> list[DirectStream]:
    """Both ends of a WebSocket; the first dialled."""
    raw = line_stream_pair(HERE, THERE, line)
    ends: list[DirectStream] = [end for end in raw if isinstance(end, LineStream)]

    async def rise(side: int) -> None:
        if tls:
            context = server_context() if side else client_context()
            ends[side] = await handshake(
                ends[side], context, server=bool(side), server_name=None if side else "127.0.0.1"
            )
        frames = await upgrade(ends[side], Upgrade() if side else Upgrade(host="a"))
        ends[side] = WebSocketStream(ends[side], frames, local=HERE, remote=THERE)

    async with anyio.create_task_group() as tasks:
        for side in (0, 1):
            tasks.start_soon(rise, side)
    return ends


async def talk(ends: list[DirectStream]) -> list[bytes]:
    """Both ends speak at once; what each has heard."""
    heard = [b"", b""]

    async def hear(side: int) -> None:
        heard[1 - side] = await receive_exactly(ends[side], len(SAID[1 - side]))

    async with anyio.create_task_group() as tasks:
        for side in (0, 1):
            tasks.start_soon(ends[side].send_all, memoryview(SAID[side]))
            tasks.start_soon(hear, side)
    return heard


@pytest.mark.parametrize("tls", [False, True])
async def test_large_data_passes_both_ways_at_once(tls: bool) -> None:
    ends = await web_sockets(Line(capacity=5000, piece=3000), tls=tls)
    assert await talk(ends) == SAID
    for end in ends:
        await end.aclose()


@pytest.mark.parametrize("tls", [False, True])
async def test_a_reset_at_any_moment_keeps_nobody_waiting(tls: bool) -> None:
    ends = await web_sockets(Line(), tls=tls)
    quiet = ends[0]._below._below if tls else ends[0]._below  # type: ignore[attr-defined] # the line
    begun = quiet.wire.steps
    for step in range(1, begun + 40, 5):
        ends = []
        with anyio.fail_after(5), pytest.raises(ExceptionGroup) as caught:
            ends = await web_sockets(Line(fault=Fault.RESET, step=step), tls=tls)
            await talk(ends)
        assert caught.group_contains((TransportError, anyio.BrokenResourceError, anyio.EndOfStream))
        for end in ends:
            await end.aclose()
