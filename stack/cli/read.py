"""`stack cat`, `stack ls`."""

import click

from stack.cli import output
from stack.cli.answers import answers
from stack.cli.app import run_async
from stack.cli.session import reading
from stack.cli.types import (
    SIZE,
    bootstrap_option,
    config,
    discovery_flags,
    from_option,
    mdns_option,
    source_argument,
    timeout_option,
)
from stack.dag.unixfs.names import printable
from stack.dag.unixfs.reader import NotAFile
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import Cat, DirectoryEntry, GetTotals, ListDirectory, Totals
from stack.node.exit_codes import USAGE
from stack.node.exits import kind_of, told_error
from stack.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What is in a directory, and how much is below it in all."""

    items: tuple[DirectoryEntry, ...]
    totals: Totals


@click.command()
@source_argument
@click.option("--offset", type=SIZE, default=0, help="Start so many bytes into the file.")
@click.option("--length", type=SIZE, help="Print at most so many bytes.")
@from_option
@bootstrap_option
@mdns_option
@timeout_option
def cat(
    source: str,
    offset: int,
    length: int | None,
    providers: tuple[Multiaddr, ...],
    bootstrap: tuple[Multiaddr, ...],
    no_mdns: bool,
    timeout: float | None,
) -> None:
    """Print a file. Every block is checked before a byte of it comes out."""
    flags = discovery_flags(bootstrap, no_mdns)
    settings = config("read", **flags)

    async def work() -> None:
        request = Cat(source=source, offset=offset, length=length, providers=providers, timeout=timeout)
        async with reading(settings, source, flags) as api, api.read(request) as pieces:
            await output.payload(pieces)

    try:
        run_async(work)
    except NotAFile as error:
        raise told_error(kind_of(error), f"{error}; `stack get` fetches it", USAGE) from error


@click.command()
@source_argument
@from_option
@bootstrap_option
@mdns_option
@timeout_option
@answers(Listing)
def ls(
    source: str,
    providers: tuple[Multiaddr, ...],
    bootstrap: tuple[Multiaddr, ...],
    no_mdns: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """List a directory: CID, size, name; then how much there is below it in all. Nothing of its files is fetched."""
    flags = discovery_flags(bootstrap, no_mdns)
    settings = config("read", **flags)

    async def work() -> None:
        request = ListDirectory(source=source, providers=providers, timeout=timeout)
        async with reading(settings, source, flags, quiet=as_json) as api:
            listed: list[DirectoryEntry] = []
            async with api.watch(request) as entries:
                async for entry in entries:
                    if as_json:
                        listed.append(entry)
                    else:
                        shown = "-" if entry.size is None else str(entry.size)
                        mark = "/" if entry.type == "directory" else ""
                        output.data(f"{entry.cid.text} {shown} {printable(entry.name)}{mark}")
            totals = await api.ask(GetTotals(source=source, providers=providers, timeout=timeout))
            if as_json:
                output.json_line(Listing(items=tuple(listed), totals=totals))
            else:
                files = output.count(totals.files, "file")
                output.note(f"{files}, {output.size(totals.bytes)} in all")

    run_async(work)
