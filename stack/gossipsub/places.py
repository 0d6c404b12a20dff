"""Where a peer is, as far as it counts for its score (P6), and who has dialled."""

from collections.abc import Iterable
from ipaddress import IPv6Network, ip_address

from stack.identity.peer_id import PeerId
from stack.net.interfaces import ConnectionInfo, Direction

IPV6_PREFIX = 64
"""Whoever has one IPv6 address has the others of its network too; go-libp2p-pubsub counts these as well."""


def place_of(peer: PeerId, connections: Iterable[ConnectionInfo]) -> tuple[bool, str | None]:
    """Whether we have dialled a peer, and what counts as its place: its IPv4 address or its IPv6 network.

    Behind a relay, or on this computer, it has none.
    """
    outbound = False
    place: str | None = None
    for connection in connections:
        address = connection.address
        if connection.peer != peer or "p2p-circuit" in address.protocols:
            continue
        outbound = outbound or connection.direction is Direction.OUTBOUND
        text = address.get("ip4") or address.get("ip6")
        if text is not None and not (ip := ip_address(text)).is_loopback:
            place = str(ip if ip.version == 4 else IPv6Network((ip, IPV6_PREFIX), strict=False))
    return outbound, place
