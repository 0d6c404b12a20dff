"""`stack announce ls|withdraw`: what this node tells others that it has."""

import click

from stack.cli import output
from stack.cli.answers import answers
from stack.cli.app import run_async
from stack.cli.groups import Group
from stack.cli.missing import missed
from stack.cli.session import open_api
from stack.cli.types import SOURCE, config
from stack.dag.unixfs.names import printable
from stack.files.sources import read_source
from stack.node.api import Announcements, Done, GetAnnouncements, Withdraw


@click.group(cls=Group)
def announce() -> None:
    """What this node tells others that it has; `stack share --announce` and `--public` add to it."""


@announce.command("ls")
@answers(Announcements)
def list_announcements(as_json: bool) -> None:
    """All that is announced."""

    async def work() -> None:
        async with open_api(config("announce")) as api:
            told = await api.ask(GetAnnouncements())
            is_running = api.is_elsewhere
        if as_json:
            output.json_line(told)
            return
        for item in told.items:
            name = "unlisted" if item.public_name is None else f"public as {printable(item.public_name)}"
            output.data(f"{item.cid}  {output.size(item.size)}  {name}")
        if told.directory is not None:
            output.note(f"public names: stack ls {told.directory}")
        if told.clock is not None:
            output.note(told.clock)
        if not told.items:
            output.note("nothing is announced")
        elif not is_running:
            output.note("no node runs: it is announced when `stack daemon` or `stack share` does")
        elif told.waiting:
            output.note("nobody is known yet who keeps announcements; it is told as soon as somebody is")

    run_async(work)


@announce.command("withdraw")
@click.argument("source", type=SOURCE, metavar="TICKET|CID")
@answers(Done)
def withdraw(source: str, as_json: bool) -> int:
    """Announce a CID no more; it stays shared for who has its ticket."""
    cid = read_source(source).root

    async def work() -> int:
        async with open_api(config("announce")) as api:
            done = await api.ask(Withdraw(cid=cid))
            is_running = api.is_elsewhere
        if not done.count:
            return missed(done, f"{cid} is not announced", as_json=as_json)
        if as_json:
            output.json_line(done)
        else:
            output.data(f"no longer announced: {cid}")
            output.note(
                "what only tickets gave before is closed again; else who knows the CID still gets it, until `stack shares rm`"
            )
            if not is_running:
                output.note("no node runs, so others may remember it for up to a day")
        return 0

    return run_async(work)
