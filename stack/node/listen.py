"""Where a node listens: the port of the first run is kept, so that tickets stay good."""

import errno
import json
from collections.abc import Sequence
from pathlib import Path

from anyio import to_thread

from stack.blocks.disk import read_regular, write_whole
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import expand
from stack.net.host import Host
from stack.net.interfaces import ListenError
from stack.node.config import Config, read_address, read_node
from stack.platform import interface_addresses

PORT_FILE = "port"
CIRCUIT = Multiaddr.parse("/p2p-circuit")
LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)
EVERYWHERE = ("/ip4/0.0.0.0/tcp/{port}", "/ip6/::/tcp/{port}")


async def listen(host: Host, configured: Sequence[str], home: Path | None) -> list[str]:
    """Listen as configured, or on the stored port of all interfaces. Returns what the user should know.

    Raises ListenError when a configured address cannot be had, or none of the default ones.
    """
    if configured:
        for text in configured:
            await host.listen(Multiaddr.parse(text))
        return []
    if home is None:
        await host.listen(Multiaddr.parse(LOOPBACK[0]))
        return []
    stored = await to_thread.run_sync(stored_port, home)
    port = await _everywhere(host, stored)
    if port is None:
        port = await _everywhere(host, 0)
        if port is None:
            raise ListenError(Multiaddr.parse(EVERYWHERE[0].format(port=stored)), "no interface can be listened on")
    if port != stored:
        await to_thread.run_sync(write_whole, home / PORT_FILE, json.dumps(port).encode())
    if stored and port != stored:
        return [f"Port {stored} is taken, this node now listens on {port}: tickets made before will not find it."]
    return []


def usual_addresses(config: Config) -> list[Multiaddr]:
    """Where the node of this home can be dialled whenever it listens, as far as that is known while it does not."""
    port = stored_port(config.home) if config.home is not None else 0
    texts = config.listen or [template.format(port=port) for template in EVERYWHERE if port]
    bound = [address for address in map(Multiaddr.parse, texts) if "0" not in (address.get("tcp"), address.get("udp"))]
    given = [read_address(text) for text in config.external]
    ours = [each for address in bound for each in expand(address, interface_addresses())]
    return [*given, *ours, *(read_node(text).encapsulate(CIRCUIT) for text in config.relay_via)]


def stored_port(home: Path) -> int:
    """The port of earlier runs; 0 for none."""
    try:
        port = json.loads(read_regular(home / PORT_FILE))
    except (OSError, ValueError):
        return 0
    return port if isinstance(port, int) and 0 < port < 65536 else 0


async def _everywhere(host: Host, port: int) -> int | None:
    """Listen on IPv4 and IPv6 with one port; None when it is taken, or neither can be had. A machine may lack one of the two."""
    taken: int | None = None
    for template in EVERYWHERE:
        try:
            bound = await host.listen(Multiaddr.parse(template.format(port=taken or port)))
        except ListenError as error:
            if taken is None and isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE:
                return None  # the other family alone would leave half of those who know this port before a stranger
            continue
        taken = taken or int(bound.get("tcp") or 0)
    return taken
