"""Where a node listens: the port of the first run is kept, so that tickets stay good."""

import errno
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from anyio import to_thread

from stack.blocks.disk import read_regular, write_whole
from stack.errors import Refused
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

    Where the stored port cannot be read it stays stored, for the next run.

    Raises ListenError when a configured address cannot be had, or none of the default ones.
    """
    if configured:
        for text in configured:
            await host.listen(Multiaddr.parse(text))
        return []
    if home is None:
        await host.listen(Multiaddr.parse(LOOPBACK[0]))
        return []
    stored, fault, unread = 0, "", False
    try:
        stored = await to_thread.run_sync(stored_port, home)
    except OSError as error:
        fault, unread = f"{home / PORT_FILE} cannot be read ({error.strerror or error})", True
    except ValueError:
        fault = f"{home / PORT_FILE} is damaged"
    port = await _everywhere(host, stored)
    if port is None:
        port = await _everywhere(host, 0)
        if port is None:
            raise ListenError(Multiaddr.parse(EVERYWHERE[0].format(port=stored)), "no interface can be listened on")
    if port != stored and not unread:
        await to_thread.run_sync(write_whole, home / PORT_FILE, json.dumps(port).encode())
    if stored and port != stored:
        fault = f"Port {stored} is taken"
    return [f"{fault}, this node now listens on {port}: tickets made before will not find it."] if fault else []


def usual_addresses(config: Config) -> list[Multiaddr]:
    """Where the node of this home can be dialled whenever it listens, as far as that is known while it does not.

    Raises Refused when it cannot be looked at now.
    """
    port = 0
    try:
        interfaces = interface_addresses()
        if config.home is not None:
            with suppress(ValueError):  # the next run that listens writes another
                port = stored_port(config.home)
    except OSError as error:
        raise Refused(f"where this node listens cannot be looked up: {error.strerror or error}") from error
    texts = config.listen or [template.format(port=port) for template in EVERYWHERE if port]
    bound = [address for address in map(Multiaddr.parse, texts) if "0" not in (address.get("tcp"), address.get("udp"))]
    given = [read_address(text) for text in config.external]
    ours = [each for address in bound for each in expand(address, interfaces)]
    return [*given, *ours, *(read_node(text).encapsulate(CIRCUIT) for text in config.relay_via)]


def stored_port(home: Path) -> int:
    """The port of earlier runs; 0 for none. Raises OSError when that cannot be read, ValueError when it is damaged."""
    try:
        port = json.loads(read_regular(home / PORT_FILE))
    except FileNotFoundError:
        return 0
    if not (isinstance(port, int) and 0 < port < 65536):
        raise ValueError("no port")
    return port


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
