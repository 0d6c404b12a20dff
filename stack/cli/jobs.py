"""`stack jobs`: fetches that run, wait to go on, or have ended."""

import time
from collections.abc import Sequence

import click

from stack.cli import output
from stack.cli.answers import answers
from stack.cli.app import run_async
from stack.cli.completing import jobs_in
from stack.cli.fetching import obstacle_of
from stack.cli.groups import Group
from stack.cli.missing import missed
from stack.cli.session import open_api
from stack.cli.types import config
from stack.dag.unixfs.names import printable
from stack.node.api import Ask, JobInfo, JobRemoved, ListJobs, PauseJobs, RemoveJob, ResumeJobs


class JobType(click.ParamType[int]):
    """The number of a job."""

    name = "ID"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Raises click's usage error, which says how to name all."""
        try:
            return int(str(value))
        except ValueError:
            options = ctx.command.params if ctx is not None else []
            flag = next((each.opts[0] for each in options if isinstance(each, click.Option) and each.is_flag), "")
            self.fail(f"{value} is no number of a job: `stack jobs` lists them, {flag} takes several", param, ctx)


@click.group(cls=Group, invoke_without_command=True)
@click.pass_context
@answers(JobInfo, many=True)
def jobs(ctx: click.Context, as_json: bool) -> None:
    """Fetches: those that run, wait to go on, or have ended of late."""
    if ctx.invoked_subcommand is None:
        _list(as_json)


@jobs.command("ls")
@answers(JobInfo, many=True)
def list_jobs(as_json: bool) -> None:
    """As `stack jobs` alone: the latest last. What has ended is listed for 30 days, at most 100 of them."""
    _list(as_json)


def _list(as_json: bool) -> None:
    async def work() -> None:
        async with open_api(config("command")) as api:
            rows = await api.ask(ListJobs())
        if as_json:
            output.json_line(rows)
            return
        for row in rows:
            _show(row)
        if not rows:
            output.note("no jobs")

    run_async(work)


def _show(row: JobInfo) -> None:
    now = time.time()
    rate = f"{output.size(row.rate)}/s" if row.rate >= 1 else ""
    begun = f"since {output.duration(now - row.since)}" if row.state == "running" else ""
    ended = f"{output.duration(now - row.ended)} ago" if row.ended is not None else ""
    facts = [str(row.id), row.state, _part(row), rate, begun or ended, printable(row.target)]
    output.data("  ".join(filter(None, facts)))
    if row.error:
        output.data(f"    {printable(row.error)}")
    if row.waiting is not None:
        output.data(f"    waiting: {obstacle_of(row.waiting)}")
    if row.state == "paused":
        output.data(f"    to go on: stack jobs resume {row.id}")
    elif row.state == "interrupted":
        output.data(f"    to go on: {printable(row.command)}")


def _part(row: JobInfo) -> str:
    """How far it is: of what is done, all of it."""
    if not row.bytes_total:
        return ""
    whole = output.size(row.bytes_total)
    return whole if row.state == "done" else f"{100 * row.bytes_done // row.bytes_total} % of {whole}"


def _chosen(ids: tuple[int, ...], every: bool) -> tuple[int, ...]:
    if bool(ids) == every:
        raise click.UsageError("name jobs by their numbers (`stack jobs` lists them), or give --all")
    return ids


def _change(request: Ask[tuple[JobInfo, ...]], as_json: bool, say: dict[str, str], none: str) -> None:
    """Ask, and say what became of each by its state."""

    async def work() -> Sequence[JobInfo]:
        async with open_api(config("command")) as api:
            return await api.ask(request)

    rows = run_async(work)
    if as_json:
        output.json_line(rows)
        return
    for row in rows:
        part = f", {_part(row)}" if _part(row) else ""
        output.data(f"job {row.id} {say.get(row.state, f'is {row.state}')}: {printable(row.name)}{part}")
        if row.error:
            output.data(f"    {printable(row.error)}")
    if not rows:
        output.note(none)


@jobs.command()
@click.argument("ids", metavar="[ID]...", type=JobType(), nargs=-1, shell_complete=jobs_in("running", "interrupted"))
@click.option("--all", "every", is_flag=True, help="All that run, or that the daemon would go on with.")
@answers(JobInfo, many=True)
def pause(ids: tuple[int, ...], every: bool, as_json: bool) -> None:
    """Stop jobs until they are resumed, over restarts of the daemon too. What is there is kept."""
    _change(PauseJobs(ids=_chosen(ids, every)), as_json, {"paused": "is paused"}, "nothing runs")


@jobs.command()
@click.argument(
    "ids", metavar="[ID]...", type=JobType(), nargs=-1, shell_complete=jobs_in("paused", "interrupted", "failed")
)
@click.option("--all", "every", is_flag=True, help="All that are paused.")
@answers(JobInfo, many=True)
def resume(ids: tuple[int, ...], every: bool, as_json: bool) -> None:
    """Let the daemon go on with jobs that were paused or interrupted, or have failed."""
    later = "goes on when a daemon runs (`stack daemon --detach`)"
    say = {"running": "goes on", "interrupted": later, "paused": "is paused still"}
    _change(ResumeJobs(ids=_chosen(ids, every)), as_json, say, "nothing is paused")


@jobs.command("rm")
@click.argument("ids", metavar="[ID]...", type=JobType(), nargs=-1, shell_complete=jobs_in())
@click.option("--ended", is_flag=True, help="All that are done or have failed.")
@answers(JobRemoved, many=True)
def remove(ids: tuple[int, ...], ended: bool, as_json: bool) -> int:
    """Cancel jobs and forget them; what they fetched so far stays on the disk, and is said."""
    if bool(ids) == ended:
        raise click.UsageError("name jobs by their numbers (`stack jobs` lists them), or give --ended")

    async def work() -> int:
        missing: list[int] = []
        async with open_api(config("command")) as api:
            removed = []
            for id_ in ids or [row.id for row in await api.ask(ListJobs()) if row.state in ("done", "failed")]:
                removed.append(done := await api.ask(RemoveJob(id=id_)))
                if not done.count:
                    missing.append(id_)
                elif not as_json:
                    _say_removed(id_, done)
        if missing:
            which = f"job {missing[0]}" if len(missing) == 1 else f"jobs {', '.join(map(str, missing))}"
            return missed(removed, f"there is no {which}; `stack jobs` lists them", as_json=as_json)
        if as_json:
            output.json_line(removed)
        return 0

    return run_async(work)


def _say_removed(id_: int, removed: JobRemoved) -> None:
    job = removed.job
    if job is None:
        output.data(f"job {id_} is forgotten")
        return
    what = (
        "was cancelled"
        if job.state == "running"
        else f"is forgotten; it {'had failed' if job.state == 'failed' else f'was {job.state}'}"
    )
    output.data(f"job {id_} {what}: {printable(job.name)}{f', {_part(job)}' if _part(job) else ''}")
    if job.state == "done":
        output.note(f"what it fetched stays in {printable(job.target)}")
    elif removed.kept is not None:
        kept = printable(str(removed.kept))
        output.note(f"what it fetched stays in {kept}: delete it, or `stack get` it again to go on from there")
    else:
        output.note("nothing of it is on the disk")


jobs.add_command(remove, "cancel")
