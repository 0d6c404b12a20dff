"""How a command gets at a node: it holds the home itself, or asks the process that does."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import anyio
import click

from stack.cli.app import flatten
from stack.cli.home import prepare, take
from stack.cli.output import count, note
from stack.control.errors import NodeGone, NodeUnreachable
from stack.errors import ConfigError, StackError
from stack.multiformats.cid import Cid
from stack.node.api import Api, CompareSettings, GetIdentity, ListShares
from stack.node.config import Config
from stack.node.home import Home
from stack.node.owners import Owner
from stack.streams.supervision import supervised

if TYPE_CHECKING:
    from stack.control.client import ControlClient
    from stack.node.node import Node

T = TypeVar("T")

WAIT_SECONDS = 20.0
"""A process that has just taken the home opens its control socket within this time, and one that ends lets go of it, or is stuck."""

QUIET_SECONDS = 1.0
"""Nothing is said of what takes no longer."""

PATIENCE_SECONDS = 1.0
"""For short requests of others at the end, before something is said of them."""

POLL_SECONDS = 0.05

FLAGS = {
    "listen": "--listen",
    "external": "--external",
    "relay_via": "--relay-via",
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
    async with _running(home) as running:
        if running is not None:
            await _insist(running, typed or {})
            yield running
            return
    try:
        from stack.node.node import Node  # here: a command that talks to a daemon need not load the whole stack

        async with Node.open(config, home=home) as node:
            try:
                yield node
            except Exception as error:
                await _hand_over(node, home, f"this has failed ({flatten(error)})")
                raise
            await _hand_over(node, home, "done")
    finally:
        home.release()


@asynccontextmanager
async def reading(
    config: Config, source: str, typed: Mapping[str, object] | None = None, *, quiet: bool = False
) -> AsyncIterator[Api]:
    """`open_api`, and as `explained`."""
    async with open_api(config, typed) as api, explained(api, config, source, quiet=quiet):
        yield api


def explained(api: Api, config: Config, source: str, *, quiet: bool = False) -> AbstractAsyncContextManager[None]:
    """While something is read below `source` and does not come, it is said why, but where it is to be `quiet`."""
    return _after_a_while(partial(_explain, api, config, source), quiet=quiet)


def waiting(what: str, *, quiet: bool = False) -> AbstractAsyncContextManager[None]:
    """When it takes longer than a moment `what` is said, but where it is to be `quiet`."""
    return _after_a_while(partial(_say, f"{what} (Ctrl-C ends it)"), quiet=quiet)


@asynccontextmanager
async def _after_a_while(say: Callable[[], Awaitable[object]], *, quiet: bool) -> AsyncIterator[None]:
    async def wait() -> None:
        await anyio.sleep(QUIET_SECONDS)
        with suppress(StackError):  # a daemon has gone, or is too old: the command tells what comes of that
            await say()

    async with supervised() as tasks:
        if not quiet:
            tasks.start(wait, owner="what is waited for")
        yield


async def _explain(api: Api, config: Config, source: str) -> None:
    from stack.cli.fetching import explain  # here: most are over by now, and it takes 40 ms to load

    await explain(api, config, source)


async def _say(line: str) -> None:
    note(line)


def running_node(config: Config) -> "ControlClient | None":
    """The node that holds this home now, without taking the home; None where nobody says that he does. Whoever was killed may have
    said so too: then a request raises NodeUnreachable."""
    assert config.home is not None
    home = Home(config.home)
    line = f"the node that holds {home.path} does not answer yet"
    with suppress(ConfigError):
        return _client(home, partial(waiting, line, quiet=_is_for_programs()))
    return None


async def with_api(config: Config, typed: Mapping[str, object], work: Callable[[Api], Awaitable[T]]) -> T:
    """What `work` returns of the node of `open_api`. When that was another process and has ended meanwhile, `work` is begun again with
    the next one, or with a node of this process. Raises as `open_api`, and NodeUnreachable where it has not ended and answers nothing."""
    since: float | None = None
    while True:
        begun = anyio.current_time()
        try:
            async with open_api(config, typed) as api:
                return await work(api)
        except NodeGone as error:
            now = anyio.current_time()
            if since is None or now - begun > QUIET_SECONDS:  # the node had been of use
                note("The command that held this home has ended; going on.")
                since = now
            elif now > since + WAIT_SECONDS:
                raise NodeUnreachable(
                    f"another process holds {config.home}, and breaks off whatever it is asked; if it is stuck, end it"
                    " and try again"
                ) from error
            await anyio.sleep(POLL_SECONDS)


async def _hand_over(node: "Node", home: Home, outcome: str) -> None:
    """Let other commands of this home go: those that last begin again, short ones are waited for. Of this one it is said how it ended."""
    node.sharing.handing_over = True
    home.withdraw_address()
    control = node.control
    if control is None:
        return
    control.hand_over()
    with anyio.move_on_after(PATIENCE_SECONDS):
        await control.drain()
    if control.active:
        note(f"{outcome}; waiting for another command of this home that it serves (Ctrl-C ends that)")
    await control.drain()


@contextmanager
def owning(config: Config) -> Iterator[str]:
    """The name under which this command shares in the home, as long as the context lasts. Raises Refused."""
    assert config.home is not None
    prepare(Home(config.home))
    owner = Owner(config.home)
    try:
        yield owner.name
    finally:
        owner.close()


async def note_kept(api: Api, *but: Cid) -> None:
    """Say what else this process gives to others: what the home has kept of before."""
    if api.is_elsewhere:
        return
    kept = [row for row in await api.ask(ListShares()) if row.kept and row.paths and row.cid not in but]
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


def _client(
    home: Home, while_silent: Callable[[], AbstractAsyncContextManager[object]] = nullcontext
) -> "ControlClient | None":
    """The node that says that it holds this home, if one does. Raises ConfigError."""
    if (address := home.address()) is None:
        return None
    from stack.control.client import ControlClient  # here: most homes are free

    return ControlClient(address, while_silent)


def _is_for_programs() -> bool:
    """Whether the command prints JSON."""
    context = click.get_current_context(silent=True)
    return context is not None and any(context.params.get(name) for name in ("as_json", "as_lines"))


@asynccontextmanager
async def _running(home: Home) -> AsyncIterator["ControlClient | None"]:
    """The node that holds this home, which stays for as long as the context lasts, or None when this process now holds it."""
    async with AsyncExitStack() as stays:
        yield await _find(home, stays)


async def _find(home: Home, stays: AsyncExitStack) -> "ControlClient | None":
    async with waiting(f"another process holds {home.path}, and does not answer yet", quiet=_is_for_programs()):
        with anyio.move_on_after(WAIT_SECONDS):
            while not take(home):
                if (client := _client(home)) is not None:
                    with suppress(NodeGone):  # it has ended since it said where it is: who holds the home now?
                        await stays.enter_async_context(client.staying())
                        return client
                await anyio.sleep(POLL_SECONDS)
            return None
    raise NodeUnreachable(
        f"another process holds {home.path} and does not answer: it may wait for a third, which it serves;"
        " if it is stuck, end it and try again"
    )
