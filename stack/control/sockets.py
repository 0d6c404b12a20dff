"""The control socket as a byte stream, for both ends.

anyio's own streams and listeners of Unix sockets have the selector resolve their futures: one that is cancelled in the very turn
in which something comes makes asyncio log an InvalidStateError. `anyio.wait_readable` and `wait_writable`, which ours wait with,
look first.
"""

import os
import socket

import anyio
import anyio.lowlevel
from anyio.abc import AsyncResource, ByteStream

from stack.multiformats.multiaddr import Multiaddr
from stack.streams.socket import SocketStream

BACKLOG = 128
"""Commands that connect at once."""

BUSY_SECONDS = 0.02
"""Before a node whose backlog is full is tried again: nothing tells when there is room."""

_NOWHERE = Multiaddr.parse("/unix/control")
"""Nobody dials a control socket by its multiaddr."""


class LocalStream(ByteStream):
    """A connected Unix socket. One task may receive, one may send."""

    def __init__(self, connection: socket.socket) -> None:
        self._below = SocketStream(connection, local_address=_NOWHERE, remote_address=_NOWHERE)
        self._connection = connection

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """See `ByteStream`; so for the methods below."""
        await anyio.lowlevel.checkpoint()
        buffer = bytearray(max_bytes)
        return bytes(memoryview(buffer)[: await self._below.receive_into(memoryview(buffer))])

    async def send(self, item: bytes) -> None:
        """See `ByteStream`."""
        await anyio.lowlevel.checkpoint()
        await self._below.send_all(memoryview(item))

    async def send_eof(self) -> None:
        """See `ByteStream`."""
        await anyio.lowlevel.checkpoint()
        try:
            self._connection.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise anyio.BrokenResourceError(str(error)) from error

    async def aclose(self) -> None:
        """See `ByteStream`."""
        await self._below.aclose()
        await anyio.lowlevel.checkpoint()


class LocalListener(AsyncResource):
    """Takes connections at a path that only this user may connect to. Raises OSError."""

    def __init__(self, path: str) -> None:
        self._listening = socket.socket(socket.AF_UNIX)
        self._closed = False
        try:
            self._listening.setblocking(False)
            self._listening.bind(path)
            os.chmod(path, 0o600)
            self._listening.listen(BACKLOG)
        except BaseException:
            self._listening.close()
            raise

    async def accept(self) -> LocalStream:
        """The next one. Raises ClosedResourceError when the listener is closed, OSError."""
        await anyio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise anyio.ClosedResourceError
            try:
                return LocalStream(self._listening.accept()[0])
            except BlockingIOError:
                await anyio.wait_readable(self._listening)

    async def aclose(self) -> None:
        """Take no more; who waits is told."""
        if not self._closed:
            self._closed = True
            anyio.notify_closing(self._listening)
            self._listening.close()


async def connect_local(path: str) -> LocalStream:
    """Connect to a listener; waits while its backlog is full. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.setblocking(False)
        while True:
            await anyio.lowlevel.checkpoint()
            try:
                connection.connect(path)
                return LocalStream(connection)
            except BlockingIOError:
                await anyio.sleep(BUSY_SECONDS)
    except BaseException:
        connection.close()
        raise
