"""What honest people notice of a node that is under attack: `python -m tests.lab.attacks [NAME ...]`; needs root.

The victim is `stack daemon` with 1,024 descriptors and all services, in a network namespace in which everybody has an address of
his own; attackers (`tests.lab.attackers`), honest people and what they fetch from are other processes. Fetches with and without
the attack take turns. Attackers would have machines of their own: here they give way (`nice`) to the others on this one.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from random import Random

import anyio
import anyio.to_thread

from stack.control.client import ControlClient
from stack.identity.keys import generate
from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host
from stack.node.api import Fetch, GetIdentity, Publish, Share, Shared, Subscribe
from stack.node.config import Config
from stack.node.exits import NodeError
from stack.node.home import Home
from stack.node.node import Node
from stack.protocols.ping import ping
from tests.acceptance.kit import Machine, Running
from tests.lab.attackers import ATTACKS, MIB, TOPIC, From
from tests.lab.switch import Line, Switch, enter

VICTIM, PROVIDER, STANDING, NEWCOMERS = "10.88.0.1", "10.88.1.1", "10.88.2.1", "10.88.3."
DESCRIPTORS = 1024
SOON = 1.0
"""Seconds: for a dial, 99 of 100 times, and for each ping of who is connected already."""
RATIO_MAX = 2.0
PATIENCE = 120.0
SETTLE = 3.0
"""Seconds until an attack is in full swing, or over."""
FETCHER = frozenset({"liars", "copies", "drips"})
"""Attacks on who fetches; the others are on who serves."""


@dataclass
class Seen:
    """Of one attack."""

    name: str
    limit: int
    dials: list[float] = field(default_factory=list)
    pings: list[float] = field(default_factory=list)
    calm: list[float] = field(default_factory=list)
    """Pings before, between and after."""
    without: list[float] = field(default_factory=list)
    under: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Of a core, which the attack alone costs the victim."""
    memory: int = 0
    fault: str = ""

    @property
    def ratio(self) -> float:
        """How much longer a fetch takes."""
        return statistics.median(self.under) / statistics.median(self.without)

    @property
    def quick(self) -> int:
        """Dials under a second, of a hundred."""
        return round(100 * sum(seconds < SOON for seconds in self.dials) / len(self.dials))

    @property
    def holds(self) -> bool:
        """Everything that is promised."""
        return (
            not self.fault
            and self.quick >= 99
            and max(self.pings) < SOON
            and self.ratio <= RATIO_MAX
            and self.memory <= self.limit + 64 * MIB
        )

    def row(self) -> str:
        """Of the table in docs/security.md."""
        what = (ATTACKS[self.name].__doc__ or "").strip().removesuffix(".")
        if not self.under:
            return f"| {what} | {self.fault} |"
        return (
            f"| {what} | {self.quick} of 100, at most {max(self.dials):.2f} s | {max(self.pings):.2f} s, {max(self.calm):.2f} s | "
            f"{statistics.median(self.under):.1f} s, {statistics.median(self.without):.1f} s: {self.ratio:.2f} | "
            f"{100 * max(self.cpu, default=0.0):.0f} % | {self.memory / MIB:.0f} MiB | {'yes' if self.holds else 'NO ' + self.fault} |"
        )


HEAD = """\
| attack | dials under a second, the slowest | longest ping, and without | 64 MiB fetched, and without | core | memory | holds |
|---|---|---|---|---|---|---|"""


def api(machine: Machine) -> ControlClient:
    """Its daemon."""
    at = Home(machine.home).address()
    assert at is not None
    return ControlClient(at)


async def share(machine: Machine, file: Path) -> str:
    """The root of what is shared now."""
    async with api(machine).watch(Share(paths=(file,), open=True)) as events:
        async for event in events:
            if isinstance(event, Shared):
                return str(event.cid)
    raise AssertionError("nothing was shared")


async def address(machine: Machine) -> Multiaddr:
    """Where it listens, with its peer id."""
    identity = await api(machine).ask(GetIdentity())
    return next(each for each in identity.addresses if "ws" not in each.protocols)


def fill(file: Path, chance: Random, mib: int) -> None:
    """A film whose end is its beginning."""
    pieces = [chance.randbytes(MIB) for _ in range(mib - 1)]
    file.write_bytes(b"".join([*pieces, pieces[0]]))


class Measuring:
    """One attack on a fresh victim."""

    def __init__(self, name: str, place: Path, backend: str, options: argparse.Namespace) -> None:
        self.seen = Seen(name, Config().memory_limit)
        self._place, self._options = place, options
        self._machines = [
            Machine(
                place / who,
                listen=f"/ip4/{at}/tcp/4001",
                prefix=("prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"),
                settings={"STACK_MDNS": "1" if at == VICTIM else "0", "STACK_BACKEND": backend},
            )
            for who, at in (("victim", VICTIM), ("provider", PROVIDER))
        ]
        self._victim, self._provider = self._machines
        self._chance = Random(name)
        self._attacked = False
        self._files = 0

    def run(self) -> Seen:
        """All of it."""
        with self._victim.daemon() as victim, self._provider.daemon():
            self._process = victim
            try:
                anyio.run(self._measure)
            except BaseException as error:
                if not isinstance(error, Exception | BaseExceptionGroup):
                    raise
                self.seen.fault = f"{error!r}: {victim.err[-500:]}"
            if not victim.running:
                self.seen.fault = f"the node went down: {victim.err[-500:]}"
            elif "Traceback" in victim.err:
                self.seen.fault = f"a traceback: {victim.err[-500:]}"
        return self.seen

    async def _measure(self) -> None:
        self._at = await address(self._victim)
        self._from = await address(self._provider)
        fetches = self.seen.name in FETCHER
        served = await self._new_file()
        root = await share(self._victim, served)
        async with (
            Host(generate("ed25519"), transports=[From(STANDING)]) as standing,
            anyio.create_task_group() as tasks,
        ):
            peer = await standing.connect(None, [self._at])

            async def stand() -> None:
                while True:
                    began = time.monotonic()
                    with suppress(Exception), anyio.move_on_after(10):
                        await ping(standing, peer)
                    (self.seen.pings if self._attacked else self.seen.calm).append(time.monotonic() - began)
                    await anyio.sleep(0.1)

            tasks.start_soon(stand)
            tasks.start_soon(self._use)
            for turn in range(self._options.pairs):
                if fetches:
                    self.seen.without.append(await self._fetch(await self._new_file(), []))
                    if turn == 0:
                        file = await self._new_file()
                        async with self._attack(file) as named, anyio.create_task_group() as aside:
                            aside.start_soon(self._fetch, file, named)
                            await self._cost()
                            await self._dial()
                            aside.cancel_scope.cancel()
                    file = await self._new_file()
                    async with self._attack(file) as named:
                        self.seen.under.append(await self._fetch(file, named))
                else:
                    self.seen.without.append(await self._fetched(root))
                    async with self._attack(served):
                        await self._cost()
                        if turn == 0:
                            await self._dial()
                        self.seen.under.append(await self._fetched(root))
                await anyio.sleep(SETTLE)
            tasks.cancel_scope.cancel()

    async def _new_file(self) -> Path:
        self._files += 1
        file = self._place / f"file {self._files}"
        await anyio.to_thread.run_sync(fill, file, self._chance, self._options.mib)
        return file

    async def _use(self) -> None:
        """What the victim's user does meanwhile."""

        async def listen() -> None:
            async with api(self._victim).watch(Subscribe(topic=TOPIC)) as messages:
                async for _ in messages:
                    pass

        async def words() -> AsyncIterator[bytes]:
            yield bytes(20_000)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            while True:
                with suppress(NodeError):  # there is no room for it at this moment: its user is told
                    await api(self._victim).write(Publish(topic=TOPIC), words())
                await anyio.sleep(0.2)

    @asynccontextmanager
    async def _attack(self, file: Path) -> AsyncIterator[list[Multiaddr]]:
        """While it lasts; who is to be named as a provider."""
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")  # the peak of memory begins anew
        command = ["nice", sys.executable, "-m", "tests.lab.attackers", self.seen.name, str(self._at), str(file)]
        with running(command) as attackers:
            line = await anyio.to_thread.run_sync(attackers.next_line, PATIENCE)
            self._attacked = True
            yield [Multiaddr.parse(each) for each in json.loads(line)]
            self._attacked = False
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        self.seen.memory = max(self.seen.memory, int(status.split("VmHWM:")[1].split()[0]) * 1024)

    async def _cost(self) -> None:
        """Let it come into full swing, and see what it costs."""

        def used() -> float:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        began, before = time.monotonic(), used()
        await anyio.sleep(SETTLE)
        self.seen.cpu.append((used() - before) / (time.monotonic() - began))

    async def _dial(self) -> None:
        for number in range(self._options.dials):
            began = time.monotonic()
            async with Host(generate("ed25519"), transports=[From(f"{NEWCOMERS}{number + 1}")]) as host:
                try:
                    await host.connect(None, [self._at])
                    self.seen.dials.append(time.monotonic() - began)
                except Exception:  # noqa: BLE001 - however it failed
                    self.seen.dials.append(inf)

    async def _fetched(self, root: str) -> float:
        """Seconds that somebody needs who fetches from the victim."""
        command = [sys.executable, "-m", "tests.lab.attacks", "--fetch", root, str(self._at)]
        with running(command) as fetcher:
            return float(await anyio.to_thread.run_sync(fetcher.next_line, PATIENCE + 10))

    async def _fetch(self, file: Path, named: Sequence[Multiaddr]) -> float:
        """Seconds that the victim needs to fetch from the provider, when others are named first."""
        root = await share(self._provider, file)
        began = time.monotonic()
        request = Fetch(source=root, directory=self._victim.folder, providers=(*named, self._from), serve=False)
        with anyio.move_on_after(PATIENCE):
            async with api(self._victim).watch(request) as events:
                async for _ in events:
                    pass
            return time.monotonic() - began
        return inf


@contextmanager
def running(command: Sequence[str]) -> Iterator[Running]:
    """A process of ours that is ended with the context."""
    with Running(command, cwd=Path.cwd(), environment=dict(os.environ)) as process:
        yield process


async def fetch(root: str, provider: Multiaddr) -> None:
    """Prints how many seconds it took."""
    with tempfile.TemporaryDirectory() as folder:
        async with Node.open(Config(mdns=False, listen=())) as node:
            began = time.monotonic()
            with anyio.move_on_after(PATIENCE) as patience:
                await node.get(root, Path(folder) / "got", providers=[provider])
            print(inf if patience.cancelled_caught else time.monotonic() - began, flush=True)


def main() -> int:
    """Measure; 1 when something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=", ".join(ATTACKS))
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--dials", type=int, default=100)
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--backends", nargs="+", default=["asyncio", "trio"])
    parser.add_argument("--fetch", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fetch:
        anyio.run(fetch, options.fetch[0], Multiaddr.parse(options.fetch[1]))
        return 0
    bad = 0
    with Switch([Line(rate=1e9)]) as switch:
        name = switch.names[0]
        switch.inside(name, "ip", "route", "add", "local", "10.88.0.0/16", "dev", "lo")
        enter(name)
        print(HEAD, flush=True)
        for attack in options.names or ATTACKS:
            for backend in options.backends:
                with tempfile.TemporaryDirectory(prefix="attack-") as place:
                    seen = Measuring(attack, Path(place), backend, options).run()
                bad += not seen.holds
                print(seen.row(), flush=True)
    print(f"\nload of the machine: {os.getloadavg()[2]:.1f} on {os.cpu_count()} cores")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
