"""`stack car import|export|ls`: archives of blocks; `-` is stdin or stdout."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread
import click

from stack.blocks.disk import replacing, write_at
from stack.cli import output
from stack.cli.app import run_async
from stack.cli.groups import Group
from stack.cli.session import open_api
from stack.cli.types import CID, config, json_option, timeout_option
from stack.errors import Refused
from stack.files.car_io import list_car
from stack.files.storage import refusal
from stack.multiformats.cid import Cid
from stack.node.api import CarExport, CarImport

PIECE = 1 << 20


@click.group(cls=Group)
def car() -> None:
    """Archives of blocks (CAR)."""


def open_input(name: str) -> BinaryIO:
    """A file, or stdin for `-`. Raises click's usage error."""
    if name == "-":
        return sys.stdin.buffer
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise click.BadParameter(f"{name}: {error.strerror}") from error


async def pieces_of(file: BinaryIO) -> AsyncIterator[bytes]:
    """The bytes of a file, read in a worker thread."""
    with file:
        while piece := await anyio.to_thread.run_sync(file.read, PIECE, abandon_on_cancel=True):
            yield piece


@car.command("import")
@click.argument("file", type=click.Path())
@click.option("--pin/--no-pin", default=True, help="Keep the roots from garbage collection.")
@json_option
def import_(file: str, pin: bool, as_json: bool) -> None:
    """Take all blocks of a CAR into the store; each is checked."""
    source = open_input(file)

    async def work() -> None:
        async with open_api(config("command")) as api:
            report = await api.write(CarImport(pin=pin), pieces_of(source))
        if as_json:
            output.json_line(report)
            return
        for root in report.roots:
            output.data(str(root))
        output.note(f"{output.count(report.blocks, 'block')}, {output.size(report.bytes)}")

    run_async(work)


@car.command("export")
@click.argument("cid", type=CID)
@click.argument("file", default="-", type=click.Path(allow_dash=True))
@timeout_option
def export(cid: Cid, file: str, timeout: float | None) -> None:
    """Write the DAG below CID as CAR v1 (default: to stdout)."""
    target = Path(file)
    if file != "-" and target.exists():
        raise Refused(f"{file} exists")

    async def work() -> None:
        async with open_api(config("command")) as api, api.read(CarExport(cid=cid, timeout=timeout)) as pieces:
            if file == "-":
                async for piece in pieces:
                    output.payload(piece)
                output.flush()
                return
            try:
                with replacing(target, 0o666, new=True) as out:
                    offset = 0
                    async for piece in pieces:
                        write_at(out, [piece], offset)
                        offset += len(piece)
            except OSError as error:
                raise refusal(target, error) from error

    run_async(work)


@car.command("ls")
@click.argument("file", type=click.Path())
@json_option
def list_(file: str, as_json: bool) -> None:
    """Roots and blocks of a CAR, each checked; nothing is kept."""
    source = open_input(file)

    async def work() -> None:
        async for cid, length in list_car(pieces_of(source)):
            if length is None:
                output.note(f"root {cid}")
            elif as_json:
                output.json_line({}, cid=cid.text, size=length)
            else:
                output.data(f"{cid.text} {length}")

    run_async(work)
