"""The commands of ../lines.md that use streams and blocks, on our own host."""

import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio

from stack.bitswap.interfaces import Order, Provider, Session
from stack.bitswap.shell.service import Bitswap
from stack.blocks.memory import MemoryStore
from stack.dag.unixfs.options import import_options
from stack.files.add import Adder
from stack.files.dag import fetch_dag
from stack.files.read import list_entries, look_at, open_content
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.net.connection import Connection
from stack.net.host import Host
from stack.protocols.perf.service import PERF, PerfService, run_perf
from stack.protocols.ping.service import PING, PingService, ping
from stack.sansio.interfaces import Buffer
from stack.streams.interfaces import Stream

DIGEST = "/interop/digest/1.0.0"
RESET = "/interop/reset/1.0.0"
PIECE = 64 * 1024
STREAMS_MAX = 128
"""Of one peer: a hundred are opened at the same time."""

FETCH_SECONDS = 100.0

Say = Callable[..., None]


def pattern(name: str, size: int) -> AsyncIterator[bytes]:
    """The bytes that belong to a name: 64 KiB at a time, each made of a hash that is repeated."""

    async def pieces() -> AsyncIterator[bytes]:
        for block in range(-(-size // PIECE)):
            piece = hashlib.sha256(f"{name}/{block}".encode()).digest() * (PIECE // 32)
            yield piece[: size - block * PIECE]

    return pieces()


class Counting:
    """A stream that knows what has passed, and tells of each send."""

    def __init__(self, stream: Stream, sent: Callable[[], None] = lambda: None) -> None:
        self._stream = stream
        self._tell = sent
        self.received = self.sent = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    async def receive_into(self, buffer: memoryview) -> int:
        """See `Stream`."""
        count = await self._stream.receive_into(buffer)
        self.received += count
        return count

    async def send(self, item: Buffer) -> None:
        """See `Stream`."""
        await self._stream.send(item)
        self.sent += len(item)
        self._tell()


class Streams:
    """Methods are commands; they answer by `say`."""

    def __init__(self, host: Host, exchange: Bitswap, store: MemoryStore, secret: bytes, say: Say) -> None:
        self._host = host
        self._exchange = exchange
        self._store = store
        self._secret = secret
        self._say = say
        self._observed: dict[PeerId, Multiaddr] = {}
        self._told = host.told_observation
        host.told_observation = self._observe  # type: ignore[method-assign] # it is told to nobody else
        pings, self._perf = PingService(host), PerfService(host)

        async def pinged(stream: Stream) -> None:
            await pings._echo(Counting(stream, lambda: say("pinged", stream.remote_peer)))  # type: ignore[arg-type]

        host.handle(PING, pinged)
        host.handle(PERF, self._serve_perf)
        host.handle(DIGEST, self._serve_digest, streams=STREAMS_MAX)
        host.handle(RESET, self._serve_reset)

    async def ping(self, peer: str) -> None:
        (seconds,) = await ping(self._host, PeerId.parse(peer))
        self._say("pong", peer, round(seconds * 1e6))

    async def identify(self, name: str) -> None:
        peer = PeerId.parse(name)
        protocols, store = self._host.protocols(peer), self._host.peerstore
        if protocols is None:
            self._say("unidentified", peer)
            return
        agent = (store.agent(peer) or "-").replace(" ", "_")
        record = "plain" if store.record(peer) is None else "signed"
        self._say("identified", peer, agent, self._observed.get(peer, "-"), record, ",".join(sorted(protocols)))

    async def address(self, name: str) -> None:
        connection = self._host.best_connection(PeerId.parse(name))
        assert connection is not None
        self._say("address", name, connection.local_address, connection.address)

    async def handle(self, protocol: str) -> None:
        async def refuse(stream: Stream) -> None:
            stream.reset()

        self._host.handle(protocol, refuse)
        self._say("handling", protocol)

    async def perf(self, peer: str, up: str, down: str) -> None:
        await run_perf(self._host, PeerId.parse(peer), int(up), int(down))
        self._say("performed", peer, up, down)  # it raises when another number comes

    async def digest(self, peer: str, name: str, size: str, count: str) -> None:
        answers = [""] * int(count)

        async def one(index: int) -> None:
            stream = await self._host.open_stream(PeerId.parse(peer), DIGEST)
            async for piece in pattern(f"{name}-{index}", int(size)):
                await stream.send(piece)
            await stream.send_eof()
            answers[index] = (await _all(stream)).hex()

        async with anyio.create_task_group() as tasks:
            for index in range(int(count)):
                tasks.start_soon(one, index)
        self._say("digests", peer, ",".join(answers))

    async def reset(self, peer: str) -> None:
        stream = await self._host.open_stream(PeerId.parse(peer), RESET)
        await stream.send(b"x")
        await stream.receive(1)
        stream.reset()
        self._say("resetting", peer)

    async def serve(self, path: str, version: str, chunk: str) -> None:
        arguments = {"cid-version": int(version), "raw-leaves": version == "1", "chunker": f"size-{chunk}"}
        adder = Adder(self._store, import_options("default", arguments), copy=True)
        added = await adder.add([Path(path)])
        self._say("serving", added.cid)

    async def fetch(self, peer: str, root: str, path: str) -> None:
        cid = Cid.parse(root)
        provider = Provider(PeerId.parse(peer), (), "told")
        with anyio.fail_after(FETCH_SECONDS):
            async with self._exchange.session(cid, providers=[provider], order=Order.FILE) as session:
                await fetch_dag(session, self._store, cid)
                await self._write(session, cid, Path(path))
        self._say("fetched", root)

    async def _write(self, session: Session, cid: Cid, target: Path) -> None:
        """From the store, where all of it is."""
        if (await look_at(session, self._store, cid)).type == "directory":
            target.mkdir()
            async for entry in list_entries(session, self._store, cid):
                await self._write(session, entry.cid, target / entry.name)
            return
        async with open_content(session, self._store, cid) as pieces:
            with target.open("wb") as file:
                async for piece in pieces:
                    file.write(piece)

    def _observe(self, connection: Connection, address: Multiaddr) -> None:
        self._observed[connection.peer] = address
        self._told(connection, address)

    async def _serve_perf(self, stream: Stream) -> None:
        counting = Counting(stream)
        await self._perf._serve(counting)  # type: ignore[arg-type]
        self._say("served-perf", stream.remote_peer, counting.received - 8, counting.sent)

    async def _serve_digest(self, stream: Stream) -> None:
        digest = hashlib.sha256(self._secret)
        buffer = memoryview(bytearray(PIECE))
        try:
            while True:
                digest.update(buffer[: await stream.receive_into(buffer)])
        except anyio.EndOfStream:
            await stream.send(digest.digest())

    async def _serve_reset(self, stream: Stream) -> None:
        await stream.receive(1)
        await stream.send(b"\1")
        try:
            while True:
                await stream.receive()
        except anyio.EndOfStream:
            self._say("was", stream.remote_peer, "ended")
        except anyio.BrokenResourceError:
            self._say("was", stream.remote_peer, "reset")


async def _all(stream: Stream) -> bytes:
    received = b""
    try:
        while True:
            received += await stream.receive()
    except anyio.EndOfStream:
        return received
