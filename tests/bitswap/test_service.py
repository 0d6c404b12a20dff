"""Exchanges on real hosts over an in-memory transport."""

import errno
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import anyio
import pytest

from stack.bitswap import session_peers
from stack.bitswap.events import BlockReceived, BlockSent, BlocksNotKept
from stack.bitswap.interfaces import Exchange, Order, Provider, ProviderSource
from stack.bitswap.messages import PROTOCOL_1_0, PROTOCOL_1_1, PROTOCOL_1_2, PROTOCOL_UNVERSIONED, PROTOCOLS
from stack.bitswap.shell import session as session_shell
from stack.bitswap.shell.link import Link
from stack.bitswap.shell.service import Bitswap
from stack.blocks.interfaces import Block, BlockMismatch, ReadFailed
from stack.blocks.memory import MemoryStore
from stack.errors import CorruptStore, LocalProtocolError, NoSpace, StoreError
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.multiformats.multicodec import DAG_PB
from stack.streams.interfaces import Stream
from stack.streams.seldom import Seldom
from tests.bitswap.exchanges import nodes, some_blocks
from tests.bitswap.simulation import cid_of, peer_named
from tests.net.hosts import connect, hosts, settled

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("any_line")]


class Sink:
    """Keeps what it gets; called in worker threads."""

    def __init__(self) -> None:
        self.blocks: dict[Cid, bytes] = {}
        self.calls = 0
        self._lock = threading.Lock()

    def __call__(self, cid: Cid, data: memoryview) -> None:
        with self._lock:
            self.calls += 1
            self.blocks[cid] = bytes(data)


async def test_one_block_comes_from_a_provider_and_stays_in_the_store() -> None:
    blocks = some_blocks(3)
    async with nodes([], blocks) as [here, there]:
        exchange: Exchange = here.exchange
        async with exchange.session(blocks[0][0], providers=[there.provider]) as session:
            assert await session.get(blocks[1][0]) == blocks[1][1]
        assert await here.store.has([cid for cid, _ in blocks]) == [False, True, False]


async def test_many_blocks_go_to_a_sink_and_not_into_the_store() -> None:
    blocks = some_blocks(300, 20_000)
    sink = Sink()
    async with nodes([], blocks) as [here, there]:
        async with here.exchange.session(blocks[0][0], providers=[there.provider]) as session:
            await session.fetch([cid for cid, _ in blocks], sink)
            report = session.reports()[0]
        assert sink.blocks == dict(blocks)
        assert sink.calls == 300
        assert (report.blocks, report.bytes, report.wrong_blocks, report.duplicate_bytes) == (300, 6_000_000, 0, 0)
        assert not any(await here.store.has([cid for cid, _ in blocks]))
        received = [event for event in here.events if isinstance(event, BlockReceived)]
        assert {event.cid for event in received} == {cid for cid, _ in blocks}
        ledger = here.exchange.ledger(there.host.peer_id)
        assert ledger is not None and (ledger.blocks_received, ledger.bytes_received) == (300, 6_000_000)


async def test_the_ledger_and_the_trace_say_to_whom_blocks_went() -> None:
    blocks = some_blocks(5)
    async with nodes(blocks, []) as [here, there]:
        async with there.exchange.session(blocks[0][0], providers=[here.provider]) as session:
            await session.fetch([cid for cid, _ in blocks])
        sent = [event for event in here.events if isinstance(event, BlockSent)]
        assert {(event.peer, event.cid, event.size) for event in sent} == {
            (there.host.peer_id, cid, 1000) for cid, _ in blocks
        }
        ledger = here.exchange.ledger(there.host.peer_id)
        assert ledger is not None and (ledger.blocks_sent, ledger.bytes_sent) == (5, 5000)
        assert here.exchange.engine.wants == 0


async def test_without_a_sink_blocks_are_in_the_store_when_fetch_returns() -> None:
    blocks = some_blocks(50)
    async with (
        nodes([], blocks) as [here, there],
        here.exchange.session(blocks[0][0], providers=[there.provider]) as session,
    ):
        await session.fetch([cid for cid, _ in blocks])
        assert all(await here.store.has([cid for cid, _ in blocks]))


async def test_the_local_store_is_asked_first() -> None:
    blocks = some_blocks(4)
    sink = Sink()
    async with nodes(blocks[:2], blocks) as [here, there]:
        async with here.exchange.session(blocks[0][0], providers=[there.provider]) as session:
            assert await session.get(blocks[0][0]) == blocks[0][1]
            await session.fetch([cid for cid, _ in blocks], sink)
            await session.fetch([cid for cid, _ in blocks[:2]])
            assert session.reports()[0].blocks == 2
        assert sink.blocks == dict(blocks)


async def test_a_damaged_block_in_the_store_is_fetched_again() -> None:
    blocks = some_blocks(2)
    sink = Sink()

    async with nodes(blocks, blocks) as [here, there]:

        async def get(cid: Cid) -> bytes:
            raise BlockMismatch(cid, "disk")

        here.store.get = get  # type: ignore[method-assign]
        async with here.exchange.session(blocks[0][0], providers=[there.provider]) as session:
            assert await session.get(blocks[0][0]) == blocks[0][1]
            await session.fetch([blocks[1][0]], sink)
        assert sink.blocks == dict(blocks[1:])


async def test_identity_cids_are_answered_from_themselves() -> None:
    cid = Cid.of(b"inline", hash="identity")
    sink = Sink()
    async with nodes([]) as [here], here.exchange.session(cid) as session:
        assert await session.get(cid) == b"inline"
        await session.fetch([cid], sink)
        await session.fetch([cid])
        assert sink.blocks == {cid: b"inline"}


@pytest.mark.parametrize("function", ["sha2-256", "sha2-512", "blake2b-256", "blake3"])
async def test_nobody_is_asked_for_the_empty_block_because_kubo_never_sends_it(function: str) -> None:
    cid = Cid.of(b"", hash=function)
    sink = Sink()
    async with nodes([]) as [here], here.exchange.session(cid) as session:
        with anyio.fail_after(5):
            assert await session.get(cid) == b""
            await session.fetch([cid], sink)
            await session.fetch([cid])
        assert sink.blocks == {cid: b""}
        assert await here.store.get(cid) == b""


async def test_several_calls_may_want_the_same_block() -> None:
    blocks = some_blocks(20)
    sinks = [Sink(), Sink()]
    async with nodes([], blocks) as [here, there]:
        async with (
            here.exchange.session(blocks[0][0], providers=[there.provider]) as session,
            anyio.create_task_group() as tasks,
        ):
            for sink in sinks:
                tasks.start_soon(session.fetch, [cid for cid, _ in blocks], sink)
            tasks.start_soon(session.fetch, [cid for cid, _ in blocks])
        assert sinks[0].blocks == sinks[1].blocks == dict(blocks)
        assert all(await here.store.has([cid for cid, _ in blocks]))


async def test_two_sessions_fetch_the_same_from_different_peers() -> None:
    blocks = some_blocks(50)
    async with nodes([], blocks, blocks) as [here, first, second]:
        async with (
            here.exchange.session(blocks[0][0], providers=[first.provider]) as one,
            here.exchange.session(blocks[0][0], providers=[second.provider]) as two,
            anyio.create_task_group() as tasks,
        ):
            sinks = [Sink(), Sink()]
            tasks.start_soon(one.fetch, [cid for cid, _ in blocks], sinks[0])
            tasks.start_soon(two.fetch, [cid for cid, _ in blocks], sinks[1])
        assert sinks[0].blocks == sinks[1].blocks == dict(blocks)


async def test_a_cid_of_another_form_names_the_same_block() -> None:
    blocks = some_blocks(1)
    other = blocks[0][0].with_codec(DAG_PB)
    async with nodes([], blocks) as [here, there], here.exchange.session(other, providers=[there.provider]) as session:
        assert await session.get(other) == blocks[0][1]


async def test_a_cancelled_fetch_withdraws_its_wants() -> None:
    blocks = some_blocks(1)
    async with (
        nodes([], []) as [here, there],
        here.exchange.session(blocks[0][0], providers=[there.provider]) as session,
    ):
        with anyio.move_on_after(1) as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.get, blocks[0][0])
                await settled(lambda: there.exchange.engine.wants == 1)
                tasks.cancel_scope.cancel()
        assert not scope.cancelled_caught
        await settled(lambda: there.exchange.engine.wants == 0)
        assert len(here.exchange.wanted) == 0


async def test_leaving_a_session_withdraws_its_wants_and_ends_calls_elsewhere() -> None:
    blocks = some_blocks(1)
    errors: list[Exception] = []
    async with nodes([], []) as [here, there], anyio.create_task_group() as tasks:
        async with here.exchange.session(blocks[0][0], providers=[there.provider]) as session:

            async def fetch() -> None:
                try:
                    await session.get(blocks[0][0])
                except LocalProtocolError as error:
                    errors.append(error)

            tasks.start_soon(fetch)
            await settled(lambda: there.exchange.engine.wants == 1)
        await settled(lambda: there.exchange.engine.wants == 0 and len(errors) == 1)
        with pytest.raises(LocalProtocolError):
            await session.fetch([blocks[0][0]])


async def test_an_error_in_a_session_reaches_its_user_unwrapped() -> None:
    async with nodes([]) as [here]:
        with pytest.raises(KeyError):
            async with here.exchange.session(some_blocks(1)[0][0]):
                raise KeyError("mine")
    with pytest.raises(KeyError):
        async with nodes([]):
            raise KeyError("mine")


async def test_a_block_that_arrives_later_at_the_provider_is_sent_on() -> None:
    blocks = some_blocks(2)
    async with (
        nodes([], [], blocks) as [here, relay, source],
        here.exchange.session(blocks[0][0], providers=[relay.provider]) as session,
        relay.exchange.session(blocks[0][0], providers=[source.provider]) as second,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(session.get, blocks[0][0])
        await settled(lambda: relay.exchange.engine.wants == 1)
        await second.get(blocks[0][0])
        with anyio.fail_after(3):
            assert await session.get(blocks[0][0]) == blocks[0][1]


async def test_a_sink_that_raises_fails_the_fetch_with_its_error() -> None:
    blocks = some_blocks(3)

    def sink(cid: Cid, data: memoryview) -> None:
        raise NoSpace("the disk is full")

    async with nodes([], blocks) as [here, there]:
        with pytest.raises(NoSpace):
            async with here.exchange.session(blocks[0][0], providers=[there.provider]) as session:
                with pytest.raises(NoSpace):
                    await session.fetch([cid for cid, _ in blocks], sink)
                with pytest.raises(NoSpace):
                    await session.fetch([blocks[0][0]], sink)


async def test_a_full_store_fails_the_fetch() -> None:
    blocks = some_blocks(3)
    async with nodes([], blocks) as [here, there]:
        here.store._quota = 100
        with pytest.raises(NoSpace):
            async with here.exchange.session(blocks[0][0], providers=[there.provider]) as session:
                await session.fetch([cid for cid, _ in blocks])


async def test_providers_are_found_by_sources() -> None:
    blocks = some_blocks(2)
    async with nodes([], blocks) as [here, there]:

        class Source:
            async def _providers(self) -> AsyncIterator[Provider]:
                yield there.provider

            def find_providers(self, root: Cid, secret: bytes = b"") -> AsyncIterator[Provider]:
                assert root == blocks[0][0]
                return self._providers()

        class Broken(Source):
            async def _providers(self) -> AsyncIterator[Provider]:
                raise NoSpace("of all things")
                yield there.provider

        sources: list[ProviderSource] = [Broken(), Source()]
        here.exchange.sources += sources
        async with here.exchange.session(blocks[0][0], broadcast=True) as session:
            assert await session.get(blocks[1][0]) == blocks[1][1]


class Judge:
    """A source that names some peers and hears what came of them."""

    def __init__(self, *named: Provider) -> None:
        self.named = named
        self.asked = 0
        self.heard: list[tuple[str, PeerId]] = []

    async def find_providers(self, root: Cid, secret: bytes = b"") -> AsyncIterator[Provider]:
        self.asked += 1
        for provider in self.named:
            yield provider

    def delivered(self, peer: PeerId) -> None:
        self.heard.append(("delivered", peer))

    def failed(self, peer: PeerId) -> None:
        self.heard.append(("failed", peer))


async def test_a_source_hears_once_who_delivered_who_was_out_of_reach_and_who_had_nothing() -> None:
    blocks = some_blocks(3)
    async with nodes([], blocks, []) as [here, there, empty]:
        absent = Provider(peer_named("nobody"), there.provider.addresses, "table")
        judge = Judge(there.provider, absent, empty.provider)
        here.exchange.sources.append(judge)
        async with here.exchange.session(blocks[0][0], broadcast=True) as session:
            await session.fetch([cid for cid, _ in blocks])
            async with here.exchange.session(blocks[0][0], providers=[empty.provider]) as other:
                with anyio.move_on_after(0.3):
                    await other.get(Cid.of(b"nobody has this"))
            await settled(lambda: len(judge.heard) >= 2)
            with anyio.move_on_after(0.3):
                await session.get(Cid.of(b"nor this"))
            assert {report.source for report in session.reports()} == {"table", there.provider.source}
        assert judge.asked == 1
        assert sorted(judge.heard, key=str) == sorted(
            [("delivered", there.host.peer_id), ("failed", absent.peer), ("failed", empty.host.peer_id)], key=str
        )


async def test_sources_have_a_head_start_before_connected_peers_are_told_what_is_sought() -> None:
    blocks = some_blocks(1)
    async with nodes([], blocks) as [here, there]:
        await connect(here.host, there.host)
        here.exchange.sources.append(Judge())
        began = anyio.current_time()
        async with here.exchange.session(blocks[0][0], broadcast=True, head_start=0.3) as session:
            assert await session.get(blocks[0][0]) == blocks[0][1]
            assert [report.source for report in session.reports()] == ["connected"]
        assert anyio.current_time() - began >= 0.3


async def test_connected_peers_are_asked_only_when_that_was_allowed() -> None:
    blocks = some_blocks(2)
    async with nodes([], blocks) as [here, there]:
        await connect(here.host, there.host)
        async with here.exchange.session(blocks[0][0]) as session:
            with anyio.move_on_after(0.3) as scope:
                await session.get(blocks[0][0])
            assert scope.cancelled_caught
        assert there.exchange.engine.wants == 0
        async with here.exchange.session(blocks[0][0], broadcast=True) as session:
            assert await session.get(blocks[0][0]) == blocks[0][1]


async def test_a_provider_that_cannot_be_reached_is_tried_again_while_others_give() -> None:
    blocks = some_blocks(2)
    async with nodes([], blocks) as [here, there]:
        absent = Provider(peer_named("nobody"), there.provider.addresses, "ticket")
        async with here.exchange.session(blocks[0][0], providers=[absent, there.provider]) as session:
            await session.fetch([cid for cid, _ in blocks])
            assert [report.blocks for report in session.reports()] == [0, 2]


@pytest.mark.parametrize("protocol", [PROTOCOL_1_2, PROTOCOL_1_1])
async def test_older_versions_are_spoken_with_older_peers(protocol: str) -> None:
    blocks = some_blocks(30)
    async with nodes([], blocks) as [here, there]:
        for other in PROTOCOLS:
            if other != protocol:
                there.host.unhandle(other)
                here.host.unhandle(other)
        async with here.exchange.session(blocks[0][0], providers=[there.provider]) as session:
            await session.fetch([cid for cid, _ in blocks])


@pytest.mark.parametrize("protocol", [PROTOCOL_1_0, PROTOCOL_UNVERSIONED])
async def test_version_one_carries_blocks_of_cid_version_zero(protocol: str) -> None:
    data = b"\x0a\x02\x08\x01"
    blocks = [(Cid.of(data, codec=DAG_PB, version=0), data)]
    async with nodes([], blocks) as [here, there]:
        for other in PROTOCOLS:
            if other != protocol:
                there.host.unhandle(other)
                here.host.unhandle(other)
        async with here.exchange.session(blocks[0][0], providers=[there.provider], order=Order.FILE) as session:
            await session.fetch([cid for cid, _ in blocks])


async def test_a_peer_without_bitswap_is_dropped_by_the_session() -> None:
    blocks = some_blocks(1)
    async with nodes([], blocks) as [here, there]:
        for protocol in PROTOCOLS:
            there.host.unhandle(protocol)
        async with here.exchange.session(blocks[0][0], providers=[there.provider]) as session:
            with anyio.move_on_after(3):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(session.get, blocks[0][0])
                    await settled(lambda: session.reports()[0].dropped is not None)
                    tasks.cancel_scope.cancel()
            assert session.reports()[0].dropped == "does not speak bitswap"


async def test_a_fetch_goes_on_after_the_connection_was_lost() -> None:
    blocks = some_blocks(200, 100_000)
    sink = Sink()
    async with nodes([], blocks) as [here, there]:
        async with (
            here.exchange.session(blocks[0][0], providers=[there.provider]) as session,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(session.fetch, [cid for cid, _ in blocks], sink)
            await settled(lambda: sink.calls > 20)
            await there.host.disconnect(here.host.peer_id)
        assert sink.blocks == dict(blocks)


async def test_closing_the_exchange_leaves_nothing_behind() -> None:
    blocks = some_blocks(10, 50_000)
    async with hosts(2, identify=False) as [a, b]:
        store = MemoryStore()
        await store.put(blocks)
        async with Bitswap.open(a, MemoryStore()) as here, Bitswap.open(b, store):
            async with here.session(
                blocks[0][0], providers=[Provider(b.peer_id, tuple(b.addresses()), "ticket")]
            ) as session:
                await session.fetch([cid for cid, _ in blocks], Sink())
            assert here._receiver.used == 0
            assert len(here.wanted) == 0 and here.sessions == {}
        assert not set(PROTOCOLS) & set(a.supported())


class PlainStore:
    """A store that can do no more than a store must."""

    def __init__(self, store: MemoryStore) -> None:
        self.has, self.sizes, self.put, self.delete = store.has, store.sizes, store.put, store.delete
        self.cids, self.aclose = store.cids, store.aclose
        self._store = store
        self.damaged: set[Cid] = set()

    async def get(self, cid: Cid) -> bytes:
        if cid in self.damaged:
            raise BlockMismatch(cid, "disk")
        return await self._store.get(cid)


async def test_a_store_without_direct_reads_is_served_from_too() -> None:
    blocks = some_blocks(10)
    async with nodes([], blocks) as [here, there]:
        plain = PlainStore(there.store)
        plain.damaged = {blocks[3][0]}
        there.exchange.store = plain
        async with here.exchange.session(blocks[0][0], providers=[there.provider]) as session:
            await session.fetch([cid for cid, _ in blocks[:3]])
            with anyio.move_on_after(1.5) as scope:
                await session.fetch([cid for cid, _ in blocks[3:]])
            assert scope.cancelled_caught
        assert await here.store.has([cid for cid, _ in blocks]) == [True] * 3 + [False] + [True] * 6


async def test_a_block_damaged_at_the_provider_is_told_and_fetched_elsewhere() -> None:
    blocks = some_blocks(1, 5000)
    async with nodes([], blocks, blocks) as [here, damaged, good]:

        async def read_into(cids: Sequence[Cid], out: memoryview) -> list[int | None]:
            return [None for _ in cids]

        damaged.store.read_into = read_into  # type: ignore[method-assign]
        async with here.exchange.session(blocks[0][0], providers=[damaged.provider]) as session:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.get, blocks[0][0])
                await settled(lambda: damaged.exchange.engine._sending == {} and bool(damaged.exchange._links))
                session.add_provider(good.provider)
            assert [report.blocks for report in session.reports()] == [0, 1]


@pytest.mark.parametrize("for_ever", [False, True])
async def test_finding_13_a_block_that_cannot_be_read_now_keeps_no_other_back_and_comes_when_it_can_be(
    for_ever: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whose disk it is is told, once in a while (use 9)."""
    monkeypatch.setattr("stack.bitswap.shell.link.READ_PAUSES", (0.01, 0.01))
    monkeypatch.setattr("stack.bitswap.shell.link.FAULTS", Seldom(logging.getLogger("stack.test")))
    blocks = some_blocks(5)
    bad = blocks[2][0]
    async with nodes([], blocks) as [here, there]:
        get, tries = there.store.get, 0

        async def read_into(cids: Sequence[Cid], out: memoryview) -> list[int | None]:
            nonlocal tries
            tries += bad in cids
            if bad in cids and (for_ever or tries < 2):
                raise ReadFailed(Path("film"), OSError(errno.EIO, "Input/output error"))
            data = [await get(cid) for cid in cids]
            out[: sum(map(len, data))] = b"".join(data)
            return [len(each) for each in data]

        async def get_one(cid: Cid) -> bytes:
            if cid == bad:
                raise ReadFailed(Path("film"), OSError(errno.EIO, "Input/output error"))
            return await get(cid)

        monkeypatch.setattr(there.store, "read_into", read_into, raising=False)
        monkeypatch.setattr(there.store, "get", get_one)
        async with here.exchange.session(blocks[0][0], providers=[there.provider]) as session:
            with anyio.fail_after(10):
                await session.fetch([cid for cid, _ in blocks if cid != bad or not for_ever])
                if for_ever:
                    with pytest.raises(TimeoutError), anyio.fail_after(0.2):
                        await session.fetch([bad])
    told = [record.getMessage() for record in caplog.records if record.name == "stack.test"]
    assert len(told) == for_ever
    assert all("film" in message for message in told)


async def test_what_comes_faster_than_it_can_be_kept_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_shell, "KEEP_HIGH", 50_000)
    monkeypatch.setattr(session_shell, "KEEP_LOW", 20_000)
    blocks = some_blocks(100, 20_000)
    async with nodes([], blocks) as [here, there]:
        put = here.store.put

        async def slow_put(batch: Sequence[Block]) -> None:
            await anyio.sleep(0.01)
            await put(batch)

        here.store.put = slow_put  # type: ignore[method-assign]
        async with here.exchange.session(blocks[0][0], providers=[there.provider]) as session:
            await session.fetch([cid for cid, _ in blocks])
        assert all(await here.store.has([cid for cid, _ in blocks]))


async def test_what_get_brought_is_in_the_store_when_the_session_has_ended() -> None:
    blocks = some_blocks(3)
    looked = anyio.Event()
    async with nodes([], blocks) as [here, there]:
        put = here.store.put

        async def slow_put(batch: Sequence[Block]) -> None:
            await looked.wait()
            await put(batch)

        here.store.put = slow_put  # type: ignore[method-assign]
        async with here.exchange.session(blocks[0][0], providers=[there.provider]) as session:
            await session.get(blocks[0][0])
            assert await here.store.has([blocks[0][0]]) == [False]
            looked.set()
        assert await here.store.has([blocks[0][0]]) == [True]


async def test_a_peer_that_takes_no_streams_is_tried_a_few_times_and_later_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blocks = some_blocks(1)
    async with nodes([], blocks) as [here, there]:
        tries = 0
        open_stream = here.host.open_stream

        async def refuse(peer: PeerId, *protocols: str) -> Stream:
            nonlocal tries
            tries += 1
            if tries < 6:
                raise anyio.BrokenResourceError
            return await open_stream(peer, *protocols)

        here.host.open_stream = refuse  # type: ignore[method-assign]
        async with here.exchange.session(blocks[0][0], providers=[there.provider]) as session:
            with anyio.fail_after(20):
                assert await session.get(blocks[0][0]) == blocks[0][1]
        assert tries >= 6


async def test_a_provider_named_after_forty_that_never_answer_a_dial_is_found_in_a_moment() -> None:
    blocks = some_blocks(1)
    async with nodes([], blocks) as [here, there]:
        connect = here.host.connect

        async def dial(peer: PeerId, addresses: Sequence[Multiaddr] = ()) -> object:
            if peer != there.host.peer_id:
                await anyio.sleep_forever()
            return await connect(peer, addresses)

        here.host.connect = dial  # type: ignore[method-assign, assignment]
        strangers = [Provider(peer_named(f"stranger {index}"), (), "announce") for index in range(40)]
        async with here.exchange.session(blocks[0][0], providers=[*strangers, there.provider]) as session:
            with anyio.fail_after(5):
                assert await session.get(blocks[0][0]) == blocks[0][1]


async def test_an_index_that_fails_is_like_one_that_has_nothing() -> None:
    blocks = some_blocks(1)
    async with nodes([], blocks) as [here, there]:

        async def fail(cids: Sequence[Cid]) -> list[int | None]:
            raise CorruptStore("the index is damaged")

        there.store.sizes = fail  # type: ignore[method-assign]
        async with here.exchange.session(blocks[0][0], providers=[there.provider]) as session:
            with anyio.move_on_after(0.3) as scope:
                await session.get(blocks[0][0])
            assert scope.cancelled_caught
            assert not session.reports()[0].stalled
        assert there.host.is_connected(here.host.peer_id)


async def test_what_the_exchange_is_can_be_read() -> None:
    async with (
        nodes([], []) as [here, there],
        here.exchange.session(some_blocks(1)[0][0], providers=[there.provider]) as session,
    ):
        assert repr(here.exchange) == f"<Bitswap {here.host.peer_id}: 1 sessions, 0 links>"
        assert repr(session).startswith("<FetchSession 1 of baf")
        here.exchange.peer_identified(there.host.peer_id, frozenset())
        assert repr(Link(here.exchange, there.host.peer_id)).endswith(": 0 wants>")


async def test_finding_32_a_session_whose_store_does_not_take_what_came_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_shell, "FLUSH_SECONDS", 0.05)
    blocks = some_blocks(1)
    async with nodes([], blocks) as [here, there]:
        here.store.put = hang  # type: ignore[method-assign]
        with pytest.raises(StoreError, match="1000 bytes"):
            async with here.exchange.session(blocks[0][0], providers=[there.provider]) as session:
                assert await session.get(blocks[0][0]) == blocks[0][1]
        assert [event.bytes for event in here.events if isinstance(event, BlocksNotKept)] == [1000]


async def hang(blocks: Sequence[Block]) -> None:
    """A disk that does not answer."""
    await anyio.sleep_forever()


async def test_finding_32_what_get_brought_is_kept_also_when_the_session_ends_by_an_error_or_is_cancelled() -> None:
    blocks = some_blocks(2)
    async with nodes([], blocks) as [here, there]:
        put = here.store.put

        async def slow_put(batch: Sequence[Block]) -> None:
            for _ in range(20):  # long after the session is told to end
                await anyio.lowlevel.checkpoint()
            await put(batch)

        here.store.put = slow_put  # type: ignore[method-assign]
        with pytest.raises(KeyError):
            async with here.exchange.session(blocks[0][0], providers=[there.provider]) as session:
                await session.get(blocks[0][0])
                raise KeyError("mine")
        with anyio.CancelScope() as scope:
            async with here.exchange.session(blocks[0][0], providers=[there.provider]) as session:
                await session.get(blocks[1][0])
                scope.cancel()
                await anyio.sleep_forever()
        assert await here.store.has([cid for cid, _ in blocks]) == [True, True]


async def test_finding_24_who_is_forgotten_or_dropped_is_protected_and_dialled_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_peers, "KNOWN_FACTOR", 8 / 64)
    async with nodes([], []) as [here, there]:
        protected: dict[PeerId, int] = {}

        def protect(peer: PeerId, tag: str) -> Callable[[], None]:
            protected[peer] = protected.get(peer, 0) + 1
            return lambda: protected.__setitem__(peer, protected[peer] - 1)

        here.host.protect = protect  # type: ignore[method-assign]
        async with (
            here.exchange.session(cid_of(1), providers=[there.provider]) as session,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(session.get, cid_of(1))
            for turn in range(4):
                absent = [peer_named(f"{turn} {index}") for index in range(8)]
                for peer in absent:
                    session.add_provider(Provider(peer, (), "table"))
                await settled(
                    lambda: all(
                        report.peer == there.host.peer_id or session.machine._peers.get(report.peer).rest
                        for report in session.reports()
                    )
                )
            known = {report.peer for report in session.reports()}
            assert len(known) == 8
            assert {peer for peer, count in protected.items() if count} == set(session.addresses) == known
            assert set(session.introductions._named_by) == known
            session.machine.receive_wrong_block(there.host.peer_id, anyio.current_time())
            here.exchange.drain(session)
            assert set(session.addresses) == known - {there.host.peer_id}
            assert not protected[there.host.peer_id]
            tasks.cancel_scope.cancel()
        assert not any(protected.values())


async def test_a_provider_has_a_bounded_number_of_addresses_in_a_session() -> None:
    async with nodes([]) as [here], here.exchange.session(cid_of(1)) as session:
        for port in range(100):
            address = Multiaddr.parse(f"/ip4/192.0.2.1/tcp/{port + 1}")
            session.add_provider(Provider(peer_named("somebody"), (address,), "table"))
        assert len(session.addresses[peer_named("somebody")]) == session_shell.ADDRESSES_MAX
