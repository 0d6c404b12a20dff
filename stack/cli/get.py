"""`stack get`: fetch a file or tree from all who have it."""

import os
import shlex
import sys
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from stack.cli import output
from stack.cli.answers import answers, tells
from stack.cli.app import complain, run_async
from stack.cli.codes import code_of, ticket_of, with_ticket
from stack.cli.fetching import FetchScreen, no_way_to
from stack.cli.session import explained, note_kept, open_api, owning, with_api
from stack.cli.types import (
    DURATION,
    PathType,
    bootstrap_option,
    config,
    discovery_flags,
    down_option,
    external_option,
    from_option,
    limit_flags,
    mdns_option,
    timeout_option,
    up_option,
    via_option,
    wanted_argument,
)
from stack.dag.unixfs.names import printable
from stack.errors import Refused
from stack.files.events import FetchEvent, FetchFinished, FetchStarted
from stack.files.sources import read_source
from stack.files.target import file_name
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import Api, Cat, Fetch
from stack.node.exit_codes import INTERRUPTED, PARTIAL
from stack.node.home import default_home


@click.command()
@wanted_argument
@click.option(
    "-o",
    "--output",
    "target",
    type=PathType(allow_dash=True),
    metavar="OUT",
    help="File or directory to write (default: the shared name); - is stdout, . puts what is in a tree straight here.",
)
@from_option
@via_option
@external_option
@bootstrap_option
@mdns_option
@up_option
@down_option
@timeout_option
@click.option("--deadline", type=DURATION, help="Give up after so long in all.")
@click.option("--include", multiple=True, metavar="GLOB", help="Only these files of a directory; may be repeated.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="None of these files; may be repeated.")
@click.option("--unsafe-links", is_flag=True, help="Make symbolic links too that lead out of the directory.")
@click.option(
    "--update",
    is_flag=True,
    help="Bring a tree that is there to this version, file by file (-o is the tree itself; a single file goes into a directory).",
)
@click.option("--delete", is_flag=True, help="With --update: delete what is not part of this version.")
@click.option("--dry-run", is_flag=True, help="With --update: only say what would be done.")
@click.option("--seed", is_flag=True, help="Stay and serve when it is complete, until Ctrl-C.")
@click.option(
    "--keep", is_flag=True, help="Leave it to the home to serve it when it is complete, until `stack shares rm`."
)
@click.option("--no-serve", is_flag=True, help="Give nothing to others meanwhile (metered lines).")
@click.option("--detach", is_flag=True, help="Let the running node do it and return.")
@answers(FetchFinished | FetchStarted)
@tells(FetchEvent)
def get(
    source: str,
    target: str | None,
    providers: tuple[Multiaddr, ...],
    via: tuple[Multiaddr, ...],
    external: tuple[Multiaddr, ...],
    bootstrap: tuple[Multiaddr, ...],
    no_mdns: bool,
    up: int | None,
    down: int | None,
    timeout: float | None,
    deadline: float | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    unsafe_links: bool,
    update: bool,
    delete: bool,
    dry_run: bool,
    seed: bool,
    keep: bool,
    no_serve: bool,
    detach: bool,
    as_json: bool,
    as_lines: bool,
) -> int:
    """Fetch what a ticket or CID names, from everybody who has it at once.

    Every block is checked. It resumes by itself: run the same command again. Without a ticket on the command line it is read from
    $STACK_TICKET, from stdin, or asked for. A code such as 4-otter-lamp-violin (`stack share --code`) will do too.
    """
    code = code_of(source)
    if via and code is None:
        raise click.UsageError("--via goes with a code; --from HOST:PORT says where somebody is who has it")
    if (delete or dry_run) and not update:
        raise click.UsageError("--delete and --dry-run go with --update")
    if delete and (include or exclude):
        raise click.UsageError("--delete would delete what --include and --exclude leave out")
    if no_serve and (seed or keep):
        raise click.UsageError("--no-serve gives nothing to others, --seed and --keep do: one of them")
    here = Path.cwd()
    contents = target is not None and os.path.basename(target) == "."
    if contents and not update and (here / str(target)).resolve() == Path.home().resolve():
        raise click.UsageError(
            "-o . in your home folder lets who shared it put hidden files there: make a directory for it"
        )
    if delete:
        _refuse_to_clear(here if target is None else here / target)
    finding = discovery_flags(bootstrap, no_mdns)
    if target == "-" and (as_json or as_lines):
        raise click.UsageError("-o - writes the file itself to stdout, --json and --jsonl something else: one of them")
    ticket = ""

    async def named(api: Api) -> str:
        """A code is used once: what it stands for is kept."""
        nonlocal ticket
        if code is not None and not ticket:
            ticket = await ticket_of(api, code, via, quiet=as_json or as_lines)
        return ticket or source

    if target == "-":
        request_of = partial(Cat, providers=providers, timeout=timeout)
        return run_async(partial(_stream, {**finding, **limit_flags(up, down)}, named, request_of))
    if target is not None and not (here / target).parent.is_dir():
        raise Refused(f"{(here / target).parent} does not exist: make it first; only the last name of --output is made")
    request = Fetch(
        source=source,
        directory=here,
        target=None if target is None else here / target,
        into_directory=target is not None and target.endswith("/"),
        contents=contents,
        providers=providers,
        timeout=timeout,
        deadline=deadline,
        include=include,
        exclude=exclude,
        unsafe_links=unsafe_links,
        update=update,
        delete=delete,
        dry_run=dry_run,
        serve=not no_serve,
        detach=detach,
        seed=(seed or keep) and not dry_run,
    )
    flags = {**finding, **limit_flags(up, down), "serve": False if no_serve else None}
    flags["external"] = tuple(map(str, external)) or None
    settings = config("get", **flags)
    done: int | None = None

    async def work(owner: str, api: Api) -> int:
        nonlocal done
        await note_kept(api)
        finished = await _fetch(
            api,
            replace(request, owner=owner, source=await named(api)),
            quiet=as_json or as_lines,
            lines=as_lines,
            no_way=await no_way_to(api, settings, source),
        )
        if finished is None:
            return 0
        if as_json and done is None:
            output.json_line(finished)
        done = PARTIAL if finished.skipped else 0
        if seed and not dry_run and not (keep and api.is_elsewhere):
            # here: most fetches end with their file
            from stack.cli.serving import serving, who_keeps
            from stack.cli.share import serve

            output.note(serving("Complete; serving it to others", await who_keeps(api, finished.root)))
            await serve(api, finished.root, finished.target.name, finished.size, owner)
        return done

    try:
        with owning(settings) if seed and not (keep or detach) else nullcontext("") as owner:
            return run_async(lambda: with_api(settings, flags, partial(work, owner)))
    except KeyboardInterrupt:
        if done is not None:
            return done
        complain("interrupted; what is there is kept. To go on:")
        output.command(f"stack {shlex.join(with_ticket(sys.argv[1:], ticket) if ticket else sys.argv[1:])}")
        return INTERRUPTED


def _refuse_to_clear(target: Path) -> None:
    """Raises click's usage error for a tree in which more lies than was ever fetched."""
    for lost, what in (Path.home(), "your home folder"), (default_home(), "the home of this node"):
        if lost.resolve().is_relative_to(target.resolve()):
            raise click.UsageError(f"--delete in {printable(str(target))} would delete {what}")


async def _stream(
    flags: dict[str, object], named: Callable[[Api], Awaitable[str]], request_of: Callable[..., Cat]
) -> int:
    """Write a file to stdout as it comes; each block is checked before."""
    settings = config("get", **flags)
    async with open_api(settings, flags) as api:
        source = await named(api)
        async with explained(api, settings, source), api.read(request_of(source=source)) as pieces:
            await output.payload(pieces)
    return 0


def _say_name(bar: output.Progress, source: str, event: FetchStarted) -> None:
    """Where it is not called here what its author calls it."""
    if event.name == event.root.text:
        bar.say("nobody has said what it is called; -o NAME gives it a name")
        return
    named = read_source(source)
    name = named.path.rpartition("/")[2] or (named.ticket.name if named.ticket is not None else "")
    if name and event.name != name and event.name == file_name(name, event.root):
        bar.say(
            f"renamed: {printable(name)} would be taken for something else here, or cannot be; -o NAME gives it another name"
        )


async def _fetch(api: Api, request: Fetch, *, quiet: bool, lines: bool, no_way: str) -> FetchFinished | None:
    """Follow a fetch to its end; None when it was detached."""
    async with api.watch(request) as events:
        with output.progress("connecting", wanted=not quiet) as bar:
            screen = FetchScreen(bar, dry_run=request.dry_run, no_way=no_way)
            async for event in events:
                if lines:
                    output.event_line(event)
                if request.detach and isinstance(event, FetchStarted):
                    output.note("The running node fetches it; `stack jobs` shows how far it is.")
                    if quiet and not lines:
                        output.json_line(event)
                    return None
                if not quiet:
                    screen.show(event)
                if isinstance(event, FetchFinished):
                    finished = event
                    break
                if isinstance(event, FetchStarted) and not quiet:
                    _say_name(bar, request.source, event)
    if not quiet:
        output.data(printable(str(finished.target)))
        screen.conclude(finished)
    return finished
