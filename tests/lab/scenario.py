"""Whole nodes do random things over bad lines, and must hold: no node down, no call past its bound, every byte right, nothing left.

    python -m tests.lab.scenario 0-999 --jobs 3

runs these seeds and prints what did not hold, one line a seed. A seed decides lines, nodes, content and what is done in which order;
what the machine's own timing adds it cannot decide, so a seed that failed is run again with `--keep` to look at its logs.
"""

import argparse
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from stack.control.client import ControlClient
from stack.control.errors import NodeUnreachable
from stack.errors import ConfigError
from stack.files.events import FetchFinished
from stack.files.ticket import decode_ticket
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import (
    AddPin,
    Cat,
    CollectGarbage,
    Connect,
    Fetch,
    FindNames,
    FindProviders,
    GetIdentity,
    ListJobs,
    ListPeers,
    ListPins,
    ListShares,
    Ping,
    Publish,
    Share,
    Shared,
    Subscribe,
    VerifyRepo,
)
from stack.node.config import Config
from stack.node.exit_codes import BUG
from stack.node.exits import NodeError
from stack.node.home import Home
from tests.lab.content import fill, snapshot
from tests.lab.mother import Mother
from tests.lab.node import Report, preload, read_report
from tests.lab.switch import Line, Switch, address, carried, die_with_parent

SECONDS = 8.0
"""For which things are done."""
CALL_SECONDS = 25.0
"""The bound of a call that has 12 s for itself; a node that was stopped or killed meanwhile has its time on top, and so has what goes on
for as long as something comes (ENDLESS) the time that the worst line takes for all of it."""
ENDLESS = ("cat", "pin")
PATIENCE = 12.0
FINAL_SECONDS = 60.0
"""For the last fetch, when all is quiet again, beside what the worst line takes for it."""
QUIET_SECONDS = 30.0
"""After which nothing may be lent any more."""
PORT = 7001


@dataclass
class Computer:
    """One node, over its lives."""

    number: int
    place: Path
    config: Config
    namespace: str
    backend: str
    pid: int = 0
    lives: int = 0
    disturbed: float = 0.0
    """When it was last killed or stopped, or came back."""
    base: Report | None = None

    @property
    def log(self) -> Path:
        return self.place / "log"

    @property
    def home(self) -> Path:
        assert self.config.home is not None
        return self.config.home

    def api(self) -> ControlClient:
        """Its control socket. Raises NodeUnreachable where there is none."""
        try:
            at = Home(self.home).address()
        except ConfigError as error:
            raise NodeUnreachable(str(error)) from error
        if at is None:
            raise NodeUnreachable("no control socket")
        return ControlClient(at)


@dataclass
class Offer:
    """Something that was shared."""

    owner: int
    ticket: str
    root: str
    files: dict[str, str]
    name: str
    places: list[Path]
    """Where it lies, with everybody who has fetched it."""


@dataclass
class Run:
    """One seed."""

    seed: int
    place: Path
    mother: Mother
    faults: list[str] = field(default_factory=list)
    offers: list[Offer] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=dict)
    serial: int = 0
    exits: dict[int, int] = field(default_factory=dict)
    """How processes ended; one that was killed on purpose is no longer any computer's."""

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        chance = self.chance
        count = chance.randint(2, 6)
        self.lines = [
            Line(
                rate=chance.choice((400e3, 1e6, 1e6, 5e6, 20e6)),
                delay=chance.choice((0.0, 0.01, 0.05, 0.1)),
                loss=chance.choice((0.0, 0.0, 0.005, 0.01)),
                buffer=chance.choice((131072, 131072, None)),
            )
            for _ in range(count)
        ]
        self.size = chance.choice((200_000, 1 << 20, 3 << 20))
        self.slow = self.size / min(carried(one, other) for one, other in itertools.combinations(self.lines, 2))
        """Seconds that the largest content takes over the worst of these lines."""

    async def go(self, switch: Switch) -> None:
        """From the first start to the last look."""
        self.computers = [
            Computer(
                number, self.place / f"n{number}", self._config(number), name, self.chance.choice(("asyncio", "trio"))
            )
            for number, name in enumerate(switch.names)
        ]
        for computer in self.computers:
            computer.place.mkdir()
            self._start(computer)
        await self._all_up()
        await anyio.sleep(0.5)
        for computer in self.computers:
            computer.base = await self._report(computer)
        until = anyio.current_time() + SECONDS
        async with anyio.create_task_group() as actors:
            for _ in range(self.chance.randint(2, 5)):
                actors.start_soon(self._act, random.Random(self.chance.random()), until)
            actors.start_soon(self._disturb, random.Random(self.chance.random()), until)
        await self._all_up()
        self._look_for_dead()
        await self._last_fetch()
        await self._look_for_rest()
        await self._end()

    def _config(self, number: int) -> Config:
        own = address(number)
        first = () if number == 0 else (f"/ip4/{address(0)}/tcp/{PORT}",)
        return Config(
            home=self.place / f"n{number}" / "home",
            role="daemon",
            listen=(f"/ip4/{own}/tcp/{PORT}", f"/ip4/{own}/tcp/{PORT + 1}/ws"),
            mdns=self.chance.random() < 0.3,
            remember_peers=True,
            bootstrap=first if self.chance.random() < 0.8 else (),
        )

    # --- lives

    def _start(self, computer: Computer) -> None:
        computer.pid = self.mother.start(computer.config, computer.namespace, computer.backend, computer.log)
        computer.lives += 1
        computer.disturbed = time.monotonic()

    async def _all_up(self) -> None:
        for computer in self.computers:
            if not await self._up(computer):
                self.faults.append(f"node {computer.number} did not come up")

    async def _up(self, computer: Computer) -> bool:
        with anyio.move_on_after(30):
            while True:
                try:
                    await computer.api().ask(GetIdentity())
                    return True
                except (NodeUnreachable, NodeError):
                    await anyio.sleep(0.05)
        return False

    def _look_for_dead(self) -> None:
        self.exits |= self.mother.exits()
        for computer in self.computers:
            if computer.pid in self.exits:
                self.faults.append(f"node {computer.number} ({computer.backend}) down, exit {self.exits[computer.pid]}")

    async def _report(self, computer: Computer) -> Report | None:
        computer.log.with_suffix(".report").unlink(missing_ok=True)
        try:
            os.kill(computer.pid, signal.SIGUSR1)
        except ProcessLookupError:
            return None
        with anyio.move_on_after(10):
            while (report := read_report(computer.log)) is None:
                await anyio.sleep(0.02)
            return report
        self.faults.append(f"node {computer.number} ({computer.backend}): its event loop stands still")
        return None

    # --- what is done

    async def _act(self, chance: random.Random, until: float) -> None:
        actions: Sequence[tuple[int, Callable[[random.Random], Awaitable[None]]]] = (
            (4, self._share), (8, self._get), (4, self._cat), (2, self._gc), (2, self._pin), (2, self._find),
            (2, self._talk), (2, self._connect), (1, self._verify), (1, self._lists), (1, self._ping),
        )  # fmt: skip
        while anyio.current_time() < until:
            action = chance.choices([act for _, act in actions], [weight for weight, _ in actions])[0]
            await self._bounded(action, chance)

    async def _bounded(self, action: Callable[[random.Random], Awaitable[None]], chance: random.Random) -> None:
        name = action.__name__.strip("_")
        begun = time.monotonic()
        cancel = chance.random() < 0.15
        bound = CALL_SECONDS + (self.slow if name in ENDLESS else 0.0)
        try:
            with anyio.move_on_after(chance.uniform(0.01, 2.0) if cancel else bound) as scope:
                await action(chance)
            if scope.cancelled_caught and not cancel:
                if begun <= max(computer.disturbed for computer in self.computers):
                    return
                self.faults.append(f"{name} took more than {bound:.0f} s")
            what = name + (" cancelled" if scope.cancelled_caught else "")
        except NodeUnreachable as error:
            # Only when a node was killed or stood still meanwhile; who is dead for good is found at the end.
            if all(computer.disturbed < begun - 15 for computer in self.computers):
                self.faults.append(f"{name}: {error}")
            what = f"{name} unreachable"
        except NodeError as error:
            if error.exit_code == BUG:
                self.faults.append(f"{name}: {error.kind}: {error}")
            what = f"{name} {error.kind}"
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
            what = f"{name} broken"
        self.done[what] = self.done.get(what, 0) + 1

    def _any(self, chance: random.Random) -> Computer:
        return chance.choice(self.computers)

    def _new(self, stem: str) -> Path:
        self.serial += 1
        return self.place / f"{stem}{self.serial}"

    async def _share(self, chance: random.Random) -> None:
        computer = self._any(chance)
        place = self._new("content ")
        await anyio.to_thread.run_sync(fill, place, chance, self.size)
        public = f"thing {self.serial}" if chance.random() < 0.3 else None
        request = Share(paths=(place,), announce=chance.random() < 0.3, public_name=public, hidden=True)
        async with computer.api().watch(request) as events:
            async for event in events:
                if isinstance(event, Shared):
                    self.offers.append(
                        Offer(computer.number, event.ticket, str(event.cid), snapshot(place), event.name, [place])
                    )

    async def _get(self, chance: random.Random) -> None:
        if self.offers:
            offer = chance.choice(self.offers)
            await self._fetch(self._any(chance), offer, PATIENCE, serve=chance.random() < 0.8)

    async def _fetch(self, computer: Computer, offer: Offer, seconds: float, *, serve: bool) -> None:
        folder = self._new("got ")
        folder.mkdir()
        offer.places.append(folder)
        request = Fetch(source=offer.ticket, directory=folder, timeout=seconds, deadline=seconds, serve=serve)
        target: Path | None = None
        async with computer.api().watch(request) as events:
            async for event in events:
                if isinstance(event, FetchFinished):
                    target = event.target
        if target is None:
            self.faults.append("a fetch ended without an end")
        elif snapshot(target) != offer.files:
            self.faults.append(f"{target}: wrong bytes")

    async def _cat(self, chance: random.Random) -> None:
        offers = [offer for offer in self.offers if list(offer.files) == [""]]
        if not offers:
            return
        offer = chance.choice(offers)
        computer = self._any(chance)
        hashed = hashlib.sha256()
        ticket = decode_ticket(offer.ticket)
        addresses = tuple(item.with_peer(str(ticket.peer)) for item in ticket.addresses)
        providers = addresses if chance.random() < 0.7 else ()
        async with computer.api().read(Cat(source=offer.root, timeout=PATIENCE, providers=providers)) as pieces:
            async for piece in pieces:
                hashed.update(piece)
        if hashed.hexdigest() != offer.files[""]:
            self.faults.append(f"cat {offer.root}: wrong bytes")

    async def _gc(self, chance: random.Random) -> None:
        await self._any(chance).api().ask(CollectGarbage())

    async def _pin(self, chance: random.Random) -> None:
        if self.offers:
            await self._any(chance).api().ask(AddPin(cid=Cid.parse(chance.choice(self.offers).root), timeout=5.0))

    async def _find(self, chance: random.Random) -> None:
        computer = self._any(chance)
        request: FindNames | FindProviders = FindNames(words="thing", timeout=3.0)
        if self.offers and chance.random() < 0.5:
            request = FindProviders(cid=Cid.parse(chance.choice(self.offers).root), timeout=3.0)
        async with computer.api().watch(request) as found:
            async for _ in found:
                pass

    async def _talk(self, chance: random.Random) -> None:
        topic = chance.choice(("tea", "coffee"))
        if chance.random() < 0.5:

            async def words() -> object:
                for _ in range(chance.randint(1, 20)):
                    yield chance.randbytes(chance.choice((10, 1000, 60_000)))

            await self._any(chance).api().write(Publish(topic=topic), words())  # type: ignore[arg-type]
            return
        with anyio.move_on_after(chance.uniform(0.5, 3)):
            async with self._any(chance).api().watch(Subscribe(topic=topic)) as messages:
                async for _ in messages:
                    pass

    async def _connect(self, chance: random.Random) -> None:
        one, other = chance.sample(self.computers, 2)
        port = PORT if chance.random() < 0.6 else PORT + 1
        tail = "" if port == PORT else "/ws"
        await one.api().ask(Connect(address=Multiaddr.parse(f"/ip4/{address(other.number)}/tcp/{port}{tail}")))

    async def _ping(self, chance: random.Random) -> None:
        one, other = chance.sample(self.computers, 2)
        async with one.api().watch(Ping(target=f"/ip4/{address(other.number)}/tcp/{PORT}", count=2)) as replies:
            async for _ in replies:
                pass

    async def _lists(self, chance: random.Random) -> None:
        api = self._any(chance).api()
        for request in (ListShares(), ListPeers(), ListJobs(), ListPins()):
            await api.ask(request)  # type: ignore[arg-type]

    async def _verify(self, chance: random.Random) -> None:
        await self._check(self._any(chance))

    async def _check(self, computer: Computer) -> None:
        async with computer.api().watch(VerifyRepo()) as events:
            async for event in events:
                if event.problem is not None:
                    self.verified(computer, event.problem)

    async def _disturb(self, chance: random.Random, until: float) -> None:
        """kill -9 and SIGSTOP, of at most one node at a time, and not in every run."""
        if chance.random() < 0.3:
            return
        while anyio.current_time() < until:
            await anyio.sleep(chance.uniform(0.5, 3))
            computer = self._any(chance)
            try:
                if chance.random() < 0.5:
                    await self._kill(computer, chance.uniform(0, 1))
                else:
                    computer.disturbed = time.monotonic()
                    os.kill(computer.pid, signal.SIGSTOP)
                    try:
                        await anyio.sleep(chance.uniform(0.2, 4))
                    finally:
                        os.kill(computer.pid, signal.SIGCONT)
                computer.disturbed = time.monotonic()
            except ProcessLookupError:
                return  # it is down by itself, which is found at the end

    async def _kill(self, computer: Computer, pause: float) -> None:
        """kill -9, and a start some seconds later."""
        killed = computer.pid
        computer.disturbed = time.monotonic()
        os.kill(killed, signal.SIGKILL)
        await anyio.sleep(pause)
        with anyio.move_on_after(30):
            while killed not in self.exits:  # a disk that is busy keeps it, and the lock of its home
                self.exits |= self.mother.exits()
                await anyio.sleep(0.02)
        self._start(computer)
        await self._up(computer)

    # --- the last look

    async def _last_fetch(self) -> None:
        for number in range(2):
            if len(self.offers) <= number:
                break
            offer = self.offers[-1 - number]
            computer = self.chance.choice([other for other in self.computers if other.number != offer.owner])
            try:
                await self._fetch(computer, offer, FINAL_SECONDS + self.slow, serve=True)
            except (NodeUnreachable, NodeError) as error:
                self.faults.append(
                    f"last fetch by node {computer.number} of {offer.name!r} of node {offer.owner}: {type(error).__name__} {error}"
                )

    def verified(self, computer: Computer, problem: str) -> None:
        """`repo verify` has found something wrong."""
        self.faults.append(f"node {computer.number}: verify: {problem}")

    async def _look_for_rest(self) -> None:
        for computer in self.computers:
            try:
                await self._check(computer)
            except (NodeUnreachable, NodeError) as error:
                self.faults.append(f"verify of node {computer.number}: {error}")
            rest: list[str] = ["no report"]
            with anyio.move_on_after(QUIET_SECONDS):
                while rest and (report := await self._report(computer)) is not None:
                    rest = self._rest(computer, report)
                    await anyio.sleep(0.25)
            if rest:
                self.faults.append(f"node {computer.number} ({computer.backend}) still has {', '.join(rest)}")

    def _rest(self, computer: Computer, report: Report) -> list[str]:
        rest = []
        if report.received:
            rest.append(f"{report.received} bytes of receive buffers")
        if report.sessions:
            rest.append(f"{report.sessions} sessions")
        base = computer.base
        if base is not None and report.tasks > base.tasks + 25 * max(1, report.connections):
            rest.append(f"{report.tasks} tasks, {base.tasks} at the start, {report.connections} connections")
        if base is not None and report.descriptors > base.descriptors + 12 + 3 * report.connections:
            rest.append(f"{report.descriptors} descriptors, {base.descriptors} at the start")
        return rest

    async def _end(self) -> None:
        for computer in self.computers:
            try:
                os.kill(computer.pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
        left = {computer.pid: computer for computer in self.computers}
        with anyio.move_on_after(20):
            while left:
                self.exits |= self.mother.exits()
                for pid in [pid for pid in left if pid in self.exits]:
                    ended = left.pop(pid)
                    if self.exits[pid]:
                        self.faults.append(f"node {ended.number} ended with {self.exits[pid]}")
                await anyio.sleep(0.05)
        for computer in left.values():
            self.faults.append(f"node {computer.number} ({computer.backend}) does not end")
        for computer in self.computers:
            for line in computer.log.read_text(errors="replace").splitlines():
                if line.startswith(("Traceback", "ERROR", "CRITICAL")):
                    self.faults.append(f"node {computer.number} logged: {line}")
                    break


def run_seed(seed: int, keep: Path | None) -> tuple[list[str], dict[str, int]]:
    """Run one seed in this process; what did not hold, and how often what was done with which end."""
    place = Path(tempfile.mkdtemp(prefix=f"lab-{seed}-"))
    mother = Mother()
    run = Run(seed, place, mother)
    try:
        with Switch(run.lines, seed) as switch:
            try:
                anyio.run(run.go, switch)
            except BaseException:  # noqa: BLE001 - a fault of the runner itself is a fault of the seed
                run.faults.append("the runner: " + traceback.format_exc())
            for computer in getattr(run, "computers", ()):
                if computer.pid:
                    try:
                        os.kill(computer.pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
    finally:
        mother.close()
        if keep is not None and run.faults:
            shutil.copytree(
                place, keep / str(seed), dirs_exist_ok=True, ignore=shutil.ignore_patterns("content*", "got*", "*.sock")
            )
        shutil.rmtree(place, ignore_errors=True)
    return run.faults, run.done


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the seeds; 1 when one did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", help="`7`, `0-999` or `3,9`")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="keep logs and homes of seeds that fail there")
    options = parser.parse_args(arguments)
    seeds = [
        seed
        for part in options.seeds.split(",")
        for first, _, last in [part.partition("-")]
        for seed in range(int(first), int(last or first) + 1)
    ]
    preload()
    waiting, running, bad = list(reversed(seeds)), {}, 0
    total: dict[str, int] = {}
    begun = time.monotonic()
    while waiting or running:
        while waiting and len(running) < options.jobs:
            seed = waiting.pop()
            reader, writer = os.pipe()
            pid = os.fork()
            if not pid:
                os.close(reader)
                die_with_parent()
                try:
                    faults, done = run_seed(seed, options.keep)
                    os.write(writer, json.dumps([[fault[:2000] for fault in faults[:20]], done]).encode())
                finally:
                    os._exit(0)
            os.close(writer)
            running[pid] = seed, reader
        pid, _ = os.wait()
        seed, reader = running.pop(pid)
        with os.fdopen(reader) as pipe:
            text = pipe.read()
        faults, done = json.loads(text) if text else (["the runner died"], {})
        for what, count in done.items():
            total[what] = total.get(what, 0) + count
        bad += bool(faults)
        print(f"seed {seed}: {'; '.join(faults) if faults else 'held'}", flush=True)
    print(
        json.dumps(
            {"seeds": len(seeds), "did not hold": bad, "seconds": round(time.monotonic() - begun), "done": total}
        )
    )
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
