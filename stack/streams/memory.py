"""Two connected raw streams in memory, with a bounded buffer in each direction: the reference of `DirectStream`."""

import anyio

from stack.multiformats.multiaddr import Multiaddr

BUFFER_BYTES = 64 * 1024
"""What may wait in one direction, as in a small socket buffer."""


class _Pipe:
    """One direction."""

    __slots__ = ("broken", "changed", "data", "ended", "limit")

    def __init__(self, limit: int) -> None:
        self.data = bytearray()
        self.limit = limit
        self.ended = False
        """The writer has closed."""
        self.broken = False
        """The reader has closed."""
        self.changed = anyio.Event()

    def wake(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()


class MemoryStream:
    """One end of a pair; made by `memory_stream_pair`."""

    __slots__ = ("_closed", "_in", "_out", "local_address", "remote_address")

    def __init__(self, incoming: _Pipe, outgoing: _Pipe, *, local: Multiaddr, remote: Multiaddr) -> None:
        self._in = incoming
        self._out = outgoing
        self._closed = False
        self.local_address = local
        self.remote_address = remote

    def __repr__(self) -> str:
        return f"<MemoryStream {self.local_address} - {self.remote_address}{' closed' if self._closed else ''}>"

    def receive_now(self, buffer: memoryview) -> int | None:
        """Fill at most `len(buffer)` >= 1 bytes; None when nothing is there yet."""
        self._check()
        data = self._in.data
        if not data:
            if self._in.ended:
                raise anyio.EndOfStream
            return None
        received = min(len(buffer), len(data))
        buffer[:received] = data[:received]
        del data[:received]
        self._in.wake()
        return received

    async def receive_into(self, buffer: memoryview) -> int:
        """Wait for bytes and fill at most `len(buffer)` >= 1. Does not yield when bytes are there already."""
        while (received := self.receive_now(buffer)) is None:
            await self.wait_readable()
        return received

    async def wait_readable(self) -> None:
        """Return when there are bytes, or the end."""
        await anyio.lowlevel.checkpoint()
        self._check()
        while not self._in.data and not self._in.ended:
            await self._in.changed.wait()
            self._check()

    def send_now(self, data: memoryview) -> int:
        """Write as much as there is room for; 0 when there is none."""
        self._check()
        if self._out.broken:
            raise anyio.BrokenResourceError
        taken = min(len(data), self._out.limit - len(self._out.data))
        if taken:
            self._out.data += data[:taken]
            self._out.wake()
        return taken

    async def send_all(self, data: memoryview) -> None:
        """Write everything. When cancelled, an unknown part has been written."""
        while True:
            data = data[self.send_now(data) :]
            if not data:
                return
            await self.wait_writable()

    async def wait_writable(self) -> None:
        """Return when there is room, or the other end is gone."""
        await anyio.lowlevel.checkpoint()
        self._check()
        while len(self._out.data) >= self._out.limit and not self._out.broken:
            await self._out.changed.wait()
            self._check()

    async def aclose(self) -> None:
        """Close both directions at once; a task that waits gets ClosedResourceError."""
        if not self._closed:
            self._closed = True
            self._in.broken = True
            self._in.data.clear()
            self._out.ended = True
            self._in.wake()
            self._out.wake()

    def _check(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError


def memory_stream_pair(
    first: Multiaddr, second: Multiaddr, *, limit: int = BUFFER_BYTES
) -> tuple[MemoryStream, MemoryStream]:
    """Two ends, at the addresses `first` and `second`; `limit` bytes wait in each direction at most."""
    forth, back = _Pipe(limit), _Pipe(limit)
    return (
        MemoryStream(back, forth, local=first, remote=second),
        MemoryStream(forth, back, local=second, remote=first),
    )
