"""Two ends of QUIC and a line between them, for tests: without an event loop, and with one."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from stack.identity.keys import PrivateKey, generate
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.sansio.budget import Limits, Resource, Scope
from stack.streams.supervision import supervised
from stack.testing.streams import Ends
from stack.transports.quic.connection import QuicConnection
from stack.transports.quic.library import Address, Credentials
from stack.transports.quic.machine import Event, QuicMachine
from stack.transports.quic.transport import Sockets

WALL = 1_800_000_000.0
CLIENT: Address = ("192.0.2.1", 1111)
SERVER: Address = ("192.0.2.2", 2222)
KEYS = (generate(), generate())
CREDENTIALS = (Credentials(KEYS[0]), Credentials(KEYS[1]))

LIMITS: Limits = {
    Resource.BYTES: 32 << 20,
    Resource.UNREAD: 8 << 20,
    Resource.STREAMS_IN: 512,
    Resource.STREAMS_OUT: 512,
}


@dataclass
class Pair:
    """Two machines; `run` moves datagrams and time until nothing is left to do, and each datagram takes `delay` seconds."""

    client: QuicMachine
    server: QuicMachine
    now: float = 0.0
    delay: float = 0.01
    lose: Callable[[bytes], bool] = lambda data: False
    events: tuple[list[Event], list[Event]] = field(default_factory=lambda: ([], []))
    sent: int = 0

    def run(self, seconds: float = 1.0) -> None:
        """So much time passes."""
        until = self.now + seconds
        while self.now < until:
            on_the_way = [
                (to, data, address)
                for from_, to, address in ((self.client, self.server, CLIENT), (self.server, self.client, SERVER))
                for data, _ in from_.datagrams(self.now)
            ]
            self.sent += len(on_the_way)
            if on_the_way:
                self.now += self.delay
                for to, data, address in on_the_way:
                    if not self.lose(data):
                        to.receive_datagram(data, address, self.now)
            else:
                due = [at for end in (self.client, self.server) if (at := end.next_timeout()) is not None]
                self.now = max(self.now, min([*due, until]))
            for end, events in zip((self.client, self.server), self.events, strict=True):
                if (at := end.next_timeout()) is not None and at <= self.now < until:
                    end.handle_timeout(self.now)
                while (event := end.next_event()) is not None:
                    events.append(event)

    def told(self, side: int, kind: type[Event]) -> list[Event]:
        """The events of one kind, taken away."""
        found = [event for event in self.events[side] if isinstance(event, kind)]
        self.events[side][:] = [event for event in self.events[side] if not isinstance(event, kind)]
        return found


def pair(*, expected: PeerId | None = None) -> Pair:
    """A client that has said its first words to a server."""
    client = QuicMachine.dial(CREDENTIALS[0], SERVER, expected=expected, wall=WALL, now=0.0)
    server = QuicMachine.accept(CREDENTIALS[1], original_id=client.remote_id, retry_id=None, wall=WALL, now=0.0)
    return Pair(client, server)


def connected_pair(limits: Limits = LIMITS) -> tuple[Pair, tuple[Scope, Scope]]:
    """The same after the handshake, with streams."""
    ends = pair()
    ends.run(0.2)
    scopes = (Scope("client", limits), Scope("server", limits))
    ends.client.adopt(scopes[0], ends.now)
    ends.server.adopt(scopes[1], ends.now)
    ends.run(0.2)
    for events in ends.events:
        events.clear()
    return ends, scopes


@asynccontextmanager
async def sockets(*keys: PrivateKey) -> AsyncIterator[list[Sockets]]:
    """QUIC on loopback for hosts with these keys."""
    async with supervised() as tasks:
        yield [Sockets(key, tasks) for key in keys]


@asynccontextmanager
async def connected(scopes: tuple[Scope, Scope], address: str = "/ip4/127.0.0.1/udp/0/quic-v1") -> AsyncIterator[Ends]:
    """Two ends of a connection on loopback, both running; the first one dialled."""
    async with sockets(*KEYS) as [here, there]:
        listener = there.listen(Multiaddr.parse(address))
        accepted: list[QuicConnection] = []

        async def accept() -> None:
            accepted.append(await (await listener.accept()).open())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(accept)
            dialled = await here.dial(listener.address, PeerId.of(KEYS[1].public))
        ends = (dialled.multiplexed(scope=scopes[0]), accepted[0].multiplexed(scope=scopes[1]))
        async with anyio.create_task_group() as running:
            for end in ends:
                running.start_soon(end.run)
            try:
                yield ends
            finally:
                for end in ends:
                    await end.aclose()
        await listener.aclose()
