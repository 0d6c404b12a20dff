"""Attackers against a running host, by the numbers of the list of known attacks.

Counts are scaled down from that list by about a hundred so that the whole file takes seconds; the bounds do not depend on
them.
"""

import logging
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import anyio
import pytest

from stack.errors import (
    LimitExceeded,
    NegotiationError,
    RemoteProtocolError,
    SecurityError,
    StackError,
    TransportError,
)
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net import connection as connection_module
from stack.net.events import CloseReason, ConnectionClosed, ConnectionOpened, InboundRefused
from stack.net.host import Host
from stack.net.limits import CUT_CONNECTIONS, MIB, NetLimits, Refusal
from stack.net.stream_places import Place
from stack.net.upgrader import Upgrader
from stack.protocols.identify.service import IDENTIFY, PUSH
from stack.protocols.ping import PING, PingService, ping
from stack.sansio.budget import Resource, Scope
from stack.streams.interfaces import MuxedConnection, RawStream, Stream
from stack.streams.memory import MemoryStream
from stack.streams.socket import SocketStream
from stack.trace import TraceEvent
from stack.transports.memory import MemoryIncoming, MemoryListener, MemoryNetwork, MemoryTransport
from stack.transports.tcp import TcpIncoming, TcpListener, TcpTransport, multiaddr_of, socket_address
from stack.transports.websocket import WebSocketTransport
from tests.muxers.yamux.support import PING as PING_FRAME
from tests.muxers.yamux.support import SYN, frame
from tests.muxers.yamux.test_floods import sealed
from tests.net.hosts import Clock, connect, hosts, settled, used
from tests.net.identities import key, peer

pytestmark = pytest.mark.anyio

SOON = 5
"""Seconds. A second is what is promised; the machine that runs the tests may be busy, and what hangs hangs for ten."""
CONNECTIONS = 20
STREAMS = 60
ABORTS = 150


@asynccontextmanager
async def attacker(target: Host, number: int) -> AsyncIterator[MuxedConnection]:
    """A peer that obeys nothing above the muxer."""
    [address] = target.addresses()
    stream = await target._transports[0].dial(address)
    upgrader = Upgrader.of(key(number))
    channel = await upgrader.secure(stream, outbound=True, expected=target.peer_id)
    muxed = await upgrader.multiplex(channel, outbound=True, scope=Scope("attacker", {}))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(muxed.run)
        try:
            yield muxed
        finally:
            with anyio.CancelScope(shield=True):
                await muxed.aclose()
            tasks.cancel_scope.cancel()


async def still_serves(honest: Host, target: Host) -> None:
    """Who was connected before still gets an answer in time."""
    with anyio.fail_after(SOON):
        await ping(honest, target.peer_id)


async def test_A01_half_a_header_on_many_streams_of_many_connections_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = NetLimits(peer={**NetLimits().peer, Resource.TASKS: 20})
    monkeypatch.setattr(connection_module, "NEGOTIATION_SECONDS", 0.3)
    async with hosts(2, limits=limits) as [honest, target]:
        await connect(honest, target)
        async with anyio.create_task_group() as tasks:
            reset = 0

            async def flood(number: int) -> None:
                nonlocal reset
                async with attacker(target, 100 + number) as muxed:
                    streams = []
                    for _ in range(STREAMS):
                        stream = await muxed.open_stream()
                        await stream.send(b"\x13")
                        streams.append(stream)
                    for stream in streams:
                        with pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)):
                            while True:
                                await stream.receive()
                        reset += 1

            for number in range(CONNECTIONS):
                tasks.start_soon(flood, number)
            await settled(lambda: target.budget.used(Resource.TASKS) >= 20)
            assert target.budget.used(Resource.TASKS) <= 20 * CONNECTIONS + 5
            assert target.budget.used(Resource.BYTES) <= 64 * MIB
            await still_serves(honest, target)
        assert reset == STREAMS * CONNECTIONS
        await honest.disconnect(target.peer_id)
        await settled(lambda: used(target.budget) == {})


@pytest.mark.parametrize(("drip", "longest"), [(1, 120.0), (16 * 1024, 0.5)], ids=["drips", "is busy"])
async def test_A01_a_line_on_which_something_moves_holds_half_a_header_no_longer_than_so(
    drip: int, longest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is slow is waited for while the line is busy: a byte now and then is nothing, and nobody holds streams so for ever."""
    monkeypatch.setattr(connection_module, "NEGOTIATION_SECONDS", 0.2)
    monkeypatch.setattr(connection_module, "SECONDS_MAX", longest)
    heard = 0

    async def hear(stream: Stream) -> None:
        nonlocal heard
        while True:
            heard += len(await stream.receive())

    async with hosts(2) as [honest, target]:
        target.handle("/hear/1", hear)
        await connect(honest, target)
        async with attacker(target, 100) as muxed, anyio.create_task_group() as tasks:
            busy = await muxed.open_stream()
            await busy.send(b"\x13/multistream/1.0.0\n" + _line("/hear/1"))

            async def keep_busy() -> None:
                while True:
                    await busy.send(bytes(drip))
                    await anyio.sleep(0.1)

            tasks.start_soon(keep_busy)
            await settled(lambda: heard > 0)
            half = await muxed.open_stream()
            await half.send(b"\x13")
            with anyio.fail_after(20), pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)):
                while True:
                    await half.receive()
            assert not muxed.closed
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize("transport", ["tcp", "ws"])
async def test_A02_A03_announced_lengths_that_never_come_are_given_up(
    transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same over WebSocket (A03). Every protocol a host speaks, and the negotiation itself."""
    for name in ("connection.NEGOTIATION_SECONDS", "upgrader.PHASE_SECONDS", "swarm.PHASE_SECONDS"):
        monkeypatch.setattr(f"stack.net.{name}", 0.3)
    for name in ("identify.service.EXCHANGE_SECONDS", "ping.service.PAYLOAD_SECONDS"):
        monkeypatch.setattr(f"stack.protocols.{name}", 0.3)
    transports = [TcpTransport(), WebSocketTransport()]
    from stack.protocols.identify.service import IdentifyService

    async with Host(key(1), transports=transports) as target, Host(key(2), transports=transports) as evil:
        IdentifyService(target)
        PingService(target)
        suffix = "/ws" if transport == "ws" else ""
        address = await target.listen(Multiaddr.parse(f"/ip4/127.0.0.1/tcp/0{suffix}"))
        half_open = [await transports[0].dial(address.decapsulate("ws")) for _ in range(10)]
        for stream in half_open:
            await stream.send_all(memoryview(b"\xff"))
        await evil.connect(target.peer_id, [address])
        [connection] = evil._swarm.all()
        async with anyio.create_task_group() as tasks:

            async def hold(protocol: str, head: bytes) -> None:
                stream = await connection._muxed.open_stream()
                await stream.send(head if not protocol else b"\x13/multistream/1.0.0\n" + _line(protocol) + head)
                with pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)):
                    while True:
                        await stream.receive()

            for _ in range(10):
                tasks.start_soon(hold, "", b"\x80\x08")
                tasks.start_soon(hold, PUSH, b"\x80\x40")
                tasks.start_soon(hold, PING, b"x")
        for stream in half_open:
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                while True:
                    await stream.receive_into(memoryview(bytearray(4096)))
            await stream.aclose()
        await evil.disconnect(target.peer_id)
        await settled(lambda: used(target.budget) == {})


def _line(protocol: str) -> bytes:
    return bytes([len(protocol) + 1]) + protocol.encode() + b"\n"


async def test_A04_a_flood_from_one_address_does_not_keep_others_out() -> None:
    """Addresses are made up by the listener: memory has no limits by address."""
    events: list[TraceEvent] = []

    class Disguised(MemoryTransport):
        async def listen(self, address: Multiaddr) -> MemoryListener:
            listener = await super().listen(address)
            real = listener.accept
            origin = iter(["/ip4/8.8.8.8/tcp/1"] * 500)

            async def accept() -> MemoryIncoming:
                incoming = await real()
                incoming._stream.remote_address = Multiaddr.parse(next(origin, "/ip4/9.9.9.9/tcp/1"))
                return incoming

            listener.accept = accept  # type: ignore[method-assign]
            return listener

    transport = Disguised(MemoryNetwork())
    async with Host(key(1), transports=[transport], trace=events.append) as target:
        address = await target.listen(Multiaddr.parse("/memory/0"))
        flood = []
        for _ in range(500):
            flood.append(await transport.dial(address))
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
        await settled(lambda: len(events) >= 490)
        async with Host(key(2), transports=[transport]) as honest:
            with anyio.fail_after(SOON):
                await honest.connect(target.peer_id, [address])
        for stream in flood:
            await stream.aclose()
        refusals = [event.reason for event in events if isinstance(event, InboundRefused)]
        assert set(refusals) == {Refusal.GROUP, Refusal.RATE}
        assert len(refusals) == 500 - 8


async def test_strangers_beyond_the_transient_budget_are_refused() -> None:
    events: list[TraceEvent] = []
    limits = NetLimits(transient={Resource.CONNECTIONS_IN: 3})
    async with hosts(1, limits=limits, trace=events.append) as [target]:
        [address] = target.addresses()
        waiting = [await target._transports[0].dial(address) for _ in range(5)]
        await settled(lambda: len(events) == 2)
        assert {event.reason for event in events if isinstance(event, InboundRefused)} == {Refusal.BUDGET}
        for stream in waiting:
            await stream.aclose()
        await settled(lambda: used(target.budget) == {})


async def test_A09_peers_that_accept_and_never_answer_do_not_delay_a_good_dial() -> None:
    async with hosts(2) as [host, good]:
        holes = [await host._transports[0].listen(Multiaddr.parse("/memory/0")) for _ in range(200)]
        async with anyio.create_task_group() as tasks:

            async def dial(number: int, address: Multiaddr) -> None:
                with pytest.raises(StackError):
                    await host.connect(peer(300 + number), [address])

            for number, hole in enumerate(holes):
                tasks.start_soon(dial, number, hole.address)
            await settled(lambda: host.budget.used(Resource.CONNECTIONS_OUT) == 200)
            with anyio.fail_after(SOON):
                await host.connect(good.peer_id, good.addresses())
            tasks.cancel_scope.cancel()
        for hole in holes:
            await hole.aclose()
        await host.disconnect(good.peer_id)
        await settled(lambda: used(host.budget) == {})


class Cut:
    """A raw stream that closes after so many bytes sent, or flips one."""

    def __init__(self, below: MemoryStream, after: int, flip: bool) -> None:
        self._below = below
        self._after = after
        self._flip = flip
        self.local_address = below.local_address
        self.remote_address = below.remote_address
        self.receive_into = below.receive_into
        self.wait_readable = below.wait_readable
        self.aclose = below.aclose

    async def send_all(self, data: memoryview) -> None:
        sent = bytearray(data)
        if self._after < len(sent):
            if not self._flip:
                await self._below.send_all(memoryview(sent)[: self._after])
                await self._below.aclose()
                raise anyio.BrokenResourceError
            sent[self._after] ^= 1
        self._after -= len(sent)
        await self._below.send_all(memoryview(sent))


async def test_A10_connects_that_are_aborted_at_a_random_byte_leave_nothing() -> None:
    generator = random.Random(10)
    async with hosts(2) as [honest, target]:
        await connect(honest, target)
        [address] = target.addresses()
        upgrader = Upgrader.of(key(9))

        at_once = anyio.CapacityLimiter(50)

        async def abort(after: int, flip: bool) -> None:
            async with at_once:
                await abort_now(after, flip)

        async def abort_now(after: int, flip: bool) -> None:
            cut: RawStream = Cut(await target._transports[0].dial(address), after, flip)  # type: ignore[arg-type]
            try:
                with anyio.move_on_after(0.5):
                    channel = await upgrader.secure(cut, outbound=True, expected=target.peer_id)
                    muxed = await upgrader.multiplex(channel, outbound=True, scope=Scope("attacker", {}))
                    with anyio.move_on_after(0.005):
                        await muxed.run()
                    await muxed.aclose()
            except (StackError, anyio.BrokenResourceError):
                pass
            await cut.aclose()

        async with anyio.create_task_group() as tasks:
            for _ in range(ABORTS):
                tasks.start_soon(abort, generator.randrange(400), generator.random() < 0.5)
        await still_serves(honest, target)
        await honest.disconnect(target.peer_id)
        await settled(lambda: used(target.budget) == {})
        assert target._swarm._entrance.groups == 0
        assert target.connections() == []


class Faulty:
    """A raw stream whose n-th call raises what no stream should."""

    def __init__(self, below: RawStream, countdown: list[int], error: BaseException) -> None:
        self._below = below
        self._countdown = countdown
        self._error = error
        self.local_address = below.local_address
        self.remote_address = below.remote_address

    def _count(self) -> None:
        self._countdown[0] -= 1
        if self._countdown[0] == 0:
            raise self._error

    async def receive_into(self, buffer: memoryview) -> int:
        self._count()
        return await self._below.receive_into(buffer)

    async def wait_readable(self) -> None:
        self._count()
        await self._below.wait_readable()

    async def send_all(self, data: memoryview) -> None:
        self._count()
        await self._below.send_all(data)

    async def aclose(self) -> None:
        await self._below.aclose()


@pytest.mark.parametrize("error", [RuntimeError("injected"), OSError("injected"), anyio.BrokenResourceError()])
async def test_A11_an_exception_at_any_await_of_the_upgrade_leaves_the_listener_alive(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    async with hosts(1) as [target]:
        countdown = [0]

        class FaultyIncoming(MemoryIncoming):
            async def open(self) -> MemoryStream:
                if countdown[0] == 1:
                    raise error
                return Faulty(await super().open(), countdown, error)  # type: ignore[return-value]

        listener = await target._transports[0].listen(Multiaddr.parse("/memory/0"))
        real = listener.accept

        async def accept() -> MemoryIncoming:
            return FaultyIncoming((await real())._stream)  # type: ignore[attr-defined]

        listener.accept = accept  # type: ignore[method-assign]
        target._swarm._tasks.keep(target._swarm._accept, listener, owner="the listener of this test")
        for place in range(1, 25):
            countdown[0] = place
            async with Host(key(40), transports=target._transports) as dialler:
                try:
                    with anyio.move_on_after(0.2):
                        await dialler.connect(target.peer_id, [listener.address])
                        await dialler.disconnect(target.peer_id)
                except StackError:
                    pass
        countdown[0] = 0
        async with Host(key(41), transports=target._transports) as dialler:
            with anyio.fail_after(10):
                await dialler.connect(target.peer_id, [listener.address])
        await listener.aclose()
        await settled(lambda: used(target.budget) == {})


async def test_A11_an_accept_that_raises_does_not_end_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.net.swarm.ACCEPT_PAUSE_SECONDS", 0)
    async with hosts(2) as [a, b]:
        listener = b._swarm._listeners[0]
        real = listener.accept
        failures = [RuntimeError("injected"), OSError("injected"), TransportError("injected")]

        async def accept() -> object:
            if failures:
                raise failures.pop()
            return await real()

        # The call that is under way takes one connection before the faults begin.
        listener.accept = accept  # type: ignore[method-assign, assignment]
        await connect(a, b)
        await a.disconnect(b.peer_id)
        await settled(lambda: not failures)
        await connect(a, b)


async def test_A29_hostile_negotiations_end_their_stream_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "NEGOTIATION_SECONDS", 0.5)
    header = b"\x13/multistream/1.0.0\n"
    async with hosts(2) as [honest, target]:
        await connect(honest, target)
        async with attacker(target, 100) as muxed:
            for data in (
                b"\xff" * 9 + b"\x01",
                b"\x80" * 10,
                header + b"\x81\x08" + b"a" * 1024 + b"\n",
                header + b"\x05abcde",
                header + b"\x03na\n" * 10_000,
                header + _line("/nobody") * 10_000,
                header + b"\x80\x00",
                b"GET / HTTP/1.1\r\n\r\n",
                header + b"\x00" * 1000,
            ):
                stream = await muxed.open_stream()
                with pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)):
                    await stream.send(data)
                    while True:
                        await stream.receive()
                assert not muxed.closed
        await still_serves(honest, target)
        await settled(lambda: len(target.connections()) == 1)


async def test_attack_5_who_opens_streams_without_end_that_nobody_takes_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of finding 4's streams a peer has its share and no more; to refuse the others cost as much as to serve them, for ever."""
    monkeypatch.setattr(connection_module, "VAIN_STREAMS_MAX", 50)
    ends: list[CloseReason] = []
    async with hosts(2) as [honest, target]:
        target._swarm._trace = lambda event: ends.extend([event.reason] if isinstance(event, ConnectionClosed) else [])
        await connect(honest, target)
        async with attacker(target, 100) as muxed:
            count = 0
            with (
                pytest.raises((anyio.BrokenResourceError, anyio.ClosedResourceError, StackError)),
                anyio.fail_after(SOON),
            ):
                while True:
                    stream = await muxed.open_stream()
                    await stream.send(b"\x13/multistream/1.0.0\n" + _line("/nobody"))
                    count += 1
                    await stream.receive()
                    stream.reset()
            assert count > 50
            await settled(lambda: not target.is_connected(peer(100)))
            assert ends == [CloseReason.FLOODING]
        await still_serves(honest, target)


@pytest.mark.parametrize("offence", ["a flood of frames", "a broken seal"])
async def test_attack_5_who_was_cut_off_comes_back_late(offence: str) -> None:
    """It dialled again at once: handshakes, and what a flood costs until it is cut off, took most of a core."""
    events: list[TraceEvent] = []
    transport = FromAfar()

    async def offend() -> None:
        stream = await transport.dial(address)
        channel = await Upgrader.of(key(100)).secure(stream, outbound=True, expected=None)
        piece = bytes([0, 32]) + bytes(32)
        if offence == "a flood of frames":
            [piece] = sealed(channel, frame(PING_FRAME, SYN, 0, 1) * 1000)
        with suppress(anyio.BrokenResourceError, anyio.EndOfStream):
            await stream.send_all(memoryview(piece))
            while True:
                await stream.receive_into(memoryview(bytearray(1000)))
        await stream.aclose()

    # Its clock stands still: on a busy machine three more are let in while these are dialled.
    async with Host(key(1), transports=[transport], trace=events.append, clock=Clock()) as target:
        address = await target.listen(Multiaddr.parse("/ip4/127.0.0.1/tcp/0"))
        with anyio.fail_after(SOON):
            await offend()
            await settled(lambda: any(isinstance(event, ConnectionClosed) for event in events))
            with pytest.raises(StackError):
                for _ in range(NetLimits().group_burst - CUT_CONNECTIONS):
                    stream = await transport.dial(address)
                    await Upgrader.of(key(100)).secure(stream, outbound=True, expected=None)
                    await stream.aclose()
        assert [event.reason for event in events if isinstance(event, InboundRefused)] == [Refusal.RATE]


@pytest.mark.parametrize("end", ["trimmed", "misbehaved"])
async def test_attack_6_who_had_to_go_comes_back_late(end: str) -> None:
    """200 newcomers for half of 96 places dialled again at once, each time one more handshake; a peer cut off by bitswap too."""
    events: list[TraceEvent] = []
    transport = FromAfar()
    limits = NetLimits(low_water=1, high_water=1, grace=0.0)
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(
            Host(key(1), transports=[transport], limits=limits, trace=events.append)
        )
        [one, other] = [await stack.enter_async_context(Host(key(n), transports=[transport])) for n in (2, 3)]
        await target.listen(Multiaddr.parse("/ip4/127.0.0.1/tcp/0"))
        with anyio.fail_after(SOON), suppress(StackError):
            while True:
                await one.connect(target.peer_id, target.addresses())
                if end == "misbehaved":
                    await target.disconnect(one.peer_id, misbehaved=True)
                    await settled(lambda: not one.is_connected(target.peer_id))
                else:
                    await other.connect(target.peer_id, target.addresses())
                    await settled(lambda: not (one.is_connected(target.peer_id) and other.is_connected(target.peer_id)))
    rounds = [event for event in events if isinstance(event, ConnectionOpened)]
    assert len(rounds) <= NetLimits().group_burst // CUT_CONNECTIONS + 2
    assert Refusal.RATE in [event.reason for event in events if isinstance(event, InboundRefused)]


@pytest.mark.parametrize(
    ("reason", "offended"),
    [
        (RemoteProtocolError("a flood", code=1), True),
        (SecurityError("a forged frame"), True),
        (RemoteProtocolError("silent for 10 s"), False),
        (anyio.BrokenResourceError("reset"), False),
        (None, False),
    ],
)
async def test_attack_5_an_offence_is_what_a_peer_did_and_not_what_its_line_did(
    reason: Exception | None, offended: bool
) -> None:
    below = anyio.BrokenResourceError("of a transport")
    below.__cause__ = reason
    async with hosts(2) as [one, other]:
        await connect(one, other)
        [connection] = other._swarm.of(one.peer_id)
        for told in (reason, below):
            connection._muxed.reason = told  # type: ignore[attr-defined] # of yamux
            assert connection.cut_off is offended


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(b"\xff" * 10, NegotiationError), (b"\x05abcde", NegotiationError), (b"", NegotiationError)],
)
async def test_A29_hostile_answers_to_our_proposal_are_errors_of_the_peer(answer: bytes, kind: type[Exception]) -> None:
    async with hosts(1, identify=False) as [target], attacker(target, 100) as muxed:

        async def answer_all() -> None:
            while True:
                try:
                    stream = await muxed.accept_stream()
                except anyio.EndOfStream:
                    return
                if answer:
                    await stream.send(answer)
                await stream.aclose()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer_all)
            await settled(lambda: target.is_connected(peer(100)))
            with pytest.raises(kind):
                await target.open_stream(peer(100), "/echo/1")
            assert "Connection inbound" in repr(target._swarm.all()[0])
            tasks.cancel_scope.cancel()


async def test_streams_beyond_what_is_acknowledged_are_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "NEGOTIATION_SECONDS", 0.05)
    async with hosts(2, identify=False) as [a, b]:
        await connect(a, b)
        [made] = a._swarm.all()

        async def never() -> object:
            await anyio.sleep_forever()
            return None

        made._muxed.open_stream = never  # type: ignore[method-assign, assignment]
        with pytest.raises(LimitExceeded):
            await made.open_stream([IDENTIFY])


@pytest.mark.parametrize("identities", [8, 20])
async def test_attack_4_identities_that_hold_streams_leave_places_for_others(identities: int) -> None:
    """Eight had all inbound streams of the node, for ever: nothing was ever taken back. What they open is held by a handler that
    would never look at its stream again."""
    held = anyio.Event()
    limits = NetLimits(streams=128)
    full = min(limits.streams, identities * limits.streams_of_a_peer)
    handling = 0

    async def hold(stream: Stream) -> None:
        nonlocal handling
        handling += 1
        try:
            await anyio.sleep_forever()
        finally:
            handling -= 1

    async with hosts(3, limits=limits) as [honest, late, target], anyio.create_task_group() as tasks:
        await connect(honest, target)
        target.handle("/hold", hold, streams=1000)
        places = target._swarm._places

        async def flood(number: int) -> None:
            async with attacker(target, 100 + number) as muxed:
                for _ in range(2 * limits.streams_of_a_peer):
                    with suppress(StackError, anyio.BrokenResourceError):
                        stream = await muxed.open_stream()
                        await stream.send(_line("/multistream/1.0.0") + _line("/hold"))
                await held.wait()

        for number in range(identities):
            tasks.start_soon(flood, number)
        await settled(lambda: places.taken >= full - 1)
        await still_serves(honest, target)
        with anyio.fail_after(SOON):
            await late.connect(target.peer_id, target.addresses())
            await ping(late, target.peer_id)
        assert places.taken <= limits.streams
        assert max(map(places.of, target._swarm.peers())) <= limits.streams_of_a_peer
        await settled(lambda: full / 2 < handling <= places.taken)
        held.set()
    assert places.taken == handling == 0


async def test_attack_5_a_flood_of_pings_is_answered_at_a_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.protocols.ping.service.PINGS_BURST", 5)
    monkeypatch.setattr("stack.protocols.ping.service.PINGS_PER_SECOND", 100.0)
    async with hosts(2) as [evil, target]:
        await connect(evil, target)
        with anyio.fail_after(SOON):
            started = anyio.current_time()
            await ping(evil, target.peer_id, 25)
            assert anyio.current_time() - started >= 0.15


async def test_attack_4_streams_that_are_opened_at_once_are_begun_one_in_a_turn_of_the_loop() -> None:
    """All that had come were begun in one turn, and the answers to all were written in it: 0.8 s with eight connections."""
    begun = 0
    most = 0

    async def handler(stream: Stream) -> None:
        pass

    async with hosts(2, identify=False) as [evil, target]:
        target.handle("/nothing", handler, streams=1000)
        await connect(evil, target)
        places = target._swarm._places
        take = places.take

        def counted(peer: PeerId, drop: Callable[[], object]) -> Place:
            nonlocal begun
            begun += 1
            return take(peer, drop)

        places.take = counted  # type: ignore[method-assign]
        [connection] = evil._swarm.all()
        for _ in range(STREAMS):
            stream = await connection._muxed.open_stream()
            await stream.send(_line("/multistream/1.0.0"))
        while begun < STREAMS:
            before = begun
            await anyio.lowlevel.checkpoint()
            most = max(most, begun - before)
        assert most <= 2


class FromAfar(TcpTransport):
    """Who dials by it is taken for somebody of 8.8.8.0/24, by who listens by it."""

    async def dial(self, address: Multiaddr) -> SocketStream:
        connection = socket.socket()
        connection.setblocking(False)
        connection.bind(("127.0.0.2", 0))
        here = multiaddr_of(connection.family, connection.getsockname())
        stream = SocketStream(connection, local_address=here, remote_address=address)
        connection.connect_ex(socket_address(address)[1])
        try:
            await stream.wait_writable()
        except BaseException:
            await stream.aclose()
            raise
        return stream

    async def listen(self, address: Multiaddr) -> TcpListener:
        listener = await super().listen(address)
        real = listener.accept

        async def accept() -> TcpIncoming:
            incoming = await real()
            text = str(incoming.remote_address).replace("/127.0.0.2/", "/8.8.8.8/")
            incoming.remote_address = Multiaddr.parse(text)
            return incoming

        listener.accept = accept  # type: ignore[method-assign]
        return listener


FEW = NetLimits(
    connections_per_group=1000,
    group_rate=1e6,
    group_burst=1000,
    transient={Resource.BYTES: 32 * MIB, Resource.CONNECTIONS_IN: 16, Resource.CONNECTIONS_OUT: 16},
    system={**NetLimits().system, Resource.CONNECTIONS_IN: 48},
    streams=64,
    low_water=20,
    high_water=24,
)
"""Of a node that may hold little: an attack that fills it is as small."""


async def silent(target: Host, number: int) -> None:
    """A socket on which nothing is ever said; `target` closes it."""
    await half_said(target, number, b"")


async def half_said(target: Host, number: int, said: bytes = b"\x13/multistream/1.0.0\n\x07/noise\n") -> None:
    """The same, after it has been agreed how to prove who is there."""
    stream = await target._transports[0].dial(target.addresses()[0])
    try:
        await stream.send_all(memoryview(said))
        while True:
            await stream.receive_into(memoryview(bytearray(100)))
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        pass
    finally:
        await stream.aclose()


async def idle(target: Host, number: int, streams: int = 0) -> None:
    """An identity that does nothing."""
    async with attacker(target, 500 + number) as muxed:
        with suppress(StackError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
            for _ in range(streams):
                await (await muxed.open_stream()).send(b"\x13/multi")
            while True:
                await muxed.accept_stream()


async def holds_streams(target: Host, number: int) -> None:
    """An identity that opens streams and says half of a word on each."""
    await idle(target, number, streams=4)


@pytest.mark.parametrize(
    ("attack", "count", "pause"),
    [(silent, 40, 0.02), (half_said, 40, 0.02), (idle, 26, 0.5), (holds_streams, 26, 0.5)],
    ids=["silent", "half said", "idle", "holds streams"],
)
async def test_attacks_4_and_6_and_finding_33_over_tcp_an_honest_dial_succeeds_and_who_stood_stands(
    attack: Callable[[Host, int], Awaitable[None]], count: int, pause: float
) -> None:
    """They go on all the time, from one neighbourhood: who is closed comes again."""
    async with (
        Host(key(1), transports=[FromAfar()], limits=FEW) as target,
        Host(key(2), transports=[TcpTransport()]) as standing,
        anyio.create_task_group() as tasks,
    ):
        PingService(target)
        await target.listen(Multiaddr.parse("/ip4/127.0.0.1/tcp/0"))
        await standing.connect(target.peer_id, target.addresses())
        await ping(standing, target.peer_id)
        [stands] = standing._swarm.all()
        begun = 0

        async def again(number: int) -> None:
            nonlocal begun
            while True:
                begun += 1
                with suppress(StackError, anyio.BrokenResourceError, anyio.EndOfStream):
                    await attack(target, number)
                await anyio.sleep(pause)

        for number in range(count):
            tasks.start_soon(again, number)
        await settled(lambda: begun > count)  # there is no place left: some have been closed
        for number in range(3):
            async with Host(key(10 + number), transports=[TcpTransport()]) as honest:
                with anyio.fail_after(SOON):
                    await honest.connect(target.peer_id, target.addresses())
                    await ping(honest, target.peer_id)
            await still_serves(standing, target)
        assert standing._swarm.all() == [stands] and not stands.closed
        assert target.budget.used(Resource.BYTES) < 8 * MIB
        assert target._swarm._places.taken <= FEW.streams
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("attack", [silent, half_said, idle])
@pytest.mark.parametrize("since", ["long", "just now"])
async def test_who_does_nothing_keeps_nobody_else_at_its_address_out(
    attack: Callable[[Host, int], Awaitable[None]], since: str
) -> None:
    """Eight identities that did nothing kept all who are behind the same NAT out for as long as they liked."""
    clock, transport = Clock(), FromAfar()
    events: list[TraceEvent] = []
    places = NetLimits().connections_per_group
    async with (
        Host(key(1), transports=[transport], clock=clock, trace=events.append) as target,
        anyio.create_task_group() as tasks,
    ):
        PingService(target)
        await target.listen(Multiaddr.parse("/ip4/127.0.0.1/tcp/0"))
        for number in range(places):
            tasks.start_soon(attack, target, number)
        if attack is idle:
            await settled(lambda: len(target._swarm.all()) == places)
        else:
            await settled(lambda: target.budget.used(Resource.CONNECTIONS_IN) == places)
            await anyio.sleep(0.1)  # for what they say
        if since == "long":
            clock.advance(60)
        for number in range(3):
            async with Host(key(10 + number), transports=[transport]) as honest:
                with anyio.fail_after(SOON):
                    await honest.connect(target.peer_id, target.addresses())
                    await ping(honest, target.peer_id)
        assert not any(isinstance(event, InboundRefused) and event.reason is Refusal.RATE for event in events)
        tasks.cancel_scope.cancel()
    assert target._swarm._entrance.groups == 0 and used(target.budget) == {}


async def test_who_works_is_not_moved_out_by_who_comes_again_and_again_from_its_address() -> None:
    clock, transport = Clock(), FromAfar()
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(Host(key(1), transports=[transport], clock=clock))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        target.handle("/hear/1", hear_all)
        await target.listen(Multiaddr.parse("/ip4/127.0.0.1/tcp/0"))
        worker = await stack.enter_async_context(Host(key(2), transports=[transport]))
        await worker.connect(target.peer_id, target.addresses())
        stream = await worker.open_stream(target.peer_id, "/hear/1")
        await stream.send(bytes(MIB))
        await settled(lambda: target._swarm.of(worker.peer_id)[0].moved >= MIB)
        [stands] = target._swarm.of(worker.peer_id)
        for number in range(30):
            clock.advance(30)
            tasks.start_soon((idle, silent, half_said)[number % 3], target, number)
            await anyio.sleep(0.02)
        assert target._swarm.of(worker.peer_id) == [stands] and not stands.closed
        assert len(target._swarm.all()) <= NetLimits().connections_per_group
        tasks.cancel_scope.cancel()


async def hear_all(stream: Stream) -> None:
    while True:
        await stream.receive()
