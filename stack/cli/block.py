"""`stack block get|put|stat`: single blocks."""

from collections.abc import AsyncIterator

import click

from stack.cli import output
from stack.cli.answers import answers
from stack.cli.app import run_async
from stack.cli.groups import Group
from stack.cli.session import open_api, reading
from stack.cli.sources import open_input, read_first
from stack.cli.types import SOURCE, PathType, config, timeout_option
from stack.node.api import BlockInfo, BlockPut, BlockStat
from stack.node.groups import cid_of, read_block


@click.group(cls=Group)
def block() -> None:
    """Single blocks."""


@block.command()
@click.argument("source", type=SOURCE, metavar="TICKET|CID[/PATH]")
@timeout_option
def get(source: str, timeout: float | None) -> None:
    """Write a block to stdout."""

    async def work() -> None:
        async with reading(config("command"), source) as api:

            async def block() -> AsyncIterator[bytes]:
                yield await read_block(api, await cid_of(api, source), timeout=timeout, source=source)

            await output.payload(block())

    run_async(work)


@block.command()
@click.argument("file", default="-", type=PathType(readable=False, allow_dash=True))
@click.option(
    "--cid-codec",
    "--codec",
    "codec",
    default="raw",
    show_default=True,
    metavar="NAME",
    help="raw, dag-pb, dag-cbor, ...",
)
@click.option(
    "--mhtype", "--hash", "hash_", default="sha2-256", show_default=True, metavar="NAME", help="sha2-256, blake3, ..."
)
@click.option("--cid-version", type=click.IntRange(0, 1), default=1, show_default=True)
@answers(BlockInfo)
def put(file: str, codec: str, hash_: str, cid_version: int, as_json: bool) -> None:
    """Keep a block from a file or stdin (at most 2 MiB); prints its CID."""
    source = open_input(file)

    async def work() -> None:
        pieces = await read_first(source)
        async with open_api(config("command")) as api:
            info = await api.write(BlockPut(codec=codec, hash=hash_, cid_version=cid_version), pieces)
        if as_json:
            output.json_line(info)
        else:
            output.data(str(info.cid))

    run_async(work)


@block.command()
@click.argument("source", type=SOURCE, metavar="TICKET|CID[/PATH]")
@answers(BlockInfo)
def stat(source: str, as_json: bool) -> None:
    """The size of a block that is here."""

    async def work() -> None:
        async with reading(config("command"), source, quiet=as_json) as api:
            info = await api.ask(BlockStat(cid=await cid_of(api, source)))
        if as_json:
            output.json_line(info)
        else:
            output.data(f"Key: {info.cid}")
            output.data(f"Size: {info.size}")

    run_async(work)
