"""`stack car import|export|ls`: archives of blocks; `-` is stdin or stdout."""

from collections.abc import AsyncIterator
from pathlib import Path

import click

from stack.blocks.disk import replacing, write_at
from stack.cli import output
from stack.cli.answers import answers
from stack.cli.app import run_async
from stack.cli.groups import Group
from stack.cli.session import open_api, reading
from stack.cli.sources import open_input, pieces_of
from stack.cli.types import SOURCE, PathType, config, timeout_option
from stack.errors import Refused
from stack.files.car_io import list_car
from stack.files.storage import refusal
from stack.multiformats.cid import Cid
from stack.node.api import CarExport, CarImport, CarReport
from stack.node.exit_codes import OK, PARTIAL
from stack.node.groups import cid_of
from stack.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CarEntry:
    """A block of an archive, or one of its roots."""

    cid: Cid
    size: int | None
    """Bytes; null for a root, which is listed among the blocks too."""


@click.group(cls=Group)
def car() -> None:
    """Archives of blocks (CAR)."""


@car.command("import")
@click.argument("file", type=PathType())
@click.option("--pin/--no-pin", default=True, help="Keep the roots from garbage collection.")
@answers(CarReport)
def import_(file: str, pin: bool, as_json: bool) -> int:
    """Take all blocks of a CAR into the store; each is checked. A root of which some are missing is not pinned: exit code 8."""
    source = open_input(file)

    async def work() -> int:
        async with open_api(config("command")) as api:
            report = await api.write(CarImport(pin=pin), pieces_of(source))
        if as_json:
            output.json_line(report)
            return PARTIAL if report.missing else OK
        for root in report.roots:
            output.data(str(root))
        output.note(f"{output.count(report.blocks, 'block')}, {output.size(report.bytes)}")
        if report.missing:
            missing = f"{output.count(report.missing, 'block')} missing, {report.first_missing} first"
            output.note(f"not whole, so not pinned: {missing}; `stack pin add ROOT` fetches what others have")
            return PARTIAL
        return OK

    return run_async(work)


@car.command("export")
@click.argument("source", type=SOURCE, metavar="TICKET|CID[/PATH]")
@click.argument("file", default="-", type=PathType(allow_dash=True))
@timeout_option
def export(source: str, file: str, timeout: float | None) -> None:
    """Write the DAG below CID as CAR v1 (default: to stdout)."""
    target = Path(file)
    if file != "-" and target.exists():
        raise Refused(f"{file} exists")

    async def work() -> None:
        async with reading(config("command"), source) as api:
            request = CarExport(cid=await cid_of(api, source), timeout=timeout, source=source)
            async with api.read(request) as pieces:
                await write(pieces)

    async def write(pieces: AsyncIterator[bytes]) -> None:
        if file == "-":
            await output.payload(pieces)
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
@click.argument("file", type=PathType())
@answers(CarEntry, many=True)
def list_(file: str, as_json: bool) -> None:
    """Roots and blocks of a CAR, each checked; nothing is kept."""
    source = open_input(file)

    async def work() -> None:
        entries: list[CarEntry] = []
        async for cid, length in list_car(pieces_of(source)):
            if as_json:
                entries.append(CarEntry(cid=cid, size=length))
            elif length is None:
                output.note(f"root {cid}")
            else:
                output.data(f"{cid.text} {length}")
        if as_json:
            output.json_line(entries)

    run_async(work)
