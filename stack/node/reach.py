"""Who can reach a node, in words, from what is known of its addresses. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import host_and_port, is_relayed, relay_of
from stack.node.api import Reach
from stack.protocols.autonat.judge import Verdict

ADVICE = {
    "computer": "Only programs on this computer can reach it: it listens on loopback addresses alone.",
    "network": "Computers on this network can reach it. For others, forward {port} of the router to this computer,"
    " and say where that is with --external HOST:PORT (or `stack config set external HOST:PORT`).",
    "external": "Others are told that it is reached at {places}.",
    "mapped": "The router lets others in at {places}; nobody outside has tried it yet.",
    "public": "It has a public address: others can reach it from anywhere unless a firewall stops them.",
    "nobody": "It does not listen: nobody can fetch from it.",
}
OPEN = "It is reached from the internet, at {places}: {peers} outside came that way."
SHUT = "Computers on this network can reach it, but not the internet: {peers} outside tried {places} and could not. "
SHUT_BY = {
    "external": "Check that the router or proxy there leads to {port} of this computer.",
    "mapped": "The router says that it is open: perhaps another router stands before it, or the provider lets nobody in.",
    "public": "A firewall stops them: let {port} in, here and at the router.",
    "guessed": "Forward {port} of the router to this computer.",
}
RELAYED = "Others reach it through the relay at {relays}, and without it where both routers let them."
PENDING = "Computers on this network can reach it. Whether others can is being tried."


def scope_of(address: Multiaddr) -> str:
    """`computer`, `network` or `internet`. Names count as public."""
    host = address.get("ip4") or address.get("ip6")
    if host is None:
        return "internet"
    ip = ip_address(host.partition("%")[0])
    if ip.is_loopback:
        return "computer"
    return "internet" if ip.is_global else "network"


def reach_of(
    addresses: Sequence[Multiaddr],
    notices: Sequence[str] = (),
    external: Sequence[Multiaddr] = (),
    *,
    mapped: Sequence[Multiaddr] = (),
    verdicts: Sequence[Verdict] = (),
    pending: bool = False,
) -> Reach:
    """Who can reach it, with what to do if that is not enough. `notices` are said first. What peers outside have tried counts more than
    what the owner (`external`) or a router (`mapped`) says, and that more than what the addresses look like."""
    relayed = [address for address in addresses if is_relayed(address)]
    direct = _direct([address for address in addresses if address not in relayed], external, mapped, verdicts, pending)
    advice = direct.advice
    if relayed and direct.scope != "internet":
        relays = " or ".join(dict.fromkeys(host_and_port(relay_of(address)[0]) for address in relayed))
        direct = replace(direct, scope="internet", addresses=tuple(relayed), checked=False)
        advice = RELAYED.format(relays=relays)
    return replace(direct, advice=" ".join((*notices, advice)))


def _direct(
    addresses: Sequence[Multiaddr],
    external: Sequence[Multiaddr],
    mapped: Sequence[Multiaddr],
    verdicts: Sequence[Verdict],
    pending: bool,
) -> Reach:
    """The same of what needs no relay."""
    bare = [address.split_peer()[0] for address in addresses]
    whole = dict(zip(bare, addresses, strict=True))
    ports = sorted({port for address in bare if (port := address.get("tcp")) and address not in (*external, *mapped)})
    port = f"TCP port {' or '.join(ports)}"
    scopes = {address: scope_of(address) for address in bare}

    def answer(scope: str, text: str, places: Sequence[Multiaddr] | None = None, *, checked: bool = False) -> Reach:
        best = [each for each in bare if scopes[each] == scope] if places is None else places
        found = tuple(whole.get(each, each) for each in best)
        return Reach(scope=scope, addresses=found, advice=text, checked=checked)

    opened = [verdict for verdict in verdicts if verdict.open]
    if opened:
        places = [verdict.address for verdict in opened]
        return answer("internet", OPEN.format(places=_shown(places), peers=_peers(opened)), places, checked=True)
    public = [each for each in bare if scopes[each] == "internet"]
    guessed = [each.address for each in verdicts if each.open is False]
    for kind, stated in (("external", external), ("mapped", mapped), ("public", public), ("guessed", guessed)):
        shut = [verdict for verdict in verdicts if verdict.open is False and verdict.address in stated]
        if shut and len(shut) == len(stated):
            text = SHUT.format(places=_shown(stated), peers=_peers(shut)) + SHUT_BY[kind].format(port=port)
            return answer("network", text, checked=True)
        if stated:
            return answer("internet", ADVICE[kind].format(places=_shown(stated)), stated)
    scope = next((scope for scope in ("network", "computer") if scope in scopes.values()), "nobody")
    return answer(scope, PENDING if pending and scope == "network" else ADVICE[scope].format(port=port))


def _shown(places: Sequence[Multiaddr]) -> str:
    return " or ".join(map(host_and_port, places))


def _peers(verdicts: Sequence[Verdict]) -> str:
    count = max(verdict.peers for verdict in verdicts)
    return f"{count} peer{'' if count == 1 else 's'}"
