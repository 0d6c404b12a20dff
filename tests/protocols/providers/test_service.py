"""The providers protocol on hosts, by itself and with the block exchange."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest

from stack.bitswap.interfaces import Provider
from stack.bitswap.shell.service import Bitswap
from stack.blocks.memory import MemoryStore
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.net.events import CloseReason
from stack.net.host import Host
from stack.protocols.providers import places
from stack.protocols.providers import service as module
from stack.protocols.providers.interfaces import RangeBook, announce_key
from stack.protocols.providers.messages import PROTOCOL, Member, RangesUpdate, Update, decode_update, encode_update
from stack.protocols.providers.ranges import LeafRanges
from stack.protocols.providers.service import ProvidersService
from stack.protocols.providers.subscription import SubscriptionId
from stack.sansio.budget import Resource
from stack.sansio.delimited import DelimitedReader, encode_delimited, encode_uvarint
from stack.streams.interfaces import Stream
from tests.bitswap.exchanges import some_blocks
from tests.bitswap.simulation import cid_of
from tests.net.hosts import connect, hosts, settled

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("any_line")]

ROOT = cid_of(1)


class Seen:
    """A swarm listener that keeps what it was told."""

    def __init__(self) -> None:
        self.found: dict[PeerId, tuple[Multiaddr, ...]] = {}
        self.ranges: dict[PeerId, list[tuple[int, int]] | None] = {}
        self.hearsay: dict[PeerId, bool] = {}

    def peer_found(self, peer: PeerId, addresses: Sequence[Multiaddr]) -> None:
        self.found[peer] = tuple(addresses)

    def peer_ranges(self, peer: PeerId, ranges: LeafRanges | None, *, hearsay: bool) -> None:
        self.hearsay[peer] = hearsay
        self.ranges[peer] = ranges.runs() if ranges is not None else None


class Node:
    def __init__(self, host: Host, book: RangeBook, service: ProvidersService) -> None:
        self.host, self.book, self.service = host, book, service

    def share(self, count: int, *runs: tuple[int, int]) -> LeafRanges:
        ranges = LeafRanges(count)
        for start, end in runs:
            ranges.add(start, end)
        self.book.add(ROOT, ranges)
        return ranges


@asynccontextmanager
async def nodes(count: int) -> AsyncIterator[list[Node]]:
    async with hosts(count, identify=False) as made, AsyncExitStack() as stack:
        built = []
        for host in made:
            book = RangeBook()
            built.append(Node(host, book, await stack.enter_async_context(ProvidersService.open(host, book))))
        yield built


async def test_a_receiver_learns_of_the_sharer_and_of_other_receivers() -> None:
    async with nodes(3) as [sharer, first, second]:
        sharer.share(10, (0, 10))
        first_ranges = first.share(10)
        second.share(10, (7, 9))
        seen = [Seen(), Seen()]
        leaves = []
        for node, listener in zip((first, second), seen, strict=True):
            leaves.append(node.service.join(ROOT, listener))
            await connect(node.host, sharer.host)
            node.service.ask(ROOT, sharer.host.peer_id)
            node.service.ask(ROOT, sharer.host.peer_id)
        await settled(lambda: all(len(listener.found) == 2 for listener in seen))
        assert seen[0].found[second.host.peer_id] == tuple(address for address in second.host.addresses())
        await settled(lambda: seen[0].ranges == {sharer.host.peer_id: None, second.host.peer_id: [(7, 9)]})
        first_ranges.add(2, 4)
        await settled(lambda: seen[1].ranges.get(first.host.peer_id) == [(2, 4)])
        assert repr(sharer.service) == "<ProvidersService <SwarmMachine 1 roots, 2 streams>>"
        for leave in leaves:
            leave()
        await settled(lambda: sharer.service._machine.streams == 0)
        assert sharer.service._outboxes == {}
        assert first.service._machine._roots == {}


async def test_our_own_record_is_looked_up_once_a_stream_however_many_updates_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of what the receivers of a swarm did a thirtieth was to list their own addresses for each update that they heard."""
    looked_up: list[PeerId] = []
    plain = Host.signed_record

    def counted(host: Host) -> bytes:
        looked_up.append(host.peer_id)
        return plain(host)

    monkeypatch.setattr(Host, "signed_record", counted)
    async with nodes(2) as [sharer, receiver]:
        sharer.share(64, (0, 64))
        ranges = receiver.share(64)
        receiver.service.join(ROOT, Seen())
        await connect(receiver.host, sharer.host)
        receiver.service.ask(ROOT, sharer.host.peer_id)
        here = receiver.host.peer_id
        for leaf in range(0, 10, 2):
            ranges.add(leaf, leaf + 1)
            part = (leaf // 2 + 1) / 64
            await settled(lambda part=part: sharer.service.receivers(ROOT).get(here) == part)  # type: ignore[misc]
        assert looked_up.count(sharer.host.peer_id) == 1
        assert looked_up.count(here) <= 2


async def test_a_peer_that_leaves_is_gone_for_the_others() -> None:
    async with nodes(3) as [sharer, first, second]:
        sharer.share(10, (0, 10))
        seen = Seen()
        for node in (first, second):
            node.share(10)
            node.service.join(ROOT, seen if node is first else Seen())
            await connect(node.host, sharer.host)
            node.service.ask(ROOT, sharer.host.peer_id)
        await settled(lambda: len(seen.found) == 2)
        await second.host.disconnect(sharer.host.peer_id)
        await settled(lambda: sharer.service._machine.streams == 1)


async def test_a_root_that_is_unknown_there_is_said_to_be_so() -> None:
    async with nodes(2) as [here, there]:
        await connect(here.host, there.host)
        here.service.join(ROOT, Seen())
        said = here.service.ask(ROOT, there.host.peer_id)
        assert not said.is_set()
        with anyio.fail_after(10):
            await said.wait()
        await settled(lambda: not here.service._asking)
        await settled(lambda: here.service._machine.streams == 0)
        assert there.service._outboxes == {}


async def test_a_peer_without_the_protocol_is_not_asked_again_and_again() -> None:
    async with nodes(2) as [here, there]:
        there.host.unhandle(PROTOCOL)
        await connect(here.host, there.host)
        here.service.join(ROOT, Seen())
        said = here.service.ask(ROOT, there.host.peer_id)
        with anyio.fail_after(10):
            await said.wait()
        assert here.service._machine.streams == 0 and not here.service._asking


async def test_a_peer_that_says_it_does_not_speak_the_protocol_is_asked_nothing() -> None:
    """Fifty fetches of a node with two hundred such peers opened ten thousand streams every four seconds."""
    async with nodes(2) as [here, there]:
        await connect(here.host, there.host)
        here.service.join(ROOT, Seen())
        here.host.identified(there.host.peer_id, frozenset({"/ipfs/bitswap/1.2.0"}), None)
        assert here.service.ask(ROOT, there.host.peer_id).is_set() and not here.service._asking
        here.host.identified(there.host.peer_id, frozenset({PROTOCOL}), None)
        assert not here.service.ask(ROOT, there.host.peer_id).is_set()


async def test_who_is_still_connected_when_one_connection_goes_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relayed connection goes a minute after there is a direct one: what a peer had then was all that was ever known of it."""
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.01)
    async with nodes(2) as [here, there]:
        theirs = there.share(10, (0, 2))
        here.share(10)
        await connect(here.host, there.host)
        seen = Seen()
        leave = here.service.join(ROOT, seen)
        here.service.ask(ROOT, there.host.peer_id)
        await settled(lambda: seen.ranges.get(there.host.peer_id) == [(0, 2)])
        [first] = here.host._swarm.of(there.host.peer_id)
        second = await here.host._swarm.establish(there.host.peer_id, there.host.addresses()[0])
        await first.aclose(CloseReason.DUPLICATE)
        await settled(lambda: first not in here.host._swarm.of(there.host.peer_id))
        theirs.add(5, 7)
        await settled(lambda: seen.ranges.get(there.host.peer_id) == [(0, 2), (5, 7)])
        leave()
        await second.aclose(CloseReason.REQUESTED)
        await settled(lambda: not here.service._outboxes and not here.service._asking)


async def test_what_was_left_while_a_stream_was_opened_is_not_asked() -> None:
    async with nodes(2) as [here, there]:
        there.share(3)
        await connect(here.host, there.host)
        leave = here.service.join(ROOT, Seen())
        here.service.ask(ROOT, there.host.peer_id)
        leave()
        await settled(lambda: not here.service._asking)
        assert here.service._machine.streams == 0


async def test_nothing_is_kept_of_a_peer_after_its_stream() -> None:
    async with nodes(2) as [here, there]:
        here.share(1000, (0, 10))
        await connect(there.host, here.host)
        scope = here.host.peer_budget(there.host.peer_id)
        rows, size = scope.used(Resource.ROWS), scope.used(Resource.BYTES)
        there.share(1000)
        leave = there.service.join(ROOT, Seen())
        there.service.ask(ROOT, here.host.peer_id)
        await settled(lambda: scope.used(Resource.ROWS) > rows)
        leave()
        await settled(lambda: scope.used(Resource.ROWS) == rows)
        await settled(lambda: scope.used(Resource.BYTES) <= size)


@pytest.mark.parametrize(
    "data",
    [
        encode_uvarint(1 << 30),
        encode_delimited(b"\xff\xff"),
        encode_delimited(encode_update(Update(key=announce_key(ROOT.multihash), record=b"forged"))),
        encode_delimited(encode_update(Update(key=announce_key(ROOT.multihash))))
        + encode_delimited(encode_update(Update())) * 1000,
    ],
    ids=["too long", "no message", "forged record", "flood"],
)
async def test_hostile_messages_end_the_stream_and_nothing_else(data: bytes) -> None:
    async with nodes(2) as [here, there]:
        here.share(10, (0, 10))
        await connect(there.host, here.host)
        stream = await there.host.open_stream(here.host.peer_id, PROTOCOL)
        await stream.send(data)
        with pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)), anyio.fail_after(5):
            while True:
                await stream.receive()
        await settled(lambda: here.service._machine.streams == 0)
        assert here.host.is_connected(there.host.peer_id)


async def test_bitmaps_that_come_in_pieces_are_understood() -> None:
    async with nodes(2) as [here, there]:
        here.share(1_000_000)
        seen = Seen()
        here.service.join(ROOT, seen)
        ranges = there.share(1_000_000)
        for index in range(0, 1_000_000, 300):
            ranges.add(index, index + 1)
        there.service.join(ROOT, Seen())
        await connect(there.host, here.host)
        there.service.ask(ROOT, here.host.peer_id)
        await settled(lambda: len(seen.ranges.get(there.host.peer_id) or ()) == 3334)


async def test_who_does_not_read_is_not_followed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    from stack.protocols.providers import service

    monkeypatch.setattr(service, "SEND_SECONDS", 0.1)
    async with nodes(2) as [here, there]:
        ranges = here.share(4_000_000)
        for index in range(0, 4_000_000, 50):
            ranges.add(index, index + 1)
        await connect(there.host, here.host)
        stream = await there.host.open_stream(here.host.peer_id, PROTOCOL)
        await stream.send(encode_delimited(encode_update(Update(key=announce_key(ROOT.multihash)))))
        await settled(lambda: here.service._machine.streams == 1)
        await settled(lambda: here.service._machine.streams == 0)


async def test_an_answer_is_one_message_with_record_and_ranges() -> None:
    async with nodes(2) as [here, there]:
        here.share(10, (0, 10))
        await connect(there.host, here.host)
        stream = await there.host.open_stream(here.host.peer_id, PROTOCOL)
        await stream.send(encode_delimited(encode_update(Update(key=announce_key(ROOT.multihash)))))
        reader = DelimitedReader(100_000)
        while (message := reader.next_message()) is None:
            reader.receive_data(await stream.receive())
        update = decode_update(message)
        assert update.ranges == RangesUpdate(leaves=10, complete=True)
        assert update.record == here.host.signed_record()
        await stream.send_eof()
        await settled(lambda: here.service._machine.streams == 0)


async def test_an_error_inside_reaches_its_user_unwrapped() -> None:
    async with hosts(1, identify=False) as [host]:
        with pytest.raises(KeyError):
            async with ProvidersService.open(host):
                raise KeyError("mine")
        assert PROTOCOL not in host.supported()


async def test_receivers_of_one_file_find_each_other_and_trade() -> None:
    """One sharer, two receivers who know only it; the sharer goes when both together have everything."""
    blocks = some_blocks(60, 20_000)
    root = blocks[0][0]
    number = {cid: index for index, (cid, _) in enumerate(blocks)}
    async with hosts(3, identify=False) as [sharer, *receivers], AsyncExitStack() as stack:
        book = RangeBook()
        whole = LeafRanges(60)
        whole.add(0, 60)
        book.add(root, whole)
        store = MemoryStore()
        await store.put(blocks)
        swarm = await stack.enter_async_context(ProvidersService.open(sharer, book))
        served = await stack.enter_async_context(Bitswap.open(sharer, store, swarm=swarm))
        ticket = Provider(sharer.peer_id, tuple(sharer.addresses()), "ticket")
        stores = []
        done = anyio.Event()
        finished: list[int] = []

        async def receive(host: Host, index: int) -> None:
            own, own_book = MemoryStore(), RangeBook()
            stores.append(own)
            ranges = LeafRanges(60)
            own_book.add(root, ranges)
            async with (
                ProvidersService.open(host, own_book) as swarm,
                Bitswap.open(host, own, swarm=swarm) as exchange,
                exchange.session(root, providers=[ticket]) as session,
            ):
                half = blocks[:30] if index == 0 else blocks[30:]
                numbers = [number[cid] for cid, _ in half]
                await session.fetch([cid for cid, _ in half], leaves=numbers)
                ranges.add(numbers[0], numbers[-1] + 1)
                finished.append(index)
                while len(finished) < 2:
                    await anyio.sleep(0.01)
                await host.disconnect(sharer.peer_id)
                await session.fetch([cid for cid, _ in blocks], leaves=range(60))
                reports = session.reports()
                assert {report.peer for report in reports} == {sharer.peer_id, receivers[1 - index].peer_id}
                finished.append(index)
                if len(finished) == 4:
                    done.set()
                await done.wait()

        async def gone() -> None:
            while len(finished) < 2:
                await anyio.sleep(0.01)
            sharer.unhandle(PROTOCOL)
            served.engine.looked_up = lambda *_: None  # type: ignore[method-assign]

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for index, host in enumerate(receivers):
                    tasks.start_soon(receive, host, index)
                tasks.start_soon(gone)
        for own in stores:
            assert all(await own.has([cid for cid, _ in blocks]))


async def test_what_another_says_of_a_provider_that_tells_nothing_itself_keeps_nobody_from_asking_it() -> None:
    """As of Kubo, which does not speak the protocol: with 23 of 40 blocks to come it was asked no more."""
    blocks = some_blocks(40, 20_000)
    root, leaves = blocks[0][0], LeafRanges(40)
    async with hosts(3, identify=False) as [sharer, liar, receiver], AsyncExitStack() as stack:
        store, own_book = MemoryStore(), RangeBook()
        await store.put(blocks)
        await stack.enter_async_context(Bitswap.open(sharer, store))
        own_book.add(root, leaves)
        lies = anyio.Event()

        async def lie(stream: Stream) -> None:
            nothing = RangesUpdate(leaves=40, bitmap=bytes(5))
            record = sharer.signed_record()
            for member in (
                Member(peer=sharer.peer_id, ranges=nothing),
                Member(peer=sharer.peer_id, record=record, ranges=nothing),
            ):
                await stream.send(encode_delimited(encode_update(Update(record=liar.signed_record(), member=member))))
            with anyio.move_on_after(5):
                while True:
                    await stream.receive()

        liar.handle(PROTOCOL, lie)
        async with (
            ProvidersService.open(receiver, own_book) as swarm,
            Bitswap.open(receiver, MemoryStore(), swarm=swarm) as exchange,
            exchange.session(root) as session,
        ):
            heard = session.machine.receive_ranges

            def hear(peer: PeerId, ranges: LeafRanges | None, *, hearsay: bool = False) -> None:
                heard(peer, ranges, hearsay=hearsay)
                lies.set()

            session.machine.receive_ranges = hear  # type: ignore[method-assign]
            for host in (sharer, liar):
                session.add_provider(Provider(host.peer_id, tuple(host.addresses()), "ticket"))
            with anyio.fail_after(20):
                await session.fetch([cid for cid, _ in blocks[:1]], leaves=[0])
                await lies.wait()
                await session.fetch([cid for cid, _ in blocks[1:]], leaves=range(1, 40))


async def test_one_group_of_addresses_does_not_keep_others_from_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "STREAMS_PER_ROOT_MAX", 3)
    async with nodes(5) as [here, *others]:
        here.share(10, (0, 10))
        honest = others[-1]
        monkeypatch.setattr(
            module, "group_of", lambda address: "10.0.0.1/32" if address in honest.host.addresses() else "192.0.2.1/32"
        )
        seen = [Seen() for _ in others]
        for node, listener in zip(others, seen, strict=True):
            node.service.join(ROOT, listener)
            await connect(here.host, node.host)
            node.service.ask(ROOT, here.host.peer_id)
            await settled(lambda: here.host.peer_id in listener.found)  # noqa: B023 - awaited in this turn
        assert honest.host.peer_id in here.service.receivers(ROOT)
        assert len(here.service.receivers(ROOT)) == 3


def test_the_root_is_not_in_what_is_asked() -> None:
    assert bytes(ROOT) not in encode_update(Update(key=announce_key(ROOT.multihash)))
    assert isinstance(ROOT, Cid)


async def test_a_peer_is_heard_no_more_on_many_streams_than_on_one() -> None:
    """100 updates a second on each of 32 streams, each of which is paid for with a whole bitmap, took all of the event loop."""
    cost, streams, updates = 0.005, 4, 50
    async with nodes(3) as [here, there, other]:
        shared = here.share(10, (0, 10))
        roots = [cid_of(number) for number in range(1, streams + 1)]
        for root in roots:
            here.book.add(root, shared)
        heard: list[PeerId] = []
        receive_update, now = here.service._machine.receive_update, 0.0

        def receive(id: SubscriptionId, peer: PeerId, *rest: Any, **more: Any) -> None:
            nonlocal now
            now += cost
            heard.append(peer)
            receive_update(id, peer, *rest, **more)

        here.service._machine.receive_update = receive  # type: ignore[method-assign]
        here.service._clock = lambda: now
        await connect(there.host, here.host)
        await connect(other.host, here.host)
        ask = encode_delimited(encode_update(Update(key=announce_key(ROOT.multihash))))
        update = encode_delimited(encode_update(Update(ranges=RangesUpdate(leaves=10, runs=((1, 2),)))))
        began = anyio.current_time()
        for root in roots:
            stream = await there.host.open_stream(here.host.peer_id, PROTOCOL)
            first = encode_delimited(encode_update(Update(key=announce_key(root.multihash))))
            await stream.send(first + update * updates)
        await settled(lambda: len(heard) * cost >= 0.25)
        stream = await other.host.open_stream(here.host.peer_id, PROTOCOL)
        await stream.send(ask)
        with anyio.fail_after(1.0):
            await settled(lambda: other.host.peer_id in heard)
        await anyio.sleep(0.1)
        spent = heard.count(there.host.peer_id) * cost
        assert spent <= 0.25 + (anyio.current_time() - began) / 8 + streams * cost
        assert here.service._machine.streams == streams + 1
