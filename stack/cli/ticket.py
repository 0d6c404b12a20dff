"""`stack ticket`: the ticket of something that is here, once more."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from stack.cli import output
from stack.cli.answers import answers
from stack.cli.app import run_async
from stack.cli.completing import shares
from stack.cli.missing import missed
from stack.cli.session import open_api
from stack.cli.types import PathType, config
from stack.errors import DecodeError
from stack.files.share_rows import Origin
from stack.files.sources import read_source
from stack.node.api import GetTicket, TicketInfo
from stack.node.exit_codes import NOT_FOUND


@click.command()
@click.argument("target", type=PathType(), shell_complete=shares, metavar="PATH|NAME|CID|TICKET")
@answers(TicketInfo, many=True)
def ticket(target: str, as_json: bool) -> int:
    """Print the ticket of something that is shared, seeded or pinned here, with this node's addresses of now."""
    try:
        named = read_source(target).root.text
    except DecodeError:
        named = target

    async def work() -> int:
        async with open_api(config("command")) as api:
            found = await api.ask(GetTicket(target=named, path=Path(target).absolute()))
            served = api.is_elsewhere
        if not found:
            sentence = f"{target} is not shared, seeded or pinned here; `stack share` it first"
            return missed((), sentence, as_json=as_json)
        if len(found) > 1:
            missed(tuple(found), f"{target} is the name of {len(found)}; say which, by its CID", as_json=as_json)
            for each in () if as_json else found:
                output.note(f"    {each.cid}  {output.size(each.size)}  {each.name}")
            return NOT_FOUND
        if as_json:
            output.json_line(tuple(found))
        else:
            output.data(found[0].ticket)
            for sentence in _notes(found[0], served=served):
                output.note(sentence)
        return 0

    return run_async(work)


def _notes(info: TicketInfo, *, served: bool) -> Iterator[str]:
    """What whoever gives this ticket away should know."""
    part = Origin.PART.value in info.why
    if part and info.below:
        yield (
            f"Only {info.below} of it is here: give others the ticket with /{info.below} behind it, for the rest they would have to"
            " fetch elsewhere."
        )
    elif part:
        where = f": what is in {', '.join(info.paths)}" if info.paths else ""
        yield f"Only a part of it is here{where}. The rest others would have to fetch elsewhere."
    if served:
        return
    again = f"`stack share {shlex.join(info.paths)}`" if info.paths else "`stack share` of it"
    if info.kept:
        yield "Nothing serves it now: `stack daemon --detach` does."
    elif Origin.SHARED.value in info.why:
        yield f"Nothing serves it now, as the command that shared it has ended: {again} does."
    else:
        yield f"Nothing serves it now, as the `get --seed` of it has ended: the same again does, or {again}, with a ticket of its own."
