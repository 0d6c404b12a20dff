"""What an address tells: its IP, its scope, and the group of addresses that count as one neighbour. Pure."""

from collections.abc import Iterable
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from stack.multiformats.multiaddr import Multiaddr

IpAddress = IPv4Address | IPv6Address

DNS_NAMES = ("dns", "dns4", "dns6", "dnsaddr")
RELAYED = "p2p-circuit"
GROUP_PREFIX_4 = 32
GROUP_PREFIX_6 = 56
"""One IPv4 address, or the smallest block a provider hands to one IPv6 customer: figures of go-libp2p's conn_limiter."""
NEIGHBOURHOOD_PREFIX_4 = 24
NEIGHBOURHOOD_PREFIX_6 = 48
"""A wider group, for counting independent witnesses: one site owns that many addresses at the least."""


REACHES_KEPT = 256
"""Addresses whose reach and group are remembered: our own are looked at for each word to a swarm, that of a peer for each long message,
and to read one costs 10 us."""


class Reach(IntEnum):
    """How far an address can be seen; a larger one is seen from further away."""

    LOOPBACK = 0
    PRIVATE = 1
    PUBLIC = 2


def ip_of(address: Multiaddr) -> IpAddress | None:
    """The IP address in front, or None (memory, DNS names)."""
    for name, value in address:
        if name in ("ip4", "ip6"):
            return ip_address(value)
        if name != "ip6zone":
            return None
    return None


@lru_cache(maxsize=REACHES_KEPT)
def reach_of(address: Multiaddr) -> Reach:
    """Memory addresses are as near as loopback; a name that is not resolved yet is taken for public."""
    ip = ip_of(address)
    if ip is None:
        return Reach.LOOPBACK if address.get("memory") is not None else Reach.PUBLIC
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    ip = mapped or ip
    if ip.is_loopback:
        return Reach.LOOPBACK
    return Reach.PUBLIC if ip.is_global and not ip.is_multicast else Reach.PRIVATE


@lru_cache(maxsize=REACHES_KEPT)
def group_of(address: Multiaddr) -> str | None:
    """The group whose connections are counted together: IPv4 /32, IPv6 /56; None is not limited (loopback, memory)."""
    return _group(address, GROUP_PREFIX_4, GROUP_PREFIX_6)


def neighbourhood_of(address: Multiaddr) -> str | None:
    """The wider group of one site: IPv4 /24, IPv6 /48; None for loopback and memory."""
    return _group(address, NEIGHBOURHOOD_PREFIX_4, NEIGHBOURHOOD_PREFIX_6)


def _group(address: Multiaddr, prefix_4: int, prefix_6: int) -> str | None:
    ip = ip_of(address)
    if ip is None or reach_of(address) is Reach.LOOPBACK:
        return None
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    ip = mapped or ip
    prefix = prefix_4 if isinstance(ip, IPv4Address) else prefix_6
    return str(ip_network((ip, prefix), strict=False))


def is_relayed(address: Multiaddr) -> bool:
    """It leads to a peer through another one: what stands in front is where that one is."""
    return RELAYED in address.protocols


def relay_of(address: Multiaddr) -> tuple[Multiaddr, str | None]:
    """Of a relayed address: where the relay is, and its peer id if that is said."""
    return address.decapsulate(RELAYED).split_peer()


def is_unspecified(address: Multiaddr) -> bool:
    """`0.0.0.0` or `::`: a wildcard to listen on, nothing to dial."""
    ip = ip_of(address)
    return ip is not None and ip.is_unspecified


def is_worth_dialling(address: Multiaddr) -> bool:
    """False for wildcards, multicast, port 0, and link-local IPv6 without a zone: they cannot be connected to."""
    ip = ip_of(address)
    if address.get("tcp") == "0" or address.get("udp") == "0":
        return False
    if ip is None:
        return True
    if ip.is_unspecified or ip.is_multicast or str(ip) == "255.255.255.255":
        return False
    return not (isinstance(ip, IPv6Address) and ip.is_link_local and address.get("ip6zone") is None)


def expand(address: Multiaddr, interfaces: Iterable[str]) -> list[Multiaddr]:
    """An address on the wildcard as one concrete address per interface address of its family; others as they are.

    Link-local addresses are left out: they mean nothing without a zone, which has no meaning on another machine.
    """
    ip = ip_of(address)
    if ip is None or not ip.is_unspecified:
        return [address]
    rest = str(address).split("/", 3)[3]
    expanded = []
    for text in interfaces:
        candidate = ip_address(text)
        if candidate.version == ip.version and not candidate.is_link_local and not candidate.is_multicast:
            expanded.append(Multiaddr.parse(f"/ip{ip.version}/{candidate}/{rest}"))
    return expanded


def unique(addresses: Iterable[Multiaddr]) -> list[Multiaddr]:
    """Each address once, in the order of its first appearance."""
    return list(dict.fromkeys(addresses))


def host_and_port(address: Multiaddr) -> str:
    """As people write it: `10.77.0.10:33510`, `[fd00::1]:33510`, `example.org:443`; others as they are, without `/p2p`."""
    bare = address.split_peer()[0]
    host = next(
        (value for name in ("ip4", "ip6", "dns", "dns4", "dns6") if (value := bare.get(name)) is not None), None
    )
    port = bare.get("tcp") or bare.get("udp")
    if host is None or port is None:
        return str(bare)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
