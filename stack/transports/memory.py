"""Streams inside one process, at `/memory/<number>`: for tests and for nodes that live together. The reference transport."""

from collections import deque
from collections.abc import Callable

import anyio

from stack.errors import TransportError
from stack.multiformats.multiaddr import Multiaddr
from stack.streams.interfaces import RawStream
from stack.streams.memory import memory_stream_pair
from stack.transports.interfaces import ListenError

BACKLOG = 128
"""Connections that wait to be accepted, as in a small listen queue."""
FIRST_FREE_NUMBER = 1 << 32
"""`/memory/0` listens on a number from here on, and so do the dialling ends; chosen numbers stay below."""


class MemoryNetwork:
    """Who listens on which number; transports that share a network reach each other."""

    def __init__(self) -> None:
        self._listeners: dict[int, MemoryListener] = {}
        self._next = FIRST_FREE_NUMBER

    def fresh_number(self) -> int:
        """A number nobody has."""
        self._next += 1
        return self._next


_PROCESS = MemoryNetwork()


class MemoryTransport:
    """A `Transport` for `/memory/<number>`."""

    protectable = True

    def __init__(
        self,
        network: MemoryNetwork = _PROCESS,
        *,
        pair: Callable[[Multiaddr, Multiaddr], tuple[RawStream, RawStream]] = memory_stream_pair,
    ) -> None:
        """`pair` makes the two ends of a connection between these addresses, the dialling one first."""
        self._network = network
        self._pair = pair

    def can_dial(self, address: Multiaddr) -> bool:
        """True for `/memory/<number>` and nothing around it."""
        return address.protocols == ("memory",)

    def can_listen(self, address: Multiaddr) -> bool:
        """See `can_dial`."""
        return self.can_dial(address)

    async def dial(self, address: Multiaddr) -> RawStream:
        """See `Transport.dial`; never waits."""
        await anyio.lowlevel.checkpoint()
        listener = self._network._listeners.get(_number(address))
        if listener is None:
            raise TransportError("nobody listens there")
        if len(listener._waiting) >= BACKLOG:
            raise TransportError("too many connections wait to be accepted there")
        here = Multiaddr.parse(f"/memory/{self._network.fresh_number()}")
        ours, theirs = self._pair(here, listener.address)
        listener._waiting.append(MemoryIncoming(theirs))
        listener._wake()
        return ours

    async def listen(self, address: Multiaddr) -> "MemoryListener":
        """See `Transport.listen`; number 0 takes a free one."""
        await anyio.lowlevel.checkpoint()
        number = _number(address) or self._network.fresh_number()
        if number in self._network._listeners:
            raise ListenError(address, "it is in use")
        listener = MemoryListener(self._network, number)
        self._network._listeners[number] = listener
        return listener


class MemoryIncoming:
    """A connection that waits to be opened."""

    def __init__(self, stream: RawStream) -> None:
        self._stream = stream
        self._opened = False

    @property
    def remote_address(self) -> Multiaddr:
        """Of the dialling end."""
        return self._stream.remote_address

    async def open(self) -> RawStream:
        """The stream; nothing is left to do."""
        self._opened = True
        return self._stream

    async def aclose(self) -> None:
        """See `Incoming.aclose`."""
        if not self._opened:
            await self._stream.aclose()


class MemoryListener:
    """See `Listener`."""

    def __init__(self, network: MemoryNetwork, number: int) -> None:
        self._network = network
        self._number = number
        self._waiting: deque[MemoryIncoming] = deque()
        self._closed = False
        self._changed = anyio.Event()
        self.address = Multiaddr.parse(f"/memory/{number}")

    async def accept(self) -> MemoryIncoming:
        """See `Listener.accept`."""
        await anyio.lowlevel.checkpoint()
        while not self._waiting:
            if self._closed:
                raise anyio.ClosedResourceError
            await self._changed.wait()
        return self._waiting.popleft()

    async def aclose(self) -> None:
        """See `Listener.aclose`; connections that still wait are refused."""
        if not self._closed:
            self._closed = True
            del self._network._listeners[self._number]
            while self._waiting:
                await self._waiting.popleft().aclose()
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def _number(address: Multiaddr) -> int:
    return int(address.get("memory") or 0)
