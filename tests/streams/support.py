"""Connected streams for tests."""

import socket

from stack.multiformats.multiaddr import Multiaddr
from stack.streams.interfaces import RawStream
from stack.streams.socket import SocketStream


def socket_stream_pair() -> tuple[SocketStream, SocketStream]:
    """Two ends of a TCP connection on loopback; no waiting, because the listener's backlog completes it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        first = socket.create_connection(server.getsockname())
        second, _ = server.accept()
    names = [Multiaddr.parse(f"/ip4/127.0.0.1/tcp/{end.getsockname()[1]}") for end in (first, second)]
    return (
        SocketStream(first, local_address=names[0], remote_address=names[1]),
        SocketStream(second, local_address=names[1], remote_address=names[0]),
    )


class Narrow:
    """A raw stream with nothing but what every raw stream has."""

    def __init__(self, stream: RawStream) -> None:
        self._stream = stream

    @property
    def local_address(self) -> Multiaddr:
        return self._stream.local_address

    @property
    def remote_address(self) -> Multiaddr:
        return self._stream.remote_address

    async def receive_into(self, buffer: memoryview) -> int:
        return await self._stream.receive_into(buffer)

    async def wait_readable(self) -> None:
        await self._stream.wait_readable()

    async def send_all(self, data: memoryview) -> None:
        await self._stream.send_all(data)

    async def aclose(self) -> None:
        await self._stream.aclose()
