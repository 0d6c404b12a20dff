"""Raw streams: sockets and memory behave alike."""

import socket

import anyio
import anyio.lowlevel
import pytest

from stack.multiformats.multiaddr import Multiaddr
from stack.streams.interfaces import DirectStream
from stack.streams.memory import memory_stream_pair
from stack.streams.socket import SocketStream
from tests.streams.support import socket_stream_pair

pytestmark = pytest.mark.anyio

HERE, THERE = Multiaddr.parse("/memory/1"), Multiaddr.parse("/memory/2")
LARGE = 8 << 20


@pytest.fixture(params=["socket", "memory"])
def ends(request: pytest.FixtureRequest) -> tuple[DirectStream, DirectStream]:
    return socket_stream_pair() if request.param == "socket" else memory_stream_pair(HERE, THERE)


Ends = tuple[DirectStream, DirectStream]


def buffer(size: int = 100) -> memoryview:
    return memoryview(bytearray(size))


async def test_bytes_pass_both_ways_at_once(ends: Ends) -> None:
    sent = [bytes(range(251)) * (LARGE // 251), bytes(range(241)) * (LARGE // 241)]
    received = [bytearray(), bytearray()]

    async def receive(side: int) -> None:
        room = buffer(65536)
        while len(received[side]) < len(sent[1 - side]):
            size = await ends[side].receive_into(room)
            received[side] += room[:size]
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        for side in (0, 1):
            tasks.start_soon(ends[side].send_all, memoryview(sent[side]))
            tasks.start_soon(receive, side)
    assert [bytes(data) for data in reversed(received)] == sent
    for end in ends:
        await end.aclose()


async def test_trying_takes_what_there_is_and_never_waits(ends: Ends) -> None:
    first, second = ends
    assert second.receive_now(buffer()) is None
    taken = 0
    while size := first.send_now(memoryview(bytes(1 << 20))):
        taken += size
    assert taken > 0
    await second.wait_readable()
    assert second.receive_now(buffer(7)) == 7
    for end in ends:
        await end.aclose()


async def test_waiting_to_write_ends_when_the_peer_reads(ends: Ends) -> None:
    first, second = ends
    while first.send_now(memoryview(bytes(1 << 20))):
        pass

    async def read() -> None:
        while True:
            await second.receive_into(buffer(65536))
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await first.wait_writable()
        tasks.cancel_scope.cancel()
    assert first.send_now(memoryview(b"x")) == 1
    for end in ends:
        await end.aclose()


async def test_the_peer_s_end_is_told_after_its_last_bytes(ends: Ends) -> None:
    first, second = ends
    await first.send_all(memoryview(b"last"))
    await first.aclose()
    room = buffer()
    assert await second.receive_into(room) == 4
    for _ in range(2):
        await second.wait_readable()
        with pytest.raises(anyio.EndOfStream):
            await second.receive_into(room)
    await second.aclose()


async def test_writing_to_a_peer_that_is_gone_breaks(ends: Ends) -> None:
    first, second = ends
    await second.aclose()
    with pytest.raises(anyio.BrokenResourceError):
        while True:
            await first.send_all(memoryview(bytes(65536)))
            await anyio.lowlevel.checkpoint()
    await first.aclose()


async def test_everything_on_a_closed_stream_says_that_we_closed_it(ends: Ends) -> None:
    first, second = ends
    await first.aclose()
    await first.aclose()
    for call in (first.receive_into(buffer()), first.send_all(memoryview(b"x")), first.wait_readable()):
        with pytest.raises(anyio.ClosedResourceError):
            await call
    with pytest.raises(anyio.ClosedResourceError):
        await first.wait_writable()
    assert repr(first).endswith("closed>")
    assert not repr(second).endswith("closed>")
    await second.aclose()


@pytest.mark.parametrize("call", ["wait_readable", "wait_writable"])
async def test_closing_wakes_whoever_waits(ends: Ends, call: str) -> None:
    first, second = ends
    while first.send_now(memoryview(bytes(1 << 20))):
        pass

    async def wait() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await getattr(first, call)()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        await first.aclose()
    await second.aclose()


async def test_a_cancelled_receive_loses_nothing(ends: Ends) -> None:
    first, second = ends
    room = buffer()
    with anyio.move_on_after(0.01) as scope:
        await second.receive_into(room)
    assert scope.cancelled_caught
    await first.send_all(memoryview(b"hello"))
    assert await second.receive_into(room) == 5
    assert bytes(room[:5]) == b"hello"
    for end in ends:
        await end.aclose()


async def test_a_socket_that_was_reset_breaks() -> None:
    first, second = socket_stream_pair()
    linger_off = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    second._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_off)
    await second.aclose()
    with pytest.raises(anyio.BrokenResourceError):
        await first.receive_into(buffer())
    await first.aclose()


async def test_small_messages_go_at_once_over_tcp_and_other_sockets_are_taken_too() -> None:
    first, second = socket_stream_pair()
    assert first._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    for end in (first, second):
        await end.aclose()
    left, right = (SocketStream(end, local_address=HERE, remote_address=THERE) for end in socket.socketpair())
    await left.send_all(memoryview(b"hello"))
    assert await right.receive_into(buffer()) == 5
    for end in (left, right):
        await end.aclose()
