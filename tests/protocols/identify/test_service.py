"""Identify between hosts."""

import anyio
import pytest

from stack.errors import StackError
from stack.identity.keys import generate
from stack.identity.peer_id import PeerId
from stack.identity.peer_record import PeerRecord
from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host
from stack.net.interfaces import Direction
from stack.protocols.identify import service as module
from stack.protocols.identify.messages import Identify
from stack.protocols.identify.service import IDENTIFY, PUSH, PUSH_BURST, IdentifyService
from stack.streams.interfaces import Stream
from tests.net.hosts import Clock, Seen, connect, hosts, settled
from tests.net.identities import key, peer

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("any_line")]


async def identified(a: Host, b: Host) -> None:
    """Connect, and wait until the first knows the second."""
    seen = Seen()
    end = a.listen_to_peers(seen)
    await connect(a, b)
    await seen.wait_for("identified", b.peer_id)
    end()


async def push(a: Host, b: Host, *pieces: bytes) -> None:
    """Push bytes, as an attacker may, and wait until they have been looked at."""
    stream = await a.open_stream(b.peer_id, PUSH)
    await stream.send(b"".join(pieces))
    await stream.send_eof()
    try:
        await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        pass
    await stream.aclose()


async def test_a_new_connection_is_identified_at_once() -> None:
    async with hosts(2) as [a, b]:
        b.handle("/special", lambda stream: stream.aclose())
        await identified(a, b)
        protocols = a.protocols(b.peer_id)
        assert protocols is not None
        assert protocols >= {IDENTIFY, PUSH, "/special"}
        assert a.peerstore.agent(b.peer_id) == "stack/0.1.0"
        assert a.peerstore.addresses(b.peer_id, a._wall_clock()) == b.addresses()
        assert a.peerstore.record(b.peer_id) == b.signed_record()


async def test_a_peer_that_was_too_busy_to_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was no member of gossipsub, nor of anything else that asks what a peer speaks, for as long as the connection lasted."""
    monkeypatch.setattr(module, "EXCHANGE_SECONDS", 0.2)
    monkeypatch.setattr(module, "AGAIN_SECONDS", (0.01, 0.02))
    async with hosts(2) as [a, b]:
        answer, asked = b._handlers[IDENTIFY], 0

        async def busy(stream: Stream) -> None:
            nonlocal asked
            asked += 1
            if asked == 1:
                await anyio.sleep_forever()
            monkeypatch.setattr(module, "EXCHANGE_SECONDS", 10.0)
            await answer(stream)

        b.handle(IDENTIFY, busy)
        await connect(a, b)
        await settled(lambda: a.protocols(b.peer_id) is not None)


async def test_a_peer_without_identify_stays_unidentified() -> None:
    async with hosts(1) as [a], Host(key(60), transports=a._transports) as b:
        await a.connect(b.peer_id, [await b.listen(Multiaddr.parse("/memory/0"))])
        await anyio.wait_all_tasks_blocked()
        assert a.protocols(b.peer_id) is None
        assert a.is_connected(b.peer_id)


async def test_a_new_protocol_is_pushed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PUSH_SETTLE_SECONDS", 0)
    monkeypatch.setattr(module, "PUSH_PAUSE_SECONDS", 0)
    async with hosts(2) as [a, b]:
        await identified(a, b)
        await identified(b, a)
        a.handle("/new", lambda stream: stream.aclose())
        await settled(lambda: "/new" in (b.protocols(a.peer_id) or ()))
        a.unhandle("/new")
        await settled(lambda: "/new" not in (b.protocols(a.peer_id) or ()))


async def test_a_push_that_says_little_changes_little() -> None:
    async with hosts(2) as [a, b]:
        await identified(a, b)
        await identified(b, a)
        before = b.protocols(a.peer_id)
        await push(a, b, *Identify(agent_version="renamed").encode_pieces())
        await settled(lambda: b.peerstore.agent(a.peer_id) == "renamed")
        assert b.protocols(a.peer_id) == before
        assert b.peerstore.addresses(a.peer_id, b._wall_clock()) == a.addresses()


async def test_A05_records_of_other_peers_are_not_kept() -> None:
    async with hosts(2) as [a, b]:
        await identified(a, b)
        await identified(b, a)
        for number in range(PUSH_BURST):
            stranger = generate()
            record = PeerRecord(PeerId.of(stranger.public), 1, (Multiaddr.parse(f"/memory/{number}"),)).seal(stranger)
            await push(a, b, *Identify(signed_peer_record=record).encode_pieces())
        assert b.peerstore.peers() == [a.peer_id]
        assert b.peerstore.record(a.peer_id) == a.signed_record()


async def test_A18_a_push_with_the_key_of_another_peer_is_ignored() -> None:
    async with hosts(2) as [a, b]:
        await identified(a, b)
        await identified(b, a)
        await push(a, b, *Identify(public_key=key(7).public.encode(), agent_version="liar").encode_pieces())
        assert b.peerstore.agent(a.peer_id) != "liar"


async def test_A18_an_answer_with_the_key_of_another_peer_is_ignored() -> None:
    async with hosts(2) as [a, b]:

        async def lie(stream: Stream) -> None:
            pieces = Identify(public_key=key(7).public.encode(), protocols=("/lie",)).encode_pieces()
            await stream.send(b"".join(pieces))

        b.handle(IDENTIFY, lie)
        await connect(a, b)
        await settled(lambda: all(info.streams == 0 for info in a.connections()))
        assert a.protocols(b.peer_id) is None


async def test_A31_a_flood_of_pushes_is_mostly_not_looked_at() -> None:
    clock = Clock()
    async with hosts(1, clock=clock) as [a]:
        service = IdentifyService(a, clock=clock)
        async with Host(key(60), transports=a._transports) as flooder:
            IdentifyService(flooder)
            await identified(flooder, a)
            for number in range(100):
                await push(flooder, a, *Identify(agent_version=str(number)).encode_pieces())
            assert service.pushes_received == PUSH_BURST
            clock.advance(5)
            await push(flooder, a, *Identify(agent_version="later").encode_pieces())
            assert service.pushes_received == PUSH_BURST + 1
            await a.disconnect(flooder.peer_id)
            await flooder.connect(a.peer_id, a.addresses())
            await push(flooder, a, *Identify(agent_version="again").encode_pieces())
            assert service.pushes_received == PUSH_BURST + 1


async def test_the_count_of_pushes_is_kept_for_a_bounded_number_of_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUCKETS_MAX", 5)
    async with hosts(1) as [a]:
        service = IdentifyService(a)
        for number in range(20):
            assert service._may_push(peer(number))
        assert len(service._buckets) == 5


async def test_A32_pushes_replace_what_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PUSH_BURST", 1000)
    async with hosts(2) as [a, b]:
        await identified(a, b)
        await identified(b, a)
        for number in range(100):
            addresses = (Multiaddr.parse(f"/memory/{number + 500}"),)
            await push(a, b, *Identify(listen_addresses=addresses, protocols=(f"/{number}", PUSH)).encode_pieces())
        assert b.peerstore.addresses(a.peer_id, b._wall_clock()) == [Multiaddr.parse("/memory/599")]
        assert b.protocols(a.peer_id) == {"/99", PUSH}


async def test_A32_a_push_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXCHANGE_SECONDS", 0.05)
    async with hosts(2) as [a, b]:
        await connect(a, b)
        stream = await a.open_stream(b.peer_id, PUSH)
        await stream.send(b"\xff")
        with pytest.raises(anyio.BrokenResourceError):
            await stream.receive()


async def test_a_peer_that_does_not_answer_stays_unidentified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXCHANGE_SECONDS", 0.3)
    async with hosts(2) as [a, b]:
        asked = anyio.Event()

        async def hang(stream: Stream) -> None:
            asked.set()
            await anyio.sleep_forever()

        b.handle(IDENTIFY, hang)
        await connect(a, b)
        await settled(asked.is_set)
        await settled(lambda: a.connections()[0].streams == 0)
        assert a.protocols(b.peer_id) is None


async def test_a_push_to_a_peer_that_breaks_off_is_nobodys_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hosts(2) as [a, b]:
        service = IdentifyService(a)
        await identified(a, b)

        async def refuse(*arguments: object) -> Stream:
            raise StackError("broken")

        monkeypatch.setattr(a.best_connection(b.peer_id), "open_stream", refuse)
        assert await service.push() == 1


async def test_a_push_dials_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hosts(2) as [a, b]:
        service = IdentifyService(a)
        await identified(a, b)
        monkeypatch.setattr(a, "best_connection", lambda peer: None)
        assert await service.push() == 1
        await a.disconnect(b.peer_id)
        assert await service.push() == 0
        assert a.connections() == []


async def test_A33_observed_addresses_are_believed_only_from_many_and_never_dialled() -> None:
    async with hosts(2) as [a, b]:
        await connect(b, a)
        connection = a._swarm.all()[0]
        assert connection.direction is Direction.INBOUND
        claimed = Multiaddr.parse("/ip4/9.9.9.9/tcp/4001")
        for number in range(1000):
            connection.address = Multiaddr.parse(f"/ip4/8.8.8.{number % 250}/tcp/1")
            a.told_observation(connection, Multiaddr.parse(f"/ip4/9.9.{number // 256}.{number % 256}/tcp/1"))
        assert len(a.addresses()) == 1
        for number in range(4):
            connection.address = Multiaddr.parse(f"/ip4/8.{number}.8.8/tcp/1")
            a.told_observation(connection, claimed)
        assert a.addresses()[0] == claimed
        connection.direction = Direction.OUTBOUND
        connection.address = Multiaddr.parse("/ip4/7.7.7.7/tcp/1")
        a.told_observation(connection, Multiaddr.parse("/ip4/6.6.6.6/tcp/1"))
        assert a.peerstore.peers() == [b.peer_id]


async def test_what_is_told_of_a_peer_that_has_gone_is_dropped() -> None:
    async with hosts(1) as [a]:
        a.identified(peer(9), frozenset({"/a"}), "agent")
        a.told_addresses(peer(9), [Multiaddr.parse("/memory/1")], None)
        assert len(a.peerstore) == 0
