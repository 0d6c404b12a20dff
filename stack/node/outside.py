"""How a node stands to the outside: whether a router lets others in, whether they have come. Begins when the node is idle."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from stack.discovery.interfaces import DiscoveryFact
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import host_and_port
from stack.net.host import Host
from stack.net.our_addresses import AddressSource
from stack.node.config import Config
from stack.node.roles import LISTENING_ROLES
from stack.platform import default_gateway
from stack.streams.supervision import supervised

if TYPE_CHECKING:
    from stack.portmap.shell.mapper import PortMapper
    from stack.protocols.autonat.judge import Verdict
    from stack.protocols.autonat.service import AutonatService

EXPECTING_SECONDS = 5.0
"""After the start, peers of the bootstrap list may be about to come."""
IDLE_SECONDS = 1.0
"""After the start, unless somebody waits for the answer."""
BY_HAND = (
    "forward TCP port {port} of the router to this computer; with --external HOST:PORT others are told where that is"
)


class Outside:
    """Getters: `verdicts`, `mapped`, `is_pending`, `facts`. Commands: `begin`, `ask_router`, `settle`."""

    def __init__(self, host: Host, config: Config, autonat: "AutonatService | None") -> None:
        self._host = host
        self._autonat = autonat
        self._expects = bool(config.bootstrap)
        self._since = anyio.current_time()
        self._hurry = anyio.Event()
        self._begun = anyio.Event()
        self._mapper: PortMapper | None = None
        self.maps = config.portmap and config.role in LISTENING_ROLES
        """A router is asked."""

    @classmethod
    @asynccontextmanager
    async def open(cls, host: Host, config: Config, autonat: "AutonatService | None") -> AsyncIterator["Outside"]:
        """For as long as the context lasts; nothing of it is waited for."""
        self = cls(host, config, autonat)
        async with supervised(host.trace) as tasks:
            if self.maps:
                tasks.keep(self._map, owner="port mapping")
            yield self

    async def _map(self) -> None:
        with anyio.move_on_after(IDLE_SECONDS):
            await self._hurry.wait()
        from stack.portmap.shell.mapper import PortMapper  # here: nobody waits for it

        async with PortMapper.open(self._host) as self._mapper:
            self._begun.set()
            await anyio.sleep_forever()

    def begin(self) -> None:
        """Somebody will want to know: the router is asked now."""
        self._hurry.set()

    async def ask_router(self, seconds: float) -> None:
        """Have it asked now; until it has answered, or `seconds` are over."""
        self.begin()
        with anyio.move_on_after(seconds):
            if self.maps and _has_router():
                await self._begun.wait()
                if self._mapper is not None:
                    await self._mapper.settle()

    async def settle(self, seconds: float) -> None:
        """Have all found out now; until there is nothing more to find out, or `seconds` are over."""
        with anyio.move_on_after(seconds):
            await self.ask_router(seconds)
            if self._autonat is not None:
                await self._autonat.settle(expecting=self._expects)

    @property
    def is_pending(self) -> bool:
        """More will be known in a moment."""
        if self.maps and (self._mapper.is_pending if self._mapper is not None else _has_router()):
            return True
        is_young = anyio.current_time() - self._since < EXPECTING_SECONDS
        autonat = self._autonat
        return autonat is not None and (autonat.is_busy or (self._expects and is_young and not autonat.servers))

    def verdicts(self) -> "list[Verdict]":
        """Which public addresses others have tried, and what came of it."""
        return self._autonat.verdicts() if self._autonat is not None else []

    def mapped(self) -> list[Multiaddr]:
        """Where a router lets others in."""
        return self._host.ours.of(AddressSource.MAPPED)

    def facts(self) -> list[DiscoveryFact]:
        """What was tried, and what came of it, for `stack doctor`."""
        return [*self._router_facts(), *self._address_facts()]

    def _router_facts(self) -> list[DiscoveryFact]:
        mapper = self._mapper
        if mapper is None:
            return []  # none is asked, or not yet
        if mapper.fault:
            return [DiscoveryFact(what="router", subject="", ok=None, detail=mapper.fault)]
        found = []
        for fact in mapper.facts():
            port = fact.bound.get("tcp") or fact.bound.get("udp")
            if fact.fault and any(verdict.open for verdict in self.verdicts()):
                ok, detail = None, f"{fact.fault}. It need not: others come in without"
            elif fact.fault:
                ok, detail = False, f"{fact.fault}. To be reached from outside, {BY_HAND.format(port=port)}"
            elif fact.mapping is None:
                ok, detail = None, "has been asked to open the port"
            else:
                way = f"{fact.mapping.address}:{fact.mapping.port}"
                ok, detail = True, f"lets others in at {way} ({fact.mapping.protocol}), for as long as this node runs"
            found.append(DiscoveryFact(what="router", subject=mapper.gateway or "", ok=ok, detail=detail))
        return found

    def _address_facts(self) -> list[DiscoveryFact]:
        ips = ", ".join(map(str, self._host.ours.ips()))
        found = (
            [DiscoveryFact(what="outside", subject="", ok=True, detail=f"others see this node at {ips}")] if ips else []
        )
        for verdict in self.verdicts():
            peers = f"{verdict.peers} peer{'' if verdict.peers == 1 else 's'} outside"
            if verdict.open:
                detail = f"{peers} came that way"
            elif verdict.open is None:
                detail = "nobody outside has tried it; who is connected to a peer there that speaks AutoNAT will know"
            else:
                detail = f"{peers} tried and could not come that way"
            found.append(
                DiscoveryFact(what="outside", subject=host_and_port(verdict.address), ok=verdict.open, detail=detail)
            )
        return found


def _has_router() -> bool:
    """Whether there is one to be asked; also where that cannot be looked at now, as whoever asks it finds out."""
    try:
        return default_gateway() is not None
    except OSError:
        return True
