"""A connected stream socket as a `DirectStream`, on asyncio and on trio.

The socket is tried first and waited for only when it would block: three times the rate of the event loops' own streams
(3-4 GB/s against 1), and no buffer is held while nothing comes.
"""

import socket
from contextlib import suppress

import anyio

from stack.multiformats.multiaddr import Multiaddr
from stack.platform import end_pacing, limit_unsent, unacknowledged, unsent

UNSENT_BYTES, UNSENT_BYTES_MAX = 128 * 1024, 8 * 1024 * 1024
"""What a socket takes beyond what the line has room for. Else a slow line has seconds of it, and each question and each answer waits
behind. A socket that was empty before more was written has its bound doubled: on a fast line the event loop is late with less."""


class SocketStream:
    """Owns `connection`, which must be connected. One reader and one writer at a time.

    Raises EndOfStream (the peer ended), ClosedResourceError (we closed), BrokenResourceError (it died).
    """

    __slots__ = ("_closed", "_socket", "_unsent_max", "local_address", "remote_address")

    def __init__(self, connection: socket.socket, *, local_address: Multiaddr, remote_address: Multiaddr) -> None:
        connection.setblocking(False)
        self._unsent_max = UNSENT_BYTES_MAX
        """Where this is the highest, nothing is bounded."""
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            # Small messages go at once; the writer joins what belongs together.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end_pacing(connection)
            if limit_unsent(connection, UNSENT_BYTES):
                self._unsent_max = UNSENT_BYTES
        self._socket = connection
        self._closed = False
        self.local_address = local_address
        self.remote_address = remote_address

    def __repr__(self) -> str:
        return f"<SocketStream {self.local_address} - {self.remote_address}{' closed' if self._closed else ''}>"

    def receive_now(self, buffer: memoryview) -> int | None:
        """Fill at most `len(buffer)` >= 1 bytes; None when nothing is there yet."""
        try:
            received = self._socket.recv_into(buffer)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise self._translated(error) from error
        if not received:
            raise anyio.EndOfStream
        return received

    def receive_bytes_now(self, size: int) -> bytes | None:
        """The same as new bytes, at most `size` >= 1."""
        try:
            received = self._socket.recv(size)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise self._translated(error) from error
        if not received:
            raise anyio.EndOfStream
        return received

    async def receive_into(self, buffer: memoryview) -> int:
        """Wait for bytes and fill at most `len(buffer)` >= 1. Does not yield when bytes are there already."""
        while (received := self.receive_now(buffer)) is None:
            await self.wait_readable()
        return received

    async def wait_readable(self) -> None:
        """Return when there are bytes, or the end, or an error."""
        self._check()
        await anyio.wait_readable(self._socket)

    def send_now(self, data: memoryview) -> int:
        """Write as much as the kernel takes at once; 0 when it takes nothing."""
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            raise self._translated(error) from error

    async def send_all(self, data: memoryview) -> None:
        """Write everything. When cancelled, an unknown part has been written."""
        while True:
            data = data[self.send_now(data) :]
            if not data:
                return
            await self.wait_writable()

    async def wait_writable(self) -> None:
        """Return when there is room, or an error."""
        self._check()
        await anyio.wait_writable(self._socket)
        if self._unsent_max < UNSENT_BYTES_MAX and not self._closed:
            self._allow_more()

    @property
    def under_way(self) -> int:
        """Bytes that were written and have not arrived at the other end's machine, as far as the system tells."""
        try:
            return 0 if self._closed else unacknowledged(self._socket)
        except OSError:
            return 0

    def tell_end(self) -> None:
        """See `TrackedStream.tell_end`."""
        if not self._closed:
            with suppress(OSError):  # it has gone
                self._socket.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        """Close both directions at once; a task that waits gets ClosedResourceError."""
        if not self._closed:
            self._closed = True
            anyio.notify_closing(self._socket)
            self._socket.close()

    def _allow_more(self) -> None:
        try:
            if not unsent(self._socket):
                self._unsent_max *= 2
                limit_unsent(self._socket, self._unsent_max)
        except OSError:
            pass  # it has gone, which the next write tells

    def _check(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError

    def _translated(self, error: OSError) -> Exception:
        return anyio.ClosedResourceError() if self._closed else anyio.BrokenResourceError(str(error))
