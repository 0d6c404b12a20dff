"""`stack daemon`: a node that runs until it is told to stop."""

import signal
from contextlib import suppress

import anyio
import click

from stack.cli import output
from stack.cli.app import run_async
from stack.cli.home import take
from stack.cli.types import (
    bootstrap_option,
    config,
    discovery_flags,
    down_option,
    external_option,
    limit_flags,
    listen_option,
    mdns_option,
    up_option,
)
from stack.errors import Refused
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import GetIdentity
from stack.node.home import Home


@click.command()
@listen_option
@external_option
@bootstrap_option
@mdns_option
@up_option
@down_option
@click.option("--perf", is_flag=True, help="Serve measurements (`stack bench perf`) to whoever asks.")
def daemon(
    listen: tuple[Multiaddr, ...],
    external: tuple[Multiaddr, ...],
    bootstrap: tuple[Multiaddr, ...],
    no_mdns: bool,
    up: int | None,
    down: int | None,
    perf: bool,
) -> None:
    """Run a node: serve what is shared, and do what other commands of this home ask."""
    flags = {**discovery_flags(bootstrap, no_mdns), **limit_flags(up, down), "perf": perf or None}
    settings = config(
        "daemon", listen=tuple(map(str, listen)) or None, external=tuple(map(str, external)) or None, **flags
    )

    async def work() -> None:
        from stack.node.node import Node

        assert settings.home is not None
        home = Home(settings.home)
        if not take(home):
            raise Refused(f"a node of {home.path} runs already; `stack id` shows it")
        try:
            with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                async with Node.open(settings, home=home) as node:
                    info = await node.ask(GetIdentity())
                    output.data(f"Peer ID: {info.peer_id}")
                    for address in info.addresses:
                        output.data(f"Listening on {address}")
                    output.data("Daemon is ready")
                    try:
                        async for _ in signals:
                            return
                    finally:
                        output.note("stopping")
        finally:
            home.release()

    # To end by Ctrl-C is what it was started for.
    with suppress(KeyboardInterrupt):
        run_async(work)
