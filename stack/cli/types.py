"""What users type, checked before anything is started: a mistake costs nothing and exits with 2."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stack.errors import DecodeError
from stack.files.sources import SOURCE_MAX, read_source, shown
from stack.files.ticket import TicketCutOff, TicketMistyped
from stack.multiformats.multiaddr import Multiaddr
from stack.node.config import Config, load, read_node, read_rate

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_NUMBER = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
_DURATION = (
    rf"(?=.)(?:{_NUMBER}d(?:ays?)?)?(?:{_NUMBER}h(?:ours?)?)?(?:{_NUMBER}m(?:in(?:utes?)?)?)?"
    rf"(?:{_NUMBER}s(?:ec(?:onds?)?)?)?(?:{_NUMBER}ms)?(?:{_NUMBER})?"
)
_BLANK = r"(?<=[0-9])\s+(?=[a-z])|(?<=[a-z])\s+(?=[0-9])"
DURATION_MAX = 1e9
"""Seconds; some thirty years, and less than any clock bears."""

TICKET_VARIABLE = "STACK_TICKET"
"""The environment variable that names what to fetch when nothing does."""

F = TypeVar("F", bound=Callable[..., object])


class MultiaddrType(click.ParamType[Multiaddr]):
    """A multiaddr."""

    name = "MULTIADDR"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Multiaddr:
        """Raises click's usage error."""
        try:
            return value if isinstance(value, Multiaddr) else Multiaddr.parse(str(value))
        except DecodeError as error:
            self.fail(f"{_shown(value)} is not an address: {error}", param, ctx)


class FromType(MultiaddrType):
    """A multiaddr, or `HOST:PORT` of TCP: who is there is then what a ticket says, or what turns out."""

    name = "HOST:PORT|MULTIADDR"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Multiaddr:
        """Raises click's usage error."""
        try:
            return value if isinstance(value, Multiaddr) else read_node(str(value))
        except DecodeError as error:
            self.fail(f"{_shown(value)} is not an address: {error}", param, ctx)


class SourceType(click.ParamType[str]):
    """A ticket or a CID, with or without a path below it, as people paste it; becomes the plain form, which the node reads again."""

    name = "TICKET|CID[/PATH]"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Raises click's usage error, which says in one sentence what is wrong."""
        text = str(value)
        if context_of_shell(ctx):
            return text
        try:
            return str(read_source(text))
        except DecodeError as error:
            try:
                return str(read_source(_content_of(text)))
            except NoSuchFile:
                self.fail(str(error), param, ctx)
            except OSError as problem:
                self.fail(f"{shown(text)} cannot be read: {problem.strerror or problem}", param, ctx)
            except DecodeError as problem:
                self.fail(f"{shown(text)} holds no ticket and no CID: {problem}", param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        """What Tab offers."""
        from stack.cli.completing import sources

        return sources(ctx, param, incomplete)


def context_of_shell(context: click.Context | None) -> bool:
    """Whether a shell asks how a line may go on: then nothing is read, least of all what the user types."""
    return context is not None and context.resilient_parsing


class NoSuchFile(Exception):
    """There is no file of this name that could hold a ticket."""


def _content_of(name: str) -> str:
    """The text of a file, or of stdin for `-`. Raises NoSuchFile, OSError for one that cannot be read."""
    try:
        if name == "-":
            return sys.stdin.read(SOURCE_MAX + 1)
        path = Path(name)
        if "/" not in name and not path.is_file():
            raise NoSuchFile
        with path.open(encoding="utf-8", errors="replace") as file:  # `<(...)` is a pipe
            return file.read(SOURCE_MAX + 1)
    except ValueError as error:
        raise NoSuchFile from error
    except OSError as error:
        from stack.blocks.disk import NOT_THERE  # here: seldom needed

        if error.errno not in NOT_THERE:
            raise
        raise NoSuchFile from error


class WantedType(SourceType):
    """The same, or a code such as `4-otter-lamp-violin`, which is given on in its plain form."""

    name = "TICKET|CID[/PATH]|CODE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Raises click's usage error."""
        text = str(value)
        if not context_of_shell(ctx) and text[:1].isdigit():
            from stack.protocols.code.words import read_code

            try:
                code = read_code(text)
            except DecodeError as error:
                if not Path(text).is_file():
                    self.fail(str(error), param, ctx)
            else:
                if code is not None:
                    return str(code)
        return super().convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        """What Tab offers."""
        from stack.cli.completing import codes

        return [*codes(ctx, param, incomplete), *super().shell_complete(ctx, param, incomplete)]


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


class TextType(click.ParamType[str]):
    """A name or the like, which others are to read: UTF-8."""

    name = "NAME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Raises click's usage error."""
        text = str(value)
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail(f"{shown(text)} is no text (UTF-8)", param, ctx)
        return text


class PathType(click.Path):
    """A path. An empty text, as of a variable that is not set, would be the current directory, and all of it shared."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Raises click's usage error."""
        if not context_of_shell(ctx) and not os.fspath(value):
            self.fail("an empty name; the current directory is .", param, ctx)
        return super().convert(value, param, ctx)


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
        found = re.fullmatch(_DURATION, re.sub(_BLANK, "", str(value).strip().lower()))
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


MULTIADDR = MultiaddrType()
FROM = FromType()
SOURCE = SourceType()
WANTED = WantedType()
PEER = PeerType()
SIZE = SizeType()
RATE = RateType()
TEXT = TextType()
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


timeout_option = click.option("--timeout", type=DURATION, help="Give up after so long without progress, as 30s or 5m.")
from_option = click.option(
    "--from",
    "providers",
    type=FROM,
    multiple=True,
    help="Where somebody is who has it; with a ticket HOST:PORT will do. May be given several times.",
)
listen_option = click.option(
    "--listen", type=MULTIADDR, multiple=True, help="Listen here instead of on the stored port of all interfaces."
)
external_option = click.option(
    "--external",
    type=FROM,
    multiple=True,
    help="Tell others that they reach this node there: HOST:PORT of a router that forwards the port to this computer.",
)
relay_via_option = click.option(
    "--relay-via",
    type=FROM,
    multiple=True,
    help="Have others reach this node through a relay, your own or a friend's (`stack daemon --relay`): HOST:PORT or a multiaddr.",
)


def _given(context: click.Context, parameter: click.Parameter, value: str | None) -> str:
    """What to read when nothing was typed: the environment, else what a person pastes, else what is piped in."""
    if value is not None or context_of_shell(context):
        return value or ""
    text = os.environ.get(TICKET_VARIABLE, "")
    if not text and sys.stdin is not None:
        text = _pasted() if sys.stdin.isatty() else sys.stdin.read(SOURCE_MAX + 1)
    if not text.strip():
        raise click.MissingParameter(
            f"Give a ticket, a CID or (to `get`) a code, pipe it in, or set {TICKET_VARIABLE}",
            context,
            parameter,
            param_type="argument",
        )
    return str(parameter.type.convert(text, parameter, context))


def _pasted() -> str:
    """Lines of a terminal until they are a ticket or a CID; an empty line ends them."""
    click.echo("Paste the ticket: ", err=True, nl=False)
    text = ""
    while line := sys.stdin.readline(SOURCE_MAX):
        text += line
        try:
            read_source(text)
        except (TicketCutOff, TicketMistyped):
            if line.strip() and len(text) <= SOURCE_MAX:
                continue  # a mail has broken it: the rest follows
        except DecodeError:
            pass
        break
    return text


source_argument = click.argument("source", type=SOURCE, required=False, callback=_given, metavar="[TICKET|CID[/PATH]]")
"""Of commands that one thing is named to. A ticket is a secret: typed, it stands in the list of processes and in the shell's history."""

wanted_argument = click.argument(
    "source", type=WANTED, required=False, callback=_given, metavar="[TICKET|CID[/PATH]|CODE]"
)
"""The same, or a code."""
via_option = click.option(
    "--via",
    type=FROM,
    multiple=True,
    help="With a code: meet the other there too, at any computer that both reach and that runs stack; HOST:PORT or a multiaddr.",
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
    "DURATION",
    "FROM",
    "MULTIADDR",
    "PEER",
    "RATE",
    "SIZE",
    "SOURCE",
    "TEXT",
    "WANTED",
    "PathType",
    "bootstrap_option",
    "config",
    "discovery_flags",
    "down_option",
    "existing",
    "external_option",
    "from_option",
    "limit_flags",
    "listen_option",
    "mdns_option",
    "relay_via_option",
    "source_argument",
    "timeout_option",
    "up_option",
    "via_option",
    "wanted_argument",
]
