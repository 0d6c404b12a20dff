"""Settings of a node. Precedence: flag, environment `STACK_NAME`, `config.toml` in the home, default.

`SETTINGS` is the whole list; `stack config` shows it. Anything unknown or out of range is a ConfigError that names the setting.
"""

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from ipaddress import ip_address
from pathlib import Path

from stack.errors import ConfigError, DecodeError
from stack.multiformats.multiaddr import Multiaddr
from stack.node.home import default_home

DEFAULT_LISTEN = ("/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0")
BOOTSTRAP_MAX = 64
"""Addresses in the list; each is a connection that is never trimmed."""

EXTERNAL_MAX = 4
"""Addresses that a user says are ours: half of those that a ticket has room for."""

RATE_MIN = 16 * 1024
"""Bytes a second: other nodes grant a block so much, and some seconds."""


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
    remember_peers: bool = False
    """Keep a list of peers in the home, and dial some of them at the start. Commands do, programs when they ask for it."""
    listen: tuple[str, ...] = ()
    """Multiaddrs to listen on. Empty: the stored port on all interfaces with a home, a free port on loopback without."""
    external: tuple[str, ...] = ()
    """Where others reach this node through a router that forwards a port, or a proxy: multiaddrs or `HOST:PORT`. They stand first in
    its tickets and in what it tells others."""
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
    low_water: int = 96
    """Connections kept when too many are open."""
    high_water: int = 160
    """Connections from which the least useful are closed."""
    memory_limit: int = 64 * 1024 * 1024
    """Most bytes of buffers that all peers together can make the node hold."""

    def __post_init__(self) -> None:
        if not 1 <= self.low_water <= self.high_water:
            raise ConfigError("low_water must be at least 1 and at most high_water")
        for name, rate in (("upload_limit", self.upload_limit), ("download_limit", self.download_limit)):
            if rate and rate < RATE_MIN:
                raise ConfigError(
                    f"{name}: at least 16K bytes a second, or others give up on a block before it is there"
                )
        if self.key_type not in ("ed25519", "secp256k1", "ecdsa", "rsa"):
            raise ConfigError(f"key_type: {self.key_type!r} is not one of ed25519, secp256k1, ecdsa, rsa")
        if len(self.bootstrap) > BOOTSTRAP_MAX:
            raise ConfigError(f"bootstrap: more than {BOOTSTRAP_MAX} addresses")
        if len(self.external) > EXTERNAL_MAX:
            raise ConfigError(f"external: more than {EXTERNAL_MAX} addresses")
        for name, texts in (("listen", self.listen), ("bootstrap", self.bootstrap), ("external", self.external)):
            for text in texts:
                try:
                    read_address(text) if name == "external" else Multiaddr.parse(text)
                except DecodeError as error:
                    raise ConfigError(f"{name}: {error}") from error


def _size(text: str) -> int | None:
    units = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
    plain = text.strip().lower().removesuffix("ib").removesuffix("b")
    if plain in ("", "none", "off"):
        return None
    scale = units.get(plain[-1], 1)
    size = float(plain[:-1] if plain[-1] in units else plain) * scale
    if not 0 <= size < 1 << 63:
        raise ValueError(text)
    return int(size)


def read_rate(text: str) -> int:
    """Bytes a second of `4M`, `500K`, `4MB/s`; 0 for no limit. Raises ValueError."""
    return _size(text.strip().lower().removesuffix("/s")) or 0


def read_address(text: str) -> Multiaddr:
    """A multiaddr, or `HOST:PORT` of TCP, `[IPv6]:PORT` too, without a peer. Raises DecodeError."""
    if text.startswith("/"):
        return Multiaddr.parse(text).split_peer()[0]
    host, colon, port = text.strip().rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port[:6]) < 65536:
        raise DecodeError("HOST:PORT, or a multiaddr, was expected")
    try:
        kind = f"ip{ip_address(bare).version}"
    except ValueError:
        kind = "dns"
    if "/" in bare or (kind == "dns" and ":" in bare) or (kind == "ip6" and bare == host):
        raise DecodeError("HOST:PORT, or a multiaddr, was expected; an IPv6 address stands in brackets")
    return Multiaddr.parse(f"/{kind}/{bare}/tcp/{port}")


def _switch(text: str) -> bool:
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise ValueError(text)


def _path(text: str) -> Path | None:
    return Path(text).expanduser().absolute() if text.strip() not in ("", "none") else None


def _list(text: str) -> tuple[str, ...]:
    return tuple(item for item in text.replace(",", " ").split() if item)


SETTINGS: dict[str, Callable[[str], object]] = {
    "listen": _list,
    "external": _list,
    "mdns": _switch,
    "bootstrap": _list,
    "swarm_key": _path,
    "remember_peers": _switch,
    "upload_limit": read_rate,
    "download_limit": read_rate,
    "pubsub": _switch,
    "announce": _switch,
    "perf": _switch,
    "store": str,
    "key_type": str,
    "profile": str,
    "quota": _size,
    "low_water": int,
    "high_water": int,
    "memory_limit": _size,
}
"""What a user may set, and how its text is read."""


def read_setting(name: str, value: object) -> object:
    """The value of a setting from text (environment, `stack config set`) or from TOML. Raises ConfigError."""
    if name not in SETTINGS:
        raise ConfigError(f"{name} is no setting; there are: {', '.join(SETTINGS)}")
    text = " ".join(str(item) for item in value) if isinstance(value, list) else str(value)
    try:
        return SETTINGS[name](text)
    except ValueError as error:
        raise ConfigError(f"{name}: {text!r} has no meaning") from error


def config_file(home: Path) -> Path:
    """Where the settings of a home are."""
    return home / "config.toml"


def read_file(home: Path) -> dict[str, object]:
    """The settings of a home's file as TOML values; empty when there is none. Raises ConfigError."""
    path = config_file(home)
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error


def load(
    flags: Mapping[str, object] | None = None, *, home: Path | None = None, environment: Mapping[str, str] = os.environ
) -> Config:
    """The settings that hold for a home (default: `STACK_HOME` or the user's). Raises ConfigError."""
    folder = home or default_home()
    values: dict[str, object] = {name: read_setting(name, value) for name, value in read_file(folder).items()}
    for name in SETTINGS:
        text = environment.get(f"STACK_{name.upper()}")
        if text is not None:
            values[name] = read_setting(name, text)
    values.update({name: value for name, value in (flags or {}).items() if value is not None})
    known = {item.name for item in fields(Config)}
    wrong = sorted(set(values) - known)
    if wrong:
        raise ConfigError(f"{wrong[0]} is no setting")
    return replace(Config(home=folder, mdns=True, remember_peers=True), **values)  # type: ignore[arg-type] # names and types were checked above
