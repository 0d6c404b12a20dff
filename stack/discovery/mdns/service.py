"""mDNS on the sockets of this machine: one for each interface and family, shared with other programs that speak it."""

import logging
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import SystemRandom

import anyio

from stack.discovery.dns import MESSAGE_BYTES_MAX, Name
from stack.discovery.mdns.links import Link, links_of
from stack.discovery.mdns.machine import PORT, SERVICE, MdnsMachine, PeerFound, SendPacket
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.platform import Interface, interfaces
from stack.streams.supervision import Supervisor, supervised
from stack.trace import Trace
from stack.values import dataclass

_log = logging.getLogger(__name__)

GROUPS = {4: "224.0.0.251", 6: "ff02::fb"}
HOPS = 255
"""RFC 6762, section 11: so that a receiver could see that a packet has not been forwarded."""
LOOK_SECONDS = 5.0
"""Between two looks at the interfaces."""
TURN_SECONDS = 0.002
"""Packets are read for so long in a row before other tasks have their turn."""
PAUSE_SECONDS = 1.0
"""After an error of a socket, so that the loop does not spin."""

_IP_MULTICAST_ALL, _IPV6_MULTICAST_ALL = 49, 29
"""Linux: a socket gets the packets of the groups that it has joined itself, not those that any program has joined."""


@dataclass(frozen=True, slots=True)
class LinkFact:
    """How it stands on one link; `error` says why nothing can be sent or received there."""

    link: Link
    error: str | None


class MdnsService:
    """`run` speaks until it is cancelled; without multicast it does nothing, and `facts` says why."""

    def __init__(
        self,
        peer: PeerId,
        addresses: Callable[[], Sequence[Multiaddr]],
        found: Callable[[PeerFound], None],
        *,
        service: Name = SERVICE,
        read_interfaces: Callable[[], Sequence[Interface]] = interfaces,
        trace: Trace | None = None,
    ) -> None:
        """`addresses` gives ours, without `/p2p`; `found` is told of neighbours, and must not block."""
        self._machine = MdnsMachine(peer, SystemRandom(), service=service)
        self._addresses = addresses
        self._found = found
        self._read_interfaces = read_interfaces
        self._trace = trace
        self._sockets: dict[tuple[int, int], socket.socket] = {}
        self._links: dict[tuple[int, int], Link] = {}
        self._errors: dict[tuple[int, int], str] = {}
        self._wake = anyio.Event()
        self._look_at = 0.0

    def __repr__(self) -> str:
        return f"<MdnsService on {len(self._sockets)} links>"

    def facts(self) -> list[LinkFact]:
        """Every link that was tried."""
        return [LinkFact(link, self._errors.get(place)) for place, link in self._links.items()]

    @property
    def packets(self) -> int:
        """Packets read so far, those of other services too."""
        return self._machine.packets

    def look_again(self) -> None:
        """Our addresses may have changed."""
        self._look_at = 0.0
        self._wake.set()

    def ask_again(self) -> None:
        """Others may have come and gone, and have forgotten us: the machine has slept."""
        self._machine.woken(anyio.current_time())
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        self.look_again()
        async with supervised(self._trace) as tasks:
            try:
                while True:
                    self._wake = anyio.Event()
                    now = anyio.current_time()
                    if self._look_at <= now:
                        self._look(tasks)
                        self._look_at = now + LOOK_SECONDS
                    self._machine.handle_timeout(now)
                    self._flush()
                    due = self._machine.next_timeout()
                    with anyio.move_on_after(min(self._look_at, self._look_at if due is None else due) - now):
                        await self._wake.wait()
            finally:
                self._machine.goodbye()
                self._flush()
                for place in list(self._sockets):
                    self._close(place)

    def _look(self, tasks: Supervisor) -> None:
        """Speak on the interfaces that are there now, and tell the addresses that we have now."""
        links = self._links
        try:
            links = {(link.index, link.family): link for link in links_of(self._read_interfaces())}
        except OSError as error:
            _log.debug("cannot look at the interfaces: %s", error)  # the host warns of it
        for place in self._sockets.keys() - links.keys():
            self._close(place)
        self._errors = {place: error for place, error in self._errors.items() if place in links}
        self._links = links
        for place, link in links.items():
            if place not in self._sockets:
                try:
                    self._sockets[place] = joined(link)
                except OSError as error:
                    self._errors[place] = error.strerror or str(error)
                    continue
                self._errors.pop(place, None)
                tasks.keep(self._receive, place, self._sockets[place], owner="a link of mDNS")
        now = anyio.current_time()
        self._machine.links_changed([links[place] for place in self._sockets], now)
        self._machine.addresses_changed(self._addresses(), now)

    async def _receive(self, place: tuple[int, int], connection: socket.socket) -> None:
        while True:
            try:
                await anyio.wait_readable(connection)
                self._read(place, connection)
            except (anyio.ClosedResourceError, ValueError):
                return  # closed by `_close`
            except OSError as error:
                if self._sockets.get(place) is not connection:
                    return
                self._errors[place] = error.strerror or str(error)
                await anyio.sleep(PAUSE_SECONDS)
            self._wake.set()

    def _read(self, place: tuple[int, int], connection: socket.socket) -> None:
        until = anyio.current_time() + TURN_SECONDS
        while (now := anyio.current_time()) < until:
            try:
                data, source = connection.recvfrom(MESSAGE_BYTES_MAX + 1)
            except BlockingIOError:
                break
            host = str(source[0]).partition("%")[0]
            self._machine.receive_packet(self._links[place], data, (host, int(source[1])), now)
        self._flush()

    def _flush(self) -> None:
        while (effect := self._machine.next_effect()) is not None:
            match effect:
                case PeerFound():
                    self._found(effect)
                case SendPacket():
                    self._send(effect)

    def _send(self, packet: SendPacket) -> None:
        link = packet.link
        place = (link.index, link.family)
        connection = self._sockets.get(place)
        if connection is None:
            return
        host, port = packet.target or (GROUPS[link.family], PORT)
        target: tuple[str, int] | tuple[str, int, int, int] = (host, port)
        if link.family == 6:
            target = (host, port, 0, link.index if host.startswith(("fe80", "ff02")) else 0)
        try:
            connection.sendto(packet.data, target)
        except OSError as error:  # the interface went down, or the queue is full: the next question comes anyway
            self._errors[place] = error.strerror or str(error)
        else:
            self._errors.pop(place, None)

    def _close(self, place: tuple[int, int]) -> None:
        connection = self._sockets.pop(place)
        anyio.notify_closing(connection)
        connection.close()


def joined(link: Link) -> socket.socket:
    """A socket that has joined the group on this link. Raises OSError."""
    family = socket.AF_INET if link.family == 4 else socket.AF_INET6
    connection = socket.socket(family, socket.SOCK_DGRAM)
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform != "linux" and hasattr(socket, "SO_REUSEPORT"):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        group = socket.inet_pton(family, GROUPS[link.family])
        # Bound to the group, not to the wildcard: packets to this machine alone belong to its own responder, and none
        # from beyond the link gets here.
        if link.family == 4:
            here = struct.pack("@4s4si", group, bytes(4), link.index)
            connection.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here)
            connection.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, HOPS)
            connection.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            connection.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, here)
            if sys.platform == "linux":
                connection.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
            connection.bind((GROUPS[4], PORT))
        else:
            connection.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            connection.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, link.index)
            connection.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, HOPS)
            connection.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
            connection.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group + struct.pack("@I", link.index))
            if sys.platform == "linux":
                with suppress(OSError):  # before Linux 4.20
                    connection.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
            connection.bind((GROUPS[6], PORT, 0, link.index))
    except BaseException:
        connection.close()
        raise
    return connection
