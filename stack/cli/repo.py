"""`stack gc`, `stack repo stat|verify`."""

import click

from stack.cli import output
from stack.cli.answers import answers
from stack.cli.app import run_async
from stack.cli.groups import Group
from stack.cli.home import take
from stack.cli.session import open_api
from stack.cli.types import config
from stack.errors import Refused
from stack.node.api import CollectGarbage, GarbageReport, GetRepoStat, RepoStat, VerifyEvent, VerifyRepo
from stack.node.exit_codes import REFUSED, WRONG_BYTES
from stack.node.home import Home
from stack.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What was read and hashed, and what is wrong, a sentence each."""

    blocks: int
    bytes: int
    problems: int
    unread: int
    """Of those, what cannot be read now: nothing is known to be wrong with it."""
    items: tuple[str, ...]
    places: int
    """Of blocks: one that lies in two files has two."""
    notes: tuple[str, ...]
    """Files that went or changed, by which nothing is lost: no problem."""
    not_whole: int
    """Shares of which files have changed or gone: they are no problem of the repository, and are not served as they were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuiltIndex:
    """How many blocks the new index has."""

    blocks: int


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@answers(GarbageReport)
def gc(dry_run: bool, as_json: bool) -> None:
    """Free the space of blocks that no pin, share or running fetch needs.

    Those that lie in files of yours are not given to others any more; the files stay as they are."""

    async def work() -> None:
        async with open_api(config("command")) as api:
            report = await api.ask(CollectGarbage(dry_run=dry_run))
        if as_json:
            output.json_line(report)
            return
        verb = "would free" if dry_run else "freed"
        output.data(f"{verb} {output.count(report.blocks, 'block')}, {output.size(report.bytes)}; {report.kept:,} kept")

    run_async(work)


@click.group(cls=Group)
def repo() -> None:
    """The repository of this home."""


@repo.command()
@answers(RepoStat)
def stat(as_json: bool) -> None:
    """What the repository holds."""

    async def work() -> None:
        async with open_api(config("command")) as api:
            info = await api.ask(GetRepoStat())
        if as_json:
            output.json_line(info)
            return
        places = f" in {info.places:,} places" if info.places != info.blocks else ""
        waste = f", of them {output.size(info.waste_bytes)} unused" if info.waste_bytes else ""
        output.data(f"home          {info.home}, {output.size(info.home_bytes)} on the disk")
        output.data(f"blocks        {info.blocks:,}{places}")
        output.data(f"your files    {info.shared_files:,}, {output.size(info.shared_bytes)} in place")
        output.data(f"packs         {output.size(info.pack_bytes)}{waste}")
        output.data(f"index         {output.size(info.index_bytes)}")
        quota = output.size(info.quota_bytes) if info.quota_bytes is not None else "none"
        output.data(f"free on disk  {output.size(info.free_bytes)} (quota {quota})")

    run_async(work)


@repo.command()
@answers(VerifyReport)
def verify(as_json: bool) -> int:
    """Read and hash every block, and look for all that is pinned or shared; says what is wrong, and what is missing.

    A shared file that you changed or deleted is told once, and is no damage. Of what is seeded in part the rest is not missed.
    """

    async def work() -> int:
        problems: list[str] = []
        notes: list[str] = []
        unread = 0
        last = VerifyEvent(blocks=0, bytes=0)
        async with open_api(config("command")) as api, api.watch(VerifyRepo()) as events:
            with output.progress("verifying", wanted=not as_json) as bar:
                async for event in events:
                    last = event
                    if event.problem is not None:
                        problems.append(event.problem)
                        unread += event.unread
                    if event.note is not None:
                        notes.append(event.note)
                    if (said := event.problem or event.note) is not None and not as_json:
                        bar.say(said)
        if as_json:
            report = VerifyReport(
                blocks=last.blocks,
                places=last.places,
                bytes=last.bytes,
                problems=len(problems),
                unread=unread,
                items=tuple(problems),
                notes=tuple(notes),
                not_whole=last.not_whole,
            )
            output.json_line(report)
        else:
            verdict = "all good" if not problems else output.count(len(problems), "problem")
            blocks = f"{last.blocks:,} block{'' if last.blocks == 1 else 's'}"
            places = f" in {last.places:,} places" if last.places != last.blocks else ""
            output.data(f"{blocks}{places}, {output.size(last.bytes)} read: {verdict}")
            if last.not_whole:
                output.note(
                    f"Not whole any more, as files changed or went: {output.count(last.not_whole, 'share')} (`stack shares ls`)."
                    " Share again what is to be served, and end the rest with `stack shares rm`."
                )
        return WRONG_BYTES if len(problems) > unread else REFUSED if problems else 0

    return run_async(work)


@repo.command()
@answers(RebuiltIndex)
def rebuild(as_json: bool) -> None:
    """Make a new index from the packs when the old one is damaged; it is kept beside the new one.

    Files shared in place are to be shared again afterwards.
    """
    from stack.blocks.store import DiskStore

    settings = config("command")
    assert settings.home is not None
    home = Home(settings.home)
    if not take(home):
        raise Refused("a node of this home is running; stop it first")
    try:
        blocks = run_async(lambda: DiskStore.rebuild_index(home.path))
    finally:
        home.release()
    if as_json:
        output.json_line(RebuiltIndex(blocks=blocks))
    else:
        output.data(f"a new index of {output.count(blocks, 'block')}; share your files again")
