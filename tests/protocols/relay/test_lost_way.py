"""The direct connection beside a relayed one goes: what was left carried a few words for two minutes, and nobody dialled."""

import anyio
import pytest

from stack.net.connection import Connection
from stack.net.events import CloseReason
from tests.net.hosts import settled
from tests.protocols.relay.test_relay import ECHO, Three, said, three

pytestmark = pytest.mark.anyio


async def beside(net: Three) -> Connection:
    """A direct connection beside the relayed one."""
    [address] = [each for each in net.home.addresses() if each != net.circuit]
    return await net.guest._swarm.establish(net.home.peer_id, address)


async def test_who_needs_more_than_a_relay_carries_dials_where_the_peer_is_known_to_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stack.net.direct.DIRECT_SECONDS", 10.0)
    async with three() as net:
        await net.meet()
        direct = await beside(net)
        await direct.aclose(CloseReason.UNRESPONSIVE)
        await settled(lambda: not net.guest.direct.is_reached(net.home.peer_id))
        net.guest.peerstore.replace_addresses(net.home.peer_id, [direct.address], 3600.0, net.clock.wall_clock())
        with anyio.fail_after(5):
            stream = await net.guest.open_stream(net.home.peer_id, ECHO)
        assert stream.remote_address == direct.address
        assert await said(stream, b"hello") == b"hello"


async def test_a_way_without_the_relay_is_looked_for_again_when_it_is_lost() -> None:
    """Hooks for new connections do that: hole punching is one."""
    async with three() as net:
        seen: list[Connection] = []

        async def look(connection: Connection) -> None:
            if connection.peer == net.guest.peer_id:
                seen.append(connection)

        net.home.on_connection(look)
        await net.meet()
        await settled(lambda: [each.relayed for each in seen] == [True])
        first, second = await beside(net), await beside(net)
        await settled(lambda: [each.relayed for each in seen] == [True, False, False])
        await first.aclose(CloseReason.UNRESPONSIVE)
        await settled(lambda: len(net.home._swarm.of(net.guest.peer_id)) == 2)
        assert len(seen) == 3
        await second.aclose(CloseReason.UNRESPONSIVE)
        await settled(lambda: len(seen) == 4)
        assert seen[3] is seen[0]
