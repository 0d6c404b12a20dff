"""`stack id`: from the key alone where no node runs, so that a script may ask often."""

import os

import click

from stack.cli import output
from stack.cli.answers import answers
from stack.cli.app import run_async
from stack.cli.home import take
from stack.cli.types import config
from stack.identity.peer_id import PeerId
from stack.node.api import GetIdentity, NodeInfo
from stack.node.config import Config
from stack.node.home import Home
from stack.node.keystore import load_or_create
from stack.protocols.identify.messages import AGENT_VERSION


@click.command("id")
@answers(NodeInfo)
def identity(as_json: bool) -> None:
    """Who this node is: peer id, addresses, protocols."""
    info = _identity(config("command"))
    if as_json:
        output.json_line(info)
        return
    output.data(info.peer_id)
    for address in info.addresses:
        output.data(f"  {address}")
    running = f"{info.role}, process {info.pid}" if info.addresses else "not listening (no daemon or share runs)"
    output.note(f"{info.agent}, home {info.home}, {running}")


def _identity(settings: Config) -> NodeInfo:
    assert settings.home is not None
    home = Home(settings.home)
    if take(home):
        try:
            key = load_or_create(home.path, settings.key_type)
        finally:
            home.release()
        return NodeInfo(
            peer_id=str(PeerId.of(key.public)),
            addresses=(),
            agent=AGENT_VERSION,
            protocols=(),
            home=str(home.path),
            role=settings.role,
            pid=os.getpid(),
        )

    from stack.cli.session import open_api  # here: only this way needs all of the stack

    async def ask() -> NodeInfo:
        async with open_api(settings) as api:
            return await api.ask(GetIdentity())

    return run_async(ask)
