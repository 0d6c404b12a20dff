"""Yamux over Noise over streams, on both event loops."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import anyio.lowlevel
import pytest

from stack.identity.keys import generate
from stack.multiformats.multiaddr import Multiaddr
from stack.muxers.yamux.frames import DATA, FIN, RST, WINDOW_UPDATE, encode_header
from stack.muxers.yamux.parameters import YamuxParameters
from stack.muxers.yamux.shell import STILL_SECONDS, YamuxConnection, YamuxMuxer
from stack.sansio.budget import Resource, Scope
from stack.security.noise.shell import NoiseSecurity
from stack.streams.buffers import BUFFER_BYTES, BufferPool
from stack.streams.interfaces import RawStream, SecureChannel
from stack.streams.memory import MemoryStream, memory_stream_pair
from stack.testing.conformance.muxers import MuxerConformance
from stack.testing.lines import Line, LineStream, line_stream_pair
from stack.testing.streams import Ends, receive_all, receive_exactly, settled, stream_pair
from stack.transports.websocket.frames import Upgrade
from stack.transports.websocket.stream import WebSocketStream
from tests.streams.support import Narrow, socket_stream_pair

pytestmark = pytest.mark.anyio

HERE, THERE = Multiaddr.parse("/memory/1"), Multiaddr.parse("/memory/2")
KEYS = generate(), generate()


def budget() -> Scope:
    return Scope("test", {Resource.STREAMS_OUT: 1000})


async def secured(first: RawStream, second: RawStream) -> tuple[SecureChannel, SecureChannel]:
    channels: dict[int, SecureChannel] = {}

    async def upgrade(side: int, stream: RawStream) -> None:
        security = NoiseSecurity(KEYS[side])
        channels[side] = await security.upgrade(stream, outbound=side == 0, expected=None, muxers=["/yamux/1.0.0"])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(upgrade, 0, first)
        tasks.start_soon(upgrade, 1, second)
    return channels[0], channels[1]


@asynccontextmanager
async def running(
    first: RawStream,
    second: RawStream,
    budgets: tuple[Scope, Scope],
    *,
    parameters: YamuxParameters | None = None,
    pool: BufferPool | None = None,
) -> AsyncIterator[tuple[YamuxConnection, YamuxConnection]]:
    pool = pool or BufferPool()
    muxer = YamuxMuxer(parameters, pool=pool)
    channels = await secured(first, second)
    ends = (
        muxer.connection(channels[0], outbound=True, scope=budgets[0]),
        muxer.connection(channels[1], outbound=False, scope=budgets[1]),
    )
    async with anyio.create_task_group() as tasks:
        for end in ends:
            tasks.start_soon(end.run)
        yield ends
        for end in ends:
            await end.aclose()
    assert pool.lent == 0


class YamuxConformance(MuxerConformance):
    def streams(self) -> tuple[RawStream, RawStream]:
        raise NotImplementedError

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Ends]:
        self.budgets = budget(), budget()
        async with running(*self.streams(), self.budgets) as ends:
            yield ends


class TestOverMemory(YamuxConformance):
    def streams(self) -> tuple[RawStream, RawStream]:
        return memory_stream_pair(HERE, THERE)


class TestOverSockets(YamuxConformance):
    def streams(self) -> tuple[RawStream, RawStream]:
        return socket_stream_pair()


class TestOverStreamsThatOnlyWait(YamuxConformance):
    """As a WebSocket is: without the methods that try."""

    def streams(self) -> tuple[RawStream, RawStream]:
        first, second = memory_stream_pair(HERE, THERE)
        return Narrow(first), Narrow(second)


class TestOverBadLines(YamuxConformance):
    def streams(self) -> tuple[RawStream, RawStream]:
        return line_stream_pair(HERE, THERE)


class TestOverBadLinesThatOnlyWait(YamuxConformance):
    def streams(self) -> tuple[RawStream, RawStream]:
        return line_stream_pair(HERE, THERE, Line(direct=False))


async def test_A27_short_writes_of_one_byte_keep_the_frames_whole() -> None:
    async with running(*memory_stream_pair(HERE, THERE, limit=64), (budget(), budget())) as ends:
        first, second = await stream_pair(ends)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.send, bytes(range(250)) * 40)
            assert await receive_exactly(second, 10_000) == bytes(range(250)) * 40


async def test_A25_a_peer_that_does_not_read_is_given_up_and_every_call_returns() -> None:
    budgets = budget(), budget()
    first, second = memory_stream_pair(HERE, THERE)
    channels = await secured(first, second)
    pool = BufferPool()
    parameters = YamuxParameters(silence_max=0.05)
    end = YamuxMuxer(parameters, pool=pool).connection(channels[0], outbound=True, scope=budgets[0])

    async def broken(stream: object, call: str, *arguments: object) -> None:
        with pytest.raises(anyio.BrokenResourceError):
            await getattr(stream, call)(*arguments)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end.run)
            stream, other = await end.open_stream(), await end.open_stream()
            tasks.start_soon(broken, stream, "send", bytes(1 << 20))
            tasks.start_soon(broken, stream, "receive")
            tasks.start_soon(broken, other, "receive_into", memoryview(bytearray(5)))
            tasks.start_soon(broken, end, "ping")
    assert end.closed
    assert "read nothing for" in str(end.reason)
    assert pool.lent == 0
    assert not any(budgets[0].used(resource) for resource in Resource)


async def test_A25_a_peer_that_says_nothing_is_asked_and_given_up() -> None:
    channels = await secured(*memory_stream_pair(HERE, THERE))
    parameters = YamuxParameters(keep_alive=0.02, silence_max=0.03)
    end = YamuxMuxer(parameters).connection(channels[0], outbound=True, scope=budget())
    with anyio.fail_after(5):
        await end.run()
    assert "silent" in str(end.reason)


async def test_an_idle_connection_is_kept_alive_by_pings() -> None:
    parameters = YamuxParameters(keep_alive=0.02, silence_max=1.0)
    async with running(*memory_stream_pair(HERE, THERE), (budget(), budget()), parameters=parameters) as ends:
        with anyio.fail_after(5):
            while not (ends[0].machine.round_trip and ends[1].machine.round_trip):
                await anyio.sleep(0.01)
        assert not ends[0].closed and not ends[1].closed


async def test_A19_a_flipped_bit_on_the_wire_closes_the_connection() -> None:
    left, right = memory_stream_pair(HERE, THERE)
    async with running(left, right, (budget(), budget())) as ends:
        first, second = await stream_pair(ends)
        await first.send(b"hello")
        right._in.data[5] ^= 1
        with pytest.raises(anyio.BrokenResourceError, match="forged"):
            await second.receive()
        with pytest.raises(anyio.BrokenResourceError):
            await first.receive()
        assert ends[1].closed


async def test_a_peer_that_breaks_the_rules_is_told_and_cut() -> None:
    async with running(*memory_stream_pair(HERE, THERE), (budget(), budget())) as ends:
        first, second = await stream_pair(ends)
        ends[0].machine._outbox.push(bytes([9] * 12))
        ends[0].flush()
        with pytest.raises(anyio.BrokenResourceError, match="yamux version 9"):
            await second.receive()
        with pytest.raises(anyio.BrokenResourceError, match="code 1"):
            await first.receive()


async def test_a_connection_whose_run_is_cancelled_gives_everything_back() -> None:
    budgets = budget(), budget()
    pool = BufferPool()
    channels = await secured(*socket_stream_pair())
    muxer = YamuxMuxer(pool=pool)
    ends = [muxer.connection(channels[side], outbound=side == 0, scope=budgets[side]) for side in (0, 1)]
    async with anyio.create_task_group() as tasks:
        for end in ends:
            tasks.start_soon(end.run)
        first, second = await stream_pair((ends[0], ends[1]))
        tasks.start_soon(first.send, bytes(5 << 20))
        tasks.start_soon(second.receive_into, memoryview(bytearray(5)))
        await settled()
        tasks.cancel_scope.cancel()
    await second.aclose()
    assert pool.lent == 0
    assert not any(scope.used(resource) for scope in budgets for resource in Resource)


async def test_a_connection_closed_before_it_runs_closes_its_stream() -> None:
    first, second = memory_stream_pair(HERE, THERE)
    channels = await secured(first, second)
    end = YamuxMuxer().connection(channels[0], outbound=True, scope=budget())
    await end.aclose()
    await end.run()
    with pytest.raises(anyio.ClosedResourceError):
        first.receive_now(memoryview(bytearray(1)))


async def test_a_connection_that_broke_before_it_runs_closes_its_stream() -> None:
    first, second = memory_stream_pair(HERE, THERE)
    channels = await secured(first, second)
    end = YamuxMuxer().connection(channels[0], outbound=True, scope=budget())
    await second.aclose()
    with pytest.raises(anyio.BrokenResourceError):
        await (await end.open_stream()).send(b"x")
    await end.run()
    with pytest.raises(anyio.ClosedResourceError):
        first.receive_now(memoryview(bytearray(1)))


async def test_bytes_read_behind_the_handshake_come_first() -> None:
    left, right = memory_stream_pair(HERE, THERE)
    channels = await secured(left, right)
    muxer = YamuxMuxer()
    dialler = muxer.connection(channels[0], outbound=True, scope=budget())
    stream = await dialler.open_stream()
    await stream.send(b"early")
    waiting = bytes(right._in.data)
    right._in.data.clear()
    from dataclasses import replace

    for cut in (replace(channels[1], leftover=waiting),):
        listener = muxer.connection(cut, outbound=False, scope=budget())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.run)
            assert await receive_exactly(await listener.accept_stream(), 5) == b"early"
            await listener.aclose()
    await dialler.aclose()


async def test_bytes_opened_behind_a_negotiation_come_before_those() -> None:
    from dataclasses import replace

    channels = await secured(*memory_stream_pair(HERE, THERE))
    plaintext = bytes.fromhex("000000010000000100000005") + b"early"
    listener = YamuxMuxer().connection(replace(channels[1], plaintext=plaintext), outbound=False, scope=budget())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.run)
        assert await receive_exactly(await listener.accept_stream(), 5) == b"early"
        await listener.aclose()


async def test_opening_waits_while_too_many_streams_are_not_acknowledged() -> None:
    parameters = YamuxParameters(backlog_max=2)
    async with running(*memory_stream_pair(HERE, THERE), (budget(), budget()), parameters=parameters) as ends:
        for _ in range(2):
            await ends[0].open_stream()
        async with anyio.create_task_group() as tasks:
            opened = anyio.Event()

            async def open_third() -> None:
                await ends[0].open_stream()
                opened.set()

            tasks.start_soon(open_third)
            await settled()
            assert not opened.is_set()
            await ends[1].accept_stream()
            await opened.wait()


async def test_a_stream_reset_before_it_was_accepted_is_not_handed_out() -> None:
    async with running(*memory_stream_pair(HERE, THERE), (budget(), budget())) as ends:
        gone = await ends[0].open_stream()
        await settled()
        gone.reset()
        kept = await ends[0].open_stream()
        await settled()
        assert (await ends[1].accept_stream()).id == kept.id


async def test_a_reset_that_has_come_and_has_not_been_told_yet_breaks_a_stream_as_any_other() -> None:
    """On a busy loop what a turn is too short for is told in the next: a fault in whoever wrote in between."""
    async with running(*memory_stream_pair(HERE, THERE), (budget(), budget())) as ends:
        written, ended = await ends[0].open_stream(), await ends[0].open_stream()
        await settled()
        for stream in (written, ended):
            # What came before an end and nobody has read yet keeps the stream.
            whole = encode_header(DATA, FIN, stream.id, 1) + b"!"
            rest = memoryview(whole + encode_header(WINDOW_UPDATE, RST, stream.id, 0))
            while rest:
                rest = rest[ends[0].machine.receive_data(rest, anyio.current_time()) :]
        with pytest.raises(anyio.BrokenResourceError, match="reset"):
            await written.send(b"too late")
        with pytest.raises(anyio.BrokenResourceError, match="reset"):
            await ended.send_eof()


async def test_an_idle_connection_holds_no_buffer_and_a_busy_one_two_at_most() -> None:
    pool = BufferPool()
    async with running(*socket_stream_pair(), (budget(), budget()), pool=pool) as ends:
        first, second = await stream_pair(ends)
        await settled()
        assert pool.lent == 0
        most = 0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.send, bytes(4 << 20))
            for _ in range(64):
                await receive_exactly(second, 65536)
                most = max(most, pool.lent)
        assert most <= 4


async def test_connections_go_on_when_the_pool_is_used_up() -> None:
    pool = BufferPool(2 * BUFFER_BYTES)
    held = [pool.borrow(), pool.borrow()]
    async with running(*memory_stream_pair(HERE, THERE), (budget(), budget()), pool=pool) as ends:
        first, second = await stream_pair(ends)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.send, bytes(range(250)) * 4000)
            assert await receive_exactly(second, 1_000_000) == bytes(range(250)) * 4000
        for buffer in held:
            pool.give_back(buffer)


async def test_a_stream_is_left_as_a_context() -> None:
    async with running(*memory_stream_pair(HERE, THERE), (budget(), budget())) as ends:
        first, second = await stream_pair(ends)
        async with first:
            await first.send(b"done")
        assert await receive_all(second) == b"done"
        first, second = await stream_pair(ends)
        with pytest.raises(RuntimeError):
            async with first:
                raise RuntimeError
        with pytest.raises(anyio.BrokenResourceError):
            await second.receive()


async def test_a_busy_reader_lets_other_tasks_run() -> None:
    async with running(*socket_stream_pair(), (budget(), budget())) as ends:
        first, second = await stream_pair(ends)
        turns = 0
        done = False

        async def count() -> None:
            nonlocal turns
            while not done:
                turns += 1
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count)
            tasks.start_soon(first.send, bytes(16 << 20))
            await receive_exactly(second, 16 << 20)
            done = True
        assert turns > 16


async def test_repr_shows_identity_and_state_in_one_line() -> None:
    async with running(*memory_stream_pair(HERE, THERE), (budget(), budget())) as ends:
        first, _ = await stream_pair(ends)
        peer = ends[0].remote_peer
        assert repr(ends[0]) == f"<YamuxConnection {peer} <YamuxMachine 1 streams>>"
        assert repr(first) == f"<MachineStream 1 of {peer} open>"
        first.reset()
        assert repr(first) == f"<MachineStream 1 of {peer} broken>"
    assert repr(ends[0]) == f"<YamuxConnection {peer} closed>"


def test_memory_streams_are_direct() -> None:
    assert hasattr(MemoryStream, "send_now") and not hasattr(Narrow, "send_now")


class TestOverWebSocketsOverBadLines(YamuxConformance):
    def streams(self) -> tuple[RawStream, RawStream]:
        client, server = Upgrade(host="a"), Upgrade()
        server.receive_data(client.data_to_send())
        client.receive_data(server.data_to_send())
        first, second = line_stream_pair(HERE, THERE)
        assert isinstance(first, LineStream) and isinstance(second, LineStream) and client.frames and server.frames
        return (
            WebSocketStream(first, client.frames, local=HERE, remote=THERE),
            WebSocketStream(second, server.frames, local=THERE, remote=HERE),
        )


@pytest.mark.parametrize("direct", [True, False])
async def test_finding_15_a_busy_connection_over_a_slow_line_is_not_broken(direct: bool) -> None:
    """One drain lasted as long as any stream had something to say, and the deadline was put around that."""
    parameters = YamuxParameters(silence_max=1.5)
    ends = line_stream_pair(HERE, THERE, Line(rate=1_000_000, direct=direct))
    budgets = budget(), budget()
    async with running(*ends, budgets, parameters=parameters) as (dialler, listener):
        began = anyio.current_time()

        async def say() -> None:
            stream = await dialler.open_stream()
            while anyio.current_time() - began < 2.5:
                await stream.send(bytes(10_000))
            await stream.send_eof()
            await stream.aclose()

        async def hear() -> None:
            stream = await listener.accept_stream()
            assert len(await receive_all(stream)) >= 10_000
            await stream.aclose()

        async with anyio.create_task_group() as tasks:
            for _ in range(40):
                tasks.start_soon(say)
                tasks.start_soon(hear)
        assert dialler.reason is None and listener.reason is None


async def test_finding_15_a_peer_that_reads_nothing_is_given_up_on_streams_that_only_wait_too() -> None:
    first, second = line_stream_pair(HERE, THERE, Line(direct=False))
    channels = await secured(first, second)
    end = YamuxMuxer(YamuxParameters(silence_max=0.05)).connection(channels[0], outbound=True, scope=budget())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end.run)
        with anyio.fail_after(5), pytest.raises(anyio.BrokenResourceError, match="read nothing for"):
            await (await end.open_stream()).send(bytes(1 << 20))


async def test_finding_16_what_was_handed_over_arrives_though_we_have_closed_and_the_peer_reads_later() -> None:
    """`send` returns when its bytes are sealed; they were lost when the connection was closed soon after."""
    ends = line_stream_pair(HERE, THERE, Line(capacity=4000))
    channels = await secured(*ends)
    sharer = YamuxMuxer().connection(channels[0], outbound=True, scope=budget())
    receiver = YamuxMuxer().connection(channels[1], outbound=False, scope=budget())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receiver.run)
        tasks.start_soon(sharer.run)
        first, second = await stream_pair((sharer, receiver))
        ends[0].wire.stand_still()
        await first.send(bytes(200_000))
        await first.aclose()
        await sharer.aclose()
        ends[0].wire.go_on()
        assert len(await receive_all(second)) == 200_000


async def test_finding_16_whoever_is_cancelled_does_not_wait_for_what_the_peer_has_not_taken() -> None:
    ends = line_stream_pair(HERE, THERE, Line(capacity=4000))
    channels = await secured(*ends)
    pool = BufferPool()
    sharer = YamuxMuxer(pool=pool).connection(channels[0], outbound=True, scope=budget())
    async with anyio.create_task_group() as owner:
        owner.start_soon(sharer.run)
        stream = await sharer.open_stream()
        ends[0].wire.stand_still()
        await stream.send(bytes(200_000))
        await sharer.aclose()
        await settled()
        began = anyio.current_time()
        owner.cancel_scope.cancel()
    assert anyio.current_time() - began < 0.5
    assert pool.lent == 0


async def test_finding_16_a_socket_is_closed_when_the_other_machine_has_everything() -> None:
    """A socket that is closed with unread bytes in it is reset, and throws away what it has still to send."""
    first, second = socket_stream_pair()
    for end in (first, second):
        end._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    channels = await secured(first, second)
    sharer = YamuxMuxer().connection(channels[0], outbound=True, scope=budget())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sharer.run)
        await settled()
        await (await sharer.open_stream()).send(bytes(256 * 1024))
        await sharer.aclose()
        await second.send_all(memoryview(b"what the sharer will not read"))
        received, room = 0, memoryview(bytearray(8 * 1024))
        with anyio.fail_after(5), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            while True:
                received += await second.receive_into(room)
                await anyio.lowlevel.checkpoint()
    assert received > 256 * 1024
    assert first.under_way == 0
    await second.aclose()


async def test_finding_16_a_peer_that_takes_nothing_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stack.muxers.yamux.shell.STILL_SECONDS", 0.05)
    first, second = line_stream_pair(HERE, THERE, Line(capacity=4000))
    channels = await secured(first, second)
    pool = BufferPool()
    end = YamuxMuxer(pool=pool).connection(channels[0], outbound=True, scope=budget())
    with anyio.fail_after(3):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end.run)
            await (await end.open_stream()).send(bytes(200_000))
            await end.aclose()
    assert pool.lent == 0


async def test_attack_6_what_a_connection_broke_by_does_not_hold_its_buffers() -> None:
    """The calls that the error came through had the buffer in hand that was being read into: 320 KiB until the collector came."""
    async with running(*socket_stream_pair(), (budget(), budget())) as (one, other):
        await other._channel.stream.aclose()
        with anyio.fail_after(5), suppress(anyio.EndOfStream):
            await one.accept_stream()
        assert one.reason is not None
        errors = [one.reason, one.reason.__cause__, one.reason.__context__]
        assert [error.__traceback__ for error in errors if error is not None] in (
            [None],
            [None, None],
            [None, None, None],
        )


@pytest.mark.parametrize("direct", [True, False])
async def test_a_frame_that_comes_slowly_is_a_sign_of_life(direct: bool) -> None:
    """A frame of 64 KiB takes longer on a slow line than anybody may be silent."""
    parameters = YamuxParameters(keep_alive=0.1, silence_max=0.2)
    ends = line_stream_pair(HERE, THERE, Line(rate=160_000, piece=4096, direct=direct, turns=0))
    async with running(*ends, (budget(), budget()), parameters=parameters) as (first, second):
        with anyio.fail_after(10):
            speaker, hearer = await stream_pair((first, second))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(speaker.send, bytes(120_000))
                assert len(await receive_exactly(hearer, 120_000)) == 120_000
        assert first.reason is None and second.reason is None


async def test_a_socket_that_empties_too_slowly_to_be_written_to_shows_that_somebody_reads() -> None:
    """Linux lets a socket be written to when a third of it is free again; megabytes of it on a slow line are a minute."""
    first, second = socket_stream_pair()
    first._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 500_000)
    second._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000)
    channels = await secured(first, second)
    end = YamuxMuxer(YamuxParameters(silence_max=0.2)).connection(channels[0], outbound=True, scope=budget())
    buffer = memoryview(bytearray(20_000))

    async def say() -> None:
        with suppress(anyio.BrokenResourceError):
            await (await end.open_stream()).send(bytes(1 << 20))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end.run)
        for _ in range(16):
            tasks.start_soon(say)
        for _ in range(40):
            await anyio.sleep(0.03)
            await second.receive_into(buffer)
        assert not end.closed
        with anyio.fail_after(5):
            while not end.closed:
                await anyio.sleep(0.05)
    assert "read nothing" in str(end.reason)
    await second.aclose()


class Unanswered(Narrow):
    """Of what was written the last is acknowledged when the peer hangs up, which it does when it hears the end."""

    under_way = 1

    def tell_end(self) -> None:
        self.under_way = 0


async def test_who_closes_tells_the_end_and_does_not_wait_for_an_acknowledgement_that_nothing_carries() -> None:
    """A system that has nothing to send acknowledges after 40 ms: each fetch of a command ended with that."""
    first, second = memory_stream_pair(HERE, THERE)
    async with running(Unanswered(first), second, (budget(), budget())) as (dialler, listener):
        await stream_pair((dialler, listener))
        began = anyio.current_time()
        await dialler.aclose()
        with pytest.raises(anyio.EndOfStream):
            await listener.accept_stream()
    assert anyio.current_time() - began < STILL_SECONDS / 2
