"""Ports of a host, kept open at the router of its network while it runs, shut when it ends. Waits for nobody, harms nobody."""

import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address

import anyio

from stack.errors import DecodeError
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import Reach, ip_of, reach_of, unique
from stack.net.host import Host
from stack.net.our_addresses import AddressSource
from stack.platform import default_gateway
from stack.portmap.igd import SEARCH_GROUP, SEARCH_PORT, Control
from stack.portmap.lease import AGAIN_SECONDS, LEASE_SECONDS, Lease, Mapping
from stack.portmap.messages import PACKET_MAX, SERVER_PORT, Transport
from stack.portmap.shell.upnp import find, open_port, shut_port
from stack.streams.supervision import Supervisor, supervised
from stack.values import dataclass

PORTS_MAX = 4
"""Of our listeners that are asked for."""
FAREWELL_SECONDS = 1.0
"""For a router that speaks UPnP to hear that the ports are to be shut."""
RETRY_SECONDS = 30.0
"""After the system could not say, or do, what is needed: descriptors may be there again."""
SILENT = "it does not answer"
NO_ROUTER = "no router is known to this computer"
NOT_NEEDED = "not needed: this computer has a public IPv4 address"
PRIVATE = "the router's own address {address} is not public: it is behind another router, which lets nobody in"


@dataclass(frozen=True, slots=True)
class PortFact:
    """What came of asking for one port."""

    bound: Multiaddr
    """Our listener."""
    mapping: Mapping | None
    fault: str
    """Why others do not reach us there; empty while they do, or it is not known yet."""


class PortMapper:
    """A context. Getters: `facts`, `is_pending`, `gateway`. Commands: `settle`."""

    def __init__(
        self, host: Host, find_gateway: Callable[[], str | None], port: int, search_at: tuple[str, int]
    ) -> None:
        self._host = host
        self._find_gateway = find_gateway
        self._port = port
        self._search_at = search_at
        self._leases: dict[Multiaddr, Lease] = {}
        self._upnp: dict[Multiaddr, tuple[Mapping, float]] = {}
        """What is open by UPnP, and until when."""
        self._control: Control | None = None
        self._upnp_fault: str | None = None
        """Why nothing is; None while it has not been tried."""
        self._changed = anyio.Event()
        self._moved = anyio.Event()
        self._awake = anyio.Event()
        self._random = random.SystemRandom()
        self._tried = False
        self.gateway: str | None = None
        """The router that is asked; None when there is none."""
        self.fault = ""
        """Why none is asked; empty while one is."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        host: Host,
        *,
        find_gateway: Callable[[], str | None] = default_gateway,
        port: int = SERVER_PORT,
        search_at: tuple[str, int] = (SEARCH_GROUP, SEARCH_PORT),
    ) -> AsyncIterator["PortMapper"]:
        """Begin; leaving the context shuts the ports again, and waits for nobody but, for a moment, a router that speaks UPnP."""
        mapper = cls(host, find_gateway, port, search_at)
        host.ours.on_move(mapper._move)
        host.on_change(mapper._wake)
        stop_listening = host.on_wake(mapper._slept)
        try:
            async with supervised(host.trace) as tasks:
                tasks.keep(mapper._run, owner="port mapping")
                try:
                    yield mapper
                finally:
                    mapper._shut()
                    with anyio.move_on_after(FAREWELL_SECONDS, shield=True):
                        await mapper._shut_by_upnp()
        finally:
            stop_listening()
            mapper._forget()  # not before: whoever still asks would ask anew

    def facts(self) -> list[PortFact]:
        """What came of it, by listener."""
        facts = []
        for bound, lease in self._leases.items():
            mapping = self._mapping(bound, lease)
            fault = ""
            if mapping is None and lease.fault:
                fault = f"{lease.fault}; UPnP: {self._upnp_fault or 'not tried yet'}"
            elif mapping is not None and reach_of(_outside(bound, mapping)) is not Reach.PUBLIC:
                fault = PRIVATE.format(address=mapping.address)
            facts.append(PortFact(bound, mapping, fault))
        return facts

    def _mapping(self, bound: Multiaddr, lease: Lease) -> Mapping | None:
        now = anyio.current_time()
        by_upnp, ends = self._upnp.get(bound, (None, 0.0))
        return lease.mapping(now) or (by_upnp if now < ends else None)

    @property
    def is_pending(self) -> bool:
        """The router has not yet answered, nor had its time to."""
        now, tried = anyio.current_time(), self._upnp_fault is not None
        return not self._tried or any(
            lease.is_pending(now) or (not tried and self._mapping(bound, lease) is None)
            for bound, lease in self._leases.items()
        )

    def _state(self) -> tuple[bool, tuple[bool, ...]]:
        """What others wait for."""
        return self.is_pending, tuple(lease.is_slow for lease in self._leases.values())

    async def settle(self) -> None:
        """Wait until it is known whether the router opens the ports; some seconds when it does not answer."""
        while self.is_pending:
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def _move(self) -> None:
        """In another network there is another router."""
        self._moved.set()

    def _slept(self, seconds: float) -> None:
        now = anyio.current_time()
        for lease in self._leases.values():
            lease.slept(seconds, now)
        self._upnp = {bound: (mapping, ends - max(seconds, 0.0)) for bound, (mapping, ends) in self._upnp.items()}
        self._awake.set()
        self._awake = anyio.Event()
        self._wake()

    async def _run(self) -> None:
        while True:
            self._moved = anyio.Event()
            await self._serve_here()
            self._forget()

    def _forget(self) -> None:
        """What was open in this network is of no use any more."""
        self._leases, self._upnp, self._control, self._upnp_fault = {}, {}, None, None
        self._tell()

    async def _serve_here(self) -> None:
        """Until the network changes, or what could not be looked at is to be looked at again."""
        retry: float | None = None
        self.gateway, self.fault = None, NO_ROUTER
        try:
            self.gateway = self._find_gateway()
        except OSError as error:
            self.fault, retry = f"the router cannot be looked for: {error.strerror or error}", RETRY_SECONDS
        listening = self._host.ours.of(AddressSource.LISTENING)
        if any(reach_of(address) is Reach.PUBLIC and address.get("ip4") for address in listening):
            self.gateway, self.fault = None, NOT_NEEDED
        elif self.gateway is not None:
            self.fault = ""
            try:
                await self._ask_there(self.gateway)
            except OSError as error:
                self.fault, retry = (
                    f"the router {self.gateway} cannot be asked: {error.strerror or error}",
                    RETRY_SECONDS,
                )
        self._tried = True
        self._wake()
        with anyio.move_on_after(retry):
            await self._moved.wait()

    async def _ask_there(self, gateway: str) -> None:
        """Until the network changes. Raises OSError when it has changed already."""
        with self._line(gateway) as line:
            ours = str(line.getsockname()[0])
            async with anyio.create_task_group() as group:
                tasks = Supervisor(group, self._host.trace)
                tasks.keep(self._receive, line, owner="answers of the router")
                tasks.keep(self._send, line, ours, owner="questions to the router")
                tasks.keep(self._ask_by_upnp, gateway, ours, owner="a router that speaks UPnP")
                await self._moved.wait()
                tasks.cancel()

    def _line(self, gateway: str) -> socket.socket:
        """A socket on which only the router is heard. Raises OSError."""
        line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            line.setblocking(False)
            line.connect((gateway, self._port))
        except BaseException:
            line.close()
            raise
        return line

    def _look(self, ours: str) -> None:
        """A lease for each listener that the router could lead to."""
        wanted = unique(each for each in self._host.ours.bound() if _is_for(each, ours))[:PORTS_MAX]
        self._leases = {bound: lease for bound, lease in self._leases.items() if bound in wanted}
        for bound in wanted:
            if bound not in self._leases:
                now = anyio.current_time()
                self._leases[bound] = Lease(*_port_of(bound), ip_address(ours), self._random, now)

    async def _send(self, line: socket.socket, ours: str) -> None:
        while True:
            changed, before = self._changed, self._state()
            self._look(ours)
            self._tried = True
            for lease in self._leases.values():
                _say(line, lease.packets(anyio.current_time()))
            self._tell()
            if self._state() != before:
                self._wake()
            due = min((lease.next_timeout() for lease in self._leases.values()), default=None)
            with anyio.move_on_after(None if due is None else max(due - anyio.current_time(), 0.0)):
                await changed.wait()

    async def _receive(self, line: socket.socket) -> None:
        while True:
            await anyio.wait_readable(line)
            try:
                data = line.recv(PACKET_MAX)
            except ConnectionRefusedError:
                for lease in self._leases.values():
                    lease.refused(anyio.current_time())
            except OSError:
                continue  # nothing was there, or the network has gone: as if it did not answer
            else:
                for lease in self._leases.values():
                    lease.receive(data, anyio.current_time())
            self._tell()
            self._wake()

    async def _ask_by_upnp(self, gateway: str, ours: str) -> None:
        """For the ports that the router does not open by NAT-PMP or PCP, or not soon."""
        while True:
            while not (wanted := [each for each, lease in self._leases.items() if self._needs_upnp(each, lease)]):
                await self._changed.wait()
            try:
                self._control = self._control or await find(gateway, ours, self._search_at)
                for bound in wanted:
                    transport, port = _port_of(bound)
                    outside = self._upnp[bound][0].port if bound in self._upnp else port
                    found = await open_port(self._control, transport, port, ours, LEASE_SECONDS, outside)
                    self._upnp[bound] = Mapping(*found, "UPnP"), anyio.current_time() + LEASE_SECONDS
                self._upnp_fault = ""
            except TimeoutError:
                self._control, self._upnp_fault = None, SILENT
            except (DecodeError, OSError) as error:
                self._control, self._upnp_fault = None, str(error)
            self._tell()
            self._wake()
            with anyio.move_on_after(AGAIN_SECONDS if self._upnp_fault else LEASE_SECONDS / 2):
                await self._awake.wait()

    def _needs_upnp(self, bound: Multiaddr, lease: Lease) -> bool:
        return lease.is_slow and lease.mapping(anyio.current_time()) is None

    async def _shut_by_upnp(self) -> None:
        with suppress(DecodeError, OSError, TimeoutError):
            for bound, (mapping, _) in self._upnp.items():
                if self._control is not None:
                    await shut_port(self._control, _port_of(bound)[0], mapping.port)

    def _tell(self) -> None:
        """What others may know of it."""
        opened = [
            _outside(bound, mapping)
            for bound, lease in self._leases.items()
            if (mapping := self._mapping(bound, lease)) is not None
        ]
        self._host.ours.tell(AddressSource.MAPPED, [each for each in opened if reach_of(each) is Reach.PUBLIC])

    def _shut(self) -> None:
        """Have every port shut; a router that does not hear it shuts it when its time is over. By a socket of its own: what else ends
        now may have ended before."""
        with suppress(OSError):
            if self.gateway is not None:
                with self._line(self.gateway) as line:
                    for lease in self._leases.values():
                        _say(line, lease.last_words(anyio.current_time()))


def _say(line: socket.socket, packets: list[bytes]) -> None:
    for packet in packets:
        with suppress(OSError):  # nobody listens there, or the network has gone: as if it did not answer
            line.send(packet)


def _is_for(bound: Multiaddr, ours: str) -> bool:
    """The router can lead to this listener: it is on our address in the router's network, or on all."""
    ip, here = ip_of(bound), ip_address(ours)
    return ip is not None and ip.version == here.version and (ip.is_unspecified or ip == here)


def _port_of(bound: Multiaddr) -> tuple[Transport, int]:
    tcp = bound.get("tcp")
    return (Transport.TCP, int(tcp)) if tcp is not None else (Transport.UDP, int(bound.get("udp") or 0))


def _outside(bound: Multiaddr, mapping: Mapping) -> Multiaddr:
    """The listener's address as it is outside."""
    address = mapping.address
    parts = [f"/ip{address.version}/{address}"]
    for name, value in list(bound)[1:]:
        parts.append(
            f"/{name}/{mapping.port}" if name in ("tcp", "udp") else f"/{name}/{value}" if value else f"/{name}"
        )
    return Multiaddr.parse("".join(parts))
