"""A pre-shared key around raw streams, and whoever does not have it."""

import gc
import os
import tracemalloc
from collections.abc import Awaitable, Callable

import anyio
import pytest

from stack.errors import SecurityError, TransportError
from stack.multiformats.multiaddr import Multiaddr
from stack.net import upgrader as module
from stack.net.upgrader import Upgrader
from stack.sansio.budget import Scope
from stack.security import SECURITY
from stack.security.pnet.shell import FIRST_WORDS, DirectProtectedStream, NotInNetwork, PrivateNetwork, ProtectedStream
from stack.streams.buffers import POOL
from stack.streams.interfaces import MuxedConnection, RawStream
from stack.streams.memory import MemoryStream, memory_stream_pair
from tests.net.identities import key, peer

pytestmark = pytest.mark.anyio
A, B = Multiaddr.parse("/memory/1"), Multiaddr.parse("/memory/2")
KEY, OTHER = bytes(32), bytes([1]) * 32
LARGE = os.urandom(1_000_000)


class Plain:
    """A raw stream without the methods of a direct one, as a WebSocket is."""

    def __init__(self, below: MemoryStream) -> None:
        self.local_address = below.local_address
        self.remote_address = below.remote_address
        self.receive_into = below.receive_into
        self.wait_readable = below.wait_readable
        self.send_all = below.send_all
        self.aclose = below.aclose


def pair(*, direct: bool = True, limit: int = 64 * 1024) -> tuple[RawStream, RawStream]:
    """Both ends of a protected stream; the first has dialled."""
    first, second = memory_stream_pair(A, B, limit=limit)
    network = PrivateNetwork(KEY)
    ends: tuple[RawStream, RawStream] = (first, second) if direct else (Plain(first), Plain(second))
    return network.protect(ends[0], outbound=True), network.protect(ends[1], outbound=False)


async def receive_exactly(stream: RawStream, count: int) -> bytes:
    data = bytearray(count)
    done = 0
    while done < count:
        done += await stream.receive_into(memoryview(data)[done:])
    return bytes(data)


async def at_once(*work: Callable[[], Awaitable[object]]) -> None:
    async with anyio.create_task_group() as tasks:
        for each in work:
            tasks.start_soon(each)


@pytest.mark.parametrize("direct", [True, False])
async def test_members_understand_each_other(direct: bool) -> None:
    ours, theirs = pair(direct=direct)
    assert isinstance(ours, DirectProtectedStream if direct else ProtectedStream)
    sent = FIRST_WORDS + LARGE

    async def speak(stream: RawStream) -> None:
        await stream.send_all(memoryview(sent))

    async def hear(stream: RawStream) -> None:
        await stream.wait_readable()
        assert await receive_exactly(stream, len(sent)) == sent

    await at_once(lambda: speak(ours), lambda: hear(theirs), lambda: speak(theirs), lambda: hear(ours))
    assert (ours.local_address, ours.remote_address) == (A, B)
    await ours.aclose()
    with pytest.raises(anyio.EndOfStream):
        await theirs.receive_into(memoryview(bytearray(1)))
    await theirs.aclose()


async def test_what_a_full_stream_does_not_take_is_sent_by_the_next_call() -> None:
    lent = POOL.lent
    ours, theirs = pair(limit=1000)
    assert isinstance(ours, DirectProtectedStream)
    assert isinstance(theirs, DirectProtectedStream)
    await at_once(lambda: ours.send_all(memoryview(FIRST_WORDS)), lambda: receive_exactly(theirs, len(FIRST_WORDS)))
    data, got, room = memoryview(LARGE[:50_000]), b"", memoryview(bytearray(700))
    while len(got) < 50_000:
        data = data[ours.send_now(data) :]
        received = theirs.receive_now(room)
        got += room[:received] if received else b""
    assert got == LARGE[:50_000]
    assert theirs.receive_now(room) is None
    assert ours.send_now(memoryview(b"x" * 2000)) == 1000
    await ours.aclose()
    assert POOL.lent == lent


@pytest.mark.parametrize("direct", [True, False])
async def test_finding_38_a_write_that_was_cut_off_in_the_middle_is_the_last(direct: bool) -> None:
    """The key stream has gone on, or our nonce is half written: what follows would be noise at the other end."""
    for size in (1, 10_000):
        first, _ = pair(direct=direct, limit=size)
        with anyio.move_on_after(0.01):
            await first.send_all(memoryview(LARGE))
        with pytest.raises(anyio.BrokenResourceError, match="cut off"):
            await first.send_all(memoryview(b"more"))
        await first.aclose()


async def test_a_nonce_may_come_in_pieces() -> None:
    first, second = memory_stream_pair(A, B)
    theirs = PrivateNetwork(KEY).protect(second, outbound=True)
    assert isinstance(theirs, DirectProtectedStream)
    room = memoryview(bytearray(100))
    assert theirs.receive_now(room) is None
    network = PrivateNetwork(KEY).protect(first, outbound=True)
    await network.send_all(memoryview(FIRST_WORDS))
    wire = bytearray(100)
    count = second.receive_now(memoryview(wire))
    assert count == 24 + len(FIRST_WORDS)
    for byte in wire[:count]:
        assert first.send_now(memoryview(b"")) == 0
        second._in.data += bytes((byte,))
        received = theirs.receive_now(room)
        assert received in (None, 1)
    assert room[0] == FIRST_WORDS[-1]


async def test_who_is_dialled_says_nothing_before_a_nonce_has_come() -> None:
    outside, below = memory_stream_pair(A, B)
    ours = PrivateNetwork(KEY).protect(below, outbound=False)
    with anyio.move_on_after(0.02):
        await ours.send_all(memoryview(FIRST_WORDS))
    assert outside.receive_now(memoryview(bytearray(100))) is None


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize(
    "said", [FIRST_WORDS + b"\x07/noise\n", os.urandom(1000), b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"]
)
async def test_an_outsider_gets_a_nonce_and_nothing_else(direct: bool, said: bytes) -> None:
    outside, below = memory_stream_pair(A, B)
    ours = PrivateNetwork(KEY).protect(below if direct else Plain(below), outbound=False)
    await outside.send_all(memoryview(said))
    with pytest.raises(NotInNetwork):
        await receive_exactly(ours, 20)
    await ours.aclose()
    room = memoryview(bytearray(1000))
    assert await outside.receive_into(room) == 24
    with pytest.raises(anyio.EndOfStream):
        await outside.receive_into(room)


async def test_an_outsider_who_leaves_is_told_as_such() -> None:
    outside, below = memory_stream_pair(A, B)
    ours = PrivateNetwork(KEY).protect(below, outbound=True)
    assert isinstance(ours, DirectProtectedStream)
    await outside.aclose()
    with pytest.raises(NotInNetwork, match="left before"):
        ours.receive_now(memoryview(bytearray(10)))


async def upgrade(dialling: Upgrader, listening: Upgrader) -> tuple[MuxedConnection | Exception, ...]:
    """What each end gets."""
    ends = memory_stream_pair(A, B)
    results: list[MuxedConnection | Exception] = [ValueError(), ValueError()]

    async def run(place: int, upgrader: Upgrader) -> None:
        try:
            channel = await upgrader.secure(ends[place], outbound=not place, expected=None)
            results[place] = await upgrader.multiplex(channel, outbound=not place, scope=Scope("test", {}))
        except Exception as error:  # noqa: BLE001 - the test looks at what it is
            results[place] = error

    await at_once(lambda: run(0, dialling), lambda: run(1, listening))
    return tuple(results)


@pytest.mark.parametrize("protocol", SECURITY)
async def test_a_private_connection_is_secured_and_multiplexed(protocol: str) -> None:
    network, security = PrivateNetwork(KEY), {protocol: SECURITY[protocol]}
    assert Upgrader.of(key(1), network).private
    ours, theirs = await upgrade(
        Upgrader.of(key(1), network, security), Upgrader.of(key(2), PrivateNetwork(KEY), security)
    )
    assert not isinstance(ours, Exception)
    assert not isinstance(theirs, Exception)
    assert (ours.remote_peer, theirs.remote_peer) == (peer(2), peer(1))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ours.run)
        tasks.start_soon(theirs.run)
        stream = await ours.open_stream()
        sender = stream.send

        async def send() -> None:
            await sender(LARGE)
            await stream.send_eof()

        tasks.start_soon(send)
        accepted, got = await theirs.accept_stream(), b""
        while len(got) < len(LARGE):
            got += await accepted.receive()
        assert got == LARGE
        await ours.aclose()


@pytest.mark.parametrize("private_dials", [True, False])
async def test_members_and_outsiders_never_get_a_connection(
    private_dials: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module, "PHASE_SECONDS", 0.5
    )  # a nonce may look like a length: then the outsider waits for more
    member, outsider = Upgrader.of(key(1), PrivateNetwork(KEY)), Upgrader.of(key(2))
    results = await upgrade(*((member, outsider) if private_dials else (outsider, member)))
    inside, outside = results if private_dials else results[::-1]
    assert isinstance(inside, (NotInNetwork, TransportError) if private_dials else NotInNetwork)
    assert isinstance(outside, Exception)


async def test_two_private_networks_never_get_a_connection() -> None:
    ours, theirs = await upgrade(Upgrader.of(key(1), PrivateNetwork(KEY)), Upgrader.of(key(2), PrivateNetwork(OTHER)))
    assert isinstance(ours, (SecurityError, TransportError))
    assert isinstance(theirs, (SecurityError, TransportError))
    assert NotInNetwork in (type(ours), type(theirs))


def test_no_key_is_shown() -> None:
    network = PrivateNetwork(OTHER)
    assert OTHER.hex()[:8] not in repr(network)
    first, _ = memory_stream_pair(A, B)
    assert OTHER.hex()[:8] not in repr(network.protect(first, outbound=True))


async def test_a_flood_of_outsiders_leaves_nothing_and_members_still_get_in() -> None:
    """From many identities: silence, noise, half a nonce, a nonce and nothing or garbage behind it."""
    said = [
        b"",
        os.urandom(10),
        os.urandom(24),
        os.urandom(24) + os.urandom(500),
        bytes(60_000),
        b"\x13/multistream/1.0.0\n",
    ]
    network = PrivateNetwork(KEY)

    async def attack(number: int) -> None:
        outside, below = memory_stream_pair(A, B)
        ours = network.protect(below, outbound=False)
        await outside.send_all(memoryview(said[number % len(said)]))
        await outside.aclose()
        with pytest.raises((SecurityError, TransportError, anyio.EndOfStream, anyio.BrokenResourceError)):
            while True:
                await ours.receive_into(memoryview(bytearray(1000)))
        await ours.aclose()

    async def members() -> None:
        results = await upgrade(Upgrader.of(key(1), network), Upgrader.of(key(2), PrivateNetwork(KEY)))
        assert not any(isinstance(result, Exception) for result in results)

    for number in range(len(said)):
        await attack(number)
    gc.collect()
    tracemalloc.start()
    for number in range(100):
        await attack(number)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(f"\nflood of outsiders: 100 identities, 100 connections: {held / 1024:,.0f} KiB held (bound 0.25 MiB)")
    assert held <= 256 * 1024
    await members()
