"""`stack share`: index in place, print the ticket, serve."""

import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import click

from stack.cli import output
from stack.cli.answers import answers
from stack.cli.app import run_async
from stack.cli.choosing import LeftOut, selecting
from stack.cli.codes import GivenCode, giving
from stack.cli.serving import ServingScreen, serving, show_qr, who_keeps
from stack.cli.session import note_kept, owning, with_api
from stack.cli.sources import at_a_place, sources_of
from stack.cli.types import (
    TEXT,
    PathType,
    bootstrap_option,
    config,
    discovery_flags,
    down_option,
    external_option,
    limit_flags,
    listen_option,
    mdns_option,
    relay_via_option,
    up_option,
    via_option,
)
from stack.dag.unixfs.names import safe_name
from stack.errors import DecodeError, LocalProtocolError, StackError
from stack.files.ticket import decode_ticket
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import (
    AddProgress,
    Api,
    EntrySkipped,
    GetReach,
    GetTicket,
    ImportFlags,
    ListPeers,
    Reach,
    Share,
    Shared,
    SourceLost,
    WatchShare,
)
from stack.streams.supervision import supervised

REACH_SECONDS = 2.5
"""For the router to open a port, and for peers outside to try it: three seconds after it began it is said who can reach it."""

KEPT_SECONDS = 1.0
"""At the end of a command, for the node to say whether the home keeps what it has served."""


@click.command()
@click.argument("paths", nargs=-1, required=True, type=PathType(readable=False), metavar="PATH...")
@click.option(
    "--once",
    is_flag=True,
    help="End when a receiver has all that it wanted (one that is not stack: when it was sent every block), and others who have begun"
    " are done or gone. It goes on for who lists it, or prints a part of it (`stack cat`).",
)
@click.option("--name", type=TEXT, metavar="NAME", default="", help="What receivers call it, in place of its own name.")
@selecting
@click.option("--unsafe-links", is_flag=True, help="Take symbolic links too that lead out of the directory.")
@click.option(
    "--preserve-mode",
    is_flag=True,
    help="Keep all permissions; without, scripts and programs stay executable (and with --open `get --update` cannot take that away).",
)
@click.option(
    "--preserve-mtime/--no-preserve-mtime",
    default=None,
    help="Keep the times of modification, also of directories, or none (default: those of files; with --open none, so that"
    " equal files have equal CIDs).",
)
@click.option("--rehash", is_flag=True, help="Read files too that have not changed since they were last read.")
@click.option(
    "--open",
    "open_",
    is_flag=True,
    help="Let whoever knows the CID fetch it, Kubo too; without, only who has the ticket.",
)
@click.option("--announce", is_flag=True, help="Let whoever knows the CID find it, without the ticket; implies --open.")
@click.option("--public", metavar="NAME", help="Let anybody find it by this name (`stack find`); implies --announce.")
@listen_option
@external_option
@relay_via_option
@bootstrap_option
@mdns_option
@up_option
@down_option
@click.option(
    "--keep", is_flag=True, help="Leave it to the home: it is served by whatever node runs, until `stack shares rm`."
)
@click.option(
    "--code",
    is_flag=True,
    help="Give a short code in place of the ticket, to be said on the telephone: a number and three words, good once and for a"
    " minute (setting code_seconds).",
)
@via_option
@click.option(
    "--qr/--no-qr", default=None, help="A QR code of the ticket, or none (default: where the terminal has room)."
)
@answers(Shared)
def share(
    paths: tuple[str, ...],
    once: bool,
    name: str,
    hidden: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    ignore_files: tuple[Path, ...],
    gitignore: bool,
    unsafe_links: bool,
    preserve_mode: bool,
    preserve_mtime: bool | None,
    rehash: bool,
    open_: bool,
    announce: bool,
    public: str | None,
    listen: tuple[Multiaddr, ...],
    external: tuple[Multiaddr, ...],
    relay_via: tuple[Multiaddr, ...],
    bootstrap: tuple[Multiaddr, ...],
    no_mdns: bool,
    up: int | None,
    down: int | None,
    keep: bool,
    code: bool,
    via: tuple[Multiaddr, ...],
    qr: bool | None,
    as_json: bool,
) -> int:
    """Share files or directories where they lie; prints a ticket for others to `stack get`.

    Nothing is copied, and unless you say otherwise nothing is published: only who has the ticket can fetch. Several paths
    become one directory, and - is what is piped in. Ctrl-C ends the share, unless the home keeps it.
    """
    if keep and once:
        raise click.UsageError("--once ends the share, --keep keeps it: one of them")
    if keep and code:
        raise click.UsageError("a code is good while this command runs, --keep leaves the share to others: one of them")
    if via and not code:
        raise click.UsageError("--via goes with --code")
    if name:
        _check_file_name(name)
    sources = sources_of(paths)
    if keep and any(source.stream is not None for source in sources):
        raise click.UsageError(
            "what is piped in is there while this command runs: write it to a file first, or leave out --keep"
        )
    if public is not None:
        _check_name(public)
    kept = ImportFlags(preserve_mode=preserve_mode, preserve_mtime=preserve_mtime)
    told = {"listen": listen, "external": external, "relay_via": relay_via}
    places = {name: tuple(map(str, addresses)) or None for name, addresses in told.items()}
    flags = {**places, **discovery_flags(bootstrap, no_mdns), **limit_flags(up, down)}
    settings = config("share", **flags)

    ticket = ""

    async def work(owner: str, paths: tuple[Path, ...], api: Api) -> None:
        request = Share(
            paths=paths,
            name=name,
            hidden=hidden,
            include=include,
            exclude=exclude,
            ignore_files=ignore_files,
            gitignore=gitignore,
            unsafe_links=unsafe_links,
            flags=kept,
            rehash=rehash,
            open=open_,
            announce=announce,
            public_name=public,
            owner=owner,
        )
        shared = await _import(api, request, quiet=as_json)
        async with giving(api, shared, via) if code else nullcontext() as given:
            await go_on(api, shared if given is None else replace(shared, code=given.code), given, owner)

    async def go_on(api: Api, shared: Shared, given: GivenCode | None, owner: str) -> None:
        nonlocal ticket
        if ticket:
            if given is not None:
                given.explain()
            elif shared.ticket != ticket:
                output.note(moved(ticket, shared))
        elif as_json:
            output.json_line(shared)
        elif not (sys.stdout.isatty() and sys.stderr.isatty()):  # there the last line has it
            output.data(shared.code or shared.ticket)
        ticket, is_first = shared.ticket, not ticket
        await note_kept(api, shared.cid)
        reach: Reach | None = None
        if is_first:
            reach = await _explain(api, shared, asked_open=open_ or shared.announced)
            if keep and api.is_elsewhere:
                output.note("The node that runs serves it from now on; `stack shares rm` ends that.")
                return
            if output.draws() and qr is not False and not as_json and given is None:
                show_qr(shared.ticket, always=qr is True)
            output.note(serving("Serving", await who_keeps(api, shared.cid), once=once))
            if given is not None and not as_json:
                given.explain()
            elif not as_json:
                output.note("On the other computer:")
                output.command(f"stack get {shared.ticket}")
        async with supervised() as tasks:
            if reach is not None:
                tasks.start(_say_what_was_tried, api, reach, shared, owner="who can reach this node")
            beside = given.follow if given is not None else None
            await serve(api, shared.cid, shared.name, shared.size, owner, once=once, beside=beside)
        if given is not None:
            given.check()

    async def at_places(owner: str) -> None:
        assert settings.home is not None
        async with AsyncExitStack() as while_it_runs:
            found = [await while_it_runs.enter_async_context(at_a_place(each, settings.home)) for each in sources]
            await with_api(settings, flags, partial(work, owner, tuple(found)))

    try:
        with nullcontext("") if keep else owning(settings) as owner:
            run_async(partial(at_places, owner))
    except KeyboardInterrupt:
        if once or not ticket:
            raise
    return 0


def _check_file_name(name: str) -> None:
    """Raises click's usage error for what no receiver could call a file."""
    try:
        safe_name(name)
    except DecodeError as error:
        raise click.BadParameter(str(error)) from error


def _check_name(name: str) -> None:
    """Raises click's usage error, before anything is read."""
    from stack.announce.own import check_name  # here: few shares have one

    try:
        check_name(name)
    except LocalProtocolError as error:
        raise click.BadParameter(str(error)) from error


async def _import(api: Api, request: Share, *, quiet: bool) -> Shared:
    left_out = LeftOut()
    async with api.watch(request) as events:
        with output.progress(f"indexing {request.paths[0].name}", wanted=not quiet) as bar:
            async for event in events:
                match event:
                    case AddProgress():
                        bar.update(event.bytes_done, event.bytes_total)
                    case EntrySkipped():
                        left_out.skipped(event, bar)
                    case Shared():
                        shared = event
    left_out.conclude()
    return shared


def moved(ticket: str, shared: Shared) -> str:
    """What is said when another node of the home serves it now, and its ticket is another than the one that was printed."""
    if {address.with_peer(shared.peer_id) for address in decode_ticket(ticket).addresses} & set(shared.addrs):
        return f"Who has the ticket need not have another; with the addresses of now it is {shared.ticket}"
    return (
        f"Nobody listens any more where the ticket leads: who does not find this node otherwise needs {shared.ticket}"
    )


async def _say_what_was_tried(api: Api, said: Reach, shared: Shared) -> None:
    """Who can reach it, once the router and peers outside have answered, if that is another than was said at once; and the ticket that
    leads there, when what was printed does not."""
    with suppress(StackError):  # the node ends: nobody needs to know any more
        reach = await api.ask(GetReach(seconds=REACH_SECONDS))
        if reach.advice == said.advice:
            return
        output.note(reach.advice)
        root = shared.cid.text
        tickets = [info.ticket for info in await api.ask(GetTicket(target=root, path=Path(root)))]
        if reach.scope == "internet" != said.scope and not shared.code and shared.ticket not in tickets[:1]:
            output.note("The ticket that leads there:")
            output.command(f"stack get {tickets[0]}")


async def _explain(api: Api, shared: Shared, *, asked_open: bool) -> Reach:
    """What a person wants to know of a share that begins; returns what was said of who can reach it."""
    reach = await api.ask(GetReach())
    output.note(f"Sharing {shared.name or 'it'} ({output.size(shared.size)}, {shared.cid}).")
    if shared.open and not asked_open:
        output.note(
            "Others too who know the CID get it, without the ticket: it was added, or shared with --open, before."
            f" To end that: stack shares rm {shared.cid}, then share it again."
        )
    elif shared.open and not shared.announced:
        output.note("Open: whoever knows the CID gets it from this computer, without the ticket.")
    if shared.announced:
        output.note(f"Announced: whoever knows the CID finds it by `stack get {shared.cid}`.")
        if shared.public_name is not None:
            output.note(f"Public: anybody finds it by `stack find {shared.public_name}`.")
    output.note(reach.advice)
    return reach


Beside = Callable[[ServingScreen, Callable[[], None]], Awaitable[None]]
"""What goes on beside a share, and may end it."""


async def serve(
    api: Api, root: Cid, name: str, size: int, owner: str, *, once: bool = False, beside: Beside | None = None
) -> None:
    """Show to whom it goes until interrupted or, with `once`, until a receiver has all of it; that ends the share for its owner."""
    kept = ""
    with output.progress(name) as bar:
        screen = ServingScreen(bar, size)
        try:
            async with supervised() as tasks:
                if beside is not None:
                    tasks.start(beside, screen, tasks.cancel, owner="what goes on beside a share")
                async with api.watch(WatchShare(cid=root, owner=owner, once=once)) as progress:
                    async for step in progress:
                        if not isinstance(step, SourceLost) and screen.is_new(step.peer_id):
                            at = {peer.peer_id: peer.address for peer in await api.ask(ListPeers())}
                            screen.met(step.peer_id, at.get(step.peer_id))
                        screen.show(step)
        finally:
            bar.say(screen.farewell())
            with suppress(StackError), anyio.move_on_after(KEPT_SECONDS, shield=True):
                kept = await who_keeps(api, root)
            if kept:
                bar.say(kept)
    if not kept:
        output.note("It is no longer shared.")
