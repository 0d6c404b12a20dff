"""Hosts on one memory network, for tests."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import anyio

from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host
from stack.net.limits import NetLimits
from stack.protocols.identify.service import IdentifyService
from stack.protocols.ping import PingService
from stack.sansio.budget import Resource, Scope
from stack.streams.interfaces import Stream
from stack.trace import TraceEvent
from stack.transports.interfaces import Transport
from stack.transports.memory import MemoryNetwork, MemoryTransport
from tests.net.identities import key

make_transport: Callable[[MemoryNetwork], Transport] = MemoryTransport
"""What hosts are connected by; the fixture `any_line` puts another one here."""

ANYWHERE = Multiaddr.parse("/memory/0")


class Clock:
    """Time that the test moves; `wall` follows unless it is moved by itself."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def wall_clock(self) -> float:
        return self.wall

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds


class Seen:
    """A peer listener that keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, PeerId]] = []
        self._changed = anyio.Event()

    def peer_connected(self, peer: PeerId) -> None:
        self._add("connected", peer)

    def peer_identified(self, peer: PeerId, protocols: frozenset[str]) -> None:
        self._add("identified", peer)

    def peer_disconnected(self, peer: PeerId) -> None:
        self._add("disconnected", peer)

    def _add(self, what: str, peer: PeerId) -> None:
        self.events.append((what, peer))
        self._changed.set()
        self._changed = anyio.Event()

    async def wait_for(self, what: str, peer: PeerId) -> None:
        while (what, peer) not in self.events:
            await self._changed.wait()


@asynccontextmanager
async def hosts(
    count: int,
    *,
    identify: bool = True,
    limits: NetLimits | None = None,
    clock: Clock | None = None,
    network: MemoryNetwork | None = None,
    trace: Callable[[TraceEvent], None] | None = None,
) -> AsyncIterator[list[Host]]:
    """`count` hosts that listen on one network; the first one's id is the smallest. Only the first is traced."""
    network = network or MemoryNetwork()
    clock = clock or Clock()
    keys = sorted((key(number) for number in range(count)), key=lambda k: PeerId.of(k.public))
    async with AsyncExitStack() as stack:
        made = []
        for number, secret in enumerate(keys):
            host = Host(
                secret,
                transports=[make_transport(network)],
                limits=limits,
                clock=clock,
                wall_clock=clock.wall_clock,
                interfaces=lambda: ["127.0.0.1"],
                trace=trace if number == 0 else None,
            )
            await stack.enter_async_context(host)
            await host.listen(ANYWHERE)
            if identify:
                IdentifyService(host, clock=clock)
                PingService(host)
            made.append(host)
        yield made


async def connect(dialler: Host, listener: Host) -> None:
    """The first dials the second, and both know it."""
    seen = Seen()
    end = listener.listen_to_peers(seen)
    await dialler.connect(listener.peer_id, listener.addresses())
    await seen.wait_for("connected", dialler.peer_id)
    end()


async def echo(stream: Stream) -> None:
    """A handler that sends back what it gets."""
    try:
        while True:
            await stream.send(await stream.receive())
    except anyio.EndOfStream:
        return


async def settled(condition: Callable[[], bool]) -> None:
    """Let other tasks run until `condition` holds."""
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.001)


def used(scope: Scope) -> dict[Resource, int]:
    """What is reserved in a scope."""
    return {resource: scope.used(resource) for resource in Resource if scope.used(resource)}
