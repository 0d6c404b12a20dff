"""`stack doctor`: what could keep this node from working, and what to do about it."""

import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

import click

from stack.cli import output
from stack.cli.answers import answers
from stack.cli.app import run_async
from stack.cli.session import open_api
from stack.cli.types import config
from stack.errors import StackError
from stack.node.api import DiscoveryFact, GetDiscovery, GetIdentity, GetReach, GetRepoStat
from stack.node.config import Config
from stack.node.exit_codes import PARTIAL
from stack.node.home import Home
from stack.node.keystore import KEY_FILE, load_or_create
from stack.node.settings import config_file
from stack.platform import interface_addresses
from stack.values import dataclass

LOW_SPACE = 1 << 30
DISCOVERY_SECONDS = 3.0
"""For neighbours to answer, for bootstrap peers to be tried, and for peers outside to try this node."""
OLDEST_CLOCK = 1_700_000_000
"""A clock before 2023 is wrong; records with dates would be refused by others."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: `ok`, `warning`, `problem`, or `unknown` for what was not looked at, and what to do."""

    check: str
    verdict: str
    detail: str


@click.command()
@click.option("--quick", is_flag=True, help="Only what needs no node.")
@answers(Finding, many=True)
def doctor(quick: bool, as_json: bool) -> int:
    """Check this machine, the home and the network, and say what to do."""
    findings = list(_machine())
    settings: Config | None = None
    try:
        settings = config("doctor")
        assert settings.home is not None
        findings += [Finding("settings", "ok", str(config_file(settings.home))), _home(settings)]
    except StackError as error:
        findings.append(Finding("settings", "problem", str(error)))
    if settings is not None and not quick:
        findings += run_async(lambda: _node(settings))
    if as_json:
        output.json_line(findings)
    for finding in findings if not as_json else ():
        output.data(f"{finding.verdict:8} {finding.check}: {finding.detail}")
    return PARTIAL if any(finding.verdict == "problem" for finding in findings) else 0


def _machine() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", "ok" if sys.version_info >= (3, 11) else "problem", version)
    try:
        yield from _network(interface_addresses())
    except OSError as error:
        yield Finding("network", "unknown", f"this computer does not tell its addresses now: {error.strerror or error}")
    verdict = "unknown" if time.time() > OLDEST_CLOCK else "problem"
    now = time.strftime("%Y-%m-%d %H:%M", time.localtime())
    yield Finding("clock", verdict, f"{now}; only a node that has peers can compare it with theirs")
    import resource

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    advice = "" if files >= 1024 else "; raise it with `ulimit -n 4096`"
    yield Finding("open files", "ok" if files >= 1024 else "warning", f"{files} allowed{advice}")


def _network(addresses: Sequence[str]) -> Iterator[Finding]:
    """Whether this computer can speak IP, and has an address by which others could reach it."""
    outside = [address for address in map(ip_address, addresses) if not (address.is_loopback or address.is_link_local)]
    for version, family, host in (4, socket.AF_INET, "127.0.0.1"), (6, socket.AF_INET6, "::1"):
        name, mine = f"IPv{version}", [str(address) for address in outside if address.version == version]
        try:
            _bind(family, host)
        except OSError as error:
            detail = f"not available ({error.strerror}): peers that have only {name} cannot be reached"
            yield Finding(name, "warning", detail)
            continue
        if mine:
            yield Finding(
                name, "ok", f"this computer has {', '.join(mine)}; whether others reach it there was not tried"
            )
        else:
            detail = (
                f"no address but those that only this computer knows: peers that have only {name} cannot be reached"
            )
            yield Finding(name, "ok" if outside else "warning", detail)
    if not outside:
        yield Finding("network", "warning", "none: only nodes on this computer can be reached. Connect it to a network")


def _bind(family: int, host: str) -> None:
    with socket.socket(family) as probe:
        probe.bind((host, 0))


def _home(settings: Config) -> Finding:
    home = settings.home
    assert home is not None
    there = next(path for path in (home, *home.parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK) or not there.is_dir():
        return Finding("home", "problem", f"{there} cannot be written; set STACK_HOME to a folder that can")
    try:
        Home(home).check_version()
        if (home / KEY_FILE).exists():
            load_or_create(home, settings.key_type)
    except (StackError, OSError) as error:
        return Finding("home", "problem", str(error))
    return Finding("home", "ok", f"{home} {'can be written' if there == home else 'is made at the first run'}")


def _of_discovery(fact: DiscoveryFact) -> Finding:
    about = f"{fact.what} {fact.subject}".strip()
    return Finding(about, {True: "ok", False: "warning", None: "unknown"}[fact.ok], fact.detail)


async def _node(settings: Config) -> list[Finding]:
    findings = []
    assert settings.home is not None
    try:
        async with open_api(settings) as api:
            info = await api.ask(GetIdentity())
            running = f"a {info.role} runs (process {info.pid})" if info.pid != os.getpid() else "none runs"
            findings.append(Finding("node", "ok", f"{info.peer_id}, {running}"))
            stat = await api.ask(GetRepoStat())
            findings.append(
                Finding(
                    "repository",
                    "ok",
                    f"opens; {stat.blocks:,} blocks, {output.size(stat.pack_bytes)} in packs (`stack repo verify` reads them)",
                )
            )
            if info.pid != os.getpid():
                reach = await api.ask(GetReach(seconds=DISCOVERY_SECONDS))
                findings.append(Finding("reach", "ok" if reach.scope != "computer" else "warning", reach.advice))
            else:
                findings.append(
                    Finding(
                        "reach", "unknown", "start `stack daemon --detach` or `stack share` to learn who can reach it"
                    )
                )
            facts = await api.ask(GetDiscovery(seconds=DISCOVERY_SECONDS))
            findings += [_of_discovery(fact) for fact in facts]
    except StackError as error:
        findings.append(Finding("node", "problem", str(error)))
    free = shutil.disk_usage(settings.home if settings.home.exists() else settings.home.anchor).free
    low = f"{output.size(free)} free" + ("" if free > LOW_SPACE else ": fetches will be refused")
    findings.append(Finding("disk", "ok" if free > LOW_SPACE else "warning", low))
    return findings
