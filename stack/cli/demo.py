"""`stack demo`: the whole idea on one computer, in real processes over real sockets.

One peer shares and announces it; several fetch at once, knowing the CID and the address of a node that shares nothing; they give
each other what they have; as soon as the receivers together hold everything the sharer is killed; all finish, and the hashes match.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread
import click
from anyio.streams.text import TextReceiveStream

from stack.cli import output
from stack.cli.answers import answers
from stack.cli.app import run_async, temporary_folder
from stack.cli.fetching import FOUND_BY
from stack.cli.types import SIZE, PathType, existing
from stack.control.client import ControlClient
from stack.errors import FetchError, NoSpace, StackError, Stalled
from stack.multiformats.cid import Cid
from stack.node.api import GetAnnouncements, GetIdentity, GetPresence, ListPeers, ListShares
from stack.node.home import Home
from stack.values import dataclass

POLL_SECONDS = 0.02
ROUND_SECONDS = 900.0
"""Far more than any round takes; a demo that hangs is a bug, and says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Block bytes that one peer gave to another."""

    giver: str
    taker: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovered:
    """How a receiver found a peer that delivered."""

    receiver: str
    giver: str
    source: str
    """As in `ProviderFound`: `announced`, `swarm`."""
    seconds: float
    """Since the round began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundResult:
    """What one round showed."""

    receivers: int
    seconds: float
    sharer_sent: int
    """By the sharer's own counter, when it was killed."""
    copies_sent: float
    most_held: float
    """Largest share of the file that any receiver held when the sharer was killed."""
    hashes_match: bool
    transfers: tuple[Transfer, ...]
    found: tuple[Discovered, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What was shown with which file, a round with one receiver first."""

    file: str
    items: tuple[RoundResult, ...]


@click.command()
@click.argument("file", required=False, type=PathType())
@click.option("--peers", type=click.IntRange(1, 20), default=5, show_default=True, help="How many fetch at once.")
@click.option(
    "--size", type=SIZE, default=256 << 20, help="Size of the file made when none is given (default: 256MiB)."
)
@answers(DemoResult)
def demo(file: str | None, peers: int, size: int, as_json: bool) -> None:
    """Show it: one shares, several find it by its CID, fetch and help each other, the sharer is killed, all finish."""
    source = existing(file) if file else None
    if source is not None and not source.is_file():
        raise click.BadParameter("the demo takes one file")

    async def work() -> None:
        with temporary_folder("stack-demo-") as place:
            shown: Path = source if source is not None else await anyio.to_thread.run_sync(_make_file, place, size)
            needed = shown.stat().st_size * (peers + 1)
            if shutil.disk_usage(place).free < needed + (1 << 28):
                raise NoSpace(f"the demo needs {output.size(needed)} in {place.parent}")
            digest = await anyio.to_thread.run_sync(_sha256, shown)
            results = []
            for receivers in dict.fromkeys((1, peers)):
                if not as_json:
                    output.note(f"--- {output.count(receivers, 'receiver')}")
                results.append(await _Round(place / f"round{receivers}", shown, digest, receivers, quiet=as_json).run())
        _report(results, shown.name, as_json)
        if not all(result.hashes_match for result in results):
            raise FetchError("a receiver ended with other bytes; this is a bug")

    run_async(work)


def _make_file(place: Path, size: int) -> Path:
    path = place / "demo.bin"
    with path.open("wb") as out:
        for start in range(0, size, 1 << 20):
            out.write(os.urandom(min(1 << 20, size - start)))
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Round:
    """A meeting point, one sharer and its receivers, each a process with a home of its own."""

    def __init__(self, place: Path, file: Path, digest: str, receivers: int, *, quiet: bool) -> None:
        self._place = place
        self._file = file
        self._digest = digest
        self._receivers = receivers
        self._quiet = quiet
        self._finished: dict[str, float] = {}
        self._labels: dict[str, str] = {}
        """Names of processes by their peer ids."""
        self._found: list[Discovered] = []

    def _say(self, line: str) -> None:
        if not self._quiet:
            output.note(line)

    @asynccontextmanager
    async def _process(self, name: str, *arguments: str) -> AsyncIterator[anyio.abc.Process]:
        home = self._place / name
        home.mkdir(parents=True)
        environment = {**os.environ, "STACK_HOME": str(home), "STACK_LISTEN": "/ip4/127.0.0.1/tcp/0", "STACK_MDNS": "0"}
        command = [sys.executable, "-m", "stack", *arguments]
        async with await anyio.open_process(
            command, env=environment, stdin=None, stderr=subprocess.DEVNULL, cwd=home
        ) as process:
            try:
                yield process
            finally:
                with anyio.CancelScope(shield=True):
                    if process.returncode is None:
                        process.kill()
                    await process.wait()

    def _client(self, name: str) -> ControlClient | None:
        address = Home(self._place / name).address()
        return ControlClient(address) if address else None

    async def run(self) -> RoundResult:
        """Play it; raises Stalled when it takes far too long."""
        with anyio.move_on_after(ROUND_SECONDS):
            async with self._process("meeting", "daemon") as meeting:
                address = await self._address("meeting", meeting)
                self._say(f"meeting point, which shares nothing: {address}")
                arguments = ("--announce", "--bootstrap", address, "--json", "--no-qr")
                async with self._process("sharer", "share", str(self._file), *arguments) as sharer:
                    async with aclosing(_lines(sharer)) as lines:
                        shared = json.loads(await anext(lines, "null"))
                    if shared is None:
                        raise FetchError("the sharer ended before it had shared")
                    self._labels[shared["peer_id"]] = "sharer"
                    await self._announced()
                    self._say(f"sharer: announced {shared['cid']}")
                    self._say("the receivers know this CID and the address of the meeting point, nothing else")
                    return await self._fetch(sharer, address, Cid.parse(shared["cid"]))
        raise Stalled(f"the demo was not done in {ROUND_SECONDS:.0f} s; this is a bug")

    async def _address(self, name: str, process: anyio.abc.Process) -> str:
        """Where a daemon can be dialled, once it is ready."""
        async with aclosing(_lines(process)) as lines:
            async for line in lines:
                if line == "Daemon is ready":
                    client = self._client(name)
                    assert client is not None
                    return str((await client.ask(GetIdentity())).addresses[0])
        raise FetchError(f"the {name} ended before it was ready")

    async def _announced(self) -> None:
        """Wait until somebody has taken the sharer's announcement."""
        client = self._client("sharer")
        assert client is not None
        while (await client.ask(GetAnnouncements())).waiting:
            await anyio.sleep(POLL_SECONDS)

    async def _fetch(self, sharer: anyio.abc.Process, address: str, root: Cid) -> RoundResult:
        names = [f"receiver{number + 1}" for number in range(self._receivers)]
        start = time.monotonic()
        result: RoundResult | None = None
        async with anyio.create_task_group() as tasks:
            for name in names:
                tasks.start_soon(self._receive, name, root, address, start)
            sent, held = await self._watch_union(root, names)
            sharer.kill()
            copies = sent / max(1, self._file.stat().st_size)
            together = f"together the receivers hold everything after {output.duration(time.monotonic() - start)}"
            self._say(f"{together}: sharer killed, it had sent {copies:.2f} copies; nobody held more than {held:.0%}")
            while len(self._finished) < len(names):
                await anyio.sleep(POLL_SECONDS)
            seconds = max(self._finished.values())
            match = await anyio.to_thread.run_sync(self._hashes_match, names)
            transfers = await self._transfers(names)
            tasks.cancel_scope.cancel()
            result = RoundResult(
                receivers=len(names),
                seconds=seconds,
                sharer_sent=sent,
                copies_sent=copies,
                most_held=held,
                hashes_match=match,
                transfers=transfers,
                found=tuple(self._found),
            )
        assert result is not None
        return result

    async def _receive(self, name: str, root: Cid, address: str, start: float) -> None:
        target = str(self._place / name / self._file.name)
        arguments = ("-o", target, "--bootstrap", address, "--seed", "--jsonl")
        async with self._process(name, "get", str(root), *arguments) as process, aclosing(_lines(process)) as lines:
            async for line in lines:
                event = json.loads(line)
                seconds = time.monotonic() - start
                if event["event"] == "ProviderFound":
                    peer = await self._label(event["peer_id"])
                    discovered = Discovered(receiver=name, giver=peer, source=event["source"], seconds=seconds)
                    if (name, discovered.source) not in [(each.receiver, each.source) for each in self._found]:
                        how = FOUND_BY[discovered.source]
                        self._say(f"{name}: gets from {peer} after {output.duration(seconds)}, {how}")
                    self._found.append(discovered)
                elif event["event"] == "FetchFinished":
                    self._finished[name] = seconds
                    self._say(f"{name}: complete after {output.duration(seconds)}")
                    await anyio.sleep_forever()
        raise FetchError(f"{name} ended without its file")

    async def _label(self, peer: str) -> str:
        """What a peer is called here."""
        for number in range(self._receivers):
            name = f"receiver{number + 1}"
            client = self._client(name) if peer not in self._labels else None
            if client is not None:
                self._labels[(await client.ask(GetIdentity())).peer_id] = name
        return self._labels[peer]

    async def _watch_union(self, root: Cid, names: list[str]) -> tuple[int, float]:
        """Wait until the receivers together have every leaf: what the sharer had sent then, and the most one held."""
        while True:
            union, leaves, most = 0, 0, 0
            for name in names:
                try:
                    client = self._client(name)
                    if client is None:
                        continue
                    presence = await client.ask(GetPresence(cid=root))
                except StackError:
                    continue  # it has not opened its home yet
                if presence.leaves:
                    bits = int.from_bytes(bytes.fromhex(presence.bitmap), "little")
                    union, leaves = union | bits, max(leaves, presence.leaves)
                    most = max(most, bits.bit_count())
            if leaves and union.bit_count() >= leaves:
                break
            if len(self._finished) == len(names):
                most = leaves = 1
                break
            await anyio.sleep(POLL_SECONDS)
        client = self._client("sharer")
        assert client is not None
        shares = await client.ask(ListShares())
        return sum(share.bytes_sent for share in shares), most / leaves

    def _hashes_match(self, names: list[str]) -> bool:
        return all(_sha256(self._place / name / self._file.name) == self._digest for name in names)

    async def _transfers(self, names: list[str]) -> tuple[Transfer, ...]:
        rows: dict[tuple[str, str], int] = {}  # of each pair once, also when both have dialled
        for name in names:
            client = self._client(name)
            assert client is not None
            rows |= {(peer.peer_id, name): peer.bytes_received for peer in await client.ask(ListPeers())}
        labelled = [(await self._label(giver), taker, count) for (giver, taker), count in rows.items() if count]
        return tuple(
            Transfer(giver=giver, taker=taker, bytes=count) for giver, taker, count in labelled if giver in names
        )


async def _lines(process: anyio.abc.Process) -> AsyncGenerator[str, None]:
    """The lines of a process's stdout."""
    assert process.stdout is not None
    text = ""
    async for piece in TextReceiveStream(process.stdout):
        *lines, text = (text + piece).split("\n")
        for line in lines:
            yield line


def _report(results: list[RoundResult], name: str, as_json: bool) -> None:
    if as_json:
        output.json_line(DemoResult(file=name, items=tuple(results)))
        return
    last = results[-1]
    output.data(f"{'who gave':12} {'to whom':12} how much")
    for transfer in last.transfers:
        output.data(f"{transfer.giver:12} {transfer.taker:12} {output.size(transfer.bytes)}")
    output.data(f"{'sharer':12} {'all':12} {output.size(last.sharer_sent)} ({last.copies_sent:.2f} copies)")
    for result in results:
        each = result.seconds / result.receivers
        output.data(
            f"{output.count(result.receivers, 'receiver')}: {output.duration(result.seconds)}, {output.duration(each)} a copy"
        )
    output.data("all hashes match" if all(result.hashes_match for result in results) else "HASHES DIFFER")
