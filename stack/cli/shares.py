"""`stack shares ls|rm`: what I share, and to whom it went."""

import time

import click

from stack.cli import output
from stack.cli.app import run_async
from stack.cli.groups import Group
from stack.cli.session import open_api
from stack.cli.types import config, json_option
from stack.dag.unixfs.names import printable
from stack.node.api import ListShares, RemoveShare
from stack.node.exits import NOT_FOUND


@click.group(cls=Group)
def shares() -> None:
    """What I share, and to whom it went."""


@shares.command("ls")
@json_option
def list_shares(as_json: bool) -> None:
    """All shares of this home."""

    async def work() -> None:
        async with open_api(config("command")) as api:
            rows = await api.ask(ListShares())
        if as_json:
            output.json_line(rows)
            return
        for row in rows:
            age = output.duration(max(time.time() - row.since, 0.0))
            output.data(f"{row.cid}  {output.size(row.size)}  {printable(row.name)}  {row.state}, since {age}")
            output.data(
                f"    sent {output.size(row.bytes_sent)} to {output.count(len(row.peers), 'peer')}, "
                f"{output.count(row.copies, 'whole copy') if row.copies == 1 else f'{row.copies} whole copies'}"
            )
            for path in row.paths:
                output.data(f"    {printable(path)}")
        if not rows:
            output.note("nothing is shared")

    run_async(work)


@shares.command("rm")
@click.argument("target", metavar="CID|PATH")
@json_option
def remove(target: str, as_json: bool) -> int:
    """Stop sharing; your files stay as they are."""

    async def work() -> int:
        async with open_api(config("announce")) as api:
            done = await api.ask(RemoveShare(target=target))
        if as_json:
            output.json_line(done)
        elif done.count:
            output.data(f"no longer shared: {printable(target)}")
        else:
            output.note(f"{target} is not shared")
        return 0 if done.count else NOT_FOUND

    return run_async(work)
