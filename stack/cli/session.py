"""How a command gets at a node: it holds the home itself, or asks the process that does."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import anyio
import click

from stack.cli.home import take
from stack.cli.output import count, note
from stack.control.client import ControlClient, NodeUnreachable
from stack.files.sources import read_source
from stack.multiformats.cid import Cid
from stack.node.api import Api, CompareSettings, GetIdentity, ListShares, Resolve
from stack.node.config import Config
from stack.node.home import Home
from stack.node.owners import Owner

WAIT_SECONDS = 10.0
"""A process that has just taken the home opens its control socket within this time, or is stuck."""

POLL_SECONDS = 0.05

FLAGS = {
    "listen": "--listen",
    "external": "--external",
    "bootstrap": "--bootstrap",
    "mdns": "--no-mdns",
    "upload_limit": "--up",
    "download_limit": "--down",
    "serve": "--no-serve",
}
"""How settings of a node are typed for one command."""


@asynccontextmanager
async def open_api(config: Config, typed: Mapping[str, object] | None = None) -> AsyncIterator[Api]:
    """A node in this process if the home is free, else the one that runs. `typed` are settings that were typed for this command.

    Raises NodeUnreachable, RepoTooNew, Refused, and click's usage error when the node that runs has not what was typed.
    """
    assert config.home is not None
    home = Home(config.home)
    running = await _running(home)
    if running is not None:
        await _insist(running, typed or {})
        yield running
        return
    try:
        from stack.node.node import Node  # here: a command that talks to a daemon need not load the whole stack

        async with Node.open(config, home=home) as node:
            yield node
            if node.control is not None and node.control.active:
                note("done; staying for other commands of this home that it serves")
                await node.control.drain()
    finally:
        home.release()


async def cid_of(api: Api, source: str) -> Cid:
    """The CID that a ticket or a CID with a path leads to. Raises as `Resolve`."""
    named = read_source(source)
    return (await api.ask(Resolve(source=source))).cid if named.path else named.root


@contextmanager
def owning(config: Config) -> Iterator[str]:
    """The name under which this command shares in the home, as long as the context lasts. Raises Refused."""
    assert config.home is not None
    Home(config.home).prepare()
    owner = Owner(config.home)
    try:
        yield owner.name
    finally:
        owner.close()


async def note_kept(api: Api, *but: Cid) -> None:
    """Say what else this process gives to others: what the home has kept of before."""
    if isinstance(api, ControlClient):
        return
    kept = [row for row in await api.ask(ListShares()) if row.kept and row.cid not in but]
    if kept:
        note(f"also serving {count(len(kept), 'share')} of before (stack shares ls)")


async def _insist(running: Api, typed: Mapping[str, object]) -> None:
    wanted = {name: value for name, value in typed.items() if value is not None}
    if not wanted:
        return
    if differing := await running.ask(CompareSettings(**wanted)):  # type: ignore[arg-type] # as the settings they are
        info = await running.ask(GetIdentity())
        raise click.UsageError(
            f"a node of this home runs already (stack {info.role}, process {info.pid}), and cannot change"
            f" {', '.join(FLAGS[name] for name in differing)}: end it first, or leave that out"
        )


async def _running(home: Home) -> ControlClient | None:
    """The node that holds this home, or None when this process now holds it."""
    with anyio.move_on_after(WAIT_SECONDS):
        while True:
            if take(home):
                return None
            address = home.address()
            if address is not None:
                return ControlClient(address)
            await anyio.sleep(POLL_SECONDS)
    raise NodeUnreachable(
        f"another process holds {home.path} and does not answer; if it is stuck, end it and try again"
    )
