"""Settings of a node. Precedence: flag, environment `STACK_NAME`, `config.toml` in the home, default.

`settings` has the whole list; `stack config` shows it. Anything unknown or out of range is a ConfigError that names the setting.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

from stack.errors import ConfigError, DecodeError
from stack.multiformats.multiaddr import Multiaddr
from stack.multiformats.peer_text import decode_peer_text
from stack.node.home import default_home
from stack.node.settings import (
    KEY_TYPES,
    PAGE_CACHES,
    SETTINGS,
    place,
    read_address,
    read_file,
    read_node,
    read_rate,
    read_setting,
    variable,
)
from stack.values import dataclass

__all__ = ["SETTINGS", "Config", "load", "read_address", "read_node", "read_rate", "read_setting"]

DEFAULT_LISTEN = ("/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0")
BOOTSTRAP_MAX = 64
"""Addresses in the list; each is a connection that is never trimmed."""

EXTERNAL_MAX = 4
"""Addresses that a user says are ours: half of those that a ticket has room for."""

RELAYS_MAX = 4
"""Relays that are named: each is a connection that is kept."""
RELAY_ALLOW_MAX = 256
"""Peers that a relay knows by name."""

CODE_SECONDS = range(10, 3601)
"""For which a code may be good: to be said, and not so long that it is forgotten."""

RATE_MIN = 16 * 1024
"""Bytes a second: other nodes grant a block so much, and some seconds."""

MEMORY_MIN = 16 << 20
"""Bytes: a message of 4 MiB each way for a few peers. With less a node is silent to others, or lacks what it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a node is built from. `Config()` is a node in memory: no files, a new identity, a free port on loopback."""

    home: Path | None = None
    """Folder of the node; None keeps everything in memory."""
    role: str = "library"
    """What the process was started as; shown by `stack id`."""
    mdns: bool = False
    """Find peers on the local network, and be found. Commands do unless told otherwise, programs when they ask for it."""
    bootstrap: tuple[str, ...] = ()
    """Multiaddrs of peers that are dialled at the start and kept; others are found through them."""
    swarm_key: Path | None = None
    """The pre-shared key of a private network, as Kubo writes it. Unset: `swarm.key` in the home, if it is there."""
    security: tuple[str, ...] = ("noise", "tls")
    """How connections are secured, preferred first; protocols of other packages by their whole name, as `/mine/1.0.0`."""
    remember_peers: bool = False
    """Keep a list of peers in the home, and dial some of them at the start. Commands do, programs when they ask for it."""
    listen: tuple[str, ...] = ()
    """Multiaddrs to listen on. Empty: the stored port on all interfaces with a home, a free port on loopback without."""
    external: tuple[str, ...] = ()
    """Where others reach this node through a router that forwards a port, or a proxy: multiaddrs or `HOST:PORT`. They stand first in
    its tickets and in what it tells others."""
    relay: bool = False
    """Be a relay for peers that nobody can dial: strangers are carried so far as to find out how to do without."""
    relay_allow: tuple[str, ...] = ()
    """Peer ids: they have a place at this relay whoever else asks, and connections from and to them have no limits."""
    relay_via: tuple[str, ...] = ()
    """Relays through which others reach this node: multiaddrs or `HOST:PORT`. They stand in its tickets."""
    serve: bool = True
    """Answer what others ask for; False on metered lines."""
    upload_limit: int | None = None
    """Most bytes of blocks a second that go to all peers together; None or 0 is no limit."""
    download_limit: int | None = None
    """The same of what comes."""
    pubsub: bool = True
    """Speak gossipsub (`node.pubsub`)."""
    announce: bool = True
    """Take part in the announcement layer: find who has a CID, and be found for what is announced. Needs `pubsub`."""
    code_seconds: int = 60
    """For how long a code that stands for a ticket is good."""
    portmap: bool = False
    """Ask the router to let others in (PCP, NAT-PMP, UPnP). Commands do unless told otherwise, programs when they ask for it."""
    autonat: bool = True
    """Try for others whether they can be reached (AutoNAT). Whether this node itself can be is asked in any case."""
    perf: bool = False
    """Serve `/perf/1.0.0`: whoever asks gets as many bytes as it wants, so the specification advises to serve it only while measuring."""
    store: str = ""
    """Where blocks are kept: a name of `stack.blocks.STORES`, or of another package. Empty: `disk` with a home, else `memory`."""
    key_type: str = "ed25519"
    """Type of the identity made at the first run: ed25519, secp256k1, ecdsa or rsa."""
    profile: str = "unixfs-v1-2025"
    """Import profile: unixfs-v1-2025, unixfs-v0-2015, or default (Kubo's own)."""
    quota: int | None = None
    """Most bytes of blocks that are kept in packs; files shared or fetched in place do not count."""
    page_cache: str = "auto"
    """Whether the system is to remember what is fetched (`stack.blocks.interfaces.PageCache`): auto, always or never. Linux only."""
    low_water: int = 96
    """Connections kept when too many are open."""
    high_water: int = 160
    """Connections from which the least useful are closed."""
    memory_limit: int = 64 * 1024 * 1024
    """Most bytes of buffers that all peers together can make the node hold."""

    def __post_init__(self) -> None:
        if self.high_water < 1:
            raise ConfigError("high_water: at least 1")
        if not 1 <= self.low_water <= self.high_water:
            raise ConfigError(f"low_water: at least 1 and at most high_water, which is {self.high_water}")
        if self.memory_limit < MEMORY_MIN:
            raise ConfigError("memory_limit: at least 16M, or messages do not fit")
        for name, rate in (("upload_limit", self.upload_limit), ("download_limit", self.download_limit)):
            if rate and rate < RATE_MIN:
                raise ConfigError(
                    f"{name}: at least 16K bytes a second, or others give up on a block before it is there"
                )
        if self.code_seconds not in CODE_SECONDS:
            raise ConfigError(f"code_seconds: {CODE_SECONDS.start} to {CODE_SECONDS.stop - 1}")
        if not self.security:
            raise ConfigError("security: at least one of noise, tls")
        if self.key_type not in KEY_TYPES:
            raise ConfigError(f"key_type: {self.key_type!r} is not one of {', '.join(KEY_TYPES)}")
        if self.page_cache not in PAGE_CACHES:
            raise ConfigError(f"page_cache: {self.page_cache!r} is not one of {', '.join(PAGE_CACHES)}")
        if len(self.bootstrap) > BOOTSTRAP_MAX:
            raise ConfigError(f"bootstrap: more than {BOOTSTRAP_MAX} addresses")
        if len(self.external) > EXTERNAL_MAX:
            raise ConfigError(f"external: more than {EXTERNAL_MAX} addresses")
        if len(self.relay_via) > RELAYS_MAX:
            raise ConfigError(f"relay_via: more than {RELAYS_MAX} addresses")
        if len(self.relay_allow) > RELAY_ALLOW_MAX:
            raise ConfigError(f"relay_allow: more than {RELAY_ALLOW_MAX} peers")
        readers: tuple[tuple[str, tuple[str, ...], Callable[[str], object]], ...] = (
            ("listen", self.listen, Multiaddr.parse),
            ("bootstrap", self.bootstrap, Multiaddr.parse),
            ("external", self.external, read_address),
            ("relay_via", self.relay_via, read_node),
            ("relay_allow", self.relay_allow, decode_peer_text),
        )
        for name, texts, read in readers:
            for text in texts:
                try:
                    read(text)
                except DecodeError as error:
                    raise ConfigError(f"{name}: {error}") from error


def load(
    flags: Mapping[str, object] | None = None, *, home: Path | None = None, environment: Mapping[str, str] = os.environ
) -> Config:
    """The settings that hold for a home (default: `STACK_HOME` or the user's). Raises ConfigError."""
    folder = home or default_home()
    in_file = read_file(folder)
    in_environment: dict[str, object] = {
        name: environment[variable(name)] for name in SETTINGS if variable(name) in environment
    }
    values: dict[str, object] = {}
    sources: tuple[tuple[dict[str, object], Mapping[str, str]], ...] = (in_file, {}), (in_environment, environment)
    for written, environs in sources:
        for name, value in written.items():
            try:
                values[name] = read_setting(name, value)
            except ConfigError as error:
                raise ConfigError(f"{place(folder, name, environs)}: {error}") from error
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    wrong = sorted(set(given) - {item.name for item in fields(Config)})
    if wrong:
        raise ConfigError(f"{wrong[0]} is no setting")
    defaults = Config(home=folder, mdns=True, portmap=True, remember_peers=True)
    try:
        return replace(defaults, **{**values, **given})  # type: ignore[arg-type] # names and types were checked above
    except ConfigError as error:
        name = str(error).partition(":")[0]
        # Of two that do not go together it may be the other that was set.
        named = [each for each in (name, *re.findall(r"\w+", str(error))) if each in values and each not in given]
        if not named or name in given:
            raise
        raise ConfigError(f"{place(folder, named[0], environment)}: {error}") from error


@contextmanager
def placed(config: Config, name: str, environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Say of a setting that is found wrong only when it is used where it was set, too. Raises ConfigError."""
    try:
        yield
    except ConfigError as error:
        sentence = str(error) if str(error).startswith(f"{name}:") else f"{name}: {error}"
        home = config.home
        if home is None or (variable(name) not in environment and name not in read_file(home)):
            raise ConfigError(sentence) from error
        raise ConfigError(f"{place(home, name, environment)}: {sentence}") from error
