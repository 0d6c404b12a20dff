"""How a command gets at a node: it holds the home itself, or asks the process that does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from stack.cli.home import take
from stack.cli.output import note
from stack.control.client import ControlClient, NodeUnreachable
from stack.node.api import Api
from stack.node.config import Config
from stack.node.home import Home

WAIT_SECONDS = 10.0
"""A process that has just taken the home opens its control socket within this time, or is stuck."""

POLL_SECONDS = 0.05


@asynccontextmanager
async def open_api(config: Config) -> AsyncIterator[Api]:
    """A node in this process if the home is free, else the one that runs. Raises NodeUnreachable, RepoTooNew, Refused."""
    assert config.home is not None
    home = Home(config.home)
    running = await _running(home)
    if running is not None:
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


def note_limits(api: Api, up: int | None, down: int | None) -> None:
    """Say so when limits were typed that the node does not keep, because it runs already with its own."""
    if isinstance(api, ControlClient) and (up is not None or down is not None):
        note(
            "--up and --down do nothing here: the node runs already; `stack config set upload_limit RATE` and start it again"
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
