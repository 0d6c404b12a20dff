"""What a user may set: one table of names, meanings and how their text is read, and the file of a home that they stand in.

The command line's help, `stack config` and docs/settings.md are made from this table.
"""

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path

from stack.blocks.disk import open_regular
from stack.errors import ConfigError, DecodeError
from stack.multiformats.multiaddr import Multiaddr
from stack.values import dataclass

KEY_TYPES = ("ed25519", "secp256k1", "ecdsa", "rsa")
PAGE_CACHES = ("auto", "always", "never")
PROFILES = ("unixfs-v1-2025", "unixfs-v0-2015", "default")

_NUMBER = "[0-9]+|0[xX][0-9a-fA-F]*"
"""The last part of an IPv4 address as people and old programs write it; no top-level domain is one (WHATWG URL, "ends in a number")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row."""

    read: Callable[[str], object]
    """Its value from text. Raises ValueError."""
    kind: str
    """What its text is: unit, example."""
    meaning: str
    flag: str = ""
    """How it is typed for one command."""
    choices: tuple[str, ...] = ()
    """The only values, where there are few."""


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


def _bounded_size(text: str) -> int:
    size = _size(text)
    if size is None:
        raise ValueError(text)
    return size


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
        if re.fullmatch(_NUMBER, bare.removesuffix(".").rpartition(".")[2]):
            raise DecodeError(f"{bare} is no IP address, and no name of a computer ends in a number") from None
    if "/" in bare or (kind == "dns" and ":" in bare) or (kind == "ip6" and bare == host):
        raise DecodeError("HOST:PORT, or a multiaddr, was expected; an IPv6 address stands in brackets")
    return Multiaddr.parse(f"/{kind}/{bare}/tcp/{port}")


def read_node(text: str) -> Multiaddr:
    """Where a node is: a multiaddr, which may say who it is, or `HOST:PORT`. Raises DecodeError."""
    return Multiaddr.parse(text) if text.startswith("/") else read_address(text)


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


ADDRESSES = "addresses, with blanks between them"
SWITCH = "true or false"
RATE = 'bytes a second, as 500K or 4MB/s; "none" is no limit'

SETTINGS: dict[str, Setting] = {
    "listen": Setting(
        read=_list,
        kind=f"{ADDRESSES}, as /ip4/0.0.0.0/tcp/4001",
        meaning="Where the node listens. Empty: on the port that the first run chose, on all interfaces.",
        flag="--listen",
    ),
    "external": Setting(
        read=_list,
        kind=f"{ADDRESSES}, as 203.0.113.7:4001",
        meaning="Where others reach this node through a router that forwards a port. They stand first in its tickets.",
        flag="--external",
    ),
    "relay": Setting(
        read=_switch,
        kind=SWITCH,
        meaning="Be a relay: peers that nobody can dial are reached through this node, so far as to find out how to do without.",
        flag="--relay",
    ),
    "relay_allow": Setting(
        read=_list,
        kind="peer ids, with blanks between them",
        meaning="Peers that have a place at this relay whoever else asks, and whole files carried.",
        flag="--relay-allow",
    ),
    "relay_via": Setting(
        read=_list,
        kind=f"{ADDRESSES}, as 203.0.113.7:4001 or a multiaddr that ends in /p2p/PEER",
        meaning="Relays, your own or a friend's, through which others reach this node. They stand in its tickets.",
        flag="--relay-via",
    ),
    "mdns": Setting(
        read=_switch, kind=SWITCH, meaning="Find peers on the local network, and be found there.", flag="--no-mdns"
    ),
    "bootstrap": Setting(
        read=_list,
        kind=f"{ADDRESSES}; each ends in /p2p/PEER, or is /dnsaddr/NAME",
        meaning="Peers that are dialled at the start and kept; others are found through them.",
        flag="--bootstrap",
    ),
    "swarm_key": Setting(
        read=_path,
        kind="a path",
        meaning="The key of a private network, as Kubo writes it. Unset: swarm.key in the home, if it is there.",
    ),
    "security": Setting(
        read=_list,
        kind="noise, tls, or the protocol of a plug-in, with blanks between them",
        meaning="How connections are secured, preferred first; what is not named is not spoken.",
    ),
    "remember_peers": Setting(
        read=_switch, kind=SWITCH, meaning="Keep a list of peers in the home, and dial some of them at the start."
    ),
    "upload_limit": Setting(
        read=read_rate, kind=RATE, meaning="The most of blocks that goes to all peers together.", flag="--up"
    ),
    "download_limit": Setting(
        read=read_rate, kind=RATE, meaning="The most of blocks that comes from all peers together.", flag="--down"
    ),
    "pubsub": Setting(read=_switch, kind=SWITCH, meaning="Speak gossipsub: `stack pubsub`, and what `announce` needs."),
    "announce": Setting(
        read=_switch,
        kind=SWITCH,
        meaning="Take part in announcements: find who has something by its CID or public name, and be found. Needs `pubsub`.",
    ),
    "code_seconds": Setting(
        read=int, kind="seconds, 10 to 3600", meaning="For how long the code of `stack share --code` is good."
    ),
    "portmap": Setting(
        read=_switch,
        kind=SWITCH,
        meaning="Ask the router to let others in (PCP, NAT-PMP, UPnP), for as long as the node runs.",
    ),
    "autonat": Setting(
        read=_switch,
        kind=SWITCH,
        meaning="Try for others whether they can be reached: some dials a minute at the most.",
    ),
    "perf": Setting(
        read=_switch,
        kind=SWITCH,
        meaning="Serve measurements to whoever asks (`stack bench perf`): as many bytes as they want.",
        flag="--perf",
    ),
    "store": Setting(
        read=str, kind="disk, memory, or a name of a plug-in", meaning="Where blocks are kept. Empty: on the disk."
    ),
    "key_type": Setting(
        read=str, kind="a name", meaning="The type of the identity that the first run makes.", choices=KEY_TYPES
    ),
    "profile": Setting(
        read=str,
        kind="a name",
        meaning="How files become blocks, and so which CID they get; default is Kubo's own.",
        choices=PROFILES,
    ),
    "quota": Setting(
        read=_size,
        kind='bytes, as 20G; "none" is no limit',
        meaning="The most that is kept in packs. Files that are shared or fetched in place do not count.",
    ),
    "page_cache": Setting(
        read=str,
        kind="a name",
        meaning="Whether Linux remembers what is fetched; auto: unless a file is larger than half of the memory that is free.",
        choices=PAGE_CACHES,
    ),
    "low_water": Setting(
        read=int, kind="a number of connections", meaning="How many stay when there are more than high_water."
    ),
    "high_water": Setting(
        read=int, kind="a number of connections", meaning="Beyond it the least useful are closed, down to low_water."
    ),
    "memory_limit": Setting(
        read=_bounded_size,
        kind="bytes, as 64M; at least 16M",
        meaning="The most that buffers of all peers together take.",
    ),
}
"""In the order in which they are listed."""


def shown(name: str, value: object) -> str:
    """A value as TOML writes it; bytes with their unit, and `"none"` where there is no limit."""
    if isinstance(value, int) and SETTINGS[name].read in (read_rate, _size, _bounded_size):
        power = next((power for power in (4, 3, 2, 1) if value and not value % 1024**power), 0)
        return toml(f"{value // 1024**power}{'KMGT'[power - 1]}") if power else toml(value)
    return toml(value)


def toml(value: object) -> str:
    """As TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, int):
        return str(value)
    text = "none" if value is None else str(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"STACK_{name.upper()}"


def no_setting(name: str) -> ConfigError:
    """There is none of this name; perhaps one that is much like it."""
    from difflib import get_close_matches  # here: seldom needed

    close = get_close_matches(name.lower().replace("-", "_"), SETTINGS, n=1)
    shown = name if len(name) <= 80 else f"{name[:80]}..."
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(SETTINGS)}"
    return ConfigError(f"{shown} is no setting; {hint}")


def read_setting(name: str, value: object) -> object:
    """The value of a setting from text (environment, `stack config set`) or from TOML. Raises ConfigError."""
    setting = SETTINGS.get(name)
    if setting is None:
        raise no_setting(name)
    text = " ".join(str(item) for item in value) if isinstance(value, list) else str(value)
    if setting.choices and text not in setting.choices:
        from difflib import get_close_matches  # as above

        close = get_close_matches(text.lower(), setting.choices, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"{name}: {text[:80]!r} is not one of {', '.join(setting.choices)}{hint}")
    try:
        return setting.read(text)
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{name}: {text[:80]!r} is not {setting.kind}") from error


def config_file(home: Path) -> Path:
    """Where the settings of a home are."""
    return home / "config.toml"


def read_text(home: Path) -> str:
    """That file as it is, empty when there is none. Raises ConfigError."""
    path = config_file(home)
    try:
        with open(open_regular(path)[0], encoding="utf-8-sig") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is no text (UTF-8)") from error


def read_file(home: Path) -> dict[str, object]:
    """The settings of a home's file as TOML values; empty when there is none. Raises ConfigError."""
    text = read_text(home)
    if not text:
        return {}
    import tomllib  # here: most homes have no such file

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem = str(error).replace("at end of document", f"at line {len(text.splitlines())}")
        raise ConfigError(f"{config_file(home)}: {problem}") from error


def line_of(text: str, name: str) -> int | None:
    """In which line of a file of settings this one is set, from 1 on."""
    pattern = re.compile(rf"""\s*(?:\[+\s*)?["']?{re.escape(name)}["']?\s*[=.\]]""")
    return next((number for number, line in enumerate(text.splitlines(), 1) if pattern.match(line)), None)


def place(home: Path, name: str, environment: Mapping[str, str]) -> str:
    """Where a setting that is wrong was set, as people look for it."""
    if variable(name) in environment:
        return variable(name)
    line = line_of(read_text(home), name)
    return f"{config_file(home)}{f', line {line}' if line is not None else ''}"


def changed(text: str, name: str, value: str) -> str:
    """The text of a file with one setting changed or added; `value` as TOML writes it. All else, comments too, stays as it is."""
    lines = text.splitlines()
    number = line_of(text, name)
    if number is None:
        return "\n".join([*lines, f"{name} = {value}"]) + "\n"
    end = _end(lines, number - 1)
    lines[number - 1 : end] = [f"{name} = {value}{_comment(lines[end - 1]) if end == number else ''}"]
    return "\n".join(lines) + "\n"


def without(text: str, name: str) -> str:
    """The same with one setting taken away, and a comment behind it."""
    lines = text.splitlines()
    while (number := line_of("\n".join(lines), name)) is not None:
        del lines[number - 1 : _end(lines, number - 1)]
    return "".join(f"{line}\n" for line in lines)


def _end(lines: list[str], start: int) -> int:
    """Behind the last line of what begins there, as a list over several; of what never becomes whole it is one."""
    ends = (end for end in range(start + 1, len(lines) + 1) if _is_whole("\n".join(lines[start:end])))
    return next(ends, start + 1)


def _is_whole(text: str) -> bool:
    import tomllib

    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _comment(line: str) -> str:
    """What stands behind the value: the longest end that begins with `#` and is no part of it."""
    ends = (at for at, character in enumerate(line) if character == "#" and _is_whole(line[:at]))
    at = next(ends, None)
    return "" if at is None else f"  {line[at:]}"
