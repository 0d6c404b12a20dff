"""`stack daemon`: a node that runs until it is told to stop."""

import signal

import anyio
import click

from stack.cli import output
from stack.cli.app import run_async
from stack.cli.types import config, listen_option
from stack.errors import Refused
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import GetIdentity
from stack.node.home import Home


@click.command()
@listen_option
def daemon(listen: tuple[Multiaddr, ...]) -> None:
    """Run a node: serve what is shared, and do what other commands of this home ask."""
    settings = config("daemon", listen=tuple(str(address) for address in listen) or None)

    async def work() -> None:
        from stack.node.node import Node

        assert settings.home is not None
        home = Home(settings.home)
        if not home.acquire():
            raise Refused(f"a node of {home.path} runs already; `stack id` shows it")
        try:
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async with Node.open(settings, home=home) as node:
                    info = await node.ask(GetIdentity())
                    output.data(f"Peer ID: {info.peer_id}")
                    for address in info.addresses:
                        output.data(f"Listening on {address}")
                    output.data("Daemon is ready")
                    async for _ in signals:
                        output.note("stopping")
                        return
        finally:
            home.release()

    run_async(work)
