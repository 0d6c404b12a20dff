"""Negotiation over streams: plain, served, and lazy."""

from collections.abc import Awaitable

import anyio
import pytest
from anyio.abc import TaskGroup

from stack.errors import NegotiationError
from stack.multiformats.multiaddr import Multiaddr
from stack.net.multistream import HEADER, Proposer, encode_token
from stack.net.negotiate import LazyStream, select_one, serve
from stack.sansio.interfaces import Buffer
from stack.streams.memory import MemoryStream, memory_stream_pair

pytestmark = pytest.mark.anyio

HERE, THERE = Multiaddr.parse("/memory/1"), Multiaddr.parse("/memory/2")
PREFACE = encode_token(HEADER) + encode_token("/chat")


class Muxed:
    """A muxed stream as far as a negotiation needs one; counts its writes."""

    def __init__(self, stream: MemoryStream) -> None:
        self.stream = stream
        self.writes: list[bytes] = []
        self.was_reset = False
        self.was_closed = False
        self.finished = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        buffer = memoryview(bytearray(max_bytes))
        return bytes(buffer[: await self.stream.receive_into(buffer)])

    async def receive_into(self, buffer: memoryview) -> int:
        return await self.stream.receive_into(buffer)

    async def send(self, item: Buffer) -> None:
        await self.send_buffers(item)

    async def send_buffers(self, *items: Buffer) -> None:
        data = b"".join(items)
        self.writes.append(data)
        await self.stream.send_all(memoryview(data))

    async def send_eof(self) -> None:
        self.finished = True

    async def aclose(self) -> None:
        self.was_closed = True

    def reset(self) -> None:
        self.was_reset = True


class Full(Muxed):
    """The same over a line that is full: a write waits until there is `room`, and no two may wait at the same time."""

    def __init__(self, stream: MemoryStream) -> None:
        super().__init__(stream)
        self.room = anyio.Event()
        self.waiting = anyio.Event()
        self._sending = False

    async def send_buffers(self, *items: Buffer) -> None:
        if self._sending:
            raise anyio.BusyResourceError("sending to")
        self._sending = True
        self.waiting.set()
        try:
            while not self.room.is_set() and not self.was_reset:
                await self.room.wait()
            if self.was_reset:
                raise anyio.BrokenResourceError
        finally:
            self._sending = False
            self.waiting = anyio.Event()
        await super().send_buffers(*items)

    def reset(self) -> None:
        super().reset()
        self.room.set()


async def test_both_ends_agree_on_raw_streams_and_read_nothing_too_far() -> None:
    first, second = memory_stream_pair(HERE, THERE)
    agreed: list[str] = []

    async def dial() -> None:
        agreed.append(await select_one(first, ["/tls", "/noise"]))
        await first.send_all(memoryview(b"dialler"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(dial)
        agreed.append(await serve(second, {"/noise", "/plain"}))
        await second.send_all(memoryview(b"listener"))
    assert agreed == ["/noise", "/noise"]
    buffer = memoryview(bytearray(100))
    assert bytes(buffer[: await second.receive_into(buffer)]) == b"dialler"
    assert bytes(buffer[: await first.receive_into(buffer)]) == b"listener"


async def test_no_common_protocol_is_an_error_at_both_ends() -> None:
    first, second = memory_stream_pair(HERE, THERE)

    async def listen() -> None:
        with pytest.raises(NegotiationError):
            await serve(second, {"/noise"})

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        with pytest.raises(NegotiationError):
            await select_one(Muxed(first), ["/tls"])
        await first.aclose()


async def test_the_lazy_form_proposes_with_the_first_data_and_reads_the_answer_before_anything_else() -> None:
    first, second = memory_stream_pair(HERE, THERE)
    muxed = Muxed(first)
    lazy = LazyStream(muxed, "/chat")
    await lazy.send(b"hello")
    await lazy.send_buffers(b"more")
    assert muxed.writes == [PREFACE + b"hello", b"more"]
    assert await serve(second, ["/chat"]) == "/chat"
    await second.send_all(memoryview(b"welcome"))
    assert await lazy.receive() == b"welcome"
    await second.send_all(memoryview(b"again"))
    buffer = memoryview(bytearray(10))
    assert await lazy.receive_into(buffer) == 5
    assert lazy.protocol == "/chat" and "/chat" in repr(lazy)


async def test_receiving_first_proposes_by_itself() -> None:
    first, second = memory_stream_pair(HERE, THERE)
    lazy = LazyStream(Muxed(first), "/chat")
    async with anyio.create_task_group() as tasks:

        async def receive() -> None:
            buffer = memoryview(bytearray(10))
            assert await lazy.receive_into(buffer) == 7

        tasks.start_soon(receive)
        assert await serve(second, ["/chat"]) == "/chat"
        await second.send_all(memoryview(b"welcome"))
    await lazy.send(b"plain")
    assert first._out.data == b"plain"


async def test_finishing_first_proposes_by_itself() -> None:
    first, _ = memory_stream_pair(HERE, THERE)
    muxed = Muxed(first)
    lazy = LazyStream(muxed, "/chat")
    await lazy.send_eof()
    assert muxed.writes == [PREFACE] and muxed.finished
    await lazy.send_eof()
    assert muxed.writes == [PREFACE]


async def test_closing_or_resetting_first_proposes_nothing() -> None:
    first, _ = memory_stream_pair(HERE, THERE)
    muxed = Muxed(first)
    lazy = LazyStream(muxed, "/chat")
    await lazy.aclose()
    lazy.reset()
    assert muxed.writes == [] and muxed.was_closed and muxed.was_reset


async def test_a_refusal_is_told_at_the_first_receive_and_resets_the_stream() -> None:
    first, second = memory_stream_pair(HERE, THERE)
    muxed = Muxed(first)
    lazy = LazyStream(muxed, "/chat")
    await lazy.send(b"hello")
    await second.send_all(memoryview(encode_token(HEADER) + encode_token("na")))
    with pytest.raises(NegotiationError):
        await lazy.receive()
    assert muxed.was_reset


async def test_a_receive_cancelled_in_the_middle_of_the_answer_loses_nothing() -> None:
    first, second = memory_stream_pair(HERE, THERE)
    lazy = LazyStream(Muxed(first), "/chat")
    answer = PREFACE + b"welcome"
    await second.send_all(memoryview(answer[:25]))
    with anyio.move_on_after(0.01) as scope:
        await lazy.receive()
    assert scope.cancelled_caught
    await second.send_all(memoryview(answer[25:]))
    assert await lazy.receive() == b"welcome"


async def receive_first(lazy: LazyStream, muxed: Full, tasks: TaskGroup) -> None:
    """A receiver that waits for room to propose."""
    tasks.start_soon(lazy.receive)
    await muxed.waiting.wait()


async def test_who_sends_while_a_receiver_proposes_waits_for_it() -> None:
    """Finding 1: a gossip stream reads and writes at once; the first write came while the proposal waited for a full line."""
    first, second = memory_stream_pair(HERE, THERE)
    muxed = Full(first)
    lazy = LazyStream(muxed, "/chat")
    async with anyio.create_task_group() as tasks:
        await receive_first(lazy, muxed, tasks)
        tasks.start_soon(lazy.send, b"hello")
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(lazy.send_eof)
        await anyio.wait_all_tasks_blocked()
        assert not muxed.finished
        muxed.room.set()
        await serve(second, ["/chat"])
        await second.send_all(memoryview(b"welcome"))
    assert muxed.writes == [PREFACE, b"hello"] and muxed.finished


async def test_a_receiver_does_not_wait_for_what_is_sent_behind_the_proposal() -> None:
    """The peer may well want to be read before it reads all that."""
    first, second = memory_stream_pair(HERE, THERE)
    muxed = Full(first)
    lazy = LazyStream(muxed, "/chat")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lazy.send, b"much")
        await muxed.waiting.wait()
        await second.send_all(memoryview(PREFACE + b"welcome"))
        with anyio.fail_after(5):
            assert await lazy.receive() == b"welcome"
        muxed.room.set()


async def test_a_receiver_that_is_cancelled_while_it_proposes_leaves_the_proposal_to_who_sends() -> None:
    """Finding 1."""
    first, second = memory_stream_pair(HERE, THERE)
    muxed = Full(first)
    lazy = LazyStream(muxed, "/chat")
    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as receivers:
            await receive_first(lazy, muxed, receivers)
            tasks.start_soon(lazy.send, b"hello")
            await anyio.wait_all_tasks_blocked()
            receivers.cancel_scope.cancel()
        muxed.room.set()
        assert await serve(second, ["/chat"]) == "/chat"
    assert muxed.writes == [PREFACE + b"hello"]


async def test_a_sender_that_is_cancelled_while_it_proposes_leaves_the_proposal_to_who_receives() -> None:
    """Finding 1."""
    first, second = memory_stream_pair(HERE, THERE)
    muxed = Full(first)
    lazy = LazyStream(muxed, "/chat")
    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as senders:
            senders.start_soon(lazy.send, b"hello")
            await muxed.waiting.wait()
            tasks.start_soon(lazy.receive)
            await anyio.wait_all_tasks_blocked()
            senders.cancel_scope.cancel()
        muxed.room.set()
        await serve(second, ["/chat"])
        await second.send_all(memoryview(b"welcome"))
    await lazy.send(b"hello")
    assert muxed.writes == [PREFACE, b"hello"]


async def test_a_reset_while_a_receiver_proposes_ends_both() -> None:
    first, _ = memory_stream_pair(HERE, THERE)
    muxed = Full(first)
    lazy = LazyStream(muxed, "/chat")
    ended: list[str] = []

    async def ends(what: str, work: Awaitable[object]) -> None:
        with pytest.raises(anyio.BrokenResourceError):
            await work
        ended.append(what)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ends, "receiver", lazy.receive())
        await muxed.waiting.wait()
        tasks.start_soon(ends, "sender", lazy.send(b"hello"))
        await anyio.wait_all_tasks_blocked()
        lazy.reset()
    assert sorted(ended) == ["receiver", "sender"]


async def test_two_tasks_may_begin_together() -> None:
    first, second = memory_stream_pair(HERE, THERE)
    lazy = LazyStream(Muxed(first), "/chat")
    received: list[bytes] = []

    async def receive() -> None:
        received.append(await lazy.receive(3))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receive)
        tasks.start_soon(receive)
        await serve(second, ["/chat"])
        await second.send_all(memoryview(b"onetwo"))
    assert sorted(received) == [b"one", b"two"]


def test_the_lazy_preface_is_what_a_proposer_says_first() -> None:
    assert Proposer(["/chat"]).data_to_send() == PREFACE
