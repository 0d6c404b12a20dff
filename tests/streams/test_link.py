"""The data path: in place, and without keeping buffers."""

import anyio
import pytest

from stack.errors import SecurityError
from stack.identity.keys import generate
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.sansio.interfaces import Buffer, StreamId
from stack.security.noise.frames import NoiseSession
from stack.streams import turns
from stack.streams.buffers import BUFFER_BYTES, BufferPool
from stack.streams.interfaces import CipherSession, RawStream, SecureChannel
from stack.streams.link import SecureLink
from stack.streams.memory import memory_stream_pair
from stack.streams.sealed import SealedStream
from stack.testing.streams import settled
from tests.streams.support import Narrow

pytestmark = pytest.mark.anyio

HERE, THERE = Multiaddr.parse("/memory/1"), Multiaddr.parse("/memory/2")
KEY = generate().public
KEYS = bytes(32), bytes(range(32))


class Bytes:
    """A machine without frames: what is given goes out, what comes is kept."""

    def __init__(self) -> None:
        self.outgoing = b""
        self.received = b""

    def receive_data(self, data: memoryview, now: float) -> int:
        self.received += data
        return len(data)

    def write_to(self, out: memoryview) -> int:
        size = min(len(out), len(self.outgoing))
        out[:size] = self.outgoing[:size]
        self.outgoing = self.outgoing[size:]
        return size

    def send(self, stream: StreamId, data: Buffer) -> int:
        self.outgoing += data
        return len(data)

    def read_into(self, stream: StreamId, out: memoryview) -> int:
        return 0

    def next_event(self) -> None:
        return None

    def next_timeout(self) -> float | None:
        return None

    def handle_timeout(self, now: float) -> None: ...


def channel(stream: RawStream, session: CipherSession, leftover: bytes = b"", plaintext: bytes = b"") -> SecureChannel:
    peer = PeerId.of(KEY)
    return SecureChannel(
        stream=stream,
        session=session,
        local_peer=peer,
        remote_peer=peer,
        remote_key=KEY,
        muxer=None,
        leftover=leftover,
        plaintext=plaintext,
    )


class Linked:
    """Two links over memory."""

    def __init__(self, *, limit: int = 1 << 22, pool: BufferPool | None = None, narrow: bool = False) -> None:
        self.streams = memory_stream_pair(HERE, THERE, limit=limit)
        self.machines = Bytes(), Bytes()
        self.pool = pool or BufferPool()
        sessions = NoiseSession(*KEYS), NoiseSession(*reversed(KEYS))
        ends: list[RawStream] = [Narrow(stream) if narrow else stream for stream in self.streams]
        self.links = [
            SecureLink(channel(end, session), machine, self.pool)
            for end, session, machine in zip(ends, sessions, self.machines, strict=True)
        ]


async def test_a_flush_writes_everything_that_fits_and_gives_its_buffer_back() -> None:
    both = Linked()
    both.machines[0].outgoing = bytes(range(250)) * 400
    assert both.links[0].flush() is True
    assert not both.links[0].unsent
    assert both.pool.lent == 0
    await both.links[1].receive()
    assert both.machines[1].received == bytes(range(250)) * 400
    assert repr(both.links[0]) == f"<SecureLink {both.streams[0]!r}>"


async def test_one_flush_writes_for_one_turn_of_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.0)
    both = Linked()
    both.machines[0].outgoing = bytes(2 * BUFFER_BYTES)
    assert both.links[0].flush() is False
    assert len(both.streams[1]._in.data) == BUFFER_BYTES
    while not both.links[0].flush():
        pass
    assert not both.machines[0].outgoing


class Slow(Bytes):
    """A machine that takes a byte a call."""

    def receive_data(self, data: memoryview, now: float) -> int:
        self.received += data[:1]
        return 1


async def test_attack_5_what_was_read_is_given_to_the_machine_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.0)
    both = Linked()
    slow = both.links[1]._machine = Slow()
    for word in (b"hello", b"world"):
        both.machines[0].outgoing = word
        both.links[0].flush()
    for count in range(1, 11):
        await both.links[1].receive()
        assert slow.received == b"helloworld"[:count]
        assert both.links[1].behind
    await both.links[1].receive()
    assert not both.links[1].behind
    both.links[1].close()
    assert both.pool.lent == 0


async def test_a_blocked_flush_keeps_its_buffer_and_drain_goes_on() -> None:
    both = Linked(limit=1000)
    both.machines[0].outgoing = bytes(range(250)) * 20
    assert both.links[0].flush() is False
    assert both.links[0].unsent
    assert both.pool.lent == 1
    async with anyio.create_task_group() as tasks:

        async def drain() -> None:
            while both.links[0].unsent:
                await both.links[0].drain()

        tasks.start_soon(drain)
        while len(both.machines[1].received) < 5000:
            await both.links[1].receive()
    assert both.machines[1].received == bytes(range(250)) * 20
    assert not both.links[0].unsent


async def test_a_partial_frame_is_kept_until_the_rest_comes() -> None:
    both = Linked()
    both.machines[0].outgoing = b"hello"
    both.links[0].flush()
    wire = bytes(both.streams[1]._in.data)
    both.streams[1]._in.data.clear()
    for index in range(len(wire)):
        assert both.machines[1].received == b""
        both.streams[1]._in.data += wire[index : index + 1]
        await both.links[1].receive()
    assert both.machines[1].received == b"hello"
    both.links[1].close()
    assert both.pool.lent == 0


@pytest.mark.parametrize(("limit", "held"), [(64 << 20, 1), (BUFFER_BYTES, 0)])
async def test_a_partial_frame_holds_a_buffer_only_while_there_are_plenty(limit: int, held: int) -> None:
    both = Linked(pool=BufferPool(limit))
    both.machines[0].outgoing = b"hello"
    both.links[0].flush()
    wire = bytes(both.streams[1]._in.data)
    del both.streams[1]._in.data[10:]
    await both.links[1].receive()
    with anyio.move_on_after(0.01):
        await both.links[1].receive()
    assert both.pool.lent == held
    both.streams[1]._in.data += wire[10:]
    await both.links[1].receive()
    assert both.machines[1].received == b"hello"


async def test_an_idle_receiver_holds_no_buffer() -> None:
    for narrow in (False, True):
        both = Linked(narrow=narrow)
        with anyio.move_on_after(0.01):
            await both.links[1].receive()
        assert both.pool.lent == 0


async def test_a_stream_that_can_only_wait_is_written_by_drain() -> None:
    both = Linked(narrow=True)
    both.machines[0].outgoing = bytes(range(250)) * 4000
    assert both.links[0].flush() is False
    while both.links[0].unsent or both.machines[0].outgoing:
        await both.links[0].drain()
    while len(both.machines[1].received) < 1_000_000 or both.links[1].behind:
        await both.links[1].receive()
    assert both.machines[1].received == bytes(range(250)) * 4000
    with anyio.move_on_after(0.01):
        await both.links[1].receive()
    assert both.pool.lent == 0


async def test_empty_frames_mean_nothing() -> None:
    both = Linked()
    frame = memoryview(bytearray(18))
    NoiseSession(*KEYS).seal(frame, 0)
    await both.streams[0].send_all(frame)
    await both.links[1].receive()
    assert both.machines[1].received == b""


async def test_what_was_read_before_comes_first() -> None:
    streams = memory_stream_pair(HERE, THERE)
    sender, receiver = NoiseSession(*KEYS), NoiseSession(*reversed(KEYS))
    wire = b""
    for word in (b"two", b"three"):
        frame = memoryview(bytearray(len(word) + 18))
        frame[2 : 2 + len(word)] = word
        sender.seal(frame, len(word))
        wire += frame
    machine = Bytes()
    link = SecureLink(channel(streams[1], receiver, wire[:30], b"one"), machine, BufferPool())
    link.begin()
    assert machine.received == b"onetwo"
    await streams[0].send_all(memoryview(wire[30:]))
    await link.receive()
    assert machine.received == b"onetwothree"


async def test_A19_a_forged_frame_is_raised_and_nothing_of_it_is_given_on() -> None:
    both = Linked()
    both.machines[0].outgoing = b"hello"
    both.links[0].flush()
    both.streams[1]._in.data[5] ^= 1
    with pytest.raises(SecurityError):
        await both.links[1].receive()
    assert both.machines[1].received == b""


async def test_closing_gives_every_buffer_back() -> None:
    both = Linked(limit=100)
    both.machines[0].outgoing = bytes(5000)
    both.links[0].flush()
    await both.links[1].receive()
    assert both.pool.lent == 2
    for link in both.links:
        link.close()
        link.close()
    assert both.pool.lent == 0


class Failing:
    """A cipher that fails in the middle of its n-th frame."""

    def __init__(self, session: NoiseSession, at: int) -> None:
        self._cipher = session._send
        self._left = at

    def encrypt_into(self, nonce: bytes, data: memoryview, associated: None, out: memoryview) -> None:
        self._left -= 1
        if not self._left:
            out[: len(data) // 2] = bytes(len(data) // 2)
            raise MemoryError("no room")
        self._cipher.encrypt_into(nonce, data, associated, out)


@pytest.mark.parametrize("narrow", [False, True])
async def test_finding_38_nothing_follows_a_frame_that_could_not_be_encrypted(narrow: bool) -> None:
    """What the machine had given away is lost with it, and what is half encrypted must not be sent."""
    both = Linked(narrow=narrow)
    link, machine = both.links[0], both.machines[0]
    session = link._session
    assert isinstance(session, NoiseSession)
    session._send = Failing(session, 2)  # type: ignore[assignment] # as far as it is used
    machine.outgoing = bytes(200_000)
    with pytest.raises(SecurityError, match="could not be encrypted: no room"):
        if narrow:
            await link.drain()
        else:
            link.flush()
    assert not link.intact
    assert not link.flush() or not link.unsent
    if narrow:
        with pytest.raises(anyio.BrokenResourceError, match="cut off"):
            await link.drain()
    link.close()
    assert both.pool.lent == 0
    await both.streams[0].aclose()
    with pytest.raises(anyio.EndOfStream):
        await both.links[1].receive()
    assert both.machines[1].received == b""


async def test_finding_38_what_was_cut_off_in_the_middle_is_not_sent_again() -> None:
    """Whole frames that were sent twice, or a piece of one, would be forgeries at the other end."""
    both = Linked(narrow=True, limit=1000)
    both.machines[0].outgoing = bytes(50_000)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(both.links[0].drain)
        await settled()
        tasks.cancel_scope.cancel()
    assert not both.links[0].intact
    with pytest.raises(anyio.BrokenResourceError, match="cut off"):
        await both.links[0].drain()
    both.links[0].close()
    assert both.pool.lent == 0


async def test_finding_38_a_negotiation_that_was_cut_off_in_the_middle_is_not_gone_on_with() -> None:
    first, _ = memory_stream_pair(HERE, THERE, limit=1000)
    stream = SealedStream(channel(first, NoiseSession(*KEYS)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.send_all, memoryview(bytes(50_000)))
        await settled()
        tasks.cancel_scope.cancel()
    with pytest.raises(anyio.BrokenResourceError, match="cut off"):
        await stream.send_all(memoryview(b"more"))
