"""Hole punching between hosts on loopback, which counts as outside here."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest

from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import Reach
from stack.net.host import Host
from stack.net.interfaces import Direction
from stack.net.punching import EXPECTED_MAX, Expected
from stack.protocols.dcutr import messages
from stack.protocols.dcutr import service as service_module
from stack.protocols.dcutr.messages import MESSAGE_BYTES_MAX, Punch, PunchType, decode_punch
from stack.protocols.dcutr.service import DCUTR, DcutrService
from stack.protocols.dcutr.shell import exchange as exchange_module
from stack.protocols.dcutr.shell.exchange import Exchange, UpgradeEnded
from stack.protocols.identify.service import IdentifyService
from stack.protocols.relay.service import RelayService
from stack.protocols.relay.shell.server import RelayServer
from stack.streams.delimited import receive_message, send_message
from stack.trace import TraceEvent
from stack.transports import tcp
from stack.transports.extras import has_quic
from stack.transports.quic import QuicTransport
from stack.transports.quic.address import Address
from stack.transports.quic.endpoint import Endpoint
from stack.transports.tcp import TcpTransport
from tests.net.hosts import settled
from tests.net.identities import key

pytestmark = pytest.mark.anyio


class Homes:
    """A relay, the home that has a place there, and a guest who comes through it."""

    def __init__(self, relay: Host, home: Host, guest: Host, events: list[TraceEvent]) -> None:
        self.relay, self.home, self.guest, self.events = relay, home, guest, events
        front = relay.addresses()[0].with_peer(str(relay.peer_id))
        self.circuit = Multiaddr.parse(f"{front}/p2p-circuit")

    async def meet(self) -> None:
        await self.home.listen(self.circuit)
        await self.guest.connect(self.home.peer_id, [self.circuit])
        await settled(lambda: self.home.is_connected(self.guest.peer_id))

    @property
    def ended(self) -> list[UpgradeEnded]:
        return [event for event in self.events if isinstance(event, UpgradeEnded)]

    def is_direct(self) -> bool:
        both = ((self.home, self.guest), (self.guest, self.home))
        return all((best := one.best_connection(other.peer_id)) is not None and not best.relayed for one, other in both)


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is taken for public."""
    monkeypatch.setattr(messages, "reach_of", lambda address: Reach.PUBLIC)
    monkeypatch.setattr(tcp, "_is_public", lambda address: True)


@asynccontextmanager
async def homes(*, punching: bool = True, by: str = "tcp/0") -> AsyncIterator[Homes]:
    events: list[TraceEvent] = []
    async with AsyncExitStack() as stack:
        made = []
        for number in range(3):
            host = Host(
                key(number),
                transports=[TcpTransport(), QuicTransport()],
                interfaces=lambda: ["127.0.0.1"],
                trace=events.append if number == 1 else None,
            )
            await stack.enter_async_context(host)
            IdentifyService(host)
            RelayService(host)
            await host.listen(Multiaddr.parse(f"/ip4/0.0.0.0/{by}"))
            if punching and number:
                DcutrService(host)
            made.append(host)
        RelayServer(made[0], allowed=[host.peer_id for host in made])
        yield Homes(*made, events)


async def nobody(*arguments: object) -> bool:
    return False


@pytest.mark.usefixtures("outside")
async def test_who_can_simply_be_dialled_is_dialled() -> None:
    async with homes() as net:
        await net.meet()
        await settled(lambda: bool(net.ended) and net.is_direct())
        assert (net.ended[0].direct, net.ended[0].tries) == (True, 0)


@pytest.mark.usefixtures("outside")
async def test_both_dial_at_the_same_moment_from_the_port_they_listen_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Exchange, "_dial", nobody)
    async with homes() as net:
        await net.meet()
        await settled(lambda: bool(net.ended) and net.is_direct())
        assert (net.ended[0].direct, net.ended[0].tries) == (True, 1)
        best = net.guest.best_connection(net.home.peer_id)
        assert best is not None
        assert best.direction is Direction.OUTBOUND  # who dialled through the relay asks on what is punched


class Router:
    """Before the home: its socket of QUIC hears only from where it has sent something."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.inside = self.refused = 0
        spoken: set[int] = set()
        send, receive = Endpoint.send, Endpoint._receive

        def send_out(endpoint: Endpoint, datagrams: list[tuple[bytes, Address]], *rest: Any) -> None:
            if endpoint.bound[1] == self.inside:
                spoken.update(address[1] for _, address in datagrams)
            send(endpoint, datagrams, *rest)

        def let_in(endpoint: Endpoint, data: bytes, address: Address, *rest: Any) -> None:
            if endpoint.bound[1] == self.inside and address[1] not in spoken:
                self.refused += 1
            else:
                receive(endpoint, data, address, *rest)

        monkeypatch.setattr(Endpoint, "send", send_out)
        monkeypatch.setattr(Endpoint, "_receive", let_in)


@pytest.mark.usefixtures("outside")
@pytest.mark.skipif(not has_quic(), reason="NOT TESTED: hole punching by QUIC; needs the extra `quic`")
async def test_by_quic_one_knocks_and_the_other_dials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was dialled sends something from the socket that he listens on, so that his router lets in the other, who dials."""
    monkeypatch.setattr(Exchange, "_dial", nobody)
    router = Router(monkeypatch)
    async with homes(by="udp/0/quic-v1") as net:
        router.inside = int(net.home.addresses()[0].get("udp") or 0)
        await net.meet()
        await settled(lambda: bool(net.ended) and net.is_direct())
        assert (net.ended[0].direct, net.ended[0].tries) == (True, 1)
        ways = [one.best_connection(other.peer_id) for one, other in ((net.guest, net.home), (net.home, net.guest))]
        assert [way and way.direction for way in ways] == [Direction.OUTBOUND, Direction.INBOUND]


@pytest.mark.usefixtures("outside")
@pytest.mark.skipif(not has_quic(), reason="NOT TESTED: hole punching by QUIC; needs the extra `quic`")
async def test_by_quic_a_router_that_nobody_opens_lets_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """What shows that the test before this one shows something."""
    monkeypatch.setattr(Exchange, "_dial", nobody)
    router = Router(monkeypatch)
    async with homes(by="udp/0/quic-v1", punching=False) as net:
        router.inside = int(net.home.addresses()[0].get("udp") or 0)
        await net.meet()
        [address] = net.home.direct.listening()
        there = Multiaddr.parse(str(address).replace("0.0.0.0", "127.0.0.1"))
        assert not await net.guest.direct.punch(net.home.peer_id, [there], client=True, seconds=0.3)
        assert router.refused


@pytest.mark.usefixtures("outside")
async def test_after_three_tries_the_relay_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Exchange, "_dial", nobody)
    monkeypatch.setattr(exchange_module, "TRY_PAUSE_SECONDS", 0.0)
    async with homes() as net:
        for host in (net.home, net.guest):
            monkeypatch.setattr(host.direct, "punch", lambda *_, **__: nobody())
        await net.meet()
        await settled(lambda: bool(net.ended))
        assert (net.ended[0].direct, net.ended[0].tries) == (False, 3)
        assert net.home.is_connected(net.guest.peer_id)


@pytest.mark.usefixtures("outside")
async def test_who_does_not_speak_it_stays_behind_the_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Exchange, "_dial", nobody)
    monkeypatch.setattr(exchange_module, "SPOKEN_SECONDS", 0.0)
    async with homes() as net:
        net.guest.unhandle(DCUTR)
        await net.meet()
        await settled(lambda: bool(net.ended))
        assert (net.ended[0].direct, net.ended[0].tries) == (False, 1)


@pytest.mark.usefixtures("outside")
async def test_who_says_only_later_that_it_speaks_it_is_met_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """go-libp2p, until others have told it where they see it: three tries in three seconds were over before that."""
    monkeypatch.setattr(Exchange, "_dial", nobody)
    async with homes() as net:
        net.guest.unhandle(DCUTR)
        await net.meet()
        await settled(lambda: net.home.protocols(net.guest.peer_id) is not None)
        assert not net.ended
        DcutrService(net.guest)
        await settled(lambda: bool(net.ended) and net.is_direct())
        assert (net.ended[0].direct, net.ended[0].tries) == (True, 1)


async def talk(net: Homes, *said: Punch) -> list[Punch]:
    """What the guest answers to the home, on the relayed connection."""
    connection = net.home.best_connection(net.guest.peer_id)
    assert connection is not None
    answers: list[Punch] = []
    try:
        stream = await connection.open_stream([DCUTR])
        for message in said:
            await send_message(stream, message.encode())
        while True:
            answers.append(decode_punch(await receive_message(stream, MESSAGE_BYTES_MAX)))
    except Exception:  # noqa: BLE001 - however it ends
        return answers


async def test_A70_a_peer_has_us_dial_nobody_in_our_own_network_and_not_without_end() -> None:
    dialled: list[tuple[Multiaddr, ...]] = []
    async with homes(punching=False) as net:
        DcutrService(net.guest)

        async def punch(peer: PeerId, addresses: list[Multiaddr], **_: object) -> bool:
            dialled.append(tuple(addresses))
            return False

        net.guest.direct.punch = punch  # type: ignore[method-assign] # seen what it is asked
        await net.meet()
        private = tuple(Multiaddr.parse(f"/ip4/192.168.1.{n}/tcp/80") for n in range(1, 100))
        sync = Punch(PunchType.SYNC)
        for _ in range(20):
            await talk(net, Punch(PunchType.CONNECT, private), sync)
        assert dialled == [()] * service_module.TRY_BURST
        await net.home.disconnect(net.guest.peer_id)


@pytest.mark.parametrize("said", [[Punch(PunchType.SYNC)], [Punch(None)], [Punch(PunchType.CONNECT)] * 2])
async def test_words_in_the_wrong_order_end_a_try(said: list[Punch]) -> None:
    async with homes(punching=False) as net:
        DcutrService(net.guest)
        await net.meet()
        answers = await talk(net, *said)
        assert {answer.type for answer in answers} <= {PunchType.CONNECT}


async def test_it_is_spoken_only_through_a_relay() -> None:
    async with homes(punching=False) as net:
        DcutrService(net.guest)
        await net.home.connect(net.guest.peer_id, net.guest.addresses())
        assert await talk(net, Punch(PunchType.CONNECT), Punch(PunchType.SYNC)) == []


async def test_it_is_done_for_so_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with homes(punching=False) as net:
        DcutrService(net.guest)
        await net.meet()
        monkeypatch.setattr(service_module, "PEERS_AT_ONCE", 0)
        assert await talk(net, Punch(PunchType.CONNECT)) == []
        monkeypatch.setattr(service_module, "PEERS_AT_ONCE", 8)
        monkeypatch.setattr(service_module, "BUCKETS_MAX", 0)
        assert await talk(net, Punch(PunchType.CONNECT), Punch(PunchType.SYNC))


@pytest.mark.usefixtures("outside")
async def test_who_reaches_our_listener_while_we_dial_him_is_the_one_who_answers() -> None:
    """Where a router uses other ports than were told: he dials as the one who answers, and we must not do so too."""
    async with homes(punching=False) as net:
        [address] = [a for a in net.guest.addresses() if a.get("ip4")]
        net.guest._swarm.expected.add([address], 5.0, net.guest._clock())
        assert await net.home.direct.punch(net.guest.peer_id, [address], client=False)
        await settled(lambda: net.guest.is_connected(net.home.peer_id))
        best = net.guest.best_connection(net.home.peer_id)
        assert best is not None
        assert best.direction is Direction.OUTBOUND


@pytest.mark.skipif(not has_quic(), reason="NOT TESTED: hole punching by QUIC; needs the extra `quic`")
async def test_by_quic_who_dials_asks_whoever_was_waited_for() -> None:
    """The handshake says who the client is; each end took itself for it."""
    async with homes(punching=False, by="udp/0/quic-v1") as net:
        [address] = [a for a in net.guest.addresses() if a.get("ip4")]
        net.guest._swarm.expected.add([address], 5.0, net.guest._clock())
        await net.home.connect(net.guest.peer_id, [address])
        await settled(lambda: net.guest.is_connected(net.home.peer_id))
        best = net.guest.best_connection(net.home.peer_id)
        assert best is not None
        assert best.direction is Direction.INBOUND


async def test_a_try_is_over_when_nobody_answers() -> None:
    async with homes(punching=False) as net:
        gone = Multiaddr.parse("/ip4/127.0.0.1/tcp/1")
        begun = anyio.current_time()
        assert not await net.home.direct.punch(net.guest.peer_id, [gone], client=True, seconds=0.3)
        assert anyio.current_time() - begun >= 0.3
        assert not await net.home.direct.punch(net.guest.peer_id, [], client=True)
        for nowhere in ("/memory/1", "/sctp/1"):  # a way on which nobody punches, and none
            assert not await net.home.direct.punch(
                net.guest.peer_id, [Multiaddr.parse(nowhere)], client=True, seconds=0.01
            )


def test_so_many_addresses_are_expected_and_for_so_long() -> None:
    expected = Expected()
    here = Multiaddr.parse("/ip4/45.1.2.3/tcp/1")
    expected.add([here, Multiaddr.parse("/memory/1")], 5.0, 0.0)
    assert expected.is_expected(Multiaddr.parse("/ip4/45.1.2.3/tcp/9"), 4.9)
    assert not expected.is_expected(here, 5.0)
    assert not expected.is_expected(Multiaddr.parse("/memory/1"), 1.0)
    many = [Multiaddr.parse(f"/ip4/45.1.{n // 250}.{n % 250 + 1}/tcp/1") for n in range(EXPECTED_MAX + 9)]
    expected.add(many, 5.0, 10.0)
    assert not expected.is_expected(many[-1], 10.0)
    assert expected.is_expected(many[0], 10.0)
