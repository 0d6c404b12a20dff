"""Which addresses have a meaning on which link. Pure."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Interface, IPv6Address, IPv6Interface, ip_interface

from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import Reach, ip_of, is_worth_dialling, reach_of, unique
from stack.platform import Interface
from stack.values import dataclass

LINKS_MAX = 16
"""Interfaces that are spoken on: a machine that runs containers has hundreds."""


@dataclass(frozen=True, slots=True)
class Link:
    """One interface and one family of it: a group that is joined, a socket."""

    index: int
    name: str
    family: int
    """4 or 6: how the packets travel; what they tell is both."""
    networks: tuple[IPv4Interface | IPv6Interface, ...]
    loopback: bool = False

    def __str__(self) -> str:
        return f"{self.name}, IPv{self.family}"


def links_of(interfaces: Iterable[Interface]) -> list[Link]:
    """The links on which mDNS is spoken: interfaces with multicast, each with the families it has an address of."""
    links = []
    able = [each for each in interfaces if each.multicast and each.index and each.networks]
    for interface in able[:LINKS_MAX]:
        networks = tuple(ip_interface(text) for text in interface.networks)
        for family in sorted({network.version for network in networks}):
            links.append(Link(interface.index, interface.name, family, networks, interface.loopback))
    return links


def to_tell(addresses: Sequence[Multiaddr], link: Link) -> list[Multiaddr]:
    """Those of our addresses that are this interface's own: what others on the link can reach for sure."""
    ours = {network.ip for network in link.networks}
    return [address for address in addresses if ip_of(address) in ours]


def to_believe(addresses: Iterable[Multiaddr], link: Link) -> list[Multiaddr]:
    """Those of a neighbour's addresses that can be its own: on a network of this link, or private.

    A neighbour must not make us dial public addresses of others, ourselves, or names that have to be looked up.
    Link-local addresses get the zone without which they cannot be dialled.
    """
    believed = []
    for address in addresses:
        ip = ip_of(address)
        if ip is None or address.protocols[0] == "ip6zone" or "p2p-circuit" in address.protocols:
            continue
        if isinstance(ip, IPv6Address) and ip.is_link_local:
            address = Multiaddr.parse(f"/ip6zone/{link.name}{address}")
        near = any(ip in network.network for network in link.networks)
        reach = reach_of(address)
        if (
            is_worth_dialling(address)
            and (near or reach is Reach.PRIVATE)
            and (reach is not Reach.LOOPBACK or link.loopback)
        ):
            believed.append(address)
    return unique(believed)
