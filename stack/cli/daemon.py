"""`stack daemon`: a node that runs until it is told to stop."""

import gc
import logging
import os
import sys
from collections.abc import AsyncIterable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import anyio
import click

from stack.cli import output, systemd
from stack.cli.answers import answers
from stack.cli.app import endings, flatten, give_up, run_async
from stack.cli.home import take
from stack.cli.log_file import log_file, logged_to
from stack.cli.types import (
    PEER,
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
)
from stack.errors import Refused
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import GetIdentity, NodeInfo
from stack.node.config import Config
from stack.node.home import Home

_log = logging.getLogger(__name__)

READY = b"1"


@click.command()
@listen_option
@external_option
@relay_via_option
@click.option("--relay", is_flag=True, help="Be a relay: peers that nobody can dial meet through this node.")
@click.option(
    "--relay-allow",
    type=PEER,
    multiple=True,
    help="A peer whose files this relay carries, whole; may be given several times. For others it carries a few KiB.",
)
@bootstrap_option
@mdns_option
@up_option
@down_option
@click.option("--perf", is_flag=True, help="Serve measurements (`stack bench perf`) to whoever asks.")
@click.option("--detach", is_flag=True, help="Return when it answers; it runs on until `stack stop`.")
@click.option("--systemd", "as_unit", is_flag=True, help="Only print a unit with which systemd runs it for this user.")
@answers(NodeInfo)
@click.pass_context
def daemon(
    context: click.Context,
    listen: tuple[Multiaddr, ...],
    external: tuple[Multiaddr, ...],
    relay_via: tuple[Multiaddr, ...],
    relay: bool,
    relay_allow: tuple[str, ...],
    bootstrap: tuple[Multiaddr, ...],
    no_mdns: bool,
    up: int | None,
    down: int | None,
    perf: bool,
    detach: bool,
    as_unit: bool,
    as_json: bool,
) -> None:
    """Run a node: serve what is shared, and do what other commands of this home ask.

    It writes a log into the home (daemon.log; STACK_LOG=debug: more).
    """
    flags = {**discovery_flags(bootstrap, no_mdns), **limit_flags(up, down), "perf": perf or None}
    flags |= {
        "relay": relay or None,
        "relay_allow": relay_allow or None,
        "relay_via": tuple(map(str, relay_via)) or None,
    }
    settings = config(
        "daemon", listen=tuple(map(str, listen)) or None, external=tuple(map(str, external)) or None, **flags
    )
    assert settings.home is not None
    if as_unit and as_json:
        raise click.UsageError("--systemd prints a unit, --json something else: one of them")
    if as_unit:
        for line in systemd.unit(typed(context)):
            output.data(line)
        unit = "~/.config/systemd/user/stack.service"
        output.note(
            f"To start it with each login: `stack daemon --systemd > {unit}`, then `systemctl --user enable --now stack`;"
        )
        output.note("`loginctl enable-linger` starts it with the computer.")
        return
    if detach:
        _detached(settings, as_json)
        return
    _serve(settings, lambda: None, as_json)


def typed(context: click.Context) -> list[str]:
    """The flags of a node as they were typed, but for those that say how it is started."""
    words: list[str] = []
    for option in context.command.params:
        value = context.params.get(option.name or "")
        if option.name in ("detach", "as_unit", "as_json") or not value:
            continue
        for each in value if isinstance(value, tuple) else (value,):
            words += [option.opts[0]] if each is True else [option.opts[0], str(each)]
    return words


def _serve(settings: Config, ready: Callable[[], object], as_json: bool) -> None:
    async def work() -> None:
        from stack.node.node import Node

        assert settings.home is not None
        home = Home(settings.home)
        if not take(home):
            raise Refused(f"a node of {home.path} runs already; `stack id` shows it")
        try:
            with logged_to(log_file(home.path)), _told_to_end() as signals:
                async with Node.open(settings, home=home) as node:
                    info = await node.ask(GetIdentity())
                    # What was made so far stays: searching it for cycles would hold everything up for 26 ms each time.
                    gc.collect()
                    gc.freeze()
                    try:
                        _introduce(info, as_json)
                    except output.OutputLost as error:  # some supervisors close stdout: it does its work without
                        output.note(f"{error}; it runs on")
                        give_up(sys.stdout)
                    _log.info("ready: process %d, %s at %s", info.pid, info.peer_id, " ".join(map(str, info.addresses)))
                    systemd.tell("READY=1")
                    ready()
                    try:
                        async for _ in signals:
                            return
                    except Exception as error:
                        _log.error("it ends: %s", flatten(error))  # nobody may read its stderr any more
                        raise
                    finally:
                        systemd.tell("STOPPING=1")
                        _log.info("stopping")
                        output.note("stopping")
        finally:
            home.release()

    # To end by Ctrl-C is what it was started for.
    with suppress(KeyboardInterrupt):
        run_async(work)


@contextmanager
def _told_to_end() -> Iterator[AsyncIterable[object]]:
    """Signals that end it. Raises Refused when the system lets nobody wait for them."""
    with ExitStack() as stack:
        try:
            signals = stack.enter_context(anyio.open_signal_receiver(*endings()))
        except RuntimeError as error:  # asyncio's, of what the system has said
            raise Refused(f"no signals can be waited for: {error}") from error
        yield signals


def _introduce(info: NodeInfo, as_json: bool) -> None:
    if as_json:
        output.json_line(info)
        return
    output.data(f"Peer ID: {info.peer_id}")
    for address in info.addresses:
        output.data(f"Listening on {address}")
    output.data("Daemon is ready")


def _detached(settings: Config, as_json: bool) -> None:
    """Run the daemon in a process of its own, and return when it answers. If it cannot start, it says why, and its exit code is ours."""
    assert settings.home is not None
    sys.stdout.flush()
    sys.stderr.flush()
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        os.close(told)
        _serve(settings, lambda: _let_go(tell), as_json)
        return
    os.close(tell)
    if os.read(told, 1) == READY:
        output.note(f"It runs on as process {child}; `stack stop` ends it. Its log: {log_file(settings.home)}")
        return
    _, status = os.waitpid(child, 0)
    raise click.exceptions.Exit(abs(os.waitstatus_to_exitcode(status)))


def _let_go(tell: int) -> None:
    """From here on the terminal may close, and whoever reads what this process prints is let go."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.close(nothing)
    os.write(tell, READY)
    os.close(tell)
