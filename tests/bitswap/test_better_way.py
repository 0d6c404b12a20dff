"""A peer that is reached through a relay first and without it then, while something is fetched from it."""

import anyio
import pytest

from stack.bitswap.messages import PROTOCOL_1_2, Message, decode_message
from stack.net.connection import supersede
from stack.sansio.delimited import DelimitedReader
from stack.streams.interfaces import Stream
from tests.bitswap.exchanges import Node, nodes, some_blocks
from tests.bitswap.simulation import cid_of
from tests.bitswap.test_answers import answers, fetch, gives
from tests.net.hosts import connect, settled

pytestmark = pytest.mark.anyio


async def better_way(here: Node, there: Node) -> None:
    """A second connection, beside which the first one counts as relayed."""
    [first] = here.host._swarm.of(there.host.peer_id)
    first.relayed = True
    second = await here.host._swarm.establish(there.host.peer_id, there.host.addresses()[0])
    supersede([first, second], anyio.current_time())
    assert first.superseded_at is not None


async def test_answers_are_heard_on_the_stream_of_the_better_connection_too() -> None:
    blocks = some_blocks(6)

    async def answer(stream: Stream, message: Message) -> None:
        await gives(blocks, stream, message)

    async with nodes([], []) as [here, there]:
        streams = answers(there, answer)
        assert await fetch(here, blocks[:3], there) == dict(blocks[:3])
        await better_way(here, there)
        assert await fetch(here, blocks[3:], there) == dict(blocks[3:])
        assert len(streams) == 2


def reads_slowly(there: Node, order: list[str], go_on: anyio.Event) -> None:
    """A peer that reads the first message of its first stream, and the rest when it may."""
    count = 0

    async def serve(stream: Stream) -> None:
        nonlocal count
        count += 1
        number = count
        reader = DelimitedReader(1 << 20)
        while True:
            try:
                reader.receive_data(await stream.receive())
            except anyio.EndOfStream:
                order.append(f"{number} ended")
                return
            while (message := reader.next_message()) is not None:
                wants = decode_message(memoryview(message)).wants
                order.extend(f"{number} {'cancels' if want.cancel else 'wants'}" for want in wants)
                if number == 1 and len(order) == 1:
                    await go_on.wait()

    there.host.handle(PROTOCOL_1_2, serve)


async def test_nothing_that_is_said_on_the_better_connection_overtakes_what_was_said_before() -> None:
    """Answers are read from the stream all the time: who changes over waits for whoever reads there."""
    order: list[str] = []
    go_on = anyio.Event()
    async with nodes([], []) as [here, there]:
        reads_slowly(there, order, go_on)
        await connect(here.host, there.host)
        async with (
            here.exchange.session(cid_of(0), providers=[there.provider]) as session,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(session.get, cid_of(0))
            await settled(lambda: order == ["1 wants"])
            tasks.start_soon(session.get, cid_of(1))
            await anyio.wait_all_tasks_blocked()
            await better_way(here, there)
            tasks.cancel_scope.cancel()
        await anyio.wait_all_tasks_blocked()
        assert order == ["1 wants"]
        go_on.set()
        await settled(lambda: order[-1].startswith("2 "))
        assert order.index("1 ended") < order.index("2 cancels")
