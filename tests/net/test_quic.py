"""Whole hosts over QUIC: what runs over TCP runs over it unchanged."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from stack.errors import SecurityError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.dial_plan import QUIC_DELAY_SECONDS, DialPlan, rank
from stack.net.host import Host
from stack.net.interfaces import DialError, ListenError
from stack.net.upgrader import Upgrader
from stack.protocols.identify.service import IdentifyService
from stack.protocols.ping import PingService, ping
from stack.sansio.budget import Resource
from stack.security.interfaces import Protector
from stack.streams.interfaces import RawStream
from stack.testing.streams import receive_exactly
from tests.net.hosts import Seen, echo, settled
from tests.net.identities import key

pytestmark = pytest.mark.anyio

LOOPBACK = Multiaddr.parse("/ip4/127.0.0.1/udp/0/quic-v1")


@asynccontextmanager
async def pair(*, listen: Multiaddr = LOOPBACK) -> AsyncIterator[tuple[Host, Host, Multiaddr]]:
    """Two hosts that speak identify and ping, and where the second listens."""
    async with Host(key(0)) as first, Host(key(1)) as second:
        for host in (first, second):
            IdentifyService(host)
            host.handle("/echo/1", echo)
        address = await second.listen(listen)
        yield first, second, address


async def test_hosts_identify_each_other_and_carry_streams_over_quic() -> None:
    async with pair() as (first, second, address):
        PingService(first)
        PingService(second)
        seen, seen_there = Seen(), Seen()
        first.listen_to_peers(seen)
        second.listen_to_peers(seen_there)
        assert await first.connect(None, [address.with_peer(str(second.peer_id))]) == second.peer_id
        await seen.wait_for("identified", second.peer_id)
        await seen_there.wait_for("identified", first.peer_id)
        assert address in first.peerstore.addresses(second.peer_id, first._wall_clock())
        assert len(await ping(first, second.peer_id, 2)) == 2
        async with anyio.create_task_group() as tasks:

            async def ask(number: int) -> None:
                stream = await first.open_stream(second.peer_id, "/echo/1")
                await stream.send(bytes([number]) * 5000)
                assert await receive_exactly(stream, 5000) == bytes([number]) * 5000
                await stream.aclose()

            for number in range(20):
                tasks.start_soon(ask, number)
        await first.disconnect(second.peer_id)
        await seen_there.wait_for("disconnected", first.peer_id)
        for host in (first, second):
            await settled(lambda host=host: not any(host.budget.used(resource) for resource in Resource))  # type: ignore[misc]


async def test_another_peer_than_the_expected_one_is_not_connected_to() -> None:
    async with pair() as (first, second, address):
        seen = Seen()
        second.listen_to_peers(seen)
        with pytest.raises(SecurityError):
            await first.connect(PeerId.of(key(2).public), [address])
        assert not first.connections()
        assert not second.connections()
        assert not seen.events


async def test_a_host_does_not_connect_to_itself() -> None:
    async with pair() as (_, second, address):
        with pytest.raises(DialError, match="this node itself"):
            await second.connect(None, [address])


async def test_quic_cannot_carry_a_private_network() -> None:
    class Around:
        """Stands for the key of a private network."""

        def protect(self, stream: RawStream, *, outbound: bool) -> RawStream:
            return stream

    protector: Protector = Around()
    async with pair() as (_, _, address), Host(key(3), upgrader=Upgrader.of(key(3), protector)) as private:
        with pytest.raises(ListenError, match="cannot carry a private network"):
            await private.listen(LOOPBACK)
        with pytest.raises(DialError, match="cannot carry a private network"):
            await private.connect(None, [address])


async def test_a_host_leaves_nothing_when_it_is_cancelled_in_the_middle() -> None:
    async with pair() as (first, second, address):
        with anyio.CancelScope() as scope:
            async with Host(key(4)) as third:
                await third.connect(second.peer_id, [address])
                scope.cancel()
                await anyio.sleep(10)
        assert scope.cancelled_caught
        await settled(lambda: not second.connections())
        assert not first.connections()


async def test_tcp_is_used_when_a_peer_has_both() -> None:
    async with pair() as (first, second, quic):
        tcp = await second.listen(Multiaddr.parse("/ip4/127.0.0.1/tcp/0"))
        await first.connect(second.peer_id, [quic, tcp])
        [connection] = first.connections()
        assert connection.address == tcp


def test_quic_comes_after_all_of_tcp_and_before_relays() -> None:
    public, private, quic, relayed = (
        Multiaddr.parse(text)
        for text in (
            "/ip4/1.2.3.4/tcp/1/ws",
            "/ip4/10.0.0.1/tcp/1",
            "/ip4/10.0.0.1/udp/1/quic-v1",
            f"/ip4/1.2.3.4/tcp/1/p2p/{PeerId.of(key(0).public)}/p2p-circuit",
        )
    )
    ranked = rank([relayed, quic, public, private])
    assert [address for _, address in ranked][2:] == [quic, relayed]
    assert ranked[2][0] == ranked[1][0] + QUIC_DELAY_SECONDS
    assert rank([quic]) == [(0.0, quic)]


async def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    async with Host(key(0)) as host:
        with pytest.raises(DialError, match=r"pip install 'p2p-stack\[quic\]'"):
            await host.connect(None, [Multiaddr.parse("/ip4/127.0.0.1/udp/1/quic-v1")])
        with pytest.raises(ListenError, match=r"pip install 'p2p-stack\[quic\]'"):
            await host.listen(LOOPBACK)
    plan = DialPlan(lambda address: False)
    plan.add([Multiaddr.parse("/ip4/127.0.0.1/tcp/1")], 0.0)
    assert plan.attempts[0].reason == "no transport for this address"
