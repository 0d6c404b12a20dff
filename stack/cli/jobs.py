"""`stack jobs`: running and interrupted fetches."""

import click

from stack.cli import output
from stack.cli.app import run_async
from stack.cli.groups import Group
from stack.cli.session import open_api
from stack.cli.types import config, json_option
from stack.dag.unixfs.names import printable
from stack.node.api import ListJobs, RemoveJob
from stack.node.exits import NOT_FOUND


@click.group(cls=Group, invoke_without_command=True)
@click.pass_context
@json_option
def jobs(ctx: click.Context, as_json: bool) -> None:
    """Running and interrupted fetches."""
    if ctx.invoked_subcommand is None:
        _list(as_json)


@jobs.command("ls")
@json_option
def list_jobs(as_json: bool) -> None:
    """As `stack jobs` alone."""
    _list(as_json)


def _list(as_json: bool) -> None:
    async def work() -> None:
        async with open_api(config("command")) as api:
            rows = await api.ask(ListJobs())
        if as_json:
            output.json_line(rows)
            return
        for row in rows:
            part = f"{100 * row.bytes_done // row.bytes_total} %" if row.bytes_total else "-"
            output.data(f"{row.id}  {row.state}  {part}  {output.size(row.bytes_total)}  {printable(row.target)}")
            if row.error:
                output.data(f"    {printable(row.error)}")
            if row.state in ("interrupted", "failed"):
                output.data(f"    to go on: {printable(row.command)}")
        if not rows:
            output.note("no jobs")

    run_async(work)


@jobs.command("rm")
@click.argument("id_", metavar="ID", type=int)
@json_option
def remove(id_: int, as_json: bool) -> int:
    """Cancel a job and forget it; what it fetched so far stays on the disk, and is said."""

    async def work() -> int:
        async with open_api(config("command")) as api:
            done = await api.ask(RemoveJob(id=id_))
        if as_json:
            output.json_line(done)
        elif done.count:
            output.data(f"job {id_} is forgotten")
            if done.kept is not None:
                output.note(
                    f"what it fetched stays in {done.kept}: delete it, or `stack get` it again to go on from there"
                )
        else:
            output.note(f"there is no job {id_}")
        return 0 if done.count else NOT_FOUND

    return run_async(work)
