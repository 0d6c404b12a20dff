"""Relays as the settings of a node want them: it is one, has places at some, and dials through any."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio

from stack.discovery.interfaces import DiscoveryFact
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import host_and_port, is_relayed, relay_of
from stack.net.host import Host
from stack.node.config import Config, read_node
from stack.node.roles import LISTENING_ROLES
from stack.protocols.relay.service import RelayService
from stack.streams.supervision import supervised

AT_RELAY = "others reach this node through it"
NO_PLACE = (
    "has no place for this node, or does not answer; it is asked again. Its owner runs `stack daemon --relay`, and carries"
    " whole files with --relay-allow and the peer ID that `stack id` shows here"
)


@asynccontextmanager
async def relaying(host: Host, relays: RelayService, config: Config) -> AsyncIterator[None]:
    """While the context lasts. Places at the relays that are named are asked for before it begins, for a moment: tickets name them.
    What a relay and its guests need is loaded where it is used."""
    if config.role not in LISTENING_ROLES:
        yield
        return
    async with supervised(host.trace) as tasks:
        if config.relay:
            from stack.protocols.relay.shell.server import RelayServer

            RelayServer(host, allowed=[PeerId.parse(text) for text in config.relay_allow])
        if config.relay_via:
            from stack.protocols.relay.shell.keeper import FIRST_SECONDS, RelayKeeper

            keeper = RelayKeeper(host, relays.transport, [read_node(text) for text in config.relay_via], tasks)
            with anyio.move_on_after(FIRST_SECONDS):
                await keeper.tried.wait()
        elif not config.relay:
            tasks.start(relays.keep_places, tasks, owner="looking for relays")
        yield


def relay_facts(addresses: Sequence[Multiaddr], config: Config) -> list[DiscoveryFact]:
    """Of a node that is told of at `addresses`: at which relays it has a place, and whether it is one; for `stack doctor`."""
    held = {host_and_port(relay_of(address)[0]) for address in addresses if is_relayed(address)}
    named = {host_and_port(read_node(text)) for text in config.relay_via}
    facts = [DiscoveryFact(what="relay", subject=place, ok=True, detail=AT_RELAY) for place in sorted(held)]
    if len(held) < len(named):  # else one that was named by its host name is among those that are held
        missing = sorted(named - held)
        facts += [DiscoveryFact(what="relay", subject=place, ok=False, detail=NO_PLACE) for place in missing]
    if config.relay:
        detail = f"this node is one; it carries whole files for {len(config.relay_allow)} peers (relay_allow)"
        facts.append(DiscoveryFact(what="relay", subject="", ok=True, detail=detail))
    return facts
