"""Who can reach a node, judged by its addresses alone. Pure."""

from collections.abc import Sequence
from ipaddress import ip_address

from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import Reach

ADVICE = {
    "computer": "Only programs on this computer can reach it: it listens on loopback addresses alone.",
    "network": "Computers on this network can reach it. For others, forward {port} of the router to this computer,"
    " and say where that is with --external HOST:PORT (or `stack config set external HOST:PORT`).",
    "told": "Others are told that it is reached at {external}.",
    "internet": "It has a public address: others can reach it from anywhere unless a firewall stops them.",
    "nobody": "It does not listen: nobody can fetch from it.",
}


def scope_of(address: Multiaddr) -> str:
    """`computer`, `network` or `internet`. Names count as public."""
    host = address.get("ip4") or address.get("ip6")
    if host is None:
        return "internet"
    ip = ip_address(host.partition("%")[0])
    if ip.is_loopback:
        return "computer"
    return "internet" if ip.is_global else "network"


def reach_of(addresses: Sequence[Multiaddr], notices: Sequence[str] = (), external: Sequence[str] = ()) -> Reach:
    """The widest scope of any address, with what to do if that is not enough. `notices` are said first. What the owner says is
    `external` is believed."""
    if external:
        advice = ADVICE["told"].format(external=" or ".join(external))
        return Reach(scope="internet", addresses=tuple(addresses[: len(external)]), advice=" ".join((*notices, advice)))
    scopes = {scope_of(address) for address in addresses}
    scope = next((scope for scope in ("internet", "network", "computer") if scope in scopes), "nobody")
    ports = sorted({port for address in addresses if (port := address.get("tcp"))})
    advice = ADVICE[scope].format(port=f"TCP port {' or '.join(ports)}")
    best = [address for address in addresses if scope_of(address) == scope]
    return Reach(scope=scope, addresses=tuple(best), advice=" ".join((*notices, advice)))
