"""Addresses of QUIC: `/ip4/1.2.3.4/udp/4001/quic-v1`, `/ip6/::1/udp/4001/quic-v1`."""

import socket
from ipaddress import IPv6Address

from stack.multiformats.multiaddr import Multiaddr
from stack.transports import tcp

Address = tuple[str, int] | tuple[str, int, int, int]

_FORMS = (("ip4", "udp", "quic-v1"), ("ip6", "udp", "quic-v1"), ("ip6zone", "ip6", "udp", "quic-v1"))


def is_quic(address: Multiaddr) -> bool:
    """An IP address with a UDP port and QUIC, and nothing behind it (WebTransport is another protocol)."""
    return address.protocols in _FORMS


def socket_address(address: Multiaddr) -> tuple[socket.AddressFamily, Address]:
    """Family and target, as a socket tells them of a datagram from there. Raises TransportError on an unknown zone."""
    family, target = tcp.socket_address(address)
    port = int(address.get("udp") or 0)
    if len(target) == 2:
        return family, (target[0], port)
    return family, (str(IPv6Address(target[0])), port, 0, target[3])


def multiaddr_of(family: int, target: Address) -> Multiaddr:
    """The address of a socket's end."""
    text = str(tcp.multiaddr_of(family, target))
    return Multiaddr.parse(f"{text.replace('/tcp/', '/udp/')}/quic-v1")
