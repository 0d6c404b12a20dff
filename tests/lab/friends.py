"""Two friends over an ordinary line: B fetches A's film, and while that runs A fetches B's song.

    python -m tests.lab.friends --runs 200 --kubo

goes through rates, round trips, loss, socket buffers and transports, says of each run whether both nodes stand and at which rate the
film came, and with `--kubo` the rate of `ipfs get` over the same line. One JSON object a run goes to `--out`.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import anyio

from stack.control.client import ControlClient
from stack.control.errors import NodeUnreachable
from stack.errors import ConfigError
from stack.files.events import FetchFinished
from stack.files.ticket import decode_ticket, encode_ticket
from stack.node.api import Fetch, GetIdentity, Share, Shared
from stack.node.config import Config
from stack.node.exits import NodeError
from stack.node.home import Home
from tests.lab.mother import Mother
from tests.lab.node import preload
from tests.lab.switch import Line, Switch, address, carried, die_with_parent

PORT = 7001
FILM_SECONDS = 5.0
"""How long the film takes at the line's rate."""
FILM_MAX = 96 << 20
MIB = 1 << 20
CELL_SECONDS = 120.0
"""For one run; a cell whose line cannot carry the film in this time is told as slow, not as down."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of line."""

    rate: float
    """Bytes a second."""
    trip: float
    """Round trip in seconds."""
    loss: float
    """Part of the packets, there and back each."""
    buffer: int | None
    transport: str

    @property
    def line(self) -> Line:
        """Each of the two lines has half of the loss and a quarter of the round trip."""
        return Line(rate=self.rate, delay=self.trip / 4, loss=self.loss / 2, buffer=self.buffer)

    @property
    def film(self) -> int:
        """Bytes: what comes in some seconds, as far as the buffers let it."""
        return int(max(256 * 1024, min(FILM_MAX, carried(self.line, self.line) * FILM_SECONDS)))

    def __str__(self) -> str:
        buffer = "128 KiB" if self.buffer else "default"
        return f"{self.rate / 1e6:g} MB/s, {self.trip * 1000:g} ms, {self.loss:.0%} lost, {buffer}, {self.transport}"


CELLS = [
    Cell(*values)
    for values in itertools.product((1e6, 10e6, 100e6), (0.0, 0.05, 0.2), (0.0, 0.01), (131072, None), ("tcp", "ws"))
]


async def _api(home: Path) -> ControlClient:
    with anyio.fail_after(30):
        while True:
            try:
                if (at := Home(home).address()) is not None:
                    client = ControlClient(at)
                    await client.ask(GetIdentity())
                    return client
            except (NodeUnreachable, ConfigError):
                pass
            await anyio.sleep(0.05)


async def _share(api: ControlClient, path: Path, transport: str) -> str:
    async with api.watch(Share(paths=(path,))) as events:
        async for event in events:
            if isinstance(event, Shared):
                ticket = decode_ticket(event.ticket)
                chosen = tuple(item for item in ticket.addresses if ("/ws" in str(item)) == (transport == "ws"))
                return encode_ticket(replace(ticket, addresses=chosen))
    raise AssertionError("a share has a ticket")


async def _fetch(api: ControlClient, ticket: str, folder: Path) -> float:
    folder.mkdir()
    begun = time.monotonic()
    async with api.watch(Fetch(source=ticket, directory=folder)) as events:
        async for event in events:
            if isinstance(event, FetchFinished):
                return time.monotonic() - begun
    raise AssertionError("a fetch has an end")


async def _friends(cell: Cell, place: Path, seed: int, homes: Sequence[Path], result: dict[str, object]) -> None:
    chance = random.Random(seed)
    (place / "film").write_bytes(chance.randbytes(cell.film))
    (place / "song").write_bytes(chance.randbytes(max(65536, cell.film // 6)))
    one, other = [await _api(home) for home in homes]
    film = await _share(one, place / "film", cell.transport)
    song = await _share(other, place / "song", cell.transport)

    async def get_film() -> None:
        result["film"] = await _fetch(other, film, place / "film of A")

    async def get_song() -> None:
        await anyio.sleep(chance.uniform(0.2, 0.6) * FILM_SECONDS)
        result["song"] = await _fetch(one, song, place / "song of B")

    with anyio.move_on_after(CELL_SECONDS):
        async with anyio.create_task_group() as fetches:
            fetches.start_soon(get_film)
            fetches.start_soon(get_song)


def run_cell(cell: Cell, seed: int) -> dict[str, object]:
    """One run of two of our nodes."""
    place = Path(tempfile.mkdtemp(prefix="friends-"))
    mother = Mother()
    result: dict[str, object] = {"cell": str(cell), "seed": seed, "size": cell.film, "down": []}
    try:
        with Switch([cell.line] * 2, seed) as switch:
            pids = []
            for number, backend in enumerate(("asyncio", "trio") if seed % 2 else ("trio", "asyncio")):
                own = address(number)
                listen = (f"/ip4/{own}/tcp/{PORT}", f"/ip4/{own}/tcp/{PORT + 1}/ws")
                (place / str(number)).mkdir()
                config = Config(home=place / str(number) / "home", role="daemon", listen=listen)
                pids.append(mother.start(config, switch.names[number], backend, place / str(number) / "log"))
            try:
                anyio.run(_friends, cell, place, seed, [place / str(number) / "home" for number in range(2)], result)
            except (NodeUnreachable, NodeError, BaseExceptionGroup, TimeoutError) as error:
                result["error"] = repr(getattr(error, "exceptions", error))
            exits = mother.exits()
            until = time.monotonic() + 2
            while "error" in result and not exits and time.monotonic() < until:
                time.sleep(0.02)  # a node that goes down has said so before its process has ended
                exits = mother.exits()
            result["down"] = [f"{number}: exit {exits[pid]}" for number, pid in enumerate(pids) if pid in exits]
            for pid in pids:
                if pid not in exits:
                    os.kill(pid, signal.SIGKILL)
            for number in range(2):
                log = (place / str(number) / "log").read_text(errors="replace")
                if "Traceback" in log or "ERROR" in log:
                    result["logged"] = log[-2000:]
    finally:
        mother.close()
        shutil.rmtree(place, ignore_errors=True)
    return result


def run_kubo(cell: Cell, seed: int) -> dict[str, object]:
    """The film alone, from Kubo to Kubo over such a line; like ours it connects first."""
    from interop.kubo.daemon import Kubo

    place = Path(tempfile.mkdtemp(prefix="friends-kubo-"))
    result: dict[str, object] = {"cell": str(cell), "seed": seed, "size": cell.film, "kind": "kubo"}
    try:
        with Switch([cell.line] * 2, seed) as switch:
            settings = [{"Addresses.Swarm": [f"/ip4/{address(number)}/tcp/4001"]} for number in range(2)]
            ends = [
                Kubo(
                    place / str(number), settings=settings[number], prefix=("ip", "netns", "exec", switch.names[number])
                )
                for number in range(2)
            ]
            film = place / "film"
            film.write_bytes(random.Random(seed).randbytes(cell.film))
            with ends[0].running(), ends[1].running():
                root = ends[0].run("add", "-Q", "--cid-version=1", str(film)).decode().strip()
                begun = time.monotonic()
                ends[1].run("swarm", "connect", ends[0].address)
                ends[1].run("get", root, "-o", str(place / "got"))
                result["film"] = time.monotonic() - begun
    except Exception as error:  # noqa: BLE001 - what Kubo cannot do is a result too
        result["error"] = repr(error)[-300:]
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return result


def _rate(result: dict[str, object]) -> str:
    seconds = result.get("film")
    return f"{result['size'] / seconds / 1e6:.2f} MB/s" if isinstance(seconds, float) else "not in time"  # type: ignore[operator]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run cells in turn; 1 when a node went down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=len(CELLS))
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kubo", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    preload()
    down = slow = 0
    for seed in range(options.first, options.first + options.runs):
        cell = CELLS[(seed * 29) % len(CELLS)]
        result = _in_child(run_cell, cell, seed)
        down += bool(result.get("down"))
        slow += "film" not in result or "song" not in result
        line = f"{seed}: {cell}: {_rate(result)}"
        if options.kubo and cell.transport == "tcp":
            beside = _in_child(run_kubo, cell, seed)
            result["kubo"] = beside.get("film")
            line += f", Kubo {_rate(beside)}{' ' + str(beside['error'])[-100:] if 'error' in beside else ''}"
        for name in ("down", "error", "logged"):
            if result.get(name):
                line += f", {name}: {result[name]}"
        print(line, flush=True)
        if options.out is not None:
            with options.out.open("a") as out:
                out.write(json.dumps(result) + "\n")
    print(f"{options.runs} runs, {down} with a node down, {slow} not done in {CELL_SECONDS:g} s")
    return int(bool(down))


def _in_child(work: object, cell: Cell, seed: int) -> dict[str, object]:
    """In a process of its own, so that nothing of one run is left in the next."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        die_with_parent()
        try:
            os.write(writer, json.dumps(work(cell, seed)).encode()[:60_000])  # type: ignore[operator]
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return dict(json.loads(text)) if text else {"down": ["the runner died"]}


if __name__ == "__main__":
    sys.exit(main())
