"""What users type, checked before anything is started: a mistake costs nothing and exits with 2."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from stack.errors import DecodeError
from stack.files.ticket import decode_ticket, is_ticket
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.node.config import Config, load, read_rate

_NUMBER = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
_DURATION = re.compile(
    rf"(?=.)(?:{_NUMBER}d(?:ays?)?)?(?:{_NUMBER}h(?:ours?)?)?(?:{_NUMBER}m(?:in(?:utes?)?)?)?"
    rf"(?:{_NUMBER}s(?:ec(?:onds?)?)?)?(?:{_NUMBER}ms)?(?:{_NUMBER})?"
)
_BLANK = re.compile(r"(?<=[0-9])\s+(?=[a-z])|(?<=[a-z])\s+(?=[0-9])")
DURATION_MAX = 1e9
"""Seconds; some thirty years, and less than any clock bears."""

F = TypeVar("F", bound=Callable[..., object])

SOURCE_LENGTH_MAX = 4096
"""A ticket has 300 characters, a CID under 200, a path inside a DAG what is left."""


class CidType(click.ParamType[Cid]):
    """A CID."""

    name = "CID"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Cid:
        """Raises click's usage error."""
        try:
            return value if isinstance(value, Cid) else Cid.parse(str(value).removeprefix("/ipfs/"))
        except DecodeError as error:
            self.fail(f"{_shown(value)} is not a CID: {error}", param, ctx)


class MultiaddrType(click.ParamType[Multiaddr]):
    """A multiaddr."""

    name = "MULTIADDR"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Multiaddr:
        """Raises click's usage error."""
        try:
            return value if isinstance(value, Multiaddr) else Multiaddr.parse(str(value))
        except DecodeError as error:
            self.fail(f"{_shown(value)} is not an address: {error}", param, ctx)


class SourceType(click.ParamType[str]):
    """A ticket, or a CID with an optional path. Kept as text; the node reads it again."""

    name = "TICKET|CID[/PATH]"

    def __init__(self, *, tickets: bool = True) -> None:
        self._tickets = tickets

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Raises click's usage error that says whether it is a mistyped or cut ticket or no CID at all."""
        text = str(value)
        if len(text) > SOURCE_LENGTH_MAX:
            self.fail(f"{len(text)} characters are neither a ticket nor a CID", param, ctx)
        if self._tickets and is_ticket(text):
            try:
                decode_ticket(text)
            except DecodeError as error:
                self.fail(str(error), param, ctx)
            return text
        path = text.strip().removeprefix("ipfs://").removeprefix("/ipfs/")
        try:
            Cid.parse(path.partition("/")[0])
        except DecodeError as error:
            what = "neither a ticket nor a CID" if self._tickets else "not a CID"
            self.fail(f"{_shown(text)} is {what}: {error}", param, ctx)
        return path


class PeerType(click.ParamType[str]):
    """A peer id, or a multiaddr that ends in one. Kept as text."""

    name = "PEER|MULTIADDR"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Raises click's usage error."""
        from stack.identity.peer_id import PeerId

        text = str(value)
        try:
            if text.startswith("/"):
                Multiaddr.parse(text)
            else:
                PeerId.parse(text)
        except DecodeError as error:
            self.fail(f"{_shown(value)} is neither a peer id nor an address: {error}", param, ctx)
        return text


class SizeType(click.ParamType[int]):
    """A number of bytes, with an optional unit: `64MiB`."""

    name = "BYTES"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Raises click's usage error."""
        text = str(value).strip().lower().removesuffix("b").removesuffix("i")
        units = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
        try:
            number = float(text[:-1]) * units[text[-1]] if text[-1:] in units else float(text)
            if not 0 <= number < 1 << 63:
                raise ValueError
        except ValueError:
            self.fail(f"{_shown(value)} is not a number of bytes", param, ctx)
        return int(number)


class DurationType(click.ParamType[float]):
    """A time: `30`, `5s`, `2m`, `1h30m`; a number alone is seconds. At least a tenth of a second."""

    name = "DURATION"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises click's usage error."""
        if isinstance(value, float):
            return value
        found = _DURATION.fullmatch(_BLANK.sub("", str(value).strip().lower()))
        parts = [float(part) if part else 0.0 for part in found.groups()] if found is not None else []
        seconds = sum(part * unit for part, unit in zip(parts, (86_400, 3_600, 60, 1, 0.001, 1), strict=False))
        if not 0.1 <= seconds < DURATION_MAX:
            self.fail(f"{_shown(value)} is no time such as 30s, 5m or 1h30m", param, ctx)
        return seconds


class RateType(click.ParamType[int]):
    """Bytes a second, with an optional unit: `4M`, `500K`, `4MB/s`; 0 is no limit."""

    name = "RATE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Raises click's usage error."""
        try:
            return value if isinstance(value, int) else read_rate(str(value))
        except ValueError:
            self.fail(f"{_shown(value)} is not a rate such as 500K or 4MB/s", param, ctx)


CID = CidType()
MULTIADDR = MultiaddrType()
SOURCE = SourceType()
DAG_PATH = SourceType(tickets=False)
PEER = PeerType()
SIZE = SizeType()
RATE = RateType()
DURATION = DurationType()


def _shown(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= 80 else text[:80] + "...")


def config(role: str, **flags: object) -> Config:
    """The settings of this home with what was typed on top. Raises ConfigError."""
    return load({"role": role, **flags})


def existing(path: str) -> Path:
    """An absolute path of something that is there. Raises click's usage error."""
    absolute = Path(path).absolute()
    if not absolute.exists() and not absolute.is_symlink():
        raise click.BadParameter(f"{path} does not exist")
    return absolute


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
timeout_option = click.option("--timeout", type=DURATION, help="Give up after so long without progress, as 30s or 5m.")
from_option = click.option(
    "--from", "providers", type=MULTIADDR, multiple=True, help="Somebody who has it; may be given several times."
)
listen_option = click.option(
    "--listen", type=MULTIADDR, multiple=True, help="Listen here instead of on the stored port of all interfaces."
)

bootstrap_option = click.option(
    "--bootstrap",
    type=MULTIADDR,
    multiple=True,
    help="Find others through this peer, and stay connected to it; may be given several times.",
)
mdns_option = click.option(
    "--no-mdns", is_flag=True, help="Do not look for peers on the local network, nor be found there."
)


def discovery_flags(bootstrap: tuple[Multiaddr, ...], no_mdns: bool) -> dict[str, object]:
    """What `bootstrap_option` and `mdns_option` gave, as settings."""
    return {"bootstrap": tuple(map(str, bootstrap)) or None, "mdns": False if no_mdns else None}


up_option = click.option("--up", type=RATE, help="Send at most so many bytes a second, as 500K or 4M; 0 is no limit.")
down_option = click.option("--down", type=RATE, help="Receive at most so many bytes a second.")


def limit_flags(up: int | None, down: int | None) -> dict[str, object]:
    """What `up_option` and `down_option` gave, as settings."""
    return {"upload_limit": up, "download_limit": down}


__all__ = [
    "CID",
    "DAG_PATH",
    "DURATION",
    "MULTIADDR",
    "PEER",
    "RATE",
    "SIZE",
    "SOURCE",
    "bootstrap_option",
    "config",
    "discovery_flags",
    "down_option",
    "existing",
    "from_option",
    "json_option",
    "limit_flags",
    "listen_option",
    "mdns_option",
    "timeout_option",
    "up_option",
]
