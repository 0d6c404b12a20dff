"""Messages on their way to a node whose peers announce much and send little: findings 4 and 5, and their kin."""

from collections.abc import Sequence
from contextlib import suppress

import anyio
import pytest

from stack.bitswap.interfaces import Provider
from stack.bitswap.messages import MESSAGE_BYTES_MAX, PROTOCOL_1_2, Message, OutgoingMessage, Want, encode_message
from stack.bitswap.shell import intake as intake_module
from stack.bitswap.shell import wire
from stack.bitswap.shell.intake import Intake
from stack.bitswap.shell.service import Bitswap
from stack.blocks.memory import MemoryStore
from stack.identity.peer_id import PeerId
from stack.multiformats import varint
from stack.sansio.budget import Resource
from stack.streams.interfaces import Stream
from stack.streams.threads import CallSoon
from tests.bitswap.exchanges import Node, nodes, some_blocks
from tests.bitswap.simulation import cid_of
from tests.bitswap.test_attacks import honest_fetch
from tests.bitswap.test_wire import quick_looks
from tests.net.hosts import connect, hosts, settled

MIB = 1024 * 1024


async def ask_at_length(server: Node, client: Node) -> None:
    """An honest peer whose wantlist, written by hand, is long: it needs memory there as the attackers' messages do."""
    blocks = some_blocks(3, 2000, seed=98)
    await server.store.put(blocks)
    await connect(client.host, server.host)
    stream = await client.host.open_stream(server.host.peer_id, PROTOCOL_1_2)
    wants = [Want(cid_of(index)) for index in range(100)] + [Want(cid) for cid, _ in blocks]
    sent = server.exchange.engine.ledger(client.host.peer_id)
    await stream.send_buffers(*encode_message(OutgoingMessage(wants=wants)))
    await settled(lambda: sent is not None and sent.blocks_sent == 3)
    await stream.aclose()


async def open_many(attacker: Node, victim: Node, count: int, data: bytes) -> list[Stream]:
    await connect(attacker.host, victim.host)
    streams: list[Stream] = []
    for _ in range(count):
        with suppress(anyio.BrokenResourceError):  # more than a peer may have are refused, sooner or later
            streams.append(await attacker.host.open_stream(victim.host.peer_id, PROTOCOL_1_2))
            await streams[-1].send(data)
    return streams


def nothing_is_held(node: Node) -> bool:
    receiver = node.exchange._receiver
    return receiver.used == 0 and not receiver._loans and not receiver._lender._turns


@pytest.mark.anyio
@pytest.mark.parametrize("sent", [1, 2000, 70_000], ids=["one byte", "two thousand", "more than the first buffer"])
async def test_finding_4_one_stranger_with_a_hundred_half_sent_messages_keeps_nobody_waiting(sent: int) -> None:
    async with nodes([], [], [], []) as [here, attacker, asker, honest]:
        data = varint.encode(MESSAGE_BYTES_MAX) + bytes(sent)
        await open_many(attacker, here, 100, data)
        await settled(lambda: here.exchange._receiver.used > 0)
        assert here.exchange._receiver.used <= wire.RECEIVE_UNASKED_MAX // 8
        await ask_at_length(here, asker)
        await honest_fetch(here, honest)
        for node in (attacker, asker, honest):
            await node.host.disconnect(here.host.peer_id)
        await settled(lambda: nothing_is_held(here))
        assert here.host.budget.used(Resource.BYTES) == 0


@pytest.mark.anyio
async def test_finding_4_many_identities_with_half_sent_messages_keep_nobody_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stack.bitswap.lending.IDLE_SECONDS", 60.0)  # nothing is taken back before all is taken
    async with nodes(*[[]] * 22) as [here, honest, *attackers]:
        for attacker in attackers:
            await open_many(attacker, here, 10, varint.encode(60_000) + bytes(1000))
        await settled(lambda: here.exchange._receiver.used >= wire.RECEIVE_UNASKED_MAX - 64 * 1024)
        monkeypatch.setattr("stack.bitswap.lending.IDLE_SECONDS", 0.2)
        with anyio.fail_after(8):
            await ask_at_length(here, honest)
        for node in (honest, *attackers):
            await node.host.disconnect(here.host.peer_id)
        await settled(lambda: nothing_is_held(here))


@pytest.mark.anyio
async def test_a_drip_of_a_byte_now_and_then_ends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_looks(monkeypatch)
    async with nodes([], []) as [here, attacker]:
        (stream,) = await open_many(attacker, here, 1, varint.encode(60_000) + bytes(2000))
        with anyio.fail_after(5), pytest.raises((anyio.BrokenResourceError, anyio.ClosedResourceError)):
            while True:
                await stream.send(b"x")
                await anyio.sleep(0.01)
        await settled(lambda: nothing_is_held(here))


@pytest.mark.anyio
async def test_half_a_message_and_then_a_new_stream_again_and_again_holds_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quick_looks(monkeypatch)
    async with nodes([], [], []) as [here, attacker, honest]:
        await connect(attacker.host, here.host)
        for turn in range(50):
            (stream,) = await open_many(attacker, here, 1, varint.encode(500_000) + bytes(100_000))
            if turn % 2:
                stream.reset()
        await ask_at_length(here, honest)
        await settled(lambda: nothing_is_held(here))


@pytest.mark.anyio
async def test_finding_5_providers_that_announce_and_send_nothing_stop_no_fetch() -> None:
    blocks = some_blocks(8, MIB)

    async def lie(node: Node, stream: Stream) -> None:
        await stream.receive()
        for _ in range(2):
            answer = await node.host.open_stream(stream.remote_peer, PROTOCOL_1_2)
            await answer.send(varint.encode(MESSAGE_BYTES_MAX) + b"\x0a")
        await anyio.sleep_forever()

    async with nodes([], blocks, *[[]] * 6) as [here, honest, *liars]:
        for liar in liars:
            liar.host.handle(PROTOCOL_1_2, lambda stream, liar=liar: lie(liar, stream))
        got: list[int] = []
        async with here.exchange.session(blocks[0][0], providers=[liar.provider for liar in liars]) as session:
            with anyio.fail_after(20):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(session.fetch, [cid for cid, _ in blocks], lambda cid, data: got.append(len(data)))
                    await settled(lambda: here.exchange._receiver.used > 0)
                    assert here.exchange._receiver.used <= 12 * wire.FIRST_BYTES
                    session.add_provider(honest.provider)
        assert len(got) == 8
        for node in (honest, *liars):
            await here.host.disconnect(node.host.peer_id)
        await settled(lambda: nothing_is_held(here))


@pytest.mark.anyio
async def test_idle_streams_are_closed_in_the_end_and_the_oldest_of_many_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with nodes([], []) as [here, there]:
        streams = await open_many(there, here, wire.IDLE_STREAMS_MAX, b"\0")
        idle = here.exchange._receiver._idle
        await settled(lambda: len(idle[there.host.peer_id]) == wire.IDLE_STREAMS_MAX)
        await open_many(there, here, 1, b"\0")
        with pytest.raises(anyio.BrokenResourceError), anyio.fail_after(5):
            await streams[0].receive()
        await streams[1].send(b"\0")
        monkeypatch.setattr(wire, "IDLE_SECONDS", 0.05)
        (short,) = await open_many(there, here, 1, b"\0")
        with pytest.raises(anyio.BrokenResourceError), anyio.fail_after(5):
            await short.receive()
        await there.host.disconnect(here.host.peer_id)
        await settled(lambda: not idle)


@pytest.mark.anyio
async def test_a_receiver_that_raises_loses_no_memory() -> None:
    async with nodes([], []) as [here, there]:

        def fail(*_: object) -> None:
            raise RuntimeError("a surprise")

        here.exchange._receiver._receive = fail
        wants: Sequence[Want] = [Want(cid_of(index)) for index in range(100)]
        (stream,) = await open_many(there, here, 1, b"".join(encode_message(OutgoingMessage(wants=wants))))
        with pytest.raises(anyio.BrokenResourceError), anyio.fail_after(5):
            await stream.receive()
        assert nothing_is_held(here)


@pytest.mark.anyio
async def test_attack_5_the_longest_wantlist_keeps_nobody_waiting() -> None:
    async with nodes([], []) as [here, there]:
        wants = [Want(cid_of(index)) for index in range(8192)]
        (stream,) = await open_many(there, here, 1, b"".join(encode_message(OutgoingMessage(wants=wants, full=True))))
        turns = 0
        engine = here.exchange.engine
        with anyio.fail_after(20):
            while not engine.wants:
                await anyio.lowlevel.checkpoint()
            quiet = 0
            while quiet < 20:  # looking up may keep pace with what comes
                turns, quiet = (turns + 1, 0) if engine._waiting else (turns, quiet + 1)
                await anyio.lowlevel.checkpoint()
        assert turns > 30  # it takes some 100 ms, of which others have a turn every 2 ms
        stream.reset()


@pytest.mark.anyio
async def test_attack_5_who_floods_with_wants_is_read_no_faster_than_it_may_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "ENTRIES_PER_SECOND", 100)
    monkeypatch.setattr(wire, "MISS_ENTRIES", 0)
    async with nodes([], [], []) as [here, attacker, honest]:
        message = b"".join(encode_message(OutgoingMessage(wants=[Want(cid_of(index)) for index in range(4000)])))
        handed: list[int] = []
        receive = here.exchange._receiver._receive

        def count(peer: PeerId, message: Message, loan: wire.Loan | None) -> None:
            if peer == attacker.host.peer_id:
                handed.append(len(message.wants))
            receive(peer, message, loan)

        here.exchange._receiver._receive = count
        await open_many(attacker, here, 6, message)
        await settled(lambda: sum(handed) == 12_000)  # what may be done at once, and the one that is more than that
        await open_many(attacker, here, 6, message)
        await ask_at_length(here, honest)
        assert sum(handed) == 12_000


@pytest.mark.anyio
async def test_attack_5_wants_for_what_nobody_has_cost_what_they_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """To look one up, keep it and answer it is five times the work of reading it; who asks for what is here pays for reading."""
    charged: list[int] = []
    blocks = some_blocks(20)
    async with nodes([], blocks) as [asker, keeper]:
        await connect(asker.host, keeper.host)
        receiver = keeper.exchange._receiver
        missed = receiver.missed

        def count(peer: PeerId, wants: int) -> None:
            charged.append(wants)
            missed(peer, wants)

        monkeypatch.setattr(receiver, "missed", count)
        wants = [Want(cid) for cid, _ in blocks] + [Want(cid_of(index)) for index in range(30)]
        (stream,) = await open_many(asker, keeper, 1, b"".join(encode_message(OutgoingMessage(wants=wants))))
        await settled(lambda: sum(charged) == 30)
        work = receiver._work_of(asker.host.peer_id)
        assert work.delay(0) == 0.0
        receiver.missed(asker.host.peer_id, wire.ENTRIES_PER_SECOND)
        assert work.delay(0) > wire.MISS_ENTRIES / 2
        stream.reset()


@pytest.mark.anyio
@pytest.mark.parametrize("step", ["verify", "deliver"])
async def test_what_has_come_and_nobody_has_looked_at_is_given_back_when_an_exchange_ends(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(self: Intake) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr(Intake, step, never)
    blocks = some_blocks(3, MIB)
    async with hosts(2, identify=False) as [here, there]:
        store = MemoryStore()
        await store.put(blocks)
        provider = Provider(there.peer_id, tuple(there.addresses()), "ticket")
        async with Bitswap.open(there, store), Bitswap.open(here, MemoryStore()) as exchange:
            waiting = exchange._intake._waiting if step == "verify" else exchange._intake._verified
            async with (
                exchange.session(blocks[0][0], providers=[provider]) as session,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(session.fetch, [cid for cid, _ in blocks], lambda cid, data: None)
                await settled(lambda: len(waiting) > 0)
                assert exchange._receiver.used >= MIB
                tasks.cancel_scope.cancel()
        await settled(lambda: exchange._receiver.used == 0)  # but for the message that was just coming


@pytest.mark.anyio
async def test_the_thread_that_hashes_stays_for_the_next_message_and_goes_when_the_exchange_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intake_module, "LINGER_SECONDS", 60.0)
    calls: list[Intake] = []
    verify_all = Intake._verify_all

    def counted(self: Intake, call_soon: CallSoon) -> None:
        calls.append(self)
        verify_all(self, call_soon)

    monkeypatch.setattr(Intake, "_verify_all", counted)
    blocks = some_blocks(3, MIB)
    with anyio.fail_after(20):
        async with nodes(blocks, []) as [there, here]:
            async with here.exchange.session(blocks[0][0], providers=[there.provider]) as session:
                for cid, _ in blocks:
                    await session.fetch([cid], lambda cid, data: None)
            assert calls.count(here.exchange._intake) == 1


@pytest.mark.anyio
async def test_the_thread_that_hashes_goes_when_nothing_comes_and_is_there_again_for_what_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intake_module, "LINGER_SECONDS", 0.0)
    blocks = some_blocks(3, MIB)
    async with (
        nodes(blocks, []) as [there, here],
        here.exchange.session(blocks[0][0], providers=[there.provider]) as session,
    ):
        for cid, _ in blocks:
            await session.fetch([cid], lambda cid, data: None)
            await settled(lambda: here.exchange._intake._thread.borrowed_tokens == 0)
