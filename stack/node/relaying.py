"""Relays as the settings of a node want them: it is one, has places at some, and dials through any."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from stack.identity.peer_id import PeerId
from stack.net.host import Host
from stack.node.config import Config, read_relay
from stack.node.roles import LISTENING_ROLES
from stack.protocols.relay.service import RelayService
from stack.streams.supervision import supervised


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

            keeper = RelayKeeper(host, relays.transport, [read_relay(text) for text in config.relay_via], tasks)
            with anyio.move_on_after(FIRST_SECONDS):
                await keeper.tried.wait()
        elif not config.relay:
            tasks.start(relays.keep_places, tasks, owner="looking for relays")
        yield
