"""AutoNAT between hosts at public addresses, behind firewalls and behind routers."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest

from stack.errors import StackError
from stack.net.host import Host
from stack.net.our_addresses import AddressSource
from stack.protocols.autonat import DIAL_BACK, DIAL_REQUEST, V1
from stack.protocols.autonat import service as module
from stack.protocols.autonat.guard import DATA_BYTES_MIN
from stack.protocols.autonat.messages import (
    Answer,
    DialData,
    DialDataRequest,
    DialRequest,
    DialResponse,
    Outcome,
    V1Dial,
    V1Response,
    V1Status,
    decode,
    decode_v1,
    encode,
    encode_nonce,
    encode_v1,
)
from stack.protocols.autonat.service import AutonatService
from stack.protocols.autonat.shell import asking, server
from stack.protocols.autonat.shell.lines import Talk
from stack.streams.interfaces import Stream
from stack.streams.memory import MemoryStream
from tests.net.hosts import settled
from tests.net.internet import Internet, at, node

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for what is only polite."""
    monkeypatch.setattr(module, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(server, "DELAY_SECONDS", 0.0)
    monkeypatch.setattr(asking, "KNOCK_SECONDS", 0.5)


@asynccontextmanager
async def outside(net: Internet, count: int) -> AsyncIterator[list[Host]]:
    """Servers, each in a network of its own."""
    async with AsyncExitStack() as stack:
        servers = []
        for number in range(count):
            host = await stack.enter_async_context(node(net, 10 + number, f"8.8.{number}.1"))
            AutonatService(host)
            servers.append(host)
        yield servers


async def meet(host: Host, servers: list[Host]) -> None:
    for each in servers:
        await host.connect(each.peer_id, each.addresses())


async def judged(service: AutonatService, peers: int = 1) -> list[tuple[str, bool | None]]:
    """What is thought of each address once there is nothing more to find out."""
    with anyio.fail_after(20):
        await settled(lambda: any(verdict.peers >= peers for verdict in service.verdicts()))
        await service.settle()
    return [(str(verdict.address), verdict.open) for verdict in service.verdicts()]


async def test_who_is_reached_learns_it_from_one_proof() -> None:
    net = Internet()
    async with outside(net, 1) as servers, node(net, 1, "9.1.1.1") as host:
        service = AutonatService(host)
        await meet(host, servers)
        assert await judged(service) == [("/ip4/9.1.1.1/tcp/4001", True)]


async def test_who_is_not_reached_learns_it_from_three_who_tried() -> None:
    net = Internet()
    net.shut.add("9.1.1.1")
    async with outside(net, 4) as servers, node(net, 1, "9.1.1.1") as host:
        service = AutonatService(host)
        await meet(host, servers)
        assert await judged(service, peers=3) == [("/ip4/9.1.1.1/tcp/4001", False)]


async def test_a_port_that_a_router_forwards_is_found_and_told_though_nobody_said_so() -> None:
    net = Internet()
    net.forwards["9.1.1.1", 4001] = ("192.168.1.5", 4001)
    async with outside(net, 2) as servers, node(net, 1, "192.168.1.5", outside="9.1.1.1") as host:
        AutonatService(host)
        await meet(host, servers)
        await settled(lambda: at("9.1.1.1", 4001) in host.addresses())
        assert host.addresses()[0] == at("9.1.1.1", 4001)
        assert host.ours.of(AddressSource.OBSERVED) == [at("9.1.1.1", 4001)]


async def test_behind_a_router_that_lets_nobody_in_nothing_is_told() -> None:
    net = Internet()
    async with outside(net, 3) as servers, node(net, 1, "192.168.1.5", outside="9.1.1.1") as host:
        service = AutonatService(host)
        await meet(host, servers)
        assert await judged(service, peers=2) == [("/ip4/9.1.1.1/tcp/4001", False)]
        assert at("9.1.1.1", 4001) not in host.addresses()


async def test_who_has_moved_asks_again() -> None:
    net = Internet()
    async with outside(net, 1) as servers, node(net, 1, "9.1.1.1") as host:
        service = AutonatService(host)
        await meet(host, servers)
        assert (await judged(service))[0][1] is True
        host.ours._read_interfaces = lambda: ["9.1.1.1", "10.0.0.1"]
        host.ours.look()
        assert service.verdicts()[0].open is None
        assert (await judged(service))[0][1] is True


async def test_a_server_of_version_1_alone_is_asked_too() -> None:
    net = Internet()
    async with outside(net, 3) as servers, node(net, 1, "9.1.1.1") as host:
        for each in servers:
            each.unhandle(DIAL_REQUEST)
        service = AutonatService(host)
        await meet(host, servers)
        assert await judged(service, peers=3) == [("/ip4/9.1.1.1/tcp/4001", True)]
        net.shut.add("9.1.1.1")
        host.ours._read_interfaces = lambda: ["9.1.1.1", "10.0.0.1"]
        host.ours.look()
        assert await judged(service, peers=3) == [("/ip4/9.1.1.1/tcp/4001", False)]


async def test_a_neighbour_on_the_same_network_is_not_asked() -> None:
    net = Internet()
    async with node(net, 2, "192.168.1.6") as neighbour, node(net, 1, "192.168.1.5") as host:
        AutonatService(neighbour)
        service = AutonatService(host)
        await meet(host, [neighbour])
        await settled(lambda: DIAL_REQUEST in (host.protocols(neighbour.peer_id) or ()))
        assert service.servers == 0 and not service.is_busy


async def request(host: Host, peer: Host, message: DialRequest) -> tuple[Stream, Talk]:
    """A stream on which this was asked."""
    stream = await host.open_stream(peer.peer_id, DIAL_REQUEST)
    talk = Talk(stream)
    await talk.say(encode(message))
    return stream, talk


async def test_A69_whom_somebody_wants_dialled_is_not_dialled_unless_more_was_sent_than_it_costs() -> None:
    """Who asks and asks is soon refused; without data the victim hears nothing."""
    net = Internet()
    victim = at("7.7.7.7", 80)
    async with outside(net, 1) as [helper], node(net, 1, "9.1.1.1") as host:
        await meet(host, [helper])
        net.dials.clear()
        answers = []
        for _ in range(40):
            stream, talk = await request(host, helper, DialRequest((victim,), 7))
            message = decode(await talk.hear())
            answers.append(type(message))
            assert not isinstance(message, DialDataRequest) or 30_000 <= message.size <= 100_000
            stream.reset()
        assert 0 < answers.count(DialDataRequest) < 20 and net.dials == []


async def test_A69_who_pays_has_it_dialled_and_one_who_sends_something_else_has_not() -> None:
    net = Internet()
    elsewhere = at("9.1.1.2", 4001)
    async with outside(net, 1) as [helper], node(net, 1, "9.1.1.1") as host, node(net, 2, "9.1.1.2"):
        await meet(host, [helper])
        net.dials.clear()
        _, talk = await request(host, helper, DialRequest((None, elsewhere), 7))
        todo = decode(await talk.hear())
        assert isinstance(todo, DialDataRequest) and todo.index == 1
        await talk.say(encode(DialResponse(Answer.OK)))
        with pytest.raises((StackError, anyio.BrokenResourceError)):
            await talk.hear()
        assert net.dials == []
        _, talk = await request(host, helper, DialRequest((elsewhere,), 7))
        todo = decode(await talk.hear())
        assert isinstance(todo, DialDataRequest)
        for _ in range(0, todo.size, 4096):
            await talk.say(encode(DialData(4096)))
        # It is another peer who listens there.
        assert decode(await talk.hear()) == DialResponse(Answer.OK, 0, Outcome.DIAL_ERROR)
        assert net.dials == [("8.8.0.1", elsewhere)]


@pytest.mark.parametrize("place", ["9.1.1.1", "9.1.1.2"])
async def test_A69_to_an_address_elsewhere_less_is_sent_than_the_asker_has_sent(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever listens there, the asker, with all that follows then, or somebody else."""
    net, sent = Internet(), Counter[str]()
    send_all = MemoryStream.send_all

    async def count(stream: MemoryStream, data: memoryview) -> None:
        sent[str(stream.remote_address)] += len(data)
        await send_all(stream, data)

    monkeypatch.setattr(MemoryStream, "send_all", count)
    elsewhere = at("9.1.1.3", 4001)
    net.forwards["9.1.1.3", 4001] = (place, 4001)
    async with outside(net, 1) as [helper], node(net, 1, "9.1.1.1") as host, node(net, 2, "9.1.1.2"):
        AutonatService(host, serve=False)
        await meet(host, [helper])
        sent.clear()
        _, talk = await request(host, helper, DialRequest((elsewhere,), 7))
        todo = decode(await talk.hear())
        assert isinstance(todo, DialDataRequest) and not sent[f"/ip4/{place}/tcp/4001"]
        for _ in range(0, todo.size, 4096):
            await talk.say(encode(DialData(4096)))
        answer = decode(await talk.hear())
        outcome = Outcome.OK if place == "9.1.1.1" else Outcome.DIAL_ERROR
        assert answer == DialResponse(Answer.OK, 0, outcome)
        assert 0 < sent[f"/ip4/{place}/tcp/4001"] < DATA_BYTES_MIN / 10


async def test_the_client_pays_what_is_asked_for_and_no_more() -> None:
    net = Internet()
    paid: list[int] = []

    async def greedy(stream: Stream) -> None:
        talk = Talk(stream)
        decode(await talk.hear())
        await talk.say(encode(DialDataRequest(0, sizes.pop())))
        try:
            for _ in range(25):
                piece = decode(await talk.hear())
                assert isinstance(piece, DialData)
                paid.append(piece.size)
            await talk.say(encode(DialResponse(Answer.OK, 0, Outcome.DIAL_ERROR)))
        except (StackError, anyio.BrokenResourceError):
            paid.append(-1)

    for size, total in ((100_000, 25 * 4096), (100_001, -1)):
        sizes = [size]
        paid.clear()
        async with outside(net, 1) as [helper], node(net, 1, "9.1.1.1") as host:
            helper.handle(DIAL_REQUEST, greedy)
            AutonatService(host)
            await meet(host, [helper])
            await settled(lambda total=total: sum(paid) == total)  # type: ignore[misc]


async def test_A69_no_private_address_and_no_name_is_dialled() -> None:
    net = Internet()
    near = ["10.0.0.1", "192.168.1.1", "172.16.0.1", "127.0.0.1", "169.254.1.1", "100.64.0.1", "0.0.0.0", "224.0.0.1"]
    async with outside(net, 1) as [helper], node(net, 1, "9.1.1.1") as host:
        await meet(host, [helper])
        net.dials.clear()
        _, talk = await request(host, helper, DialRequest(tuple(at(ip, 4001) for ip in near), 7))
        assert decode(await talk.hear()) == DialResponse(Answer.REFUSED)
        stream = await host.open_stream(helper.peer_id, V1)
        await Talk(stream).say(encode_v1(V1Dial(bytes(host.peer_id), tuple(at(ip, 4001) for ip in near))))
        assert decode_v1(await Talk(stream).hear()) == V1Response(V1Status.DIAL_REFUSED)
        assert net.dials == []


async def test_A69_version_1_dials_nobody_but_the_asker_and_where_it_comes_from() -> None:
    net = Internet()
    async with outside(net, 1) as [helper], node(net, 1, "9.1.1.1") as host, node(net, 2, "9.1.1.2") as victim:
        await meet(host, [helper])
        net.dials.clear()
        there = victim.addresses()[0]
        for named, status in ((victim, V1Status.BAD_REQUEST), (host, V1Status.DIAL_REFUSED)):
            stream = await host.open_stream(helper.peer_id, V1)
            await Talk(stream).say(encode_v1(V1Dial(bytes(named.peer_id), (there,))))
            assert decode_v1(await Talk(stream).hear()) == V1Response(status)
        assert net.dials == []


async def test_a_server_that_says_yes_and_never_came_is_not_believed() -> None:
    """Nor when it names the number over the connection by which it was asked."""
    net = Internet()

    async def liar(stream: Stream) -> None:
        talk = Talk(stream)
        asked = decode(await talk.hear())
        assert isinstance(asked, DialRequest)
        back = await helper.open_stream(stream.remote_peer, DIAL_BACK)
        await Talk(back).say(encode_nonce(asked.nonce))
        await Talk(back).hear()
        await talk.say(encode(DialResponse(Answer.OK, 0, Outcome.OK)))
        told.append(1)

    told: list[int] = []
    net.shut.add("9.1.1.1")
    async with outside(net, 1) as [helper], node(net, 1, "9.1.1.1") as host:
        helper.handle(DIAL_REQUEST, liar)
        service = AutonatService(host)
        await meet(host, [helper])
        await settled(lambda: bool(told))
        await service.settle()
        assert [verdict.open for verdict in service.verdicts()] == [None]


async def test_who_hangs_up_or_talks_nonsense_harms_nobody() -> None:
    net = Internet()
    async with outside(net, 1) as [helper], node(net, 1, "9.1.1.1") as host:
        await meet(host, [helper])
        for protocol, said in (
            (DIAL_REQUEST, b"\x02\xff\xff"),
            (DIAL_REQUEST, b"\xff\xff\xff\x7f"),
            (DIAL_REQUEST, b"\x00"),
            (DIAL_REQUEST, b""),
            (V1, b"\x02\xff\xff"),
            (V1, b"\x02\x08\x01"),
            (DIAL_BACK, b"\x01\x00"),
        ):
            stream = await host.open_stream(helper.peer_id, protocol)
            await stream.send(said or b"\x05")
            await stream.send_eof()
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()
        service = AutonatService(host)
        assert (await judged(service))[0][1] is True


async def test_who_serves_nobody_still_asks() -> None:
    net = Internet()
    async with outside(net, 1) as servers, node(net, 1, "9.1.1.1") as host:
        service = AutonatService(host, serve=False)
        assert DIAL_REQUEST not in host.supported() and DIAL_BACK in host.supported()
        await meet(host, servers)
        assert await judged(service) == [("/ip4/9.1.1.1/tcp/4001", True)]


@pytest.mark.parametrize(
    "said",
    [
        encode(DialResponse(Answer.REFUSED)),
        encode(DialResponse(Answer.OK, 3, Outcome.OK)),
        encode(DialResponse(Answer.OK, 0, Outcome.DIAL_BACK_ERROR)),
        encode(DialData(5)),
        encode_v1(V1Response(V1Status.DIAL_REFUSED)),
        encode_v1(V1Dial(b"", ())),
    ],
)
@pytest.mark.parametrize("protocol", [DIAL_REQUEST, V1])
async def test_a_server_that_would_not_try_or_says_something_else_settles_nothing(said: bytes, protocol: str) -> None:
    told: list[int] = []

    async def answer(stream: Stream) -> None:
        talk = Talk(stream)
        await talk.hear()
        await talk.say(said)
        told.append(1)

    net = Internet()
    async with outside(net, 1) as [helper], node(net, 1, "9.1.1.1") as host:
        helper.unhandle(DIAL_REQUEST)
        helper.handle(protocol, answer)
        service = AutonatService(host)
        await meet(host, [helper])
        await settled(lambda: bool(told))
        with anyio.fail_after(10):
            await service.settle()
        assert [verdict.open for verdict in service.verdicts()] == [None]
