"""How a node finds others: what its settings say, as `stack.discovery` wants it."""

import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread

from stack.blocks.disk import read_regular, write_whole
from stack.errors import ConfigError, DecodeError
from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host
from stack.node.config import Config

if TYPE_CHECKING:
    from stack.discovery.service import Discovery
    from stack.security.pnet.shell import PrivateNetwork

_log = logging.getLogger(__name__)

PEERS_FILE = "peers.json"
SWARM_KEY_FILE = "swarm.key"
FORCE_PRIVATE = "LIBP2P_FORCE_PNET"
"""The environment variable by which every libp2p refuses to be in the public network."""
DISCOVERING_ROLES = frozenset({"daemon", "share", "get", "find", "providers", "read", "doctor", "library", "pubsub"})
"""Other commands open the home for a moment and need nobody."""


@asynccontextmanager
async def discovering(
    host: Host, config: Config, private: "PrivateNetwork | None"
) -> AsyncIterator["Discovery | None"]:
    """Look for peers while the context lasts; None where the settings or the role want nobody."""
    file = config.home / PEERS_FILE if config.home is not None and config.remember_peers else None
    if config.role not in DISCOVERING_ROLES or not (config.mdns or config.bootstrap or file):
        yield None
        return
    from stack.discovery.mdns.machine import SERVICE, private_service  # here: most commands look for nobody
    from stack.discovery.service import Discovery, DiscoverySettings

    saved, fault = None, ""
    if file is not None:
        try:
            saved = await to_thread.run_sync(_read, file)
        except OSError as error:  # it is not written over: the next run may be able to read it
            fault = f"the list of peers of earlier runs cannot be read, and is left as it is: {error.strerror or error}"
            _log.warning("%s", fault)
            file = None
    settings = DiscoverySettings(
        mdns=config.mdns,
        service=private_service(private.fingerprint) if private is not None else SERVICE,
        bootstrap=[Multiaddr.parse(text) for text in config.bootstrap],
        saved=saved,
        saved_fault=fault,
        save=(lambda data: write_whole(file, data)) if file is not None else None,
    )
    async with Discovery.open(host, settings) as discovery:
        yield discovery


def has_peers(home: Path) -> bool:
    """Whether there are peers of earlier runs."""
    return (home / PEERS_FILE).exists()


def private_network(config: Config, environment: Mapping[str, str] = os.environ) -> "PrivateNetwork | None":
    """The private network of a node; None for the public one. Raises ConfigError: a damaged key, none where one is forced."""
    file = config.swarm_key
    if file is None and config.home is not None:
        file = config.home / SWARM_KEY_FILE
        try:
            file.lstat()
        except FileNotFoundError:
            file = None
        except OSError as error:
            raise ConfigError(f"swarm_key: {file}: {error.strerror}") from error
    if file is None:
        if environment.get(FORCE_PRIVATE) == "1":
            raise ConfigError(
                f"{FORCE_PRIVATE} is set, and this node has no swarm key: it would be in the public network"
            )
        return None
    from stack.security.pnet.key import FILE_BYTES_MAX, decode_swarm_key  # here: few nodes have a key
    from stack.security.pnet.shell import PrivateNetwork

    try:
        key = decode_swarm_key(read_regular(file, FILE_BYTES_MAX + 1))
    except OSError as error:
        raise ConfigError(f"swarm_key: {file}: {error.strerror}") from error
    except DecodeError as error:
        raise ConfigError(f"swarm_key: {file}: {error}") from error
    return PrivateNetwork(key)


def _read(file: Path) -> bytes | None:
    """None when there is none. Raises OSError."""
    try:
        return read_regular(file)
    except FileNotFoundError:
        return None


async def lookup_text(name: str) -> Sequence[str]:
    """TXT records, for `/dnsaddr` addresses; see `stack.discovery.lookup`."""
    from stack.discovery import lookup  # here: few addresses need it

    return await lookup.lookup_text(name)
