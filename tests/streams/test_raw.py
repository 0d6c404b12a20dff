"""Raw streams: sockets, memory and bad lines behave alike."""

import socket
import sys

import anyio
import pytest

from stack import platform
from stack.multiformats.multiaddr import Multiaddr
from stack.streams.buffers import FRAME_BYTES
from stack.streams.interfaces import DirectStream
from stack.streams.memory import memory_stream_pair
from stack.streams.socket import UNSENT_BYTES, SocketStream
from stack.testing.conformance.streams import StreamConformance, buffer
from stack.testing.lines import Line, LineStream, line_stream_pair
from tests.streams.support import socket_stream_pair

pytestmark = pytest.mark.anyio

HERE, THERE = Multiaddr.parse("/memory/1"), Multiaddr.parse("/memory/2")


class TestSockets(StreamConformance):
    def ends(self) -> tuple[DirectStream, DirectStream]:
        return socket_stream_pair()


class TestMemory(StreamConformance):
    def ends(self) -> tuple[DirectStream, DirectStream]:
        return memory_stream_pair(HERE, THERE)


class TestBadLines(StreamConformance):
    def ends(self) -> tuple[DirectStream, DirectStream]:
        first, second = line_stream_pair(HERE, THERE, Line(capacity=3000, piece=1000))
        assert isinstance(first, LineStream) and isinstance(second, LineStream)
        return first, second


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


def filled(stream: SocketStream) -> int:
    """Bytes that a socket takes at once."""
    taken, piece = 0, memoryview(bytes(64 * 1024))
    while sent := stream.send_now(piece):
        taken += sent
    return taken


@pytest.mark.skipif(
    sys.platform != "linux", reason="NOT TESTED: the bound on what a socket has not sent; it is Linux's"
)
async def test_a_question_waits_behind_little_that_has_not_been_sent_and_a_fast_line_has_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A line of 125 kB a second had six seconds of it in its socket, and three answers in a row came too late."""
    monkeypatch.setattr(platform, "_on_loopback", lambda connection: False)
    first, second = socket_stream_pair()
    second._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000)
    assert filled(first) < 1 << 20
    assert platform.unsent(first._socket) <= UNSENT_BYTES + FRAME_BYTES
    assert first._unsent_max == UNSENT_BYTES
    buffer = memoryview(bytearray(65536))

    async def read_all() -> None:
        while True:
            await second.receive_into(buffer)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read_all)
        while platform.unsent(first._socket):
            await anyio.sleep(0.001)
        await first.wait_writable()
        tasks.cancel_scope.cancel()
    assert first._unsent_max == 2 * UNSENT_BYTES
    assert filled(first) > 2 * UNSENT_BYTES
    await first.aclose()
    await second.aclose()
