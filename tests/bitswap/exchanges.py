"""Exchanges on hosts that share a memory network, and raw streams to them, for tests."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import anyio

from stack.bitswap.interfaces import Provider
from stack.bitswap.messages import PROTOCOL_1_2, Message, OutgoingMessage, decode_message, encode_message
from stack.bitswap.shell.service import Bitswap
from stack.blocks.interfaces import Block
from stack.blocks.memory import MemoryStore
from stack.multiformats.cid import Cid
from stack.net.host import Host
from stack.sansio.delimited import DelimitedReader
from stack.streams.interfaces import Stream
from stack.trace import TraceEvent
from tests.net.hosts import hosts


def some_blocks(count: int, size: int = 1000, *, seed: int = 0) -> list[Block]:
    """Blocks that differ."""
    datas = [((seed << 32) + index).to_bytes(8, "big") * (size // 8) for index in range(count)]
    return [(Cid.of(data), data) for data in datas]


@dataclass
class Node:
    """A host with a store and an exchange."""

    host: Host
    store: MemoryStore
    exchange: Bitswap
    events: list[TraceEvent]

    @property
    def provider(self) -> Provider:
        """As a ticket names it."""
        return Provider(self.host.peer_id, tuple(self.host.addresses()), "ticket")


@asynccontextmanager
async def nodes(*contents: Sequence[Block]) -> AsyncIterator[list[Node]]:
    """A node for each list of blocks."""
    events: list[TraceEvent] = []
    async with hosts(len(contents), identify=False, trace=events.append) as made, AsyncExitStack() as stack:
        built = []
        for host, blocks in zip(made, contents, strict=True):
            store = MemoryStore()
            await store.put(blocks)
            exchange = await stack.enter_async_context(Bitswap.open(host, store))
            built.append(Node(host, store, exchange, events if host is made[0] else []))
        yield built


class Raw:
    """A peer that speaks bitswap by hand: one stream to the other side, and all messages that come back."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.messages: list[Message] = []
        self.changed = anyio.Event()
        self.sender: Stream | None = None
        host.handle(PROTOCOL_1_2, self._serve)

    async def _serve(self, stream: Stream) -> None:
        reader = DelimitedReader(4 * 1024 * 1024, backlog=16 * 1024 * 1024)
        while True:
            try:
                reader.receive_data(await stream.receive())
            except anyio.EndOfStream:
                return
            while (message := reader.next_message()) is not None:
                self.messages.append(decode_message(memoryview(message)))
                self.changed.set()
                self.changed = anyio.Event()

    async def send(self, to: Host, message: OutgoingMessage) -> None:
        """One message on the stream that is kept open."""
        if self.sender is None:
            self.sender = await self.host.open_stream(to.peer_id, PROTOCOL_1_2)
        await self.sender.send_buffers(*encode_message(message))

    async def received(self, count: int) -> list[Message]:
        """Wait for so many messages."""
        with anyio.fail_after(10):
            while len(self.messages) < count:
                await self.changed.wait()
        return self.messages

    @property
    def blocks(self) -> list[bytes]:
        """Multihashes of all blocks that came."""
        return [block.prefix.multihash_of(block.data) for message in self.messages for block in message.blocks]
