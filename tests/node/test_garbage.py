"""A running node and a stranger that speaks every protocol of it, and only nonsense: as who asks, and as who is asked. The node
stays, others are answered meanwhile, its budget is as before, and whoever asked the stranger for something is told in a sentence."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import TypeVar

import anyio
import pytest

from stack import Cid, Config, Node, StackError
from stack.files.ticket import Ticket, encode_ticket
from stack.identity.keys import generate
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host
from stack.node.api import Perf, Ping
from stack.protocols.perf import service as perf
from stack.protocols.ping import service as pings
from stack.sansio.budget import Resource
from stack.sansio.delimited import encode_uvarint
from stack.streams.interfaces import Stream
from stack.streams.supervision import TaskFailed
from stack.trace import TraceEvent
from tests.net.hosts import settled

pytestmark = pytest.mark.anyio

A = TypeVar("A")

SOON = 10.0
HELD = {
    Resource.BYTES: 16 * 1024,
    Resource.STREAMS_IN: 4,
    Resource.CONNECTIONS_IN: 1,
    Resource.CONNECTIONS_OUT: 0,
    Resource.ROWS: 0,
}
"""What is held for a friend, at the most."""

HALF = encode_uvarint(100) + b"\x0a" * 50
NONSENSE = {
    "the end": (b"", Stream.send_eof),
    "a reset": (b"", Stream.reset),
    "silence": (b"", None),
    "zeros": (bytes(5_000), Stream.send_eof),
    "empty messages": (bytes(3_000), None),
    "bits": (b"\xff" * 5_000, Stream.send_eof),
    "noise": (random.Random(1).randbytes(20_000), Stream.send_eof),
    "a length of 63 bits": (encode_uvarint((1 << 63) - 1), None),
    "a length of a TiB": (encode_uvarint(1 << 40) + b"x", None),
    "a length without end": (b"\x80" * 20, Stream.send_eof),
    "half a message": (HALF, Stream.send_eof),
    "half a message and silence": (HALF, None),
    "half a message and a reset": (HALF, Stream.reset),
    "groups in groups": (encode_uvarint(1_000) + b"\x0b" * 1_000, Stream.send_eof),
    "a quarter of what is announced": (encode_uvarint(4 << 20) + bytes(1 << 20), Stream.reset),
}
"""What is said, and how it ends: not at all, where nothing follows."""


async def say(stream: Stream, name: str) -> None:
    data, end = NONSENSE[name]
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError), anyio.move_on_after(0.2):
        if data:
            await stream.send(data)
        if (ended := end and end(stream)) is not None:
            await ended


@asynccontextmanager
async def watched() -> AsyncIterator[Node]:
    """A node with a friend that is answered all the time; afterwards nothing is held but for that one, and nothing has failed in it."""
    failed: list[TraceEvent] = []
    async with Node.open(Config(perf=True)) as node, Node.open() as friend:
        node.trace.add(lambda event: failed.append(event) if isinstance(event, TaskFailed) else None)
        await friend.connect(node.addresses()[0])
        await settled(lambda: node.announcing.layer.is_loaded)
        budget = node.host.budget
        async with anyio.create_task_group() as tasks:

            async def be_answered() -> None:
                stream = await friend.host.open_stream(node.peer_id, pings.PING)
                while True:
                    with anyio.fail_after(SOON):
                        await stream.send(bytes(pings.PAYLOAD_BYTES))
                        await stream.receive()
                    await anyio.sleep(0.1)

            tasks.start_soon(be_answered)
            yield node
            tasks.cancel_scope.cancel()
        with anyio.fail_after(3 * SOON):
            while any(budget.used(resource) > most for resource, most in HELD.items()):
                await anyio.sleep(0.05)
        assert failed == []


async def never(stream: Stream) -> None:
    """Takes what the node says by itself, and says nothing."""
    with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            await stream.receive()


async def test_every_protocol_of_a_running_node_bears_nonsense() -> None:
    async with watched() as node, AsyncExitStack() as strangers:
        for protocol in (*node.host.supported(), "/no/such/protocol"):
            host = await strangers.enter_async_context(Host(generate("ed25519")))
            for each in node.host.supported():
                host.handle(each, never)
            for name in NONSENSE:
                with suppress(StackError):  # it was cut for what it said before
                    await host.connect(node.peer_id, node.host.addresses())
                with suppress(StackError, anyio.BrokenResourceError):
                    await say(await host.open_stream(node.peer_id, protocol), name)


async def test_whoever_is_told_nonsense_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """`stack ping` of a peer that ended its stream, or said nothing, ended with a traceback."""
    monkeypatch.setattr(pings, "PING_SECONDS", 0.5)
    monkeypatch.setattr(perf, "STALL_SECONDS", 0.5)
    async with watched() as node, AsyncExitStack() as strangers:
        addresses = []
        for name in NONSENSE:
            host = await strangers.enter_async_context(Host(generate("ed25519")))

            async def answer(stream: Stream, name: str = name) -> None:
                await say(stream, name)
                await never(stream)

            for each in node.host.supported():
                host.handle(each, answer)
            addresses.append(
                (await host.listen(Multiaddr.parse("/ip4/127.0.0.1/tcp/0/ws"))).with_peer(str(host.peer_id))
            )
        async with anyio.create_task_group() as tasks:
            for address in addresses:
                tasks.start_soon(ask_everything, node, address)


async def all_of(context: AbstractAsyncContextManager[AsyncIterator[A]]) -> list[A]:
    async with context as items:
        return [item async for item in items]


async def ask_everything(node: Node, address: Multiaddr) -> None:
    """All that a program can ask of a peer: each ends by itself, and raises only children of StackError."""
    place, name = address.split_peer()
    assert name is not None
    cid = Cid.of(name.encode())
    ticket = encode_ticket(Ticket(cid, "", 100, PeerId.parse(name), (place,), b"s" * 16))
    asked: list[Callable[[], Awaitable[object]]] = [
        lambda: all_of(node.watch(Ping(target=str(address), count=2))),
        lambda: node.ask(Perf(address=address, upload=1000, download=1000)),
        lambda: node.blocks.get(cid, timeout=0.5, providers=[address]),
        lambda: node.ls(cid, timeout=0.5),
        lambda: node.cat(ticket, timeout=0.5),
        lambda: all_of(node.find("zebra", timeout=0.5)),
        lambda: all_of(node.providers(cid, timeout=0.5)),
        lambda: node.connect(address),
        lambda: node.peers.disconnect(name),
    ]
    for ask in asked:
        with suppress(StackError), anyio.fail_after(3 * SOON):
            await ask()
