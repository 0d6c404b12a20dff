"""TLS over streams."""

import anyio
import pytest

from stack.identity.keys import generate
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.security.tls.shell import TlsSecurity
from stack.streams.interfaces import SecureChannel
from stack.streams.memory import MemoryStream, memory_stream_pair
from stack.streams.sealed import SealedStream
from stack.testing.streams import receive_exactly

pytestmark = pytest.mark.anyio

HERE, THERE = Multiaddr.parse("/memory/1"), Multiaddr.parse("/memory/2")
FIRST, SECOND = generate(), generate()


async def upgraded() -> tuple[SecureChannel, SecureChannel]:
    channels: dict[bool, SecureChannel] = {}

    async def upgrade(stream: MemoryStream, outbound: bool) -> None:
        security = TlsSecurity(FIRST if outbound else SECOND)
        channels[outbound] = await security.upgrade(stream, outbound=outbound, expected=None, muxers=["/yamux/1.0.0"])

    first, second = memory_stream_pair(HERE, THERE, limit=1 << 20)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(upgrade, first, True)
        tasks.start_soon(upgrade, second, False)
    return channels[True], channels[False]


async def test_an_upgrade_returns_who_the_peer_is_and_the_agreed_muxer() -> None:
    first, second = await upgraded()
    assert (first.local_peer, first.remote_peer) == (PeerId.of(FIRST.public), PeerId.of(SECOND.public))
    assert (second.local_peer, second.remote_peer) == (first.remote_peer, first.local_peer)
    assert first.muxer == second.muxer == "/yamux/1.0.0"


async def test_a_sealed_stream_carries_bytes_both_ways_also_behind_a_change_of_keys() -> None:
    first, second = (SealedStream(channel) for channel in await upgraded())
    data = bytes(range(256)) * 400
    second._channel.session._update_owed = True  # type: ignore[attr-defined] # as if the peer had asked
    for sender, receiver in ((first, second), (second, first)):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sender.send_all, memoryview(data))
            assert await receive_exactly(receiver, len(data)) == data


async def test_a_node_shows_one_certificate_and_no_key() -> None:
    security = TlsSecurity(FIRST)
    assert repr(security) == f"<TlsSecurity of {PeerId.of(FIRST.public)}>"
