"""A stream through a relay as a raw stream: what a transport gives. Noise and the muxer of both ends run over it."""

import anyio

from stack.multiformats.multiaddr import Multiaddr
from stack.streams.interfaces import Stream

AHEAD_BYTES = 16 * 1024
"""Read to find out whether there is something to read."""


class RelayedStream:
    """A `RawStream`. Who serves the stream below waits for `over`."""

    def __init__(self, below: Stream, address: Multiaddr, *, limited: bool) -> None:
        """`address` is that of the relay, ending in `/p2p-circuit`; both ends are behind it. `limited`: the relay carries little."""
        self._below = below
        self._ahead = memoryview(b"")
        self._ended = False
        self.limited = limited
        self.local_address = self.remote_address = address
        self.over = anyio.Event()

    def __repr__(self) -> str:
        return f"<RelayedStream through {self.remote_address}{' closed' if self.over.is_set() else ''}>"

    async def receive_into(self, buffer: memoryview) -> int:
        """See `RawStream.receive_into`."""
        if not self._ahead:
            if self._ended:
                raise anyio.EndOfStream
            return await self._below.receive_into(buffer)
        size = min(len(buffer), len(self._ahead))
        buffer[:size] = self._ahead[:size]
        self._ahead = self._ahead[size:]
        return size

    async def wait_readable(self) -> None:
        """See `RawStream.wait_readable`."""
        if not self._ahead and not self._ended:
            try:
                self._ahead = memoryview(await self._below.receive(AHEAD_BYTES))
            except anyio.EndOfStream:
                self._ended = True

    async def send_all(self, data: memoryview) -> None:
        """See `RawStream.send_all`."""
        await self._below.send(data)

    async def aclose(self) -> None:
        """See `RawStream.aclose`."""
        if not self.over.is_set():
            self.over.set()
            await self._below.aclose()
