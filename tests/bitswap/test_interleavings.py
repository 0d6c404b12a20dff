"""What happens to a block while the worker thread hands it over: finding 2, every state of a want.

A sink that stands still in its thread holds the moment between the look into the book and the news on the loop.
"""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import TaskGroup

from stack.bitswap.messages import OutgoingMessage
from stack.bitswap.shell.session import FetchSession
from stack.errors import LocalProtocolError, NoSpace
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB
from tests.bitswap.exchanges import Node, Raw, nodes, some_blocks
from tests.net.hosts import settled

pytestmark = pytest.mark.anyio

[(CID, DATA)] = some_blocks(1)


class SlowSink:
    """Stands still with each block until it may go on."""

    def __init__(self, error: Exception | None = None) -> None:
        self.at_work = 0
        self.got: list[bytes] = []
        self._error = error
        self._go_on = threading.Event()

    def __call__(self, cid: Cid, data: memoryview) -> None:
        self.at_work += 1
        assert self._go_on.wait(20)
        if self._error is not None:
            raise self._error
        self.got.append(bytes(data))

    def go_on(self) -> None:
        self._go_on.set()

    async def stands_still(self, calls: int = 1) -> None:
        await settled(lambda: self.at_work == calls)


@asynccontextmanager
async def slow_delivery(
    sink: SlowSink,
) -> AsyncIterator[tuple[Node, FetchSession, TaskGroup, anyio.CancelScope]]:
    """One call waits for the block, which its sink is just being given. What is left to do is done within 10 s."""
    first = anyio.CancelScope()

    async def fetch(session: FetchSession) -> None:
        with first:
            await session.fetch([CID], sink)

    async with nodes([], [(CID, DATA)]) as [here, there]:
        with anyio.fail_after(10):
            async with (
                here.exchange.session(CID, providers=[there.provider]) as session,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(fetch, session)
                await sink.stands_still()
                try:
                    yield here, session, tasks, first
                finally:
                    sink.go_on()
        assert len(here.exchange.wanted) == 0
        await settled(lambda: here.exchange._receiver.used == 0 and there.exchange.engine.wants == 0)


@pytest.mark.parametrize("cid", [CID, CID.with_codec(DAG_PB)], ids=["same name", "other name"])
async def test_a_call_that_comes_while_the_block_is_handed_over_gets_it_too(cid: Cid) -> None:
    sink, second = SlowSink(), SlowSink()
    second.go_on()
    async with slow_delivery(sink) as (here, session, tasks, _):
        tasks.start_soon(session.fetch, [cid], second)
        await settled(lambda: len(here.exchange.wanted.takers(CID.multihash)) == 2)
    assert sink.got == second.got == [DATA]
    assert session.reports()[0].blocks == 1 and session.reports()[0].duplicate_bytes == 0


async def test_a_call_that_comes_while_the_block_goes_round_once_more_gets_it_too() -> None:
    sink, second, third = SlowSink(), SlowSink(), SlowSink()
    third.go_on()
    async with slow_delivery(sink) as (here, session, tasks, _):
        tasks.start_soon(session.fetch, [CID], second)
        await settled(lambda: len(here.exchange.wanted.takers(CID.multihash)) == 2)
        sink.go_on()
        await second.stands_still()
        tasks.start_soon(session.fetch, [CID], third)
        await settled(lambda: len(here.exchange.wanted.takers(CID.multihash)) == 2)
        second.go_on()
    assert second.got == third.got == [DATA]


async def test_a_call_without_a_sink_that_comes_meanwhile_finds_the_block_in_the_store() -> None:
    async with slow_delivery(sink := SlowSink()) as (here, session, tasks, _):

        async def keep() -> None:
            await session.fetch([CID])
            assert await here.store.has([CID]) == [True]

        tasks.start_soon(keep)
        await settled(lambda: len(here.exchange.wanted.takers(CID.multihash)) == 2)
        sink.go_on()


async def test_get_of_a_block_that_is_handed_over_returns_it() -> None:
    async with slow_delivery(sink := SlowSink()) as (here, session, tasks, _):

        async def get() -> None:
            assert await session.get(CID) == DATA

        tasks.start_soon(get)
        await settled(lambda: len(here.exchange.wanted.takers(CID.multihash)) == 2)
        sink.go_on()


async def test_a_session_that_knows_no_provider_joins_what_another_is_being_given() -> None:
    second = SlowSink()
    second.go_on()
    async with (
        slow_delivery(sink := SlowSink()) as (here, _, _, _),
        here.exchange.session(CID) as other,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(other.fetch, [CID], second)
        await settled(lambda: len(here.exchange.wanted.takers(CID.multihash)) == 2)
        sink.go_on()
    assert second.got == [DATA]


async def test_one_of_two_that_is_cancelled_while_the_worker_runs_takes_nothing_from_the_other() -> None:
    second = SlowSink()
    second.go_on()
    async with slow_delivery(SlowSink()) as (here, session, tasks, first):
        tasks.start_soon(session.fetch, [CID], second)
        await settled(lambda: len(here.exchange.wanted.takers(CID.multihash)) == 2)
        first.cancel()
        await settled(lambda: len(here.exchange.wanted.takers(CID.multihash)) == 1)
    assert second.got == [DATA]


async def test_who_comes_after_all_were_cancelled_while_the_worker_runs_gets_the_block() -> None:
    second = SlowSink()
    second.go_on()
    async with slow_delivery(SlowSink()) as (here, session, tasks, first):
        first.cancel()
        await settled(lambda: len(here.exchange.wanted) == 0)
        tasks.start_soon(session.fetch, [CID], second)
        await settled(lambda: len(here.exchange.wanted) == 1)
    assert second.got == [DATA]


async def test_all_that_is_cancelled_while_the_worker_runs_ends_without_a_trace() -> None:
    async with slow_delivery(SlowSink()) as (here, session, _, first):
        first.cancel()
        await settled(lambda: len(here.exchange.wanted) == 0 and session.machine.wanted == 0)


async def test_no_sink_is_given_a_block_after_its_call_has_ended() -> None:
    second = SlowSink()
    second.go_on()
    async with slow_delivery(sink := SlowSink()) as (here, session, tasks, _):
        with anyio.CancelScope() as scope:
            tasks.start_soon(_fetch_in, scope, session, second)
            await settled(lambda: len(here.exchange.wanted.takers(CID.multihash)) == 2)
            scope.cancel()
        await settled(lambda: len(here.exchange.wanted.takers(CID.multihash)) == 1)
        sink.go_on()
    assert second.got == []


async def _fetch_in(scope: anyio.CancelScope, session: FetchSession, sink: SlowSink) -> None:
    with anyio.CancelScope() as own:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.fetch, [CID], sink)
            await settled(lambda: scope.cancel_called)
            own.cancel()


async def test_a_sink_that_raises_fails_its_session_and_no_other() -> None:
    errors: list[Exception] = []
    second = SlowSink()
    second.go_on()

    async def fetch(session: FetchSession, sink: SlowSink) -> None:
        try:
            await session.fetch([CID], sink)
        except NoSpace as error:
            errors.append(error)

    async with nodes([], [(CID, DATA)]) as [here, there], here.exchange.session(CID) as other:
        sink = SlowSink(NoSpace("full"))
        with pytest.raises(NoSpace), anyio.fail_after(10):
            async with (
                here.exchange.session(CID, providers=[there.provider]) as session,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(fetch, session, sink)
                await sink.stands_still()
                tasks.start_soon(fetch, session, second)
                tasks.start_soon(fetch, other, second)
                await settled(lambda: len(here.exchange.wanted.takers(CID.multihash)) == 3)
                sink.go_on()
        assert len(errors) == 2
        await settled(lambda: DATA in second.got and len(here.exchange.wanted) == 0)


async def test_a_session_that_ends_while_its_sink_is_at_work_leaves_the_block_to_others() -> None:
    second = SlowSink()
    second.go_on()
    ended: list[Exception] = []

    async def fetch(session: FetchSession, sink: SlowSink) -> None:
        try:
            await session.fetch([CID], sink)
        except LocalProtocolError as error:
            ended.append(error)

    async with nodes([], [(CID, DATA)]) as [here, there]:
        sink = SlowSink()
        with anyio.fail_after(10):
            async with here.exchange.session(CID) as other, anyio.create_task_group() as tasks:
                async with here.exchange.session(CID, providers=[there.provider]) as session:
                    tasks.start_soon(fetch, session, sink)
                    await sink.stands_still()
                    tasks.start_soon(fetch, other, second)
                    await settled(lambda: len(here.exchange.wanted.takers(CID.multihash)) == 2)
                assert len(here.exchange.sessions) == 1
                sink.go_on()
        assert len(ended) == 1 and second.got == [DATA]


async def test_a_block_that_is_handed_over_while_its_sender_goes_and_returns_is_nobodys_offence() -> None:
    async with slow_delivery(sink := SlowSink()) as (here, session, _, _):
        peer = session.reports()[0].peer
        await here.host.disconnect(peer)
        await settled(lambda: here.host.is_connected(peer))  # the session dials it again
    assert sink.got == [DATA]
    assert session.reports()[0].wrong_blocks == 0 and session.reports()[0].dropped is None


async def test_two_copies_at_once_are_handed_over_once() -> None:
    async with nodes([], [], []) as [here, one, two]:
        raws = [Raw(one.host), Raw(two.host)]
        sink = SlowSink()
        async with (
            here.exchange.session(CID, providers=[one.provider]) as session,
            here.exchange.session(CID, providers=[two.provider]) as other,
        ):
            async with anyio.create_task_group() as tasks:
                for each in (session, other):
                    tasks.start_soon(each.fetch, [CID], sink)
                for raw in raws:
                    await raw.received(1)
                for raw in raws:
                    await raw.send(here.host, OutgoingMessage(blocks=[(CID, DATA)]))
                await sink.stands_still()
                sink.go_on()
            await settled(lambda: sum(each.reports()[0].duplicate_bytes for each in (session, other)) == len(DATA))
            assert all(each.reports()[0].dropped is None for each in (session, other))
        assert sink.got == [DATA, DATA]


async def test_equal_blocks_of_one_call_come_once() -> None:
    sink = SlowSink()
    sink.go_on()
    async with (
        nodes([], [(CID, DATA)]) as [here, there],
        here.exchange.session(CID, providers=[there.provider]) as session,
    ):
        await session.fetch([CID, CID, CID.with_codec(DAG_PB)], sink)
        assert session.reports()[0].blocks == 1
    assert sink.got == [DATA]


async def test_many_calls_of_many_sessions_for_the_same_blocks_all_end() -> None:
    """Repeated blocks, as in disk images and trees of copies."""
    blocks = some_blocks(6, 50_000)
    cids = [cid for cid, _ in blocks]
    got: list[Cid] = []
    lock = threading.Lock()

    def sink(cid: Cid, data: memoryview) -> None:
        with lock:
            got.append(cid)

    async def calls(session: FetchSession, turn: int) -> None:
        for step in range(40):
            await session.fetch([cids[(turn + step) % 6], cids[(turn * step) % 6]], sink)

    async with nodes([], blocks, blocks) as [here, first, second]:
        with anyio.fail_after(60):
            async with (
                here.exchange.session(cids[0], providers=[first.provider]) as one,
                here.exchange.session(cids[0], providers=[second.provider]) as two,
                anyio.create_task_group() as tasks,
            ):
                for turn in range(8):
                    tasks.start_soon(calls, one, turn)
                    tasks.start_soon(calls, two, turn)
        assert len(here.exchange.wanted) == 0 and one.machine.wanted == two.machine.wanted == 0
        for session in (one, two):
            assert [report.dropped for report in session.reports()] == [None]
