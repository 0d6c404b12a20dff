"""Blocks on their way to peers that read slowly, not at all, or break off; and an index that is busy."""

from collections.abc import Sequence
from functools import partial

import anyio
import pytest

from stack.bitswap.engine import Engine, EngineParameters
from stack.bitswap.messages import PROTOCOL_1_2, OutgoingMessage, Want, encode_message
from stack.bitswap.served_peer import PIECE_BYTES
from stack.bitswap.shell import lane
from stack.bitswap.shell import link as link_module
from stack.bitswap.shell import shelf as shelf_module
from stack.bitswap.shell.lane import SLICE_BYTES
from stack.bitswap.shell.shelf import READERS, SHELF_BYTES, Shelf, Shelved
from stack.blocks.interfaces import Block
from stack.errors import LimitExceeded, StoreError
from stack.multiformats.cid import Cid
from stack.net.stream import NegotiatedStream
from stack.sansio.budget import Resource
from stack.sansio.interfaces import Buffer
from stack.streams.interfaces import Stream
from tests.bitswap.exchanges import Node, Raw, nodes, some_blocks
from tests.bitswap.test_attacks import honest_fetch
from tests.net.hosts import connect, settled

MIB = 1024 * 1024


async def ask(asker: Node, server: Node, blocks: Sequence[Block]) -> Stream:
    """A wantlist by hand."""
    await connect(asker.host, server.host)
    stream = await asker.host.open_stream(server.host.peer_id, PROTOCOL_1_2)
    await stream.send_buffers(
        *encode_message(OutgoingMessage(wants=[Want(cid, send_dont_have=True) for cid, _ in blocks]))
    )
    return stream


def nothing_held(node: Node) -> bool:
    """No memory of the exchange is lent."""
    return node.exchange.shelf.used == 0 and node.exchange.engine._total == 0


@pytest.mark.anyio
async def test_finding_10_forty_who_read_nothing_keep_no_newcomer_out() -> None:
    blocks = some_blocks(4, MIB)
    async with nodes(blocks, *[[]] * 41) as [here, honest, *others]:

        async def never_read(stream: object) -> None:
            await anyio.sleep_forever()

        for other in others:
            other.host.handle(PROTOCOL_1_2, never_read)
            await ask(other, here, blocks)
        engine = here.exchange.engine
        await settled(lambda: engine._total_unproven == 40 * PIECE_BYTES)
        await anyio.wait_all_tasks_blocked()
        assert here.exchange.shelf.used <= SHELF_BYTES
        async with honest.exchange.session(blocks[0][0], providers=[here.provider]) as session:
            with anyio.fail_after(20):
                await session.fetch([cid for cid, _ in blocks])
        for other in others:
            await other.host.disconnect(here.host.peer_id)
        await settled(lambda: nothing_held(here))


@pytest.mark.anyio
async def test_finding_10_a_crowd_of_slow_readers_gets_everything_from_a_few_megabytes() -> None:
    blocks = [*some_blocks(2, MIB), *some_blocks(1, 300_000, seed=1)]
    async with nodes(blocks, *[[]] * 8) as [here, *others]:
        here.exchange.shelf = Shelf(2 * MIB)
        here.exchange.engine = Engine(EngineParameters(proven=1 << 40))
        most = 0

        got = [bytearray() for _ in others]

        async def read_slowly(number: int, stream: Stream) -> None:
            nonlocal most
            while True:
                got[number] += await stream.receive(16_384)
                most = max(most, here.exchange.shelf.used)
                await anyio.lowlevel.checkpoint()

        for number, other in enumerate(others):
            other.host.handle(PROTOCOL_1_2, partial(read_slowly, number))
            await ask(other, here, blocks)
        size = sum(len(data) for _, data in blocks)
        await settled(lambda: all(len(part) > size for part in got))
        assert all(data in part for part in got for _, data in blocks)
        assert most <= 2 * MIB
        await settled(lambda: nothing_held(here))


@pytest.mark.anyio
async def test_finding_9_a_block_whose_stream_was_reset_half_way_comes_again_unasked() -> None:
    blocks = some_blocks(3, MIB)
    async with nodes(blocks, []) as [here, there]:
        raw = Raw(there.host)
        serve, broken = raw._serve, 0

        async def break_twice(stream: Stream) -> None:
            nonlocal broken
            if broken < 2:
                broken += 1
                await stream.receive(100_000)
                stream.reset()
            else:
                await serve(stream)

        there.host.handle(PROTOCOL_1_2, break_twice)
        await ask(there, here, blocks)
        await settled(lambda: set(raw.blocks) == {cid.multihash for cid, _ in blocks})
        assert broken == 2
        await settled(lambda: nothing_held(here))


@pytest.mark.anyio
async def test_finding_23_what_the_budget_had_no_room_for_is_sent_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf_module, "ROOM_ATTEMPTS", 2)
    monkeypatch.setattr(shelf_module, "ROOM_PAUSE_SECONDS", 0.01)
    blocks = some_blocks(3, MIB)
    async with nodes(blocks, []) as [here, there]:
        raw = Raw(there.host)
        await connect(there.host, here.host)
        scope = here.host.peer_budget(there.host.peer_id)
        with scope.reserve(Resource.BYTES, 64 * MIB - scope.used(Resource.BYTES) - 900_000):
            await ask(there, here, blocks)
            served = here.exchange.engine._peers[there.host.peer_id]
            await settled(lambda: served.failures > 1)
            assert raw.blocks == []
        await settled(lambda: len(raw.blocks) == 3)
        assert not [presence for message in raw.messages for presence in message.presences]
        await settled(lambda: nothing_held(here))


@pytest.mark.anyio
@pytest.mark.parametrize("error", [StoreError("database is locked"), RuntimeError("can't start new thread")])
async def test_finding_30_a_busy_index_does_not_say_that_a_block_is_absent(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(link_module, "LOOK_UP_PAUSE", 0.01)
    blocks = some_blocks(3)
    async with nodes(blocks, []) as [here, there]:
        raw = Raw(there.host)
        sizes, asked = here.store.sizes, 0

        async def busy(cids: Sequence[Cid]) -> Sequence[int | None]:
            nonlocal asked
            asked += 1
            if asked < 5:
                raise error
            return await sizes(cids)

        here.store.sizes = busy  # type: ignore[method-assign, assignment]
        await ask(there, here, blocks)
        await settled(lambda: len(raw.blocks) == 3)
        assert not [presence for message in raw.messages for presence in message.presences]


@pytest.mark.anyio
async def test_a_store_that_cannot_be_read_for_a_moment_loses_no_want() -> None:
    blocks = some_blocks(2, 200_000)
    async with nodes(blocks, []) as [here, there]:
        raw = Raw(there.host)
        get, failed = here.store.get, 0

        async def fails_at_first(cid: Cid) -> bytes:
            nonlocal failed
            failed += 1
            if failed < 3:
                raise StoreError("input/output error")
            return await get(cid)

        here.store.get = fails_at_first  # type: ignore[method-assign]
        await ask(there, here, blocks)
        await settled(lambda: len(raw.blocks) == 2)
        await settled(lambda: nothing_held(here))


@pytest.mark.anyio
async def test_after_a_send_that_stood_still_others_of_its_peer_do_not_wait_as_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blocks = some_blocks(8, MIB)
    async with nodes(blocks, [], []) as [here, there, honest]:
        monkeypatch.setattr("stack.bitswap.shell.lane.seconds_for", lambda size: 0.5)
        monkeypatch.setattr(lane, "SLICE_SECONDS", 0.5)

        async def stop_after_two(stream: Stream) -> None:
            taken = 0
            while taken < 2 * MIB:
                taken += len(await stream.receive())
            await anyio.sleep_forever()

        there.host.handle(PROTOCOL_1_2, stop_after_two)
        await ask(there, here, blocks)
        served = here.exchange.engine._peers[there.host.peer_id]
        await settled(lambda: served.failures >= 1)
        await settled(lambda: served.charged == 0)  # the messages behind it went with it
        assert served.ledger.held + len(served.active) > 0
        await honest_fetch(here, honest)


@pytest.mark.anyio
async def test_a_message_is_not_given_up_while_it_is_taken_however_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a hundred receivers behind one upload of 60 KB/s has half a KiB a second; what is given up has filled that for nothing."""
    blocks = some_blocks(1, 2 * PIECE_BYTES)
    monkeypatch.setattr(lane, "SLICE_SECONDS", 0.6)
    send = NegotiatedStream.send_buffers

    async def slow(self: NegotiatedStream, *items: Buffer) -> None:
        if sum(map(len, items)) >= SLICE_BYTES:
            await anyio.sleep(0.3 * sum(map(len, items)) / SLICE_BYTES)
        await send(self, *items)

    monkeypatch.setattr(NegotiatedStream, "send_buffers", slow)
    async with nodes(blocks, []) as [here, there]:
        async with there.exchange.session(blocks[0][0], providers=[here.provider]) as session:
            with anyio.fail_after(20):
                await session.fetch([cid for cid, _ in blocks])
            assert sum(report.duplicate_bytes for report in session.reports()) == 0
        assert here.exchange.engine._peers[there.host.peer_id].failures == 0


async def _read_one(shelf: Shelf, id: int, freed: list[int], size: int = MIB) -> Shelved:
    async def read() -> Shelved:
        return Shelved([bytes(10), b"ab" * 50_000], [], [], size, lambda: freed.append(id))

    return await shelf.put(id, read)


@pytest.mark.anyio
async def test_what_was_used_last_stays_longest_on_the_shelf() -> None:
    shelf, freed = Shelf(2 * MIB), []
    for id in (1, 2):
        await _read_one(shelf, id, freed)
    assert shelf.find(1) is not None
    await _read_one(shelf, 3, freed)
    assert freed == [2] and shelf.find(2) is None and shelf.used == 2 * MIB
    await _read_one(shelf, 4, freed, size=5 * MIB)  # one is always kept
    assert freed == [2, 1, 3] and shelf.used == 5 * MIB
    shelf.drop(4)
    shelf.drop(4)
    assert shelf.used == 0


@pytest.mark.anyio
async def test_pieces_are_the_whole_message_whatever_its_parts() -> None:
    data = [bytes([index]) * size for index, size in enumerate((0, 7, PIECE_BYTES, 3, 3 * PIECE_BYTES + 1, 1))]
    shelved = Shelved(data, [], [], 0, lambda: None)
    found = b""
    while piece := shelved.piece(len(found)):
        assert len(piece) == PIECE_BYTES or len(found) + len(piece) == shelved.size
        found += piece
    assert found == b"".join(data)


@pytest.mark.anyio
async def test_only_so_many_messages_are_read_at_a_time_and_the_shelf_is_cleared_for_them() -> None:
    shelf, freed, reading, most = Shelf(), [], 0, 0
    await _read_one(shelf, 99, freed)
    refused = 1

    async def read() -> Shelved:
        nonlocal reading, most, refused
        if refused:
            refused -= 1
            raise LimitExceeded("bytes of host", 1)
        reading += 1
        most = max(most, reading)
        await anyio.lowlevel.checkpoint()
        reading -= 1
        return Shelved([], [], [], 1, lambda: None)

    async with anyio.create_task_group() as tasks:
        for id in range(20):
            tasks.start_soon(shelf.put, id, read)
    assert most == READERS
    assert freed == [99]
