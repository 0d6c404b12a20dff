"""Relays between hosts: places, circuits, and what a relay refuses."""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

import anyio
import pytest

from stack.errors import StackError, TransportError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.connection import Connection
from stack.net.events import CloseReason
from stack.net.host import Host
from stack.net.interfaces import DialError, ListenError
from stack.net.limits import NetLimits
from stack.protocols.ping.service import Pinger
from stack.protocols.relay.messages import (
    MESSAGE_BYTES_MAX,
    STOP,
    Hop,
    HopType,
    Limit,
    Status,
    Stop,
    StopType,
    decode_hop,
    decode_stop,
    open_voucher,
)
from stack.protocols.relay.places import RelayParameters
from stack.protocols.relay.service import HOP, RelayService
from stack.protocols.relay.shell import client as client_module
from stack.protocols.relay.shell import server as server_module
from stack.protocols.relay.shell.bridge import BUFFER_BYTES
from stack.protocols.relay.shell.listener import PlaceTaken
from stack.protocols.relay.shell.server import RelayServer
from stack.sansio.budget import Resource
from stack.streams.delimited import receive_message, send_message
from stack.streams.interfaces import Stream
from tests.net.hosts import Clock, connect, echo, hosts, settled

pytestmark = pytest.mark.anyio

ECHO = "/echo/1"
FRIENDS = RelayParameters()


class Three:
    """A relay, somebody who has a place there, and somebody who comes through it."""

    def __init__(self, relay: Host, home: Host, guest: Host, server: RelayServer, clock: Clock) -> None:
        self.relay, self.home, self.guest, self.server, self.clock = relay, home, guest, server, clock
        self.transport = RelayService(home).transport
        RelayService(guest)
        self.front = relay.addresses()[0].with_peer(str(relay.peer_id))
        self.circuit = Multiaddr.parse(f"{self.front}/p2p-circuit")
        home.handle(ECHO, echo)

    async def meet(self) -> None:
        await self.home.listen(self.circuit)
        await self.guest.connect(self.home.peer_id, [self.circuit])

    @property
    def connection(self) -> object:
        return self.guest.best_connection(self.home.peer_id)


@asynccontextmanager
async def three(allowed: Collection[int] = (), parameters: RelayParameters | None = None) -> AsyncIterator[Three]:
    clock = Clock()
    async with hosts(3, clock=clock) as [relay, home, guest]:
        names = [(relay, home, guest)[number].peer_id for number in allowed]
        server = RelayServer(relay, allowed=names, parameters=parameters, clock=clock, wall_clock=clock.wall_clock)
        made = Three(relay, home, guest, server, clock)
        made.transport.client._wall_clock = clock.wall_clock
        yield made


async def asked(host: Host, relay: Host, message: bytes) -> Hop:
    """What a relay answers."""
    await host.connect(relay.peer_id, relay.addresses()[:1])
    stream = await host.open_stream(relay.peer_id, HOP)
    await send_message(stream, message)
    answer = decode_hop(await receive_message(stream, MESSAGE_BYTES_MAX))
    stream.reset()
    return answer


async def said(stream: Stream, data: bytes) -> bytes:
    await stream.send(data)
    got = b""
    while len(got) < len(data):
        got += await stream.receive()
    return got


@pytest.mark.usefixtures("any_line")
async def test_two_hosts_speak_through_a_relay_which_learns_nothing_but_who_they_are() -> None:
    async with three(allowed=[1]) as net:
        await net.meet()
        stream = await net.guest.open_stream(net.home.peer_id, ECHO)
        assert stream.remote_address == net.circuit
        assert await said(stream, bytes(range(256)) * 2000) == bytes(range(256)) * 2000
        [info] = [each for each in net.guest.connections() if each.peer == net.home.peer_id]
        assert info.relayed
        assert not info.limited
        [back] = [each for each in net.home.connections() if each.peer == net.guest.peer_id]
        assert back.address == net.circuit
        assert net.circuit in net.home.addresses()
        assert net.server.places.circuits == 1
        await net.guest.disconnect(net.home.peer_id)
        await settled(lambda: net.server.places.circuits == 0)


async def test_who_has_moved_and_dialled_the_relay_again_is_reached_by_what_he_dialled_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What he had before is dead, and the relay hears of that late: it led others to nowhere until then."""
    async with three() as all_:
        await all_.home.listen(all_.circuit)
        before = all_.relay._swarm.of(all_.home.peer_id)[0]

        async def dead(*arguments: object) -> Stream:
            raise anyio.BrokenResourceError

        monkeypatch.setattr(before, "open_stream", dead)
        all_.clock.advance(5.0)
        await all_.home._dialer.dial(all_.relay.peer_id, all_.relay.addresses(), [])
        await settled(lambda: len(all_.relay._swarm.of(all_.home.peer_id)) == 2)
        await all_.guest.connect(all_.home.peer_id, [all_.circuit])


async def test_a_relayed_address_need_not_name_the_relay_but_who_is_behind_it() -> None:
    async with three(allowed=[1]) as net:
        await net.home.listen(net.circuit)
        short = Multiaddr.parse(f"{net.relay.addresses()[0]}/p2p-circuit/p2p/{net.home.peer_id}")
        assert await net.guest.connect(None, [short]) == net.home.peer_id
        before = len(net.guest.connections())
        await net.guest.disconnect(net.home.peer_id)
        assert await net.guest.connect(None, [short]) == net.home.peer_id
        assert len(net.guest.connections()) == before  # the connection to the relay is used again
        with pytest.raises(DialError, match="who is behind"):
            await net.guest.connect(None, [short.split_peer()[0]])


async def test_a_reservation_comes_with_a_voucher_addresses_and_the_limits() -> None:
    async with three() as net:
        answer = await asked(net.guest, net.relay, Hop(type=HopType.RESERVE).encode())
        assert (answer.type, answer.status, answer.limit) == (HopType.STATUS, Status.OK, Limit(120, 128 * 1024))
        assert answer.reservation is not None
        assert answer.reservation.expire == int(net.clock.wall) + 3600
        assert answer.reservation.addresses == (net.front,)
        voucher = open_voucher(answer.reservation.voucher)
        assert (voucher.relay, voucher.peer) == (net.relay.peer_id, net.guest.peer_id)
        assert voucher.expiration == answer.reservation.expire


async def test_a_place_is_renewed_and_is_gone_when_the_relay_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.protocols.relay.shell.listener.renew_after", lambda seconds: 0.01)
    questions: list[PeerId] = []
    async with three(allowed=[1]) as net:
        reserve = net.server.places.reserve
        monkeypatch.setattr(
            net.server.places, "reserve", lambda peer, *rest: questions.append(peer) or reserve(peer, *rest)
        )
        bound = await net.home.listen(net.circuit)
        await settled(lambda: len(questions) >= 3)
        with pytest.raises(ListenError, match="already"):
            await net.home.listen(net.circuit)
        changes: list[None] = []
        net.home.on_change(lambda: changes.append(None))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(net.transport.client.wait_over, bound)
            await net.relay.disconnect(net.home.peer_id)
        await settled(lambda: net.circuit not in net.home.addresses())
        assert changes
        assert net.server.places.reservations == 0


async def test_who_comes_while_a_relay_thinks_about_a_renewal_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who had a place accepted nobody there until the relay had answered, or for 20 s."""
    monkeypatch.setattr("stack.protocols.relay.shell.listener.renew_after", lambda seconds: 0.01)
    asked_again = anyio.Event()

    async def never(connection: Connection) -> PlaceTaken:
        asked_again.set()
        await anyio.sleep_forever()
        raise AssertionError

    async with three(allowed=[1]) as net:
        await net.home.listen(net.circuit)
        monkeypatch.setattr(net.transport.client, "_reserve", never)
        await asked_again.wait()
        with anyio.fail_after(client_module.OFFER_SECONDS / 2):
            await net.guest.connect(net.home.peer_id, [net.circuit])


async def test_a_place_that_is_not_renewed_in_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.protocols.relay.shell.listener.renew_after", lambda seconds: 0.01)
    monkeypatch.setattr("stack.protocols.relay.shell.listener.RETRY_SECONDS", 0.01)
    async with three() as net:
        net.clock.wall += 3599.9  # of its hour a tenth of a second is left when the answer comes
        net.server._wall_clock = lambda: net.clock.wall - 3599.9
        await net.home.listen(net.circuit)
        monkeypatch.setattr(net.server.places, "reserve", lambda *_: Status.RESERVATION_REFUSED)
        await settled(lambda: net.circuit not in net.home.addresses())


async def test_a_relay_says_no_at_each_of_its_limits_and_the_caller_hears_why() -> None:
    async with three(parameters=RelayParameters(reservations=1)) as net:
        await net.guest.connect(net.relay.peer_id, net.relay.addresses())
        for peer, why in [(net.home.peer_id, "not at this relay"), (net.guest.peer_id, "itself")]:
            with pytest.raises(DialError, match=why):
                await net.guest.connect(peer, [net.circuit])
        await asked(net.guest, net.relay, Hop(type=HopType.RESERVE).encode())
        with pytest.raises(ListenError, match="no place left"):
            await net.home.listen(net.circuit)


async def test_free_proxy_who_asks_and_leaves_at_once_keeps_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The place was granted after the relay had heard that it is free, and stayed for an hour."""
    left = anyio.Event()
    receive = receive_message

    async def slowly(stream: Stream, most: int) -> bytes:
        message = await receive(stream, most)
        await left.wait()
        return message

    monkeypatch.setattr(server_module, "receive_message", slowly)
    async with three() as net:
        await net.guest.connect(net.relay.peer_id, net.relay.addresses())
        served = net.relay.peer_budget(net.guest.peer_id)
        stream = await net.guest.open_stream(net.relay.peer_id, HOP)
        await send_message(stream, Hop(type=HopType.RESERVE).encode())
        await settled(lambda: bool(net.server.places._questions))
        await net.guest.disconnect(net.relay.peer_id)
        await settled(lambda: not net.relay.connections())
        left.set()
        await settled(lambda: not served.used(Resource.STREAMS_IN))
        assert net.server.places.reservations == 0
        assert not net.server.places._questions


async def test_a_place_at_a_relay_that_left_with_its_answer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async with three() as net:
        reserve = net.transport.client._reserve

        async def reserve_and_lose(connection: Connection) -> PlaceTaken:
            place = await reserve(connection)
            await net.home.disconnect(net.relay.peer_id)
            return place

        monkeypatch.setattr(net.transport.client, "_reserve", reserve_and_lose)
        await net.home.listen(net.circuit)
        await settled(lambda: net.circuit not in net.home.addresses())


async def test_who_arrives_at_a_place_that_is_being_left_is_not_kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async with three() as net:
        await net.home.listen(net.circuit)
        client = net.transport.client
        answer = client._answer

        async def leave_and_answer(stream: Stream, status: Status) -> None:
            await client._listeners[net.relay.peer_id].aclose()
            await answer(stream, status)

        monkeypatch.setattr(client, "_answer", leave_and_answer)
        with pytest.raises(DialError):
            await net.guest.connect(net.home.peer_id, [net.circuit])
        await settled(lambda: net.server.places.circuits == 0)


async def test_free_proxy_who_asks_without_end_is_refused() -> None:
    async with three(parameters=RelayParameters(questions_at_once=2)) as net:
        question = Hop(type=HopType.RESERVE).encode()
        answers = [(await asked(net.guest, net.relay, question)).status for _ in range(3)]
        assert answers == [Status.OK, Status.OK, Status.RESOURCE_LIMIT_EXCEEDED]


async def test_attack_6_who_asks_for_a_place_and_goes_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """With each it would have kept an honest peer out, for an hour, for the price of one connection."""
    async with three() as net:
        receive = receive_message

        async def and_gone(stream: Stream, limit: int) -> bytes:
            message = await receive(stream, limit)
            await net.relay.disconnect(net.guest.peer_id)
            return message

        monkeypatch.setattr(server_module, "receive_message", and_gone)
        with pytest.raises((StackError, anyio.BrokenResourceError, anyio.EndOfStream)):
            await asked(net.guest, net.relay, Hop(type=HopType.RESERVE).encode())
        await anyio.wait_all_tasks_blocked()
        assert net.server.places.reservations == 0


async def test_a_relay_reads_no_nonsense() -> None:
    """Malformed, unexpected and endless questions are told apart, by the codes of the specification."""
    async with three() as net:
        for message, status in [
            (b"\x08", Status.MALFORMED_MESSAGE),
            (Hop(type=HopType.CONNECT).encode(), Status.MALFORMED_MESSAGE),
            (Hop(type=None).encode(), Status.MALFORMED_MESSAGE),
            (Hop(type=HopType.STATUS, status=Status.OK).encode(), Status.UNEXPECTED_MESSAGE),
            (bytes(MESSAGE_BYTES_MAX + 1), Status.MALFORMED_MESSAGE),
        ]:
            assert (await asked(net.guest, net.relay, message)).status is status
        stream = await net.guest.open_stream(net.relay.peer_id, HOP)
        await stream.send(b"\xff\xff\xff\xff\xff")
        assert decode_hop(await receive_message(stream, MESSAGE_BYTES_MAX)).status is Status.MALFORMED_MESSAGE


async def test_free_proxy_a_circuit_of_strangers_carries_so_many_bytes_and_not_one_more() -> None:
    async with three(parameters=RelayParameters(limit=Limit(60, 3 * BUFFER_BYTES + 7))) as net:
        source, target = await bare_circuit(net)
        sent = bytes(3 * BUFFER_BYTES + 7)
        await source.send(sent)
        await target.send(sent)  # each direction by itself
        for end in (source, target):
            got = 0
            while got < len(sent):
                got += len(await end.receive())
        await source.send(b"!")
        for end in (source, target):
            with pytest.raises(anyio.BrokenResourceError):
                await end.receive()
        await settled(lambda: net.server.places.circuits == 0)


async def test_free_proxy_a_circuit_of_strangers_lasts_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async with three(parameters=RelayParameters(limit=Limit(1, 1000))) as net:
        begun = anyio.current_time()
        source, _ = await bare_circuit(net)
        with pytest.raises(anyio.BrokenResourceError):
            await source.receive()
        assert anyio.current_time() - begun >= 1.0
        await settled(lambda: net.server.places.circuits == 0)


async def test_free_proxy_a_relay_is_not_used_through_a_relay() -> None:
    async with three(allowed=[1]) as net:
        await net.meet()
        RelayServer(net.home)
        await settled(lambda: HOP in (net.guest.protocols(net.home.peer_id) or ()))
        stream = await net.guest.open_stream(net.home.peer_id, HOP)
        await send_message(stream, Hop(type=HopType.RESERVE).encode())
        assert decode_hop(await receive_message(stream, MESSAGE_BYTES_MAX)).status is Status.PERMISSION_DENIED
        with pytest.raises(TransportError, match="behind a relay"):
            await net.guest.listen(Multiaddr.parse(f"/p2p/{net.home.peer_id}/p2p-circuit"))


async def test_free_proxy_the_bytes_under_way_are_within_the_budget_and_wait_for_who_reads() -> None:
    """Nothing is read from one end before the other has taken what came before: what a circuit holds is two buffers."""
    async with three(allowed=[1]) as net:
        source, target = await bare_circuit(net)
        scopes = [net.relay.peer_budget(host.peer_id) for host in (net.guest, net.home)]
        assert all(scope.used(Resource.BYTES) >= 2 * BUFFER_BYTES for scope in scopes)
        with anyio.move_on_after(0.2) as full:
            while True:
                await source.send(bytes(BUFFER_BYTES))
        assert full.cancelled_caught
        windows = 2 * 256 * 1024 + 2 * BUFFER_BYTES  # of both streams, as they are at the beginning
        assert all(scope.used(Resource.BYTES) <= 2 * windows for scope in scopes)
        target.reset()
        await settled(lambda: net.server.places.circuits == 0)


async def test_no_memory_for_a_circuit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "BYTES_MAX", 2 * BUFFER_BYTES - 1)
    async with three() as net:
        await net.home.listen(net.circuit)
        with pytest.raises(DialError, match="too many connections"):
            await net.guest.connect(net.home.peer_id, [net.circuit])


async def test_attack_strangers_leave_memory_for_those_who_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The 128 circuits of strangers took just the 16 MiB of which those of peers that the owner has named were drawn too."""
    monkeypatch.setattr(server_module, "BYTES_MAX", 12 * BUFFER_BYTES)  # six circuits
    clock = Clock()
    async with hosts(4, clock=clock) as made, anyio.create_task_group() as ends:
        relay, friend, stranger, target = made
        server = RelayServer(relay, allowed=[friend.peer_id], clock=clock, wall_clock=clock.wall_clock)

        async def take(stream: Stream) -> None:
            await receive_message(stream, MESSAGE_BYTES_MAX)
            await send_message(stream, Stop(type=StopType.STATUS, status=Status.OK).encode())
            await anyio.sleep_forever()

        for host in (friend, target):
            host.handle(STOP, take, streams=20)
            assert (await asked(host, relay, Hop(type=HopType.RESERVE).encode())).status is Status.OK
        await stranger.connect(relay.peer_id, relay.addresses()[:1])

        async def circuits(source: Host, to: Host) -> int:
            """As many as there are."""
            for number in range(20):
                stream = await source.open_stream(relay.peer_id, HOP)
                await send_message(stream, Hop(type=HopType.CONNECT, peer=to.peer_id).encode())
                answer = decode_hop(await receive_message(stream, MESSAGE_BYTES_MAX))
                if answer.status is not Status.OK:
                    assert answer.status is Status.RESOURCE_LIMIT_EXCEEDED
                    return number
            return 20

        with anyio.fail_after(20):
            assert await circuits(stranger, target) == 4
            assert await circuits(stranger, friend) == 1
            assert await circuits(friend, target) == 1
        assert server.places.circuits == 6
        ends.cancel_scope.cancel()


@pytest.mark.parametrize(("memory", "circuits"), [(None, 192), (64 << 20, 192), (16 << 20, 48)])
async def test_a_relay_takes_a_part_of_little_memory(memory: int | None, circuits: int) -> None:
    limits = NetLimits(system={Resource.BYTES: memory} if memory is not None else {})
    async with hosts(1, limits=limits) as [relay]:
        assert RelayServer(relay)._budget.limit(Resource.BYTES) == circuits * 2 * BUFFER_BYTES


@pytest.mark.parametrize(
    "answer", [Stop(type=StopType.STATUS, status=Status.CONNECTION_FAILED).encode(), b"\x08", None]
)
async def test_who_does_not_take_a_connection_is_not_connected(
    answer: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "CONNECT_SECONDS", 0.2)
    async with three() as net:
        await net.home.listen(net.circuit)

        async def refuse(stream: Stream) -> None:
            if answer is None:
                await anyio.sleep_forever()
            else:
                await send_message(stream, answer)

        net.home.handle(STOP, refuse)
        with pytest.raises(DialError, match="cannot reach it"):
            await net.guest.connect(net.home.peer_id, [net.circuit])
        await settled(lambda: net.server.places.circuits == 0)


async def test_only_a_relay_at_which_we_have_a_place_leads_others_to_us() -> None:
    async with three() as net:
        await net.home.listen(net.circuit)
        await connect(net.guest, net.home)
        offer = Stop(type=StopType.CONNECT, peer=net.relay.peer_id).encode()
        for host, message, status in [
            (net.guest, offer, Status.PERMISSION_DENIED),
            (net.relay, Stop(type=StopType.STATUS).encode(), Status.UNEXPECTED_MESSAGE),
            (net.relay, Stop(type=StopType.CONNECT).encode(), Status.MALFORMED_MESSAGE),
            (net.relay, b"\x08", Status.MALFORMED_MESSAGE),
        ]:
            stream = await host.open_stream(net.home.peer_id, STOP)
            await send_message(stream, message)
            assert decode_stop(await receive_message(stream, MESSAGE_BYTES_MAX)).status is status


async def test_who_waits_to_be_let_in_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.protocols.relay.shell.listener.WAITING_MAX", 0)
    async with three() as net:
        await net.home.listen(net.circuit)
        with pytest.raises(DialError, match="cannot reach it"):
            await net.guest.connect(net.home.peer_id, [net.circuit])


def liar(answer: bytes) -> Callable[[Stream], object]:
    async def lie(stream: Stream) -> None:
        await receive_message(stream, MESSAGE_BYTES_MAX)
        await send_message(stream, answer)

    return lie


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"\x08", "does not answer"),
        (Hop(type=HopType.RESERVE).encode(), "does not answer"),
        (Hop(type=HopType.STATUS, status=Status.MALFORMED_MESSAGE).encode(), "MALFORMED"),
        (Hop(type=HopType.STATUS, status=Status.OK).encode(), "names no reservation"),
    ],
)
async def test_a_relay_that_talks_nonsense_gives_no_place(answer: bytes, why: str) -> None:
    async with three() as net:
        net.relay.handle(HOP, liar(answer))  # type: ignore[arg-type] # it returns an awaitable
        with pytest.raises(ListenError, match=why):
            await net.home.listen(net.circuit)


async def test_who_is_no_relay_or_silent_or_away_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "ANSWER_SECONDS", 0.2)
    async with three() as net:
        with pytest.raises(ListenError, match="cannot be reached"):
            await net.home.listen(Multiaddr.parse("/memory/77/p2p-circuit"))
        with pytest.raises(ListenError, match="no transport"):
            await net.home.listen(Multiaddr.parse(f"{net.circuit}/p2p/{net.guest.peer_id}/p2p-circuit"))

        async def silent(stream: Stream) -> None:
            await anyio.sleep_forever()

        net.relay.handle(HOP, silent)
        with pytest.raises(ListenError, match="does not answer"):
            await net.home.listen(net.circuit)
        net.server.close()
        guests = RelayService(net.guest).transport
        with pytest.raises(ListenError, match="no relay"):
            await guests.listen(net.circuit)


async def bare_circuit(net: Three) -> tuple[Stream, Stream]:
    """The two ends of a circuit, with nothing on it."""
    arrived: list[Stream] = []
    done = anyio.Event()

    async def take(stream: Stream) -> None:
        assert decode_stop(await receive_message(stream, MESSAGE_BYTES_MAX)).peer == net.guest.peer_id
        await send_message(stream, Stop(type=StopType.STATUS, status=Status.OK).encode())
        arrived.append(stream)
        done.set()
        await anyio.sleep_forever()

    net.home.handle(STOP, take)
    await asked(net.home, net.relay, Hop(type=HopType.RESERVE).encode())
    await net.guest.connect(net.relay.peer_id, net.relay.addresses()[:1])
    stream = await net.guest.open_stream(net.relay.peer_id, HOP)
    await send_message(stream, Hop(type=HopType.CONNECT, peer=net.home.peer_id).encode())
    answer = decode_hop(await receive_message(stream, MESSAGE_BYTES_MAX))
    assert answer.status is Status.OK
    await done.wait()
    return stream, arrived[0]


async def test_through_a_relay_that_carries_little_only_a_few_words_go(monkeypatch: pytest.MonkeyPatch) -> None:
    async with three() as net:
        await net.meet()
        [info] = [each for each in net.guest.connections() if each.peer == net.home.peer_id]
        assert info.limited
        monkeypatch.setattr("stack.net.direct.DIRECT_SECONDS", 0.1)
        with pytest.raises(DialError, match="carries a few KiB"):
            await net.guest.open_stream(net.home.peer_id, ECHO)
        assert not net.guest.direct.is_reached(net.home.peer_id)
        assert net.guest.direct.is_reached(net.relay.peer_id)
        async with Pinger(net.guest, net.home.peer_id) as pinger:
            assert await pinger.ping() > 0


async def test_what_needs_more_waits_for_a_connection_without_the_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.net.direct.DIRECT_SECONDS", 10.0)
    async with three() as net:
        await net.meet()
        streams: list[Stream] = []

        async def open_stream() -> None:
            streams.append(await net.guest.open_stream(net.home.peer_id, ECHO))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(open_stream)
            await anyio.wait_all_tasks_blocked()
            [address] = [a for a in net.home.addresses() if a != net.circuit]
            await net.guest._swarm.establish(net.home.peer_id, address)
        assert streams[0].remote_address == address
        assert await said(streams[0], b"hello") == b"hello"


async def test_a_stream_knows_that_there_is_a_better_way() -> None:
    async with three(allowed=[1]) as net:
        await net.meet()
        stream = await net.guest.open_stream(net.home.peer_id, ECHO)
        assert not stream.superseded  # type: ignore[attr-defined] # of a connection of `net`
        [address] = [a for a in net.home.addresses() if a != net.circuit]
        direct = await net.guest._swarm.establish(net.home.peer_id, address)
        assert stream.superseded  # type: ignore[attr-defined]
        await direct.aclose(CloseReason.REQUESTED)
        await settled(lambda: not stream.superseded)  # type: ignore[attr-defined]
