"""`stack pin add|ls|rm`: roots that garbage collection keeps."""

import click

from stack.cli import output
from stack.cli.answers import answers
from stack.cli.app import run_async
from stack.cli.completing import pins
from stack.cli.groups import Group
from stack.cli.missing import missed
from stack.cli.session import open_api, reading
from stack.cli.types import SOURCE, TEXT, config, timeout_option
from stack.multiformats.cid import Cid
from stack.node.api import AddPin, Done, ListPins, Pin, RemovePin
from stack.node.groups import cid_of
from stack.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """A root that is kept from now on, and how many blocks are below it."""

    cid: Cid
    blocks: int


@click.group(cls=Group)
def pin() -> None:
    """Roots that garbage collection keeps."""


@pin.command("add")
@click.argument("source", type=SOURCE, metavar="TICKET|CID[/PATH]")
@click.option("--name", type=TEXT, default="", metavar="NAME", help="A name for you.")
@timeout_option
@answers(Pinned)
def add(source: str, name: str, timeout: float | None, as_json: bool) -> None:
    """Fetch what is missing below a CID and keep it."""

    async def work() -> None:
        async with reading(config("command"), source, quiet=as_json) as api:
            cid = await cid_of(api, source)
            done = await api.ask(AddPin(cid=cid, name=name, timeout=timeout, source=source))
        if as_json:
            output.json_line(Pinned(cid=cid, blocks=done.count))
        else:
            output.data(f"pinned {cid} ({output.count(done.count, 'block')})")

    run_async(work)


@pin.command("ls")
@answers(Pin, many=True)
def list_pins(as_json: bool) -> None:
    """All pins; shares are pinned by themselves."""

    async def work() -> None:
        async with open_api(config("command")) as api:
            rows = await api.ask(ListPins())
        if as_json:
            output.json_line(rows)
            return
        for row in rows:
            output.data(f"{row.cid} {row.kind} {row.name}".rstrip())
        if not rows:
            output.note("nothing is pinned")

    run_async(work)


@pin.command("rm")
@click.argument("source", type=SOURCE, metavar="TICKET|CID[/PATH]", shell_complete=pins)
@answers(Done)
def remove(source: str, as_json: bool) -> int:
    """No longer keep a CID; `stack gc` then frees its space."""

    async def work() -> int:
        async with reading(config("command"), source, quiet=as_json) as api:
            cid = await cid_of(api, source)
            done = await api.ask(RemovePin(cid=cid))
        if not done.count:
            return missed(done, f"{cid} was not pinned", as_json=as_json)
        if as_json:
            output.json_line(done)
        else:
            output.data(f"unpinned {cid}")
        return 0

    return run_async(work)
