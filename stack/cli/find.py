"""`stack find`, `stack providers`: what others announce."""

import shlex
from collections.abc import Callable
from typing import TypeVar

import click

from stack.cli import output
from stack.cli.answers import answers, tells
from stack.cli.app import run_async
from stack.cli.missing import missed
from stack.cli.session import open_api, waiting
from stack.cli.types import DURATION, SOURCE, bootstrap_option, config, discovery_flags, mdns_option
from stack.dag.unixfs.names import printable
from stack.files.sources import read_source
from stack.files.target import file_name
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import FindNames, FindProviders, FoundName, KnownProvider
from stack.node.api.announce import LOOK_SECONDS
from stack.node.api.interfaces import Watch

T = TypeVar("T")

timeout_option = click.option(
    "--timeout",
    type=DURATION,
    default=LOOK_SECONDS,
    help=f"Look for so long at most (default: {LOOK_SECONDS:g}s).",
)


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="WORDS...")
@bootstrap_option
@mdns_option
@timeout_option
@answers(FoundName, many=True)
@tells(FoundName, "each, as it is found,")
def find(
    words: tuple[str, ...],
    bootstrap: tuple[Multiaddr, ...],
    no_mdns: bool,
    timeout: float,
    as_json: bool,
    as_lines: bool,
) -> int:
    """Find what others share under a public name (`stack share --public NAME`) that has all these words.

    Prints name, size, CID, author, and how long ago the author said so. Names are whatever their authors wrote.
    """
    from stack.announce.keyspace import words_of  # here: `providers` needs no words

    text = " ".join(words)
    if not words_of(text):
        raise click.BadParameter("nothing to look for: a word has at least two letters or digits")
    flags = discovery_flags(bootstrap, no_mdns)
    request = FindNames(words=text, timeout=timeout)
    nothing = "nothing was found under a name with these words"
    return _look("find", flags, request, timeout, _show_name, nothing, _to_fetch, as_json=as_json, as_lines=as_lines)


@click.command()
@click.argument("source", type=SOURCE, metavar="TICKET|CID")
@bootstrap_option
@mdns_option
@timeout_option
@answers(KnownProvider, many=True)
@tells(KnownProvider, "each, as it is found,")
def providers(
    source: str, bootstrap: tuple[Multiaddr, ...], no_mdns: bool, timeout: float, as_json: bool, as_lines: bool
) -> int:
    """Who announces that it has what a CID names: who, by whom that is known, how old it is, and where.

    That somebody says so proves nothing: `stack get` checks every block.
    """
    flags = discovery_flags(bootstrap, no_mdns)
    request = FindProviders(cid=read_source(source).root, timeout=timeout)
    return _look(
        "providers",
        flags,
        request,
        timeout,
        _show_provider,
        "nobody was found who announces it",
        lambda found: f"To fetch it: stack get {request.cid}",
        as_json=as_json,
        as_lines=as_lines,
    )


def _look(
    role: str,
    flags: dict[str, object],
    request: Watch[T],
    timeout: float,
    show: Callable[[T], None],
    nothing: str,
    next_step: Callable[[list[T]], str],
    *,
    as_json: bool,
    as_lines: bool,
) -> int:
    """Print what is found, as it is found but for `--json`. Returns the exit code."""

    async def work() -> int:
        found: list[T] = []
        async with (
            open_api(config(role, **flags), flags) as api,
            waiting(f"looking for {timeout:g} s at the most", quiet=as_json or as_lines),
            api.watch(request) as events,
        ):
            async for each in events:
                found.append(each)
                if as_lines:
                    output.event_line(each)
                elif not as_json:
                    show(each)
        if not found:
            return missed((), nothing, as_json=as_json, as_lines=as_lines)
        if as_json:
            output.json_line(tuple(found))
        elif not as_lines:
            output.note(next_step(found))
        return 0

    return run_async(work)


def _to_fetch(found: list[FoundName]) -> str:
    """The command for what was found; with a name of a harmless kind, as `get` makes of a ticket's."""
    first = found[0]
    command = f"stack get {first.cid} -o {shlex.quote(file_name(first.name, first.cid))}"
    return f"To fetch it: {command}" if len(found) == 1 else f"To fetch the first of them: {command}"


def _show_name(found: FoundName) -> None:
    age = output.duration(found.age)
    output.data(f"{printable(found.name)}  {output.size(found.size)}  {found.cid}  {found.author}  {age} ago")


def _show_provider(provider: KnownProvider) -> None:
    how = "kept by this node" if provider.told_by is None else f"told by {provider.told_by}"
    output.data(f"{provider.peer}  announced {output.duration(provider.age)} ago, {how}")
    for address in provider.addresses:
        output.data(f"    {address}")
