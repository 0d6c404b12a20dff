"""Public addresses, firewalls and routers, in memory: hosts of a test that are as far from each other as homes are."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

import anyio

from stack.errors import TransportError
from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host
from stack.protocols.identify.service import IdentifyService
from stack.streams.interfaces import RawStream
from stack.streams.memory import memory_stream_pair
from tests.net.identities import key


def at(ip: str, port: int) -> Multiaddr:
    """A TCP address."""
    return Multiaddr.parse(f"/ip{ip_address(ip).version}/{ip}/tcp/{port}")


class Internet:
    """Who listens where; `dials` has every address that was dialled, and by whom."""

    def __init__(self) -> None:
        self.listeners: dict[tuple[str, int], Listening] = {}
        self.forwards: dict[tuple[str, int], tuple[str, int]] = {}
        """A router's ports, by its outer address, and where they lead."""
        self.shut: set[str] = set()
        """Addresses whose firewall lets nobody in."""
        self.dials: list[tuple[str, Multiaddr]] = []
        self.ports = 50_000

    def fresh_port(self) -> int:
        self.ports += 1
        return self.ports


class Incoming:
    """See `transports.interfaces.Incoming`."""

    def __init__(self, stream: RawStream) -> None:
        self._stream = stream
        self.remote_address = stream.remote_address

    async def open(self) -> RawStream:
        return self._stream

    async def aclose(self) -> None:
        pass


class Listening:
    """See `transports.interfaces.Listener`."""

    def __init__(self, address: Multiaddr) -> None:
        self.address = address
        self.waiting: deque[Incoming] = deque()
        self.changed = anyio.Event()
        self.closed = False

    def wake(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()

    async def accept(self) -> Incoming:
        while not self.waiting:
            if self.closed:
                raise anyio.ClosedResourceError
            await self.changed.wait()
        return self.waiting.popleft()

    async def aclose(self) -> None:
        self.closed = True
        self.wake()


class Line:
    """A transport of one computer, at `ip`; behind a router, others see it at `outside`."""

    protectable = True

    def __init__(self, net: Internet, ip: str, outside: str = "") -> None:
        self.net, self.ip, self.outside = net, ip, outside or ip

    def can_dial(self, address: Multiaddr) -> bool:
        return address.protocols in (("ip4", "tcp"), ("ip6", "tcp"))

    can_listen = can_dial

    async def listen(self, address: Multiaddr) -> Listening:
        port = int(address.get("tcp") or 0) or self.net.fresh_port()
        listening = Listening(Multiaddr.parse(str(address).rsplit("/", 1)[0] + f"/{port}"))
        self.net.listeners[self.ip, port] = listening
        return listening

    async def dial(self, address: Multiaddr) -> RawStream:
        await anyio.lowlevel.checkpoint()
        self.net.dials.append((self.outside, address))
        ip, port = address.get("ip4") or address.get("ip6") or "", int(address.get("tcp") or 0)
        place = self.net.forwards.get((ip, port), (ip, port))
        listening = self.net.listeners.get(place)
        if listening is None or place[0] in self.net.shut:
            raise TransportError("nobody answers")
        ours, theirs = memory_stream_pair(at(self.outside, self.net.fresh_port()), at(*place))
        listening.waiting.append(Incoming(theirs))
        listening.wake()
        return ours


@asynccontextmanager
async def node(
    net: Internet, number: int, ip: str, *, outside: str = "", port: int = 4001, identify: bool = True
) -> AsyncIterator[Host]:
    """A host that listens on that port of all its addresses."""
    async with Host(key(number), transports=[Line(net, ip, outside)], interfaces=lambda: ["127.0.0.1", ip]) as host:
        family = ip_address(ip).version
        await host.listen(at("0.0.0.0" if family == 4 else "::", port))
        if identify:
            IdentifyService(host)
        yield host
