"""The control socket as a byte stream, for both ends.

anyio's own streams and listeners of Unix sockets have the selector resolve their futures: one that is cancelled in the very turn
in which something comes makes asyncio log an InvalidStateError. `anyio.wait_readable` and `wait_writable`, which ours wait with,
look first.
"""

import os
import socket
import struct
from contextlib import suppress

import anyio
import anyio.lowlevel
from anyio.abc import AsyncResource, ByteStream

from stack.multiformats.multiaddr import Multiaddr
from stack.streams.socket import SocketStream

BACKLOG = 128
"""Commands that connect at once."""

BUSY_SECONDS = 0.02
"""Before a node whose backlog is full is tried again: nothing tells when there is room."""

SEND_BUFFER = 1024 * 1024
"""Bytes that may wait in the system for the other end, if it allows so much: each time that they are gone both ends are woken."""

_NOWHERE = Multiaddr.parse("/unix/control")
"""Nobody dials a control socket by its multiaddr."""


class LocalStream(ByteStream):
    """A connected Unix socket. One task may receive, one may send."""

    def __init__(self, connection: socket.socket) -> None:
        self._below = SocketStream(connection, local_address=_NOWHERE, remote_address=_NOWHERE)
        self._connection = connection
        with suppress(OSError):  # the other end has gone, on macOS
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """See `ByteStream`; so for the methods below."""
        await anyio.lowlevel.checkpoint()
        while (received := self._below.receive_bytes_now(max_bytes)) is None:
            await self._below.wait_readable()
        return received

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


def listening_user(connection: socket.socket) -> int | None:
    """The id of the user who listens at the other end of a Unix socket; None where the system does not tell."""
    of_peer: int | None = getattr(socket, "SO_PEERCRED", None)
    if of_peer is not None:
        credentials = struct.Struct("iII")  # unix(7): struct ucred
        said = connection.getsockopt(socket.SOL_SOCKET, of_peer, credentials.size)
        return int(credentials.unpack(said)[1])
    import ctypes  # here: it is not needed on Linux

    ask = getattr(ctypes.CDLL(None), "getpeereid", None)  # BSD, macOS
    number, group = ctypes.c_uint32(), ctypes.c_uint32()
    if ask is None or ask(connection.fileno(), ctypes.byref(number), ctypes.byref(group)):
        return None
    return number.value


async def connect_local(path: str) -> LocalStream:
    """Connect to a listener of this user, or of root; waits while its backlog is full. Raises OSError.

    A path that somebody has written down may lead to where anybody makes folders (`Home.socket_path`), and its node be gone: who
    listens there now would be told what is asked, and could answer.
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.setblocking(False)
        while True:
            await anyio.lowlevel.checkpoint()
            try:
                connection.connect(path)
                if listening_user(connection) not in (None, os.getuid(), 0):
                    raise PermissionError(f"another user of this computer listens at {path}")
                return LocalStream(connection)
            except BlockingIOError:
                await anyio.sleep(BUSY_SECONDS)
    except BaseException:
        connection.close()
        raise
