"""The announcement layer on hosts, on both event loops."""

import gc
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest

from stack.announce.interfaces import FoundName, KnownProvider
from stack.announce.keyspace import announce_key
from stack.announce.messages import PROTOCOL, Kind, Request, encode_request
from stack.announce.outcomes import Outcome
from stack.announce.params import AnnounceParams
from stack.announce.records import decode_record
from stack.announce.shell.driver import STREAMS_PER_PEER_MAX
from stack.announce.shell.questions import WAITING_MAX
from stack.announce.shell.service import Announcements
from stack.bitswap.interfaces import Provider
from stack.errors import DecodeError, LocalProtocolError, NoProvider, NoSpace
from stack.gossipsub.shell.service import PubSub
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host
from stack.sansio.budget import Resource
from stack.sansio.delimited import encode_delimited, encode_uvarint
from stack.streams.interfaces import Stream
from tests.announce.build import record_bytes
from tests.net.hosts import connect, hosts, settled
from tests.turns import turns_measured

pytestmark = pytest.mark.anyio

ROOT = Cid.of(b"something to share")
QUICK = AnnounceParams(lonely=0.05, connect_interval=0.2, update_interval=0.2)


class Store:
    """Keeps announcements in memory."""

    def __init__(self) -> None:
        self.data: bytes | None = None

    def load(self) -> bytes | None:
        return self.data

    def save(self, data: bytes) -> None:
        self.data = data


@asynccontextmanager
async def member(host: Host, **options: Any) -> AsyncIterator[Announcements]:
    options.setdefault("params", QUICK)
    async with (
        PubSub.open(host, host._key) as pubsub,
        Announcements.open(host, pubsub, host._key, **options) as announcements,
    ):
        yield announcements


@asynccontextmanager
async def members(count: int, **options: Any) -> AsyncIterator[list[tuple[Host, Announcements]]]:
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(hosts(count))
        each = [await stack.enter_async_context(member(host, **options)) for host in made]
        yield list(zip(made, each, strict=True))


async def first(providers: AsyncIterator[Provider]) -> Provider:
    with anyio.fail_after(10):
        return await anext(providers)


async def test_who_knows_only_a_bootstrap_node_finds_whoever_announces() -> None:
    async with members(3, params=None) as [(a, at_a), (b, at_b), (c, at_c)]:
        await connect(a, b)
        at_a.announce(ROOT)
        await settled(lambda: at_a.waiting == 0)
        assert [item.root for item in at_a.mine()] == [ROOT]
        began = anyio.current_time()
        await connect(c, b)
        provider = await first(at_c.find_providers(ROOT))
        assert anyio.current_time() - began < 2
        assert (provider.peer, provider.source) == (a.peer_id, "announced")
        assert provider.addresses == tuple(a.addresses())
        assert at_b.mine() == ()
        assert "Table" in repr(at_c)


async def test_a_seeker_who_came_first_is_told_when_somebody_announces() -> None:
    async with members(3) as [(a, at_a), (b, _), (c, at_c)]:
        await connect(a, b)
        await connect(c, b)
        await settled(lambda: at_a.is_loaded and at_c.is_loaded)
        found: list[Provider] = []

        async def seek() -> None:
            found.append(await first(at_c.find_providers(ROOT)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(seek)
            await anyio.wait_all_tasks_blocked()
            at_a.announce(ROOT)
        assert [provider.peer for provider in found] == [a.peer_id]


async def test_a_public_name_is_found_by_its_words() -> None:
    async with members(3) as [(a, at_a), (b, _), (c, at_c)]:
        await connect(a, b)
        await connect(c, b)
        at_a.announce(ROOT, public_name="Holiday Film 2026.mkv", size=17)
        assert at_a.directory is None
        at_a.set_directory(Cid.of(b"directory"))
        assert at_a.directory == Cid.of(b"directory")
        await settled(lambda: at_a.waiting == 0)
        found: list[FoundName] = []
        with anyio.fail_after(10):
            async for each in at_c.search("film HOLIDAY"):
                found.append(each)
        assert [(each.name, each.size, each.cid, each.author) for each in found] == [
            ("Holiday Film 2026.mkv", 17, ROOT, a.peer_id)
        ]
        with anyio.fail_after(10):
            assert [each async for each in at_c.search("film work")] == []
        with pytest.raises(LocalProtocolError):
            at_c.search("...")


async def test_known_providers_say_by_whom_they_are_known_and_how_old_they_are() -> None:
    async with members(2) as [(a, at_a), (b, at_b)]:
        await connect(a, b)
        at_a.announce(ROOT)
        await settled(lambda: at_a.waiting == 0)
        known: list[KnownProvider] = []
        with anyio.fail_after(10):
            async for each in at_b.known_providers(ROOT):
                known.append(each)
        assert [(each.peer, each.told_by, each.addresses) for each in known] == [
            (a.peer_id, None, tuple(a.addresses()))
        ]
        assert 0 <= known[0].age < 60


async def test_what_was_withdrawn_is_not_found_any_more() -> None:
    wall = [1_800_000_000.0]
    options = {"params": replace(QUICK, update_interval=0.01), "wall_clock": lambda: wall[0]}
    async with members(3, **options) as [(a, at_a), (b, at_b), (c, at_c)]:
        await connect(a, b)
        await connect(c, b)
        at_a.announce(ROOT)
        await settled(lambda: at_a.waiting == 0)
        assert (await first(at_c.find_providers(ROOT))).peer == a.peer_id
        wall[0] += 30
        assert at_a.withdraw(ROOT)
        assert not at_a.withdraw(ROOT)
        await settled(lambda: at_a.waiting == 0)
        assert at_a.mine() == ()
        with anyio.fail_after(10):
            assert [each async for each in at_b.known_providers(ROOT)] == []


async def test_announcements_survive_a_restart() -> None:
    store = Store()
    async with hosts(2) as [host, other], member(other):
        async with member(host, store=store) as announcements:
            announcements.announce(ROOT, public_name="a name", size=3)
        assert store.data is not None
        async with member(host, store=store) as announcements:
            await connect(host, other)
            assert [(item.root, item.name, item.size) for item in announcements.mine()] == [(ROOT, "a name", 3)]
            await settled(lambda: announcements.waiting == 0 and announcements.is_loaded)


async def test_a_client_announces_and_asks_and_keeps_nothing() -> None:
    async with hosts(3) as [a, b, c], member(b), member(a, is_member=False) as at_a, member(c, is_member=False) as at_c:
        await connect(a, b)
        await connect(c, b)
        at_a.announce(ROOT)
        assert (await first(at_c.find_providers(ROOT))).peer == a.peer_id
        assert not at_a.is_loaded


async def test_a_lookup_that_nobody_holds_ends() -> None:
    async with members(2) as [(a, _), (b, at_b)]:
        await connect(a, b)
        providers = at_b.find_providers(ROOT)
        del providers
        gc.collect()
        async with aclosing(at_b.known_providers(ROOT)) as known:  # type: ignore[type-var]
            pass
        assert [each async for each in known] == []
        await settled(lambda: not at_b._machine._lookups)


class Lists:
    """Blocks of further keys, kept in one place."""

    def __init__(self) -> None:
        self.blocks: dict[Cid, bytes] = {}
        self.retained: list[frozenset[Cid]] = []
        self.fails = False

    async def put(self, cid: Cid, data: bytes) -> None:
        if self.fails:
            raise NoSpace("full")
        self.blocks[cid] = data

    async def retain(self, cids: frozenset[Cid]) -> None:
        self.retained.append(cids)

    async def get(self, cid: Cid, author: PeerId, addresses: tuple[Multiaddr, ...]) -> bytes | None:
        if self.fails:
            raise NoProvider("gone")
        return self.blocks.get(cid)


async def test_the_keys_behind_a_list_are_found_too() -> None:
    lists = Lists()
    roots = [Cid.of(b"%d" % number) for number in range(300)]
    async with members(3, lists=lists) as [(a, at_a), (b, at_b), (c, at_c)]:
        await connect(a, b)
        for root in roots:
            at_a.announce(root)
        await settled(lambda: at_a.waiting == 0 and bool(at_b._machine.table._lists))
        await connect(c, b)
        for root in (roots[0], roots[150], roots[299]):
            assert (await first(at_c.find_providers(root))).peer == a.peer_id
        named = at_a._machine._own.lists
        assert named and named <= lists.blocks.keys() and named in lists.retained
        lists.retained.clear()
        for root in roots[100:]:
            at_a.withdraw(root)
        await settled(lambda: lists.retained == [frozenset()])


async def test_a_list_that_cannot_be_kept_or_fetched_costs_only_what_is_in_it() -> None:
    lists = Lists()
    lists.fails = True
    async with members(2, lists=lists) as [(a, at_a), (b, at_b)]:
        await connect(a, b)
        for number in range(300):
            at_a.announce(Cid.of(b"%d" % number))
        await settled(lambda: at_a.waiting == 0)
        await settled(lambda: at_b._machine.reputation.score(a.peer_id) < 0)


async def test_attack_lists_that_nobody_brings_keep_no_others_from_coming() -> None:
    class Slow(Lists):
        async def get(self, cid: Cid, author: PeerId, addresses: tuple[Multiaddr, ...]) -> bytes | None:
            if cid not in self.blocks:
                await anyio.sleep_forever()
            return self.blocks[cid]

    lists = Slow()
    async with members(2, lists=lists) as [(a, at_a), (b, at_b)]:
        await connect(a, b)
        await settled(lambda: at_b.is_loaded)
        for number in range(20, 40):
            data = record_bytes(number, more=Cid.of(b"never"), issued=int(at_b._wall()))
            at_b._machine.receive_request(a.peer_id, Request(kind=Kind.PUT, record=data), *at_b._driver.now())
            at_b._driver.pump()
        for number in range(300):
            at_a.announce(Cid.of(b"%d" % number))
        await settled(lambda: bool(at_b._machine.table._lists))
        assert at_b._machine._state.fetching.waiting == 19


async def test_a_store_that_cannot_be_written_does_not_end_the_node() -> None:
    class Full(Store):
        def save(self, data: bytes) -> None:
            raise OSError("no room")

    async with hosts(1) as [host], member(host, store=Full()) as announcements:
        announcements.announce(ROOT)
        await anyio.wait_all_tasks_blocked()
        assert [item.root for item in announcements.mine()] == [ROOT]


async def test_what_was_kept_and_makes_no_sense_is_said() -> None:
    store = Store()
    store.data = b"\xff"
    async with hosts(1) as [host]:
        with pytest.raises(DecodeError):
            async with member(host, store=store):
                pass


async def test_an_error_of_the_caller_comes_out_as_it_is() -> None:
    async with hosts(1) as [host]:
        with pytest.raises(ZeroDivisionError):
            async with member(host):
                raise ZeroDivisionError


async def test_a_seeker_that_leaves_is_forgotten() -> None:
    async with members(2) as [(a, at_a), (b, at_b)]:
        await connect(b, a)
        await settled(lambda: at_a.is_loaded and at_b.is_loaded)
        providers = at_b.find_providers(ROOT)
        await settled(lambda: len(at_a._machine._serving) == 1)
        await providers.aclose()  # type: ignore[attr-defined]
        await settled(lambda: len(at_a._machine._serving) == 0)
        with pytest.raises(StopAsyncIteration):
            await anext(providers)


async def test_an_interest_ends_with_its_time() -> None:
    async with members(2, params=replace(QUICK, interest=0.1)) as [(a, at_a), (b, at_b)]:
        await connect(b, a)
        await settled(lambda: at_a.is_loaded and at_b.is_loaded)
        providers = at_b.find_providers(ROOT)
        await settled(lambda: len(at_a._machine._serving) == 1)
        await settled(lambda: len(at_a._machine._serving) == 0)
        await settled(lambda: not at_a._driver._served)
        del providers


async def test_ranks_are_told_to_the_machine() -> None:
    async with members(1) as [(a, at_a)]:
        at_a.delivered(a.peer_id)
        assert at_a._machine.reputation.score(a.peer_id) == 1
        at_a.failed(a.peer_id)
        assert at_a._machine.reputation.score(a.peer_id) == 0


@asynccontextmanager
async def member_and_stranger(**options: Any) -> AsyncIterator[tuple[Announcements, Host, Host]]:
    """A member, and a host that the test plays."""
    async with hosts(2) as [host, stranger], member(host, **options) as announcements:
        await connect(stranger, host)
        yield announcements, host, stranger


async def is_reset(stream: Stream) -> bool:
    with anyio.fail_after(20):
        try:
            while True:
                await stream.receive()
        except anyio.BrokenResourceError:
            return True
        except anyio.EndOfStream:
            return False


@pytest.mark.parametrize("data", [b"\xff" * 9 + b"\x01", encode_uvarint(1 << 40), b"\x02\xff\xff", b"\x05\x12\x03abc"])
async def test_a_question_that_is_none_resets_its_stream(data: bytes) -> None:
    async with member_and_stranger() as (announcements, host, stranger):
        stream = await stranger.open_stream(host.peer_id, PROTOCOL)
        await stream.send(data)
        assert await is_reset(stream)
        await settled(lambda: not announcements._driver._streams)
        await settled(lambda: host.peer_budget(stranger.peer_id).used(Resource.BYTES) == 0)


async def test_a_flood_of_streams_that_say_nothing_is_bounded_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.announce.shell.questions.REQUEST_SECONDS", 0.3)
    async with member_and_stranger() as (announcements, host, stranger):
        streams = [await stranger.open_stream(host.peer_id, PROTOCOL) for _ in range(100)]
        for stream in streams:
            try:
                await stream.send(b"\x90")
            except anyio.BrokenResourceError:
                continue
        await settled(lambda: bool(announcements._driver._streams))
        assert max(announcements._driver._streams.values()) <= STREAMS_PER_PEER_MAX
        await settled(lambda: not announcements._driver._streams)
        await settled(lambda: host.peer_budget(stranger.peer_id).used(Resource.BYTES) == 0)


async def test_who_does_not_read_what_is_pushed_is_pushed_no_more() -> None:
    async with member_and_stranger() as (announcements, host, stranger):
        key = announce_key(ROOT.multihash)
        stream = await stranger.open_stream(host.peer_id, PROTOCOL)
        await stream.send(encode_delimited(encode_request(Request(kind=Kind.FIND, key=key, keep=True))))
        await settled(lambda: len(announcements._driver._served) == 1)
        [served] = announcements._driver._served.values()
        for _ in range(1000):
            served.push(b"record")
        assert len(served._waiting) <= WAITING_MAX


async def test_an_answer_that_is_none_counts_as_no_answer() -> None:
    async def lie(stream: Stream) -> None:
        await stream.send(b"\x02\xff\xff")

    async with member_and_stranger() as (announcements, _, stranger):
        stranger.handle(PROTOCOL, lie)
        announcements._driver.peer_identified(stranger.peer_id, frozenset({PROTOCOL}))
        await settled(lambda: announcements._machine.reputation.score(stranger.peer_id) < 0)


async def test_a_member_that_is_gone_counts_as_no_answer() -> None:
    async with hosts(3) as [a, b, c], member(a) as at_a, member(b):
        await connect(a, b)
        await settled(lambda: at_a.is_loaded)
        at_a._driver.peer_identified(c.peer_id, frozenset({PROTOCOL}))
        at_a._driver._tasks.start(at_a._driver._connect, c.peer_id, (), owner="a dial")
        await settled(lambda: at_a._machine.reputation.score(c.peer_id) < 0)
        at_a._driver.peer_disconnected(c.peer_id)
        at_a._driver.peer_disconnected(c.peer_id)


async def test_others_have_their_turns_while_many_records_are_fetched_and_verified() -> None:
    """Four hundred records in one page took 92 ms of the event loop at once."""
    count = 400
    params = replace(QUICK, answers=1)
    async with hosts(2) as [a, b], member(a, params=params) as at_a:
        table = at_a._machine.table
        now = time.time()
        for number in range(10, 10 + count):
            record = record_bytes(
                number,
                keys=[announce_key(ROOT.multihash)],
                issued=int(now),
                address=f"/ip4/9.{number // 200}.{number % 200}.1/tcp/1",
            )
            assert table.insert(decode_record(record), now) is Outcome.NEW
        await settled(lambda: at_a.is_loaded)
        async with turns_measured("a page of 400 records", 0.03), member(b, params=params) as at_b:
            await connect(b, a)
            await settled(lambda: len(at_b._machine.table) >= count)
