"""Answers on the stream that we opened to ask, as py-libp2p gives them; others open a stream of their own."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import anyio
import pytest

from stack.bitswap import offences
from stack.bitswap.events import PeerCut
from stack.bitswap.messages import (
    MESSAGE_BYTES_MAX,
    PROTOCOL_1_2,
    Message,
    OutgoingMessage,
    Want,
    decode_message,
    encode_message,
)
from stack.bitswap.shell import wire
from stack.blocks.interfaces import Block
from stack.errors import LimitExceeded
from stack.multiformats import varint
from stack.multiformats.cid import Cid
from stack.sansio.budget import Resource
from stack.sansio.delimited import DelimitedReader
from stack.streams.interfaces import Stream
from tests.bitswap.exchanges import Node, nodes, some_blocks
from tests.bitswap.simulation import cid_of
from tests.bitswap.test_attacks import honest_fetch
from tests.bitswap.test_receiving import ask_at_length, nothing_is_held
from tests.bitswap.test_wire import quick_looks
from tests.net.hosts import connect, settled

pytestmark = pytest.mark.anyio

Answer = Callable[[Stream, Message], Awaitable[None]]


def answers(node: Node, answer: Answer) -> list[Stream]:
    """`answer` is what this node does with each message, on the very stream that brought it. Returns the streams."""
    streams: list[Stream] = []

    async def serve(stream: Stream) -> None:
        streams.append(stream)
        reader = DelimitedReader(MESSAGE_BYTES_MAX)
        while True:
            try:
                reader.receive_data(await stream.receive())
            except anyio.EndOfStream:
                return
            while (message := reader.next_message()) is not None:
                await answer(stream, decode_message(memoryview(message)))

    node.host.handle(PROTOCOL_1_2, serve)
    return streams


async def gives(blocks: Sequence[Block], stream: Stream, message: Message) -> None:
    """The blocks that are wanted, to a WANT_HAVE too."""
    wanted = {want.cid.multihash for want in message.wants if not want.cancel}
    for cid, data in blocks:
        if cid.multihash in wanted:
            await stream.send_buffers(*encode_message(OutgoingMessage(blocks=[(cid, data)])))


async def fetch(node: Node, blocks: Sequence[Block], *providers: Node) -> dict[Cid, bytes]:
    got: dict[Cid, bytes] = {}
    with anyio.fail_after(20):
        async with node.exchange.session(blocks[0][0], providers=[one.provider for one in providers]) as session:
            await session.fetch([cid for cid, _ in blocks], lambda cid, data: got.update({cid: bytes(data)}))
    return got


async def test_blocks_of_every_size_come_from_a_peer_that_answers_on_our_stream() -> None:
    blocks = some_blocks(20, 48) + some_blocks(20, 3000) + some_blocks(3, 1 << 20)
    async with nodes([], []) as [here, there]:
        streams = answers(there, partial(gives, blocks))
        assert await fetch(here, blocks, there) == dict(blocks)
        assert len(streams) == 1
        await here.host.disconnect(there.host.peer_id)
        await settled(lambda: nothing_is_held(here))
        await settled(lambda: here.host.budget.used(Resource.TASKS) == here.host.budget.used(Resource.BYTES) == 0)


async def test_a_peer_that_ends_its_side_of_our_stream_still_hears_us() -> None:
    """As js does at once."""
    blocks = some_blocks(2)
    async with nodes([], []) as [here, there]:
        ended = anyio.Event()

        async def answer(stream: Stream, message: Message) -> None:
            if not ended.is_set():
                await stream.send_eof()
                ended.set()
            asker = await there.host.open_stream(stream.remote_peer, PROTOCOL_1_2)
            await gives(blocks, asker, message)
            await asker.aclose()

        streams = answers(there, answer)
        for block in blocks:
            await fetch(here, [block], there)
        assert len(streams) == 1


async def test_our_stream_outlives_the_time_in_which_an_idle_one_of_the_peer_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "IDLE_SECONDS", 0.05)
    blocks = some_blocks(1)
    async with nodes([], []) as [here, there]:

        async def answer(stream: Stream, message: Message) -> None:
            idle = await there.host.open_stream(stream.remote_peer, PROTOCOL_1_2)
            with pytest.raises(anyio.BrokenResourceError):
                await idle.receive()
            await gives(blocks, stream, message)

        streams = answers(there, answer)
        assert await fetch(here, blocks, there) == dict(blocks)
        assert len(streams) == 1


@pytest.mark.parametrize(
    "bad",
    [
        b"\x05\xff\xff\xff\xff\xff",
        varint.encode(MESSAGE_BYTES_MAX + 1),
        varint.encode(60_000) + bytes(2000),
        varint.encode(900),
    ],
    ids=["malformed", "too long", "half a long message", "half a short message"],
)
async def test_what_is_wrong_on_our_stream_ends_it_and_nothing_else(
    bad: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_looks(monkeypatch)
    monkeypatch.setattr("stack.bitswap.lending.IDLE_SECONDS", 0.2)
    monkeypatch.setattr(wire, "MESSAGE_SECONDS", 0.2)
    async with nodes([], [], []) as [here, liar, honest]:
        ended = anyio.Event()

        async def answer(stream: Stream, message: Message) -> None:
            try:
                await stream.send(bad)
                while True:
                    await stream.receive()
            finally:
                ended.set()

        answers(liar, answer)
        async with (
            here.exchange.session(cid_of(0), providers=[liar.provider]) as session,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(session.get, cid_of(0))
            with anyio.fail_after(20):
                await ended.wait()
            tasks.cancel_scope.cancel()
        await honest_fetch(honest, here)
        await here.host.disconnect(liar.host.peer_id)
        await settled(lambda: nothing_is_held(here))


async def test_attack_announced_messages_on_our_streams_hold_what_they_may_and_keep_nobody_waiting() -> None:
    """They count as those on a peer's own streams do."""
    async with nodes(*[[]] * 12) as [here, honest, *liars]:

        async def lie(stream: Stream, message: Message) -> None:
            await stream.send(varint.encode(MESSAGE_BYTES_MAX) + b"\x0a")

        for liar in liars:
            answers(liar, lie)
        providers = [liar.provider for liar in liars]
        async with (
            here.exchange.session(cid_of(0), providers=providers) as session,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(session.get, cid_of(0))
            await settled(lambda: here.exchange._receiver.used > 0)
            assert here.exchange._receiver.used <= len(liars) * wire.FIRST_BYTES
            await ask_at_length(here, honest)
            tasks.cancel_scope.cancel()
        for node in (honest, *liars):
            await here.host.disconnect(node.host.peer_id)
        await settled(lambda: nothing_is_held(here))


async def test_blocks_that_nobody_asked_for_on_our_stream_cut_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offences, "UNWANTED_BLOCKS_MAX", 50)
    async with nodes([], []) as [here, there]:

        async def answer(stream: Stream, message: Message) -> None:
            await stream.send_buffers(*encode_message(OutgoingMessage(blocks=some_blocks(100, 64))))

        answers(there, answer)
        async with (
            here.exchange.session(cid_of(0), providers=[there.provider]) as session,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(session.get, cid_of(0))
            await settled(lambda: any(isinstance(event, PeerCut) for event in here.events))
            await settled(lambda: not here.host.is_connected(there.host.peer_id))
            tasks.cancel_scope.cancel()


async def test_a_peer_that_was_cut_is_not_heard_on_our_stream_either(monkeypatch: pytest.MonkeyPatch) -> None:
    async with nodes([], []) as [here, there]:
        answers(there, partial(gives, []))
        await connect(here.host, there.host)
        monkeypatch.setattr(offences.Offences, "is_cut", lambda self, peer, now: True)
        stream = await here.host.open_stream(there.host.peer_id, PROTOCOL_1_2)
        here.exchange.inbound.spoken_on(stream)
        await settled(lambda: not here.host.is_connected(there.host.peer_id))


async def test_without_a_place_for_one_more_task_what_we_say_still_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = some_blocks(3)
    async with nodes([], blocks) as [here, there]:
        await connect(here.host, there.host)
        budget = here.host.peer_budget(there.host.peer_id)
        reserve = budget.reserve

        def refuse(resource: Resource, amount: int = 1) -> object:
            if resource is Resource.TASKS:
                monkeypatch.undo()
                raise LimitExceeded("tasks", 0)
            return reserve(resource, amount)

        monkeypatch.setattr(here.host, "peer_budget", lambda peer: _Budget(refuse))
        async with here.exchange.session(blocks[0][0]) as session:
            link = here.exchange.link(there.host.peer_id)
            await link._control.send(lambda protocol: encode_message(OutgoingMessage(wants=[Want(cid_of(0))])))
            session.add_provider(there.provider)
            await session.fetch([cid for cid, _ in blocks])


class _Budget:
    def __init__(self, reserve: Callable[..., object]) -> None:
        self.reserve = reserve
