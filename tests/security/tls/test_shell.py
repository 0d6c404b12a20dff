"""TLS over streams."""

import anyio
import pytest

from stack.identity.keys import generate
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.muxers.yamux.shell import YamuxMuxer
from stack.sansio.budget import Scope
from stack.security.tls.records import TlsSession
from stack.security.tls.shell import TlsSecurity
from stack.streams.interfaces import SecureChannel
from stack.streams.memory import MemoryStream, memory_stream_pair
from stack.streams.sealed import SealedStream
from stack.testing.streams import receive_all, receive_exactly
from tests.transports.quic.ends import LIMITS

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


@pytest.mark.parametrize("said", [False, True], ids=["cut", "close_notify"])
async def test_a_stream_whose_end_has_not_come_is_broken_whatever_tls_says(said: bool) -> None:
    """TLS ends with a close_notify, so that nobody who cuts the line can pass a part for the whole; here a stream says itself that it has
    ended, and close_notify in its place makes a part no whole either."""
    first, second = await upgraded()
    reader = YamuxMuxer().connection(second, outbound=False, scope=Scope("reader", LIMITS))
    writer = YamuxMuxer().connection(first, outbound=True, scope=Scope("writer", LIMITS))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.run)
        tasks.start_soon(writer.run)
        whole, part = await writer.open_stream(), await writer.open_stream()
        for stream in (whole, part):
            await stream.send(b"half of it")
        await whole.send_eof()
        arrived = [await reader.accept_stream(), await reader.accept_stream()]
        assert await receive_exactly(arrived[1], 10) == b"half of it"
        if said:
            session = first.session
            assert isinstance(session, TlsSession)
            await first.stream.send_all(memoryview(session.seal_alert(0)))
        await first.stream.aclose()
        assert await receive_all(arrived[0]) == b"half of it"
        with pytest.raises(anyio.BrokenResourceError):
            await arrived[1].receive(1)


async def test_a_node_shows_one_certificate_and_no_key() -> None:
    security = TlsSecurity(FIRST)
    assert repr(security) == f"<TlsSecurity of {PeerId.of(FIRST.public)}>"
