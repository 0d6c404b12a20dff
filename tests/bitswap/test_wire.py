"""Buffers of messages, and messages on streams."""

from contextlib import suppress

import anyio
import pytest

from stack.bitswap import lending
from stack.bitswap.lending import PEER_BYTES_MAX
from stack.bitswap.messages import (
    MESSAGE_BYTES_MAX,
    PROTOCOL_1_2,
    Message,
    OutgoingMessage,
    Presence,
    Want,
    encode_message,
)
from stack.bitswap.session_parameters import SessionParameters
from stack.bitswap.session_peer import SessionPeer
from stack.bitswap.shell import lane as lane_module
from stack.bitswap.shell import wire
from stack.bitswap.shell.buffers import KEPT_BYTES_MAX, SIZES, MessageBuffers, buffer_size
from stack.bitswap.shell.lane import Lane, Throttle, pieces_of, seconds_for
from stack.bitswap.shell.wire import Loan, Receiver
from stack.errors import LimitExceeded, RemoteProtocolError
from stack.identity.peer_id import PeerId
from stack.multiformats import varint
from stack.multiformats.multiaddr import Multiaddr
from stack.net.failures import SEND_ERRORS
from stack.net.host import Host
from stack.sansio.budget import Resource
from stack.sansio.interfaces import Buffer
from stack.streams.interfaces import Stream
from tests.bitswap.exchanges import some_blocks
from tests.bitswap.simulation import cid_of, peer_named
from tests.net.hosts import connect, hosts, settled

MIB = 1024 * 1024


def test_buffers_come_in_a_few_sizes() -> None:
    assert [buffer_size(size) for size in (1, SIZES[0], SIZES[0] + 1, 2 * MIB, MESSAGE_BYTES_MAX)] == [
        SIZES[0],
        SIZES[0],
        SIZES[1],
        SIZES[3],
        MESSAGE_BYTES_MAX,
    ]
    with pytest.raises(ValueError, match="message of"):
        buffer_size(MESSAGE_BYTES_MAX + 1)


def test_free_buffers_that_nobody_needs_for_long_are_let_go_and_no_others() -> None:
    """What an attack or a fetch had made us allocate stayed with the process for ever."""
    buffers = MessageBuffers()
    held = [buffers.borrow(SIZES[1]) for _ in range(5)]
    for buffer in held:
        buffers.give_back(buffer)
    buffers.rest()
    assert buffers.kept == 5 * SIZES[1]  # there was a time at which none was free
    for _ in range(3):
        two = [buffers.borrow(SIZES[1]) for _ in range(2)]
        for buffer in two:
            buffers.give_back(buffer)
        buffers.rest()
        assert buffers.kept == 2 * SIZES[1]
    buffers.rest()
    assert buffers.kept == 0


def test_a_buffer_that_was_given_back_is_lent_again() -> None:
    buffers = MessageBuffers()
    first = buffers.borrow(MIB)
    assert len(first) == SIZES[2]
    buffers.give_back(first)
    assert buffers.kept == SIZES[2]
    assert buffers.borrow(100) is not first
    assert buffers.borrow(MIB) is first
    assert buffers.kept == 0


def test_only_so_many_free_buffers_are_kept() -> None:
    buffers = MessageBuffers()
    lent = [buffers.borrow(MESSAGE_BYTES_MAX) for _ in range(8)]
    for buffer in lent:
        buffers.give_back(buffer)
    assert buffers.kept == KEPT_BYTES_MAX == 4 * MESSAGE_BYTES_MAX


def test_a_message_has_ten_seconds_and_one_for_each_64_kibibytes_and_thirty_at_least() -> None:
    assert seconds_for(0) == 30
    assert seconds_for(2 * MIB) == 42


def test_a_session_peer_shows_its_state() -> None:
    peer = SessionPeer(peer_named("alice"), SessionParameters(), full=True)
    assert repr(peer) == f"<SessionPeer {peer_named('alice')} known, owes 0>"


def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message stalls in a twentieth of the time."""
    monkeypatch.setattr(wire, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(lending, "LOOK_SECONDS", 0.05)


class Inbox:
    """What a receiver hands over."""

    def __init__(self, host: Host, *, asked: bool = True, throttle: Throttle | None = None) -> None:
        self.messages: list[tuple[Message, Loan | None]] = []
        self.progress = 0
        self.receiver = Receiver(
            host,
            receive=self._receive,
            progress=self._progress,
            broken=self._broken,
            asked=lambda peer: asked,
            room=anyio.lowlevel.checkpoint,
            throttle=throttle,
        )
        self.errors: list[Exception] = []
        host.handle(PROTOCOL_1_2, self.receiver.serve)

    def _receive(self, peer: PeerId, message: Message, loan: Loan | None) -> None:
        self.messages.append((message, loan))

    def _progress(self, peer: PeerId, size: int) -> None:
        self.progress += size

    def _broken(self, peer: PeerId, size: int, ours: bool) -> None:
        self.progress -= size


@pytest.mark.anyio
async def test_small_messages_need_no_buffer_and_may_come_in_any_pieces() -> None:
    async with hosts(2, identify=False) as [here, there]:
        inbox = Inbox(here)
        await connect(there, here)
        stream = await there.open_stream(here.peer_id, PROTOCOL_1_2)
        messages = [OutgoingMessage(wants=[Want(cid_of(index))]) for index in range(5)]
        data = b"".join(b"".join(encode_message(message)) for message in messages) + b"\x00"
        for size in (1, 2, 60, 100):
            await stream.send(data[:size])
            data = data[size:]
            await anyio.lowlevel.checkpoint()
        await stream.send(data)
        await settled(lambda: len(inbox.messages) == 6)
        assert [message.wants[0].cid for message, _ in inbox.messages[:5]] == [cid_of(index) for index in range(5)]
        assert inbox.messages[5] == (Message(), None)
        assert inbox.receiver.used == 0


@pytest.mark.anyio
@pytest.mark.parametrize("asked", [True, False])
async def test_long_messages_arrive_in_buffers_that_go_back(asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lending, "UNASKED_PARTS", 1)
    blocks = some_blocks(3, 100_000)
    async with hosts(2, identify=False) as [here, there]:
        inbox = Inbox(here, asked=asked)
        await connect(there, here)
        lane = Lane(there, here.peer_id)
        assert await lane.protocol() == PROTOCOL_1_2
        for message in (
            OutgoingMessage(blocks=blocks),
            OutgoingMessage(presences=[Presence(cid_of(1), True)]),
            OutgoingMessage(blocks=blocks[:1]),
        ):
            await lane.send(lambda protocol, message=message: encode_message(message, protocol=protocol))
        await settled(lambda: len(inbox.messages) == 3)
        loans = [loan for _, loan in inbox.messages]
        assert loans[1] is None
        assert [bytes(block.data) for block in inbox.messages[0][0].blocks] == [data for _, data in blocks]
        assert inbox.receiver.used == SIZES[1] + SIZES[1]
        assert here.peer_budget(there.peer_id).used(Resource.BYTES) >= inbox.receiver.used
        assert inbox.progress > 0
        for loan in loans:
            if loan is not None:
                loan.release()
                loan.release()
        assert inbox.receiver.used == 0
        await lane.aclose()
        await lane.aclose()


@pytest.mark.anyio
async def test_a_peer_waits_until_what_it_sent_has_been_handed_over() -> None:
    block = some_blocks(1, 2 * MIB)
    async with hosts(2, identify=False) as [here, there], anyio.create_task_group() as tasks:
        inbox = Inbox(here)
        await connect(there, here)

        async def send() -> None:
            lane = Lane(there, here.peer_id)
            for _ in range(most + 2):
                await lane.send(lambda protocol: encode_message(OutgoingMessage(blocks=block)))
            await lane.aclose()

        most = PEER_BYTES_MAX // SIZES[3]
        tasks.start_soon(send)
        await settled(lambda: len(inbox.messages) == most)
        await anyio.wait_all_tasks_blocked()
        assert len(inbox.messages) == most
        for expected in range(most + 1, most + 3):
            loan = inbox.messages[expected - most - 1][1]
            assert loan is not None
            loan.release()
            await settled(lambda expected=expected: len(inbox.messages) == expected)
        for _, loan in inbox.messages:
            assert loan is not None
            loan.release()
        assert inbox.receiver.used == 0


@pytest.mark.anyio
async def test_a_peer_without_budget_loses_its_stream_and_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_looks(monkeypatch)
    async with hosts(2, identify=False) as [here, there]:
        inbox = Inbox(here)
        await connect(there, here)
        scope = here.peer_budget(there.peer_id)
        limit = scope.limit(Resource.BYTES)
        assert limit is not None
        with scope.reserve(Resource.BYTES, limit - scope.used(Resource.BYTES) - 600 * 1024):
            stream = await there.open_stream(here.peer_id, PROTOCOL_1_2)
            with pytest.raises(anyio.BrokenResourceError), anyio.fail_after(5):
                await stream.send_buffers(*encode_message(OutgoingMessage(blocks=some_blocks(1, MIB))))
                await stream.receive()
            await settled(lambda: inbox.receiver.used == 0)


class _Scripted:
    """A stream that gives what it was told to, then ends, breaks or waits for ever."""

    def __init__(self, *pieces: bytes, then: str = "end") -> None:
        self.remote_peer = peer_named("script")
        self.remote_address = Multiaddr.parse("/ip4/192.0.2.1/tcp/1")
        self._pieces = list(pieces)
        self._then = then

    async def receive_into(self, buffer: memoryview) -> int:
        await anyio.lowlevel.checkpoint()
        if self._pieces:
            piece = self._pieces.pop(0)
            count = min(len(piece), len(buffer))
            buffer[:count] = piece[:count]
            if piece[count:]:
                self._pieces.insert(0, piece[count:])
            return count
        if self._then == "end":
            raise anyio.EndOfStream
        await anyio.sleep_forever()
        raise AssertionError


@pytest.mark.anyio
@pytest.mark.parametrize(
    "wire_bytes",
    [b"\x80", b"\x05ab", b"\xff\xff\xff\xff", b"\x81\x80\x80\x02", b"\x90\x4e" + bytes(2000)],
    ids=["cut length", "cut small message", "length of five bytes", "length over the bound", "cut long message"],
)
async def test_a_stream_that_is_cut_or_lies_is_an_error(wire_bytes: bytes) -> None:
    async with hosts(1, identify=False) as [here]:
        inbox = Inbox(here)
        inbox.receiver._host = _Unlimited(here)  # type: ignore[assignment]
        with pytest.raises(RemoteProtocolError):
            await inbox.receiver.serve(_Scripted(wire_bytes))  # type: ignore[arg-type]
        assert inbox.receiver.used == 0


@pytest.mark.anyio
@pytest.mark.parametrize("wire_bytes", [b"\x80", b"\x90\x4e" + bytes(2000)], ids=["in the length", "in the message"])
async def test_A02_a_message_that_does_not_go_on_is_an_error(
    wire_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MESSAGE_SECONDS", 0.05)
    quick_looks(monkeypatch)
    async with hosts(1, identify=False) as [here]:
        inbox = Inbox(here)
        inbox.receiver._host = _Unlimited(here)  # type: ignore[assignment]
        with pytest.raises(RemoteProtocolError, match=r"in time|did not go on"):
            await inbox.receiver.serve(_Scripted(wire_bytes, then="wait"))  # type: ignore[arg-type]
        assert inbox.receiver.used == 0


@pytest.mark.anyio
async def test_the_end_between_messages_is_the_end() -> None:
    async with hosts(1, identify=False) as [here]:
        inbox = Inbox(here)
        await inbox.receiver.serve(_Scripted(b"\x00\x00"))  # type: ignore[arg-type]
        assert len(inbox.messages) == 2


class _Unlimited:
    """A host of which only a budget is asked."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def peer_budget(self, peer: PeerId) -> object:
        return self._host.budget.child("test")


@pytest.mark.anyio
async def test_a_lane_opens_its_stream_once_more_when_the_peer_dropped_it() -> None:
    async with hosts(2, identify=False) as [here, there]:
        inbox = Inbox(here)
        await connect(there, here)
        lane = Lane(there, here.peer_id)
        await lane.send(lambda protocol: encode_message(OutgoingMessage()))
        assert lane._stream is not None
        lane._stream.reset()
        await lane.send(lambda protocol: encode_message(OutgoingMessage()))
        await settled(lambda: len(inbox.messages) >= 1)
        lane.reset()
        lane.reset()
        await there.disconnect(here.peer_id)
        here.unhandle(PROTOCOL_1_2)


@pytest.mark.anyio
async def test_a_lane_says_when_its_peer_is_gone() -> None:
    async with hosts(2, identify=False) as [here, there]:
        await connect(there, here)
        lane = Lane(there, peer_named("nobody"))
        with pytest.raises(SEND_ERRORS):
            await lane.send(lambda protocol: encode_message(OutgoingMessage()))


@pytest.mark.anyio
async def test_a_send_that_is_not_taken_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "seconds_for", lambda size: 0.3)

    async def never_read(stream: object) -> None:
        await anyio.sleep_forever()

    async with hosts(2, identify=False) as [here, there]:
        here.handle(PROTOCOL_1_2, never_read)
        await connect(there, here)
        lane = Lane(there, here.peer_id)
        data = bytes(2 * MIB)
        with pytest.raises(TimeoutError):
            for _ in range(20):
                await lane.send(lambda protocol: [data])
        assert lane._stream is None


def test_limits_are_errors_of_a_send() -> None:
    assert LimitExceeded in SEND_ERRORS


def test_pieces_are_the_same_bytes_without_copies() -> None:
    buffers: list[Buffer] = [b"abc", bytearray(b"defgh"), b"", memoryview(b"ijklmnopqrst"), b"u"]
    pieces = [b"".join(piece) for piece in pieces_of(buffers, 5)]
    assert pieces == [b"abcde", b"fghij", b"klmno", b"pqrst", b"u"]
    assert list(pieces_of([], 5)) == []
    assert [b"".join(piece) for piece in pieces_of([b"12345"], 5)] == [b"12345"]


@pytest.mark.anyio
@pytest.mark.parametrize("upload", [True, False])
async def test_a_throttle_bounds_all_streams_together_and_shares_the_rate(upload: bool) -> None:
    rate, size = 2_000_000, 500_000  # more than the burst, or the first is done before the others begin
    (block,) = some_blocks(1, size)
    async with hosts(4, identify=False) as [here, *others]:
        throttle = Throttle(rate)
        began = anyio.current_time()
        ends: list[float] = []
        inboxes = [Inbox(host) for host in others] if upload else [Inbox(here, throttle=throttle)]

        async def move(other: Host) -> None:
            lane = Lane(here, other.peer_id, throttle) if upload else Lane(other, here.peer_id)
            await lane.send(lambda protocol: encode_message(OutgoingMessage(blocks=[block]), protocol=protocol))
            ends.append(anyio.current_time() - began)

        for other in others:
            await connect(here, other)
        async with anyio.create_task_group() as tasks:
            for other in others:
                tasks.start_soon(move, other)
        await settled(lambda: sum(len(inbox.messages) for inbox in inboxes) == 3)
        took = anyio.current_time() - began
        assert took >= 3 * size / rate - 0.1 - 0.01  # all but the burst of a tenth of a second
        if upload:
            assert min(ends) > 0.5 * max(ends)
        for inbox in inboxes:
            for _, loan in inbox.messages:
                assert loan is not None
                loan.release()


@pytest.mark.anyio
@pytest.mark.parametrize("upload", [True, False])
async def test_waiting_for_a_throttle_is_not_counted_against_the_peer(
    upload: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "seconds_for", lambda size: 0.3)
    quick_looks(monkeypatch)
    (block,) = some_blocks(1, 200_000)
    async with hosts(2, identify=False) as [here, there]:
        inbox = Inbox(here, throttle=None if upload else Throttle(400_000))
        await connect(there, here)
        lane = Lane(there, here.peer_id, Throttle(400_000) if upload else None)
        await lane.send(lambda protocol: encode_message(OutgoingMessage(blocks=[block]), protocol=protocol))
        await settled(lambda: len(inbox.messages) == 1)
        assert inbox.progress > 180_000


class _Left:
    """A stream of a connection beside which a better one has come."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.superseded = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@pytest.mark.anyio
@pytest.mark.parametrize("read_elsewhere", [False, True])
async def test_what_goes_by_a_better_connection_does_not_overtake_what_went_before(read_elsewhere: bool) -> None:
    async with hosts(2) as [here, there]:
        got: list[bytes] = []

        async def take(stream: Stream) -> None:
            while True:
                try:
                    got.append(await stream.receive())
                    await anyio.sleep(0.02)
                except anyio.EndOfStream:
                    return

        here.handle(PROTOCOL_1_2, take)
        await connect(there, here)
        opened: list[_Left] = []
        usual = there.open_stream

        async def open_stream(*arguments: object) -> _Left:
            opened.append(_Left(await usual(*arguments)))  # type: ignore[arg-type] # passed on
            return opened[-1]

        there.open_stream = open_stream  # type: ignore[method-assign, assignment] # streams that know more

        async def read(stream: Stream, ended: anyio.Event) -> None:
            with suppress(anyio.ClosedResourceError, anyio.EndOfStream):
                await stream.receive()
            ended.set()

        async with anyio.create_task_group() as tasks:

            def spoken_on(stream: Stream) -> anyio.Event:
                ended = anyio.Event()
                tasks.start_soon(read, stream, ended)
                return ended

            lane = Lane(there, here.peer_id, spoken_on=spoken_on if read_elsewhere else None)
            await lane.send(lambda _: [b"first"])
            opened[0].superseded = True
            await lane.send(lambda _: [b"second"])
            tasks.cancel_scope.cancel()
        await settled(lambda: b"".join(got) == b"firstsecond")
        assert len(opened) == 2
        await lane.aclose()


@pytest.mark.anyio
async def test_what_is_free_is_given_back_where_nothing_is_being_received(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "REST_SECONDS", 0.001)
    rests: list[int] = []
    trims: list[int] = []
    monkeypatch.setattr(wire, "trim_memory", lambda: trims.append(1))
    async with hosts(2) as [here, there], anyio.create_task_group() as tasks:
        inbox = Inbox(here)
        await connect(there, here)
        stream = await there.open_stream(here.peer_id, PROTOCOL_1_2)
        await stream.send(varint.encode(100_000) + b"\x0a")
        await settled(lambda: inbox.receiver.used > 0)
        monkeypatch.setattr(MessageBuffers, "rest", lambda self: rests.append(1))
        tasks.start_soon(inbox.receiver.rest)
        await settled(lambda: len(rests) > 3)
        assert not trims
        stream.reset()
        await settled(lambda: len(trims) > 0)
        tasks.cancel_scope.cancel()
