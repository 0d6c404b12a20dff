"""Handlers of requests about who this node is, and with what settings it runs. Most commands ask; what `peers.py` needs they do not."""

import os
from collections.abc import AsyncGenerator

import anyio

from stack.node.api import CompareSettings, GetIdentity, NodeInfo, Stay
from stack.node.config import read_address, read_node
from stack.node.handlers.streaming import streaming
from stack.node.interfaces import Handled
from stack.protocols.identify.messages import AGENT_VERSION


async def get_identity(node: Handled, request: GetIdentity) -> NodeInfo:
    """Who this node is."""
    return NodeInfo(
        peer_id=str(node.peer_id),
        addresses=node.addresses(),
        agent=AGENT_VERSION,
        protocols=tuple(node.host.supported()),
        home=str(node.config.home) if node.config.home else None,
        role=node.config.role,
        pid=os.getpid(),
    )


async def compare_settings(node: Handled, request: CompareSettings) -> tuple[str, ...]:
    """In what this node differs from what is wanted of it."""
    config = node.config
    differs = {
        "listen": not {*request.listen} <= {*config.listen},
        "external": not {*map(read_address, request.external)} <= {*map(read_address, config.external)},
        "relay_via": not {*map(read_node, request.relay_via)} <= {*map(read_node, config.relay_via)},
        "bootstrap": not {*request.bootstrap} <= {*config.bootstrap},
        "mdns": request.mdns is not None and request.mdns != config.mdns,
        "upload_limit": request.upload_limit is not None and request.upload_limit != (config.upload_limit or 0),
        "download_limit": request.download_limit is not None and request.download_limit != (config.download_limit or 0),
        "serve": request.serve is not None and request.serve != config.serve,
    }
    return tuple(name for name, different in differs.items() if different)


@streaming
async def stay(node: Handled, request: Stay) -> AsyncGenerator[None, None]:
    """Nothing, for as long as somebody listens."""
    await anyio.sleep_forever()
    yield
