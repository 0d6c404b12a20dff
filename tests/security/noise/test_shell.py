"""Noise over streams."""

import anyio
import pytest

from stack.errors import SecurityError
from stack.identity.keys import generate
from stack.identity.peer_id import PeerId, PeerIdMismatch
from stack.multiformats.multiaddr import Multiaddr
from stack.security.noise.shell import NoiseSecurity
from stack.streams.interfaces import SecureChannel
from stack.streams.memory import MemoryStream, memory_stream_pair
from stack.streams.sealed import SealedStream

pytestmark = pytest.mark.anyio

HERE = Multiaddr.parse("/memory/1")
THERE = Multiaddr.parse("/memory/2")
FIRST = generate()
SECOND = generate()


async def upgraded(first: MemoryStream, second: MemoryStream) -> tuple[SecureChannel, SecureChannel]:
    channels: dict[bool, SecureChannel] = {}

    async def upgrade(stream: MemoryStream, outbound: bool) -> None:
        security = NoiseSecurity(FIRST if outbound else SECOND)
        channels[outbound] = await security.upgrade(stream, outbound=outbound, expected=None, muxers=["/yamux/1.0.0"])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(upgrade, first, True)
        tasks.start_soon(upgrade, second, False)
    return channels[True], channels[False]


async def test_an_upgrade_returns_who_the_peer_is_and_the_agreed_muxer() -> None:
    first, second = await upgraded(*memory_stream_pair(HERE, THERE))
    assert (first.local_peer, first.remote_peer) == (PeerId.of(FIRST.public), PeerId.of(SECOND.public))
    assert (second.local_peer, second.remote_peer) == (first.remote_peer, first.local_peer)
    assert first.muxer == second.muxer == "/yamux/1.0.0"
    assert first.leftover == second.leftover == b""


async def test_the_wrong_peer_is_an_error_with_both_ids() -> None:
    left, right = memory_stream_pair(HERE, THERE)
    async with anyio.create_task_group() as tasks:

        async def listen() -> None:
            with pytest.raises(SecurityError, match="closed during"):
                await NoiseSecurity(SECOND).upgrade(right, outbound=False, expected=None, muxers=[])

        tasks.start_soon(listen)
        expected = PeerId.of(generate().public)
        with pytest.raises(PeerIdMismatch) as caught:
            await NoiseSecurity(FIRST).upgrade(left, outbound=True, expected=expected, muxers=[])
        await left.aclose()
    assert (caught.value.expected, caught.value.actual) == (expected, PeerId.of(SECOND.public))


async def test_a_peer_that_says_nothing_can_be_given_up() -> None:
    left, _ = memory_stream_pair(HERE, THERE)
    with anyio.move_on_after(0.01) as scope:
        await NoiseSecurity(FIRST).upgrade(left, outbound=False, expected=None, muxers=[])
    assert scope.cancelled_caught


async def test_the_static_key_is_signed_once_for_all_handshakes() -> None:
    security = NoiseSecurity(FIRST)
    for _ in range(2):
        left, right = memory_stream_pair(HERE, THERE)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda stream=left: security.upgrade(stream, outbound=True, expected=None, muxers=["/y"]))
            tasks.start_soon(
                lambda stream=right: NoiseSecurity(SECOND).upgrade(stream, outbound=False, expected=None, muxers=["/y"])
            )
    assert list(security._payloads) == [("/y",)]
    assert repr(security) == f"<NoiseSecurity of {PeerId.of(FIRST.public)}>"


async def test_a_sealed_stream_carries_bytes_both_ways_and_ends() -> None:
    left, right = await upgraded(*memory_stream_pair(HERE, THERE, limit=1 << 20))
    first, second = SealedStream(left), SealedStream(right)
    data = bytes(range(256)) * 400
    await first.send_all(memoryview(data))
    buffer = memoryview(bytearray(50000))
    received = bytearray()
    while len(received) < len(data):
        received += buffer[: await second.receive_into(buffer)]
    assert received == data
    assert second.local_address == THERE and second.remote_address == HERE
    await first.aclose()
    with pytest.raises(anyio.EndOfStream):
        await second.receive_into(buffer)


async def test_what_a_sealed_stream_read_too_far_is_handed_on() -> None:
    left, right = await upgraded(*memory_stream_pair(HERE, THERE))
    first, second = SealedStream(left), SealedStream(right)
    await first.send_all(memoryview(b"onetwo"))
    await first.send_all(memoryview(b"three"))
    buffer = memoryview(bytearray(3))
    assert await second.receive_into(buffer) == 3
    channel = second.channel_behind()
    assert channel.plaintext == b"twothree"
    assert channel.leftover == b""


async def test_half_a_frame_that_was_read_is_handed_on_as_it_is() -> None:
    left, right = await upgraded(*memory_stream_pair(HERE, THERE))
    frame = memoryview(bytearray(23))
    frame[2:7] = b"hello"
    left.session.seal(frame, 5)
    await SealedStream(left).send_all(memoryview(b"ok"))
    second = SealedStream(right)
    # The frame above took the first nonce: it comes first on the wire, with a part of the next behind it.
    await left.stream.send_all(frame)
    with pytest.raises(SecurityError):
        await second.receive_into(memoryview(bytearray(2)))


async def test_leftover_of_the_handshake_is_opened_first() -> None:
    left, right = await upgraded(*memory_stream_pair(HERE, THERE))
    frame = memoryview(bytearray(23))
    frame[2:7] = b"hello"
    left.session.seal(frame, 5)
    from dataclasses import replace

    second = SealedStream(replace(right, leftover=bytes(frame[:10])))
    await left.stream.send_all(frame[10:])
    buffer = memoryview(bytearray(10))
    assert await second.receive_into(buffer) == 5
    assert bytes(buffer[:5]) == b"hello"
