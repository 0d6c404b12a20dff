"""What hostile peers send to a running node: each by its number in the list of known attacks, and the bad inputs B6 to B8."""

import os
from collections.abc import Callable
from contextlib import suppress

import anyio
import pytest

from stack.bitswap.cutting import GROWTH
from stack.bitswap.engine import Engine
from stack.bitswap.events import PeerCut, SessionPeerDropped
from stack.bitswap.ledger import WANTS_MAX
from stack.bitswap.messages import (
    MESSAGE_BYTES_MAX,
    PROTOCOL_1_2,
    OutgoingMessage,
    Presence,
    Want,
    WantKind,
    decode_message,
)
from stack.bitswap.offences import COPIES_BYTES_MAX, UNWANTED_BLOCKS_MAX
from stack.bitswap.shell import wire
from stack.bitswap.shell.buffers import buffer_size
from stack.errors import RemoteProtocolError
from stack.multiformats import multihash, varint
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import RAW
from tests.bitswap.exchanges import Node, Raw, nodes, some_blocks
from tests.bitswap.simulation import cid_of, peer_named
from tests.bitswap.test_wire import quick_looks
from tests.net.hosts import connect, settled

MIB = 1024 * 1024


async def honest_fetch(server: Node, client: Node) -> None:
    """An honest peer is served, whatever else goes on: in well under a second where the machine is not busy otherwise."""
    blocks = some_blocks(3, 2000, seed=99)
    await server.store.put(blocks)
    with anyio.fail_after(20):
        async with client.exchange.session(blocks[0][0], providers=[server.provider]) as session:
            await session.fetch([cid for cid, _ in blocks])


@pytest.mark.anyio
async def test_A02_announced_messages_that_never_come_are_bounded_in_bytes_and_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quick_looks(monkeypatch)
    monkeypatch.setattr(wire, "MESSAGE_SECONDS", 0.5)
    async with nodes([], [], []) as [here, attacker, honest]:
        await connect(attacker.host, here.host)
        streams = []
        for index in range(100):
            # those beyond what a peer may have of the protocol are reset, perhaps before they have said anything
            with suppress(anyio.BrokenResourceError):
                stream = await attacker.host.open_stream(here.host.peer_id, PROTOCOL_1_2)
                # half of them send one byte, half enough to be given a buffer
                await stream.send(varint.encode(MESSAGE_BYTES_MAX) + bytes(1 if index % 2 else 2000))
                streams.append(stream)
        assert streams
        await settled(lambda: here.exchange._receiver.used > 0)
        assert here.exchange._receiver.used <= wire.RECEIVE_UNASKED_MAX
        await honest_fetch(here, honest)
        for stream in streams:
            with pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)), anyio.fail_after(10):
                await stream.receive()
        await settled(lambda: here.exchange._receiver.used == 0)


@pytest.mark.anyio
async def test_A02_an_unasked_peer_gets_more_memory_only_after_it_has_sent_a_part() -> None:
    async with nodes([], []) as [here, attacker]:
        await connect(attacker.host, here.host)
        stream = await attacker.host.open_stream(here.host.peer_id, PROTOCOL_1_2)
        await stream.send(varint.encode(MESSAGE_BYTES_MAX) + bytes(2000))
        await settled(lambda: here.exchange._receiver.used > 0)
        assert here.exchange._receiver.used == wire.FIRST_BYTES
        await stream.send(bytes(wire.FIRST_BYTES))
        await settled(lambda: here.exchange._receiver.used == buffer_size(GROWTH * wire.FIRST_BYTES))
        stream.reset()
        await settled(lambda: here.exchange._receiver.used == 0)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "wire_bytes",
    [
        varint.encode(MESSAGE_BYTES_MAX + 1) + bytes(10),
        b"\xff" * 10,
        varint.encode(3) + b"\xff\xff\xff",
        varint.encode(2000) + b"\xff" * 2000,
        varint.encode(100_000) + b"\x0a\x00" * 49_999 + b"\x1a\x00",
    ],
    ids=["too long", "endless length", "no protobuf", "long and no protobuf", "payload without prefix"],
)
async def test_A34_malformed_messages_end_the_stream_and_nothing_else(wire_bytes: bytes) -> None:
    async with nodes([], [], []) as [here, attacker, honest]:
        await connect(attacker.host, here.host)
        stream = await attacker.host.open_stream(here.host.peer_id, PROTOCOL_1_2)
        await stream.send(wire_bytes)
        with pytest.raises(anyio.BrokenResourceError), anyio.fail_after(5):
            await stream.receive()
        assert here.host.is_connected(attacker.host.peer_id)
        assert here.exchange._receiver.used == 0
        await honest_fetch(here, honest)


def test_A45_wants_are_forgotten_with_the_connection() -> None:
    engine = Engine()
    wants = [Want(cid_of(index)) for index in range(1000)]
    for connection in range(100):
        peer = peer_named(f"attacker {connection % 7}")
        engine.peer_connected(peer)
        engine.receive_wants(peer, wants, full=False)
        effect = engine.next_effect(0.0)
        if connection % 2:
            engine.looked_up(effect.id, [None] * len(effect.cids))  # type: ignore[union-attr]
        assert engine.wants <= 1000
        engine.peer_disconnected(peer)
        assert engine.wants == 0
        assert engine._absent == {}
    assert engine._peers == {}


@pytest.mark.anyio
async def test_A45_a_node_forgets_the_wants_of_a_peer_that_left() -> None:
    async with nodes([], []) as [here, attacker]:
        raw = Raw(attacker.host)
        for turn in range(5):
            await connect(attacker.host, here.host)
            wants = [Want(cid_of(turn * 10_000 + index), WantKind.HAVE) for index in range(1500)]
            await raw.send(here.host, OutgoingMessage(wants=wants))
            await settled(lambda: here.exchange.engine.wants > 0)
            assert here.exchange.engine.wants <= 1500
            raw.sender = None
            await attacker.host.disconnect(here.host.peer_id)
            await settled(lambda: here.exchange.engine.wants == 0)
        assert here.exchange._links == {}


@pytest.mark.anyio
async def test_A46_the_few_blocks_that_are_here_come_out_of_a_wantlist_of_eight_thousand() -> None:
    blocks = some_blocks(10)
    async with nodes(blocks, []) as [here, greedy]:
        raw = Raw(greedy.host)
        await connect(greedy.host, here.host)
        wants = [Want(cid_of(index)) for index in range(7990)] + [Want(cid) for cid, _ in blocks]
        with anyio.fail_after(10):  # 0.2 s where the machine is not busy otherwise
            await raw.send(here.host, OutgoingMessage(wants=wants[:4000]))
            await raw.send(here.host, OutgoingMessage(wants=wants[4000:]))
            while len(raw.blocks) < 10:
                await raw.changed.wait()
        assert set(raw.blocks) == {cid.multihash for cid, _ in blocks}
        assert here.exchange.engine.wants <= WANTS_MAX


@pytest.mark.anyio
async def test_A46_more_wants_than_a_server_keeps_are_all_answered_in_the_end() -> None:
    blocks = some_blocks(1500, 64)
    async with (
        nodes([], blocks) as [here, there],
        here.exchange.session(blocks[0][0], providers=[there.provider]) as session,
    ):
        with anyio.fail_after(20):
            await session.fetch([cid for cid, _ in blocks], lambda cid, data: None)


@pytest.mark.anyio
async def test_A47_presences_for_what_nobody_asked_leave_no_trace() -> None:
    async with nodes([], []) as [here, attacker]:
        raw = Raw(attacker.host)
        await connect(attacker.host, here.host)
        async with here.exchange.session(cid_of(0), providers=[attacker.provider]) as session:
            with anyio.move_on_after(5):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(session.get, cid_of(0))
                    await raw.received(1)
                    for turn in range(4):
                        presences = [Presence(cid_of(turn * 5000 + index), index % 2 == 0) for index in range(1, 5000)]
                        await raw.send(here.host, OutgoingMessage(presences=presences))
                    await raw.send(here.host, OutgoingMessage(wants=[Want(cid_of(1))]))
                    await settled(lambda: here.exchange.engine.wants == 1)
                    tasks.cancel_scope.cancel()
            assert session.machine.wanted == 0
            assert len(here.exchange._links[attacker.host.peer_id].wants) == 0
        assert len(here.exchange.wanted) == 0


@pytest.mark.anyio
async def test_A48_identity_cids_are_passed_over_and_longer_ones_refused() -> None:
    blocks = some_blocks(1)
    async with nodes(blocks, []) as [here, attacker]:
        raw = Raw(attacker.host)
        await connect(attacker.host, here.host)
        inline = Cid.of(b"hello", hash="identity")
        too_long = Cid.v1(RAW, multihash.encode(multihash.IDENTITY, bytes(129)))
        wants = [
            Want(inline, send_dont_have=True),
            Want(inline, WantKind.HAVE, send_dont_have=True),
            Want(inline, cancel=True),
            Want(too_long, send_dont_have=True),
            Want(blocks[0][0]),
        ]
        await raw.send(here.host, OutgoingMessage(wants=wants))
        messages = await raw.received(1)
        assert raw.blocks == [blocks[0][0].multihash]
        assert [message.presences for message in messages] == [()]
        assert here.exchange.engine.wants == 0


def test_A48_a_block_under_a_long_identity_prefix_is_refused() -> None:
    prefix = b"\x01\x55\x00" + varint.encode(129)
    payload = b"\x0a" + bytes([len(prefix)]) + prefix + b"\x12\x01x"
    with pytest.raises(RemoteProtocolError):
        decode_message(memoryview(b"\x1a" + bytes([len(payload)]) + payload))


@pytest.mark.anyio
@pytest.mark.parametrize("wanting", [False, True], ids=["unsolicited", "wrong hash"])
async def test_A49_blocks_that_nobody_asked_for_are_dropped_and_the_peer_is_cut(wanting: bool) -> None:
    async with nodes([], [], []) as [here, attacker, honest]:
        raw = Raw(attacker.host)
        await connect(attacker.host, here.host)
        async with here.exchange.session(cid_of(0)) as session, anyio.create_task_group() as tasks:
            if wanting:
                session.add_provider(attacker.provider)
                tasks.start_soon(session.get, cid_of(0))
                await raw.received(1)
            sent = 0
            try:
                with anyio.fail_after(20):
                    for turn in range(100):
                        await raw.send(here.host, OutgoingMessage(blocks=some_blocks(100, 64, seed=turn)))
                        sent += 100
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass
            await settled(lambda: not here.host.is_connected(attacker.host.peer_id))
            tasks.cancel_scope.cancel()
        assert [cid async for cid in here.store.cids()] == []
        assert any(isinstance(event, PeerCut) and event.blocks > UNWANTED_BLOCKS_MAX for event in here.events)
        await settled(lambda: here.exchange._receiver.used == 0)
        raw.sender = None
        await connect(attacker.host, here.host)
        with pytest.raises((anyio.BrokenResourceError, anyio.ClosedResourceError)):
            while True:  # it is refused from now on
                await raw.send(here.host, OutgoingMessage(blocks=some_blocks(1)))
        await honest_fetch(here, honest)


@pytest.mark.anyio
async def test_A49_copies_of_what_was_asked_are_no_offence_within_a_bound_and_no_progress() -> None:
    """Finding 28."""
    blocks = some_blocks(2, 240_000)
    each_time = sum(len(data) for _, data in blocks)
    async with nodes([], [], []) as [here, other, honest]:
        raw = Raw(other.host)
        async with here.exchange.session(blocks[0][0], providers=[other.provider]) as session:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.fetch, [cid for cid, _ in blocks])
                await raw.received(1)
                await raw.send(here.host, OutgoingMessage(blocks=blocks))
            for _ in range(COPIES_BYTES_MAX // each_time):
                await raw.send(here.host, OutgoingMessage(blocks=blocks))
            copies = COPIES_BYTES_MAX // each_time * each_time
            await settled(lambda: session.reports()[0].duplicate_bytes == copies)
            assert session.reports()[0].dropped is None
            assert here.host.is_connected(other.host.peer_id)
            with pytest.raises((anyio.BrokenResourceError, anyio.ClosedResourceError)), anyio.fail_after(20):
                while True:
                    await raw.send(here.host, OutgoingMessage(blocks=blocks))
            assert session.reports()[0].dropped == "sent a wrong block"
        await honest_fetch(here, honest)


@pytest.mark.anyio
async def test_A49_what_was_asked_is_welcome_however_late() -> None:
    """Finding 11: a provider that stood still sends what others have brought long since."""
    blocks = some_blocks(600, 64)
    async with nodes([], [], blocks) as [here, late, good]:
        raw = Raw(late.host)
        async with here.exchange.session(blocks[0][0], providers=[late.provider]) as session:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.fetch, [cid for cid, _ in blocks])
                await raw.received(1)
                session.add_provider(good.provider)
            owed = [block for block in blocks if block[0] in told_to(raw)]
            await here.host.disconnect(good.host.peer_id)
            await raw.send(here.host, OutgoingMessage(blocks=owed))
            await settled(lambda: session.reports()[0].duplicate_bytes == 64 * len(owed))
            assert (session.reports()[0].wrong_blocks, session.reports()[0].dropped) == (0, None)
            strange = some_blocks(1, 64, seed=9)
            await raw.send(here.host, OutgoingMessage(blocks=strange))
            await settled(lambda: session.reports()[0].dropped is not None)


def told_to(raw: Raw) -> set[Cid]:
    """What a peer has been told that we want, ever."""
    return {want.cid for message in raw.messages for want in message.wants if not want.cancel}


async def _answer_wrongly(raw: Raw, victim: Node, make: Callable[[Cid], bytes]) -> None:
    """Answer every want of the victim with other bytes."""
    await raw.received(1)
    wants = [want for message in raw.messages for want in message.wants if not want.cancel]
    for want in wants:
        data = make(want.cid)
        await raw.send(victim.host, OutgoingMessage(blocks=[(Cid.of(data), data)]))


@pytest.mark.anyio
async def test_B6_a_provider_of_wrong_blocks_is_dropped_reported_and_replaced() -> None:
    blocks = some_blocks(40, 5000)
    async with nodes([], [], blocks) as [here, liar, good]:
        raw = Raw(liar.host)
        got: dict[Cid, bytes] = {}

        def sink(cid: Cid, data: memoryview) -> None:
            got[cid] = bytes(data)

        async with here.exchange.session(blocks[0][0], providers=[liar.provider]) as session:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.fetch, [cid for cid, _ in blocks], sink)
                await raw.received(1)
                data = b"not what you asked for"
                await raw.send(here.host, OutgoingMessage(blocks=[(Cid.of(data), data)]))
                await settled(lambda: session.reports()[0].dropped is not None)
                assert got == {}
                session.add_provider(good.provider)
            reports = session.reports()
        assert (reports[0].wrong_blocks, reports[0].dropped) == (1, "sent a wrong block")
        assert reports[1].blocks == 40
        assert got == dict(blocks)
        assert any(isinstance(event, SessionPeerDropped) and event.peer == liar.host.peer_id for event in here.events)


@pytest.mark.anyio
async def test_B8_a_flood_of_wants_delays_nobody_else() -> None:
    async with nodes([], [], []) as [here, attacker, honest]:
        raw = Raw(attacker.host)
        await connect(attacker.host, here.host)

        async def flood() -> None:
            wants = [Want(cid_of(index), send_dont_have=True) for index in range(1000)]
            for _ in range(60):
                await raw.send(here.host, OutgoingMessage(wants=wants))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(flood)
            await raw.received(1)
            await honest_fetch(here, honest)
            tasks.cancel_scope.cancel()
        assert here.exchange.engine.wants <= 20_000


@pytest.mark.anyio
async def test_B8_a_reader_that_reads_nothing_holds_only_its_share() -> None:
    blocks = [(Cid.of(data), data) for data in (os.urandom(8) * (MIB // 8) for _ in range(40))]
    async with nodes(blocks, [], []) as [here, attacker, honest]:
        await connect(attacker.host, here.host)

        async def never_read(stream: object) -> None:
            await anyio.sleep_forever()

        attacker.host.handle(PROTOCOL_1_2, never_read)
        stream = await attacker.host.open_stream(here.host.peer_id, PROTOCOL_1_2)
        from stack.bitswap.messages import encode_message

        await stream.send_buffers(*encode_message(OutgoingMessage(wants=[Want(cid) for cid, _ in blocks])))
        await settled(lambda: here.exchange.engine._total > 0)
        await honest_fetch(here, honest)
        assert here.exchange.engine._total <= 2 * MIB
        await attacker.host.disconnect(here.host.peer_id)
        await settled(lambda: here.exchange.engine._total == 0)
