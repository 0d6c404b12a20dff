"""QUIC as a machine: handshakes, streams, timers and ends, without a socket and without a clock."""

from collections.abc import Callable
from random import Random

import pytest

from stack.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError, SecurityError, TransportError
from stack.identity.peer_id import PeerId, PeerIdMismatch
from stack.muxers.yamux.events import PongReceived, StreamEnded, StreamOpened, StreamReadable, StreamReset, WindowOpened
from stack.muxers.yamux.table import LATE_BYTES
from stack.sansio.budget import Resource
from stack.sansio.interfaces import StreamId
from stack.security.tls.certificate import BadCertificate
from stack.transports.quic import streams
from stack.transports.quic.library import CONNECTION_WINDOW, IDLE_SECONDS, LibraryConnection
from stack.transports.quic.machine import KEEP_ALIVE_SECONDS, ConnectionEnded, HandshakeFinished, QuicMachine
from stack.transports.quic.streams import HELD_FREE, HELD_MAX, STREAM_HELD_MAX, VAIN_STREAMS_MAX, QuicStreams, Unwanted
from tests.transports.quic.ends import CREDENTIALS, KEYS, LIMITS, SERVER, WALL, Pair, connected_pair, pair


def read(streams: QuicStreams, id: int, most: int = 1 << 20) -> bytes:
    """What waits on a stream."""
    out = bytearray(most)
    return bytes(out[: streams.read_into(id, memoryview(out))])  # type: ignore[arg-type] # a number


def opened(ends: Pair) -> int:
    """A stream of the client's that the server has accepted."""
    id = ends.client.streams.open()
    ends.client.streams.send(id, b"!")
    ends.run(0.1)
    ends.server.streams.accept(id)
    assert read(ends.server.streams, id) == b"!"
    for events in ends.events:
        events.clear()
    return id


# Handshakes.


def test_both_ends_prove_who_they_are() -> None:
    ends = pair(expected=PeerId.of(KEYS[1].public))
    ends.run(0.2)
    [there], [here] = ends.told(0, HandshakeFinished), ends.told(1, HandshakeFinished)
    assert there == HandshakeFinished(remote_key=KEYS[1].public, remote_peer=PeerId.of(KEYS[1].public))
    assert here == HandshakeFinished(remote_key=KEYS[0].public, remote_peer=PeerId.of(KEYS[0].public))


def test_another_peer_than_the_expected_one_never_learns_who_we_are() -> None:
    expected = PeerId.of(KEYS[0].public)
    ends = pair(expected=expected)
    ends.run(0.2)
    [ended] = ends.told(0, ConnectionEnded)
    assert isinstance(ended, ConnectionEnded)
    assert isinstance(ended.reason, PeerIdMismatch)
    assert (ended.reason.expected, ended.reason.actual) == (expected, PeerId.of(KEYS[1].public))
    [refused] = ends.told(1, ConnectionEnded)
    assert isinstance(refused, ConnectionEnded)
    assert "refused the handshake with alert 42" in str(refused.reason)
    assert not ends.told(1, HandshakeFinished)


def test_a_dialler_without_a_certificate_is_refused() -> None:
    ends = pair()
    ends.client._library.configuration.certificate = None
    fresh = QuicMachine.dial(CREDENTIALS[0], SERVER, expected=None, wall=WALL, now=0.0)
    fresh._library.tls.certificate = None
    ends = Pair(
        fresh, QuicMachine.accept(CREDENTIALS[1], original_id=fresh.remote_id, retry_id=None, wall=WALL, now=0.0)
    )
    ends.run(0.3)
    [ended] = ends.told(1, ConnectionEnded)
    assert isinstance(ended, ConnectionEnded)
    assert isinstance(ended.reason, BadCertificate)
    assert not ends.told(1, HandshakeFinished)


@pytest.mark.parametrize("protocols", [["h3"], None], ids=["another", "none"])
def test_who_does_not_speak_libp2p_is_refused(protocols: list[str] | None) -> None:
    library = LibraryConnection(CREDENTIALS[0], lambda shown: KEYS[1].public, outbound=True)
    library.configuration.alpn_protocols = protocols
    library.connect(SERVER, 0.0)
    client = QuicMachine(library, outbound=True, now=0.0)
    server = QuicMachine.accept(CREDENTIALS[1], original_id=client.remote_id, retry_id=None, wall=WALL, now=0.0)
    ends = Pair(client, server)
    ends.run(0.3)
    [ended] = ends.told(1, ConnectionEnded)
    assert isinstance(ended, ConnectionEnded)
    assert isinstance(ended.reason, SecurityError)
    assert not ends.told(1, HandshakeFinished)


@pytest.mark.parametrize("seed", range(5))
def test_a_handshake_and_a_stream_survive_lost_datagrams(seed: int) -> None:
    random = Random(seed)
    ends = pair()
    ends.lose = lambda data: random.random() < 0.2
    ends.run(10)
    scopes = connected_pair()[1]
    ends.client.adopt(scopes[0], ends.now)
    ends.server.adopt(scopes[1], ends.now)
    id = ends.client.streams.open()
    data = bytes(range(256)) * 100
    assert ends.client.streams.send(id, data) == len(data)
    ends.client.streams.finish(id)
    ends.run(20)
    assert read(ends.server.streams, id) == data
    assert ends.told(1, StreamEnded)


def test_what_comes_on_streams_before_the_connection_is_taken_over_waits() -> None:
    ends = pair()
    ends.run(0.2)
    _, scopes = connected_pair()
    ends.client.adopt(scopes[0], ends.now)
    id = ends.client.streams.open()
    ends.client.streams.send(id, b"early")
    ends.run(0.2)
    assert not ends.told(1, StreamOpened)
    ends.server.adopt(scopes[1], ends.now)
    ends.run(0.1)
    assert ends.told(1, StreamOpened)
    assert read(ends.server.streams, id) == b"early"


# Streams.


def test_bytes_pass_and_each_direction_ends_by_itself() -> None:
    ends, _ = connected_pair()
    id = opened(ends)
    ends.client.streams.send(id, b"question")
    ends.client.streams.finish(id)
    ends.run(0.1)
    assert read(ends.server.streams, id) == b"question"
    assert ends.told(1, StreamEnded)
    ends.server.streams.send(id, b"answer")
    ends.server.streams.close_stream(id)
    ends.run(0.1)
    assert read(ends.client.streams, id) == b"answer"
    assert ends.told(0, StreamEnded)
    ends.client.streams.close_stream(id)
    assert len(ends.client.streams) == len(ends.server.streams) == 0


def test_a_reader_that_does_not_read_stops_the_sender_and_what_it_holds_is_bounded() -> None:
    ends, scopes = connected_pair()
    id = opened(ends)
    taken = 0
    for _ in range(50):
        taken += ends.client.streams.send(id, bytes(1 << 20))
        ends.run(1)
    assert taken == 256 * 1024 - 1
    assert scopes[1].used(Resource.BYTES) <= 256 * 1024
    assert scopes[0].used(Resource.BYTES) == 0
    ends.told(0, WindowOpened)
    assert len(read(ends.server.streams, id)) == taken
    ends.run(1)
    assert ends.told(0, WindowOpened)


def test_a_window_that_is_used_up_fast_grows_and_gives_its_memory_back() -> None:
    ends, scopes = connected_pair()
    id = opened(ends)
    received, ends.delay = 0, 0.001
    while received < 2 << 20:
        ends.client.streams.send(id, bytes(1 << 20))
        ends.run(0.02)
        received += len(read(ends.server.streams, id, 4 << 20))
    assert scopes[1].used(Resource.BYTES) > 0  # growth is charged
    ends.run(0.5)
    assert scopes[0].used(Resource.BYTES) <= HELD_MAX
    ends.client.streams.reset(id)
    ends.run(0.2)
    assert scopes[1].used(Resource.BYTES) == 0
    ends.run(1)
    assert scopes[0].used(Resource.BYTES) == 0


def test_what_is_held_until_it_has_arrived_is_bounded_and_drawn_from_the_budget() -> None:
    ends, scopes = connected_pair()
    ends.lose = lambda data: True
    ids = [ends.client.streams.open() for _ in range(10)]
    for record in ends.client._library._streams.values():
        record.max_stream_data_remote = 10 << 20
    ends.client._library._remote_max_data = 100 << 20
    taken = [ends.client.streams.send(id, bytes(2 << 20)) for id in ids]
    assert taken[0] == STREAM_HELD_MAX
    assert sum(taken) == HELD_MAX
    assert scopes[0].used(Resource.BYTES) == HELD_MAX - HELD_FREE


def test_with_a_full_budget_a_little_goes_on() -> None:
    ends, scopes = connected_pair()
    id = opened(ends)
    full = scopes[0].reserve(Resource.BYTES, LIMITS[Resource.BYTES])
    assert ends.client.streams.send(id, bytes(1 << 20)) == HELD_FREE
    ends.run(0.2)
    assert ends.told(0, WindowOpened)
    full.release()


def test_a_reset_says_its_code_and_is_for_both_directions() -> None:
    ends, _ = connected_pair()
    id = opened(ends)
    codes: list[int] = []
    received = ends.server._library._handle_reset_stream_frame
    handlers = ends.server._library._QuicConnection__frame_handlers  # type: ignore[attr-defined] # what it has received

    def seen(context: object, frame_type: int, buf: object) -> None:
        start = buf.tell()  # type: ignore[attr-defined] # the library's
        buf.pull_uint_var()  # type: ignore[attr-defined]
        codes.append(buf.pull_uint_var())  # type: ignore[attr-defined]
        buf.seek(start)  # type: ignore[attr-defined]
        received(context, frame_type, buf)  # type: ignore[arg-type]

    handlers[0x04] = (seen, handlers[0x04][1])
    ends.client.streams.reset(id, 42)
    ends.run(0.1)
    assert codes == [42]
    [reset] = ends.told(1, StreamReset)
    assert reset == StreamReset(stream=id, remote=True)  # type: ignore[arg-type] # a number
    assert len(ends.client.streams) == len(ends.server.streams) == 0


def test_a_peer_that_reads_no_more_can_still_be_read() -> None:
    ends, _ = connected_pair()
    id = opened(ends)
    ends.server.streams.send(id, b"that will do")
    ends.server.streams.close_stream(id)
    ends.client.streams.send(id, bytes(LATE_BYTES + 1))
    ends.run(0.1)
    assert ends.told(0, Unwanted)
    with pytest.raises(LocalProtocolError):
        ends.client.streams.send(id, b"more")
    assert read(ends.client.streams, id) == b"that will do"
    ends.client.streams.close_stream(id)
    assert len(ends.client.streams) == 0


def test_a_peer_may_still_agree_to_the_protocol_of_a_stream_on_which_it_was_told_all() -> None:
    """Over QUIC js-libp2p and py-libp2p learned of no new protocol: told that nobody reads their agreement, they dropped what had come."""
    ends, scopes = connected_pair()
    ids = [opened(ends) for _ in range(3)]
    for id in ids:
        ends.client.streams.send(id, b"a proposal, and all there is to say")
        ends.client.streams.close_stream(id)
    ends.run(0.1)
    for id in ids:
        ends.server.streams.send(id, b"agreed")
        ends.server.streams.close_stream(id)
    ends.run(0.1)
    assert not ends.told(1, Unwanted)
    assert len(ends.client.streams) == len(ends.server.streams) == 0
    assert not any(ends.client._library.knows(id) for id in ids)
    assert scopes[0].used(Resource.STREAMS_OUT) == 0


def test_what_was_not_read_of_a_stream_that_is_closed_stops_the_peer_at_once() -> None:
    ends, _ = connected_pair()
    id = opened(ends)
    ends.client.streams.send(id, bytes(LATE_BYTES + 1))
    ends.run(0.1)
    ends.server.streams.close_stream(id)
    ends.run(0.1)
    assert ends.told(0, Unwanted)


def test_of_streams_that_are_long_over_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "STREAMS_MAX", 2)
    ends, _ = connected_pair()
    for _ in range(9):
        id = opened(ends)
        ends.client.streams.close_stream(id)
        ends.run(0.1)
        ends.server.streams.close_stream(id)
        ends.run(0.1)
    assert len(ends.client.streams._late) <= 4


def test_streams_that_find_no_place_in_the_budget_are_reset() -> None:
    ends, scopes = connected_pair({**LIMITS, Resource.STREAMS_IN: 1})
    ids = [ends.client.streams.open() for _ in range(3)]
    for id in ids:
        ends.client.streams.send(id, b"!")
    ends.run(0.2)
    assert len(ends.told(1, StreamOpened)) == 1
    assert len(ends.told(0, StreamReset)) == 2
    assert scopes[1].used(Resource.STREAMS_IN) == 1


def test_a_stream_whose_bytes_do_not_fit_into_the_budget_is_reset() -> None:
    ends, scopes = connected_pair()
    id = opened(ends)
    full = scopes[1].reserve(Resource.BYTES, LIMITS[Resource.BYTES])
    ends.client.streams.send(id, bytes(100_000))
    ends.run(0.2)
    assert StreamReset(stream=id, remote=False) in ends.told(1, StreamReset)  # type: ignore[arg-type] # a number
    assert ends.told(0, StreamReset)
    full.release()


def test_streams_beyond_what_the_peer_allows_wait_until_others_have_ended() -> None:
    ends, _ = connected_pair()
    ids = [ends.client.streams.open() for _ in range(300)]
    taken = [ends.client.streams.send(id, b"!") for id in ids]
    assert taken == [1] * 256 + [0] * 44
    ends.run(0.2)
    for _ in ends.told(1, StreamOpened):
        pass
    for id in ids[:256]:
        ends.client.streams.close_stream(id)
    ends.run(0.5)
    for id in ids[:256]:
        ends.server.streams.close_stream(id)
    ends.run(0.5)
    assert len(ends.told(0, WindowOpened)) == 44


def test_a_few_bytes_pass_by_streams_that_always_have_more() -> None:
    """As the answer to a ping beside a hundred uploads: without turns it waited until they were over, and js-libp2p gave up."""
    ends, _ = connected_pair()
    busy = [ends.client.streams.open() for _ in range(20)]
    few = ends.client.streams.open()
    piece = bytes(STREAM_HELD_MAX)
    given = dict.fromkeys(busy, 0)

    def fill(id: StreamId) -> None:
        while taken := ends.client.streams.send(id, piece):
            given[id] += taken

    for id in busy:
        fill(id)
    assert ends.client.streams.send(few, b"few") == 0
    for _ in range(200):
        ends.run(0.01)
        for event in ends.told(0, WindowOpened):
            if event.stream == few:  # type: ignore[union-attr] # of a stream
                assert ends.client.streams.send(few, b"few") == 3
                assert sum(given.values()) < 2 * HELD_MAX
                return
            fill(event.stream)  # type: ignore[union-attr] # of a stream
        for id in busy:
            read(ends.server.streams, id)
    raise AssertionError("it waits for ever")


def test_a_stream_of_one_direction_is_against_the_rules() -> None:
    ends, _ = connected_pair()
    ends.client._library._remote_max_streams_uni = 5
    ends.client._library._remote_max_stream_data_uni = 5
    ends.client._library.send_stream_data(2, b"!")
    ends.run(0.2)
    [ended] = ends.told(1, ConnectionEnded)
    assert isinstance(ended, ConnectionEnded)
    assert isinstance(ended.reason, RemoteProtocolError)
    assert ended.reason.code == 4  # STREAM_LIMIT_ERROR


def test_a_posted_buffer_is_filled_and_one_that_is_withdrawn_loses_nothing() -> None:
    ends, _ = connected_pair()
    id = opened(ends)
    buffer = bytearray(5)
    ends.server.streams.post(id, memoryview(buffer))
    ends.client.streams.send(id, b"hello, you")
    ends.run(0.1)
    assert ends.told(1, StreamReadable)
    assert ends.server.streams.collect(id) == 5
    assert bytes(buffer) == b"hello"
    assert read(ends.server.streams, id) == b", you"
    ends.server.streams.post(id, memoryview(buffer))
    ends.client.streams.send(id, b"again")
    ends.run(0.1)
    ends.server.streams.withdraw(id)
    assert ends.server.streams.waiting(id) == 5


GONE = 4 * 77
COMMANDS: dict[str, Callable[[QuicStreams], object]] = {
    "send": lambda streams: streams.send(GONE, b"x"),  # type: ignore[arg-type] # numbers, here and below
    "read": lambda streams: streams.read_into(GONE, memoryview(bytearray(1))),  # type: ignore[arg-type]
    "collect": lambda streams: streams.collect(GONE),  # type: ignore[arg-type]
    "retract": lambda streams: streams.retract(GONE),  # type: ignore[arg-type]
    "waiting": lambda streams: streams.waiting(GONE),  # type: ignore[arg-type]
    "unwritten": lambda streams: streams.unwritten(GONE),  # type: ignore[arg-type]
    "post": lambda streams: streams.post(GONE, memoryview(bytearray(1))),  # type: ignore[arg-type]
    "withdraw": lambda streams: streams.withdraw(GONE),  # type: ignore[arg-type]
    "finish": lambda streams: streams.finish(GONE),  # type: ignore[arg-type]
    "close": lambda streams: streams.close_stream(GONE),  # type: ignore[arg-type]
    "reset": lambda streams: streams.reset(GONE),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_on_a_stream_that_is_gone_does_nothing(command: str) -> None:
    ends, _ = connected_pair()
    assert not COMMANDS[command](ends.client.streams)


# Time and ends.


def test_a_ping_measures_the_round_trip() -> None:
    ends, _ = connected_pair()
    number = ends.client.ping(ends.now)
    ends.run(0.2)
    [pong] = ends.told(0, PongReceived)
    assert isinstance(pong, PongReceived)
    assert (pong.ping, pong.round_trip >= 2 * ends.delay) == (number, True)


def test_a_quiet_connection_lives_and_one_whose_peer_is_gone_ends() -> None:
    ends, _ = connected_pair()
    ends.run(10 * IDLE_SECONDS)
    assert not ends.client.ended
    assert not ends.server.ended
    assert ends.sent < 10 * 4 * IDLE_SECONDS / KEEP_ALIVE_SECONDS + 40
    ends.lose = lambda data: True
    ends.run(3 * IDLE_SECONDS)
    for side in (0, 1):
        [ended] = ends.told(side, ConnectionEnded)
        assert isinstance(ended, ConnectionEnded)
        assert isinstance(ended.reason, TransportError)
        assert "silent for 30 s" in str(ended.reason)


def test_a_peer_that_nobody_answers_for_is_given_up() -> None:
    ends = pair()
    ends.lose = lambda data: True
    ends.run(2 * IDLE_SECONDS)
    [ended] = ends.told(0, ConnectionEnded)
    assert isinstance(ended, ConnectionEnded)
    assert isinstance(ended.reason, TransportError)


def test_closing_tells_the_peer_at_once() -> None:
    ends, scopes = connected_pair()
    opened(ends)
    ends.client.close()
    ends.run(0.05)
    assert ends.told(0, ConnectionEnded) == [ConnectionEnded(reason=None)]
    assert ends.told(1, ConnectionEnded) == [ConnectionEnded(reason=None)]
    for end in (ends.client, ends.server):
        assert end.next_timeout() is None
        end.handle_timeout(ends.now)
        end.streams.end()
    assert all(scope.used(resource) == 0 for scope in scopes for resource in Resource)


def test_a_close_with_a_code_is_told_with_it() -> None:
    ends, _ = connected_pair()
    ends.client._library.close(7, reason_phrase="\x1b[2Jbecause" + "x" * 500)
    ends.run(0.05)
    [ended] = ends.told(1, ConnectionEnded)
    assert isinstance(ended, ConnectionEnded)
    assert "with code 0x7: '\\x1b[2Jbecause" in str(ended.reason)
    assert len(str(ended.reason)) < 200


def test_a_fault_in_the_library_ends_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    ends, _ = connected_pair()

    def broken(*_: object) -> None:
        raise IndexError("of the library")

    monkeypatch.setattr(ends.server._library, "receive_datagram", broken)
    monkeypatch.setattr(ends.client._library, "datagrams_to_send", broken)
    ends.server.receive_datagram(b"anything", SERVER, ends.now)
    assert ends.server.datagrams(ends.now) == []
    assert ends.client.datagrams(ends.now) == []
    ends.run(0.01)
    for side in (0, 1):
        [ended] = ends.told(side, ConnectionEnded)
        assert isinstance(ended, ConnectionEnded)
        assert "IndexError('of the library')" in str(ended.reason)


def test_who_opens_streams_in_vain_on_and_on_is_cut_off() -> None:
    ends, _ = connected_pair()
    for _ in range(VAIN_STREAMS_MAX // 100 + 2):
        for _ in range(100):
            id = ends.client.streams.open()
            ends.client.streams.send(id, b"!")
            ends.client.streams.reset(id)
        ends.run(0.1)
        if ends.server.ended:
            break
    [ended] = ends.told(1, ConnectionEnded)
    assert isinstance(ended, ConnectionEnded)
    assert "opened in vain" in str(ended.reason)


def test_what_is_out_of_order_is_drawn_from_the_budget_and_ends_the_connection_when_it_does_not_fit() -> None:
    ends, scopes = connected_pair()
    id = opened(ends)
    sender = ends.client._library._streams[id].sender
    ends.client.streams.send(id, bytes(200_000))
    sender._pending.subtract(1, 150_000)  # as if those had been lost
    ends.run(0.05)
    assert scopes[1].used(Resource.BYTES) >= 196_608
    full = scopes[1].reserve(Resource.BYTES, LIMITS[Resource.BYTES] - scopes[1].used(Resource.BYTES))
    other = ends.client.streams.open()
    ends.client.streams.send(other, bytes(200_000))
    ends.client._library._streams[other].sender._pending.subtract(0, 150_000)
    ends.run(0.05)
    [ended] = ends.told(1, ConnectionEnded)
    assert isinstance(ended, ConnectionEnded)
    assert isinstance(ended.reason, LimitExceeded)
    assert ends.server._library.out_of_order < CONNECTION_WINDOW
    full.release()


def test_a_machine_tells_what_it_is() -> None:
    ends = pair()
    assert repr(ends.client) == "<QuicMachine outbound, handshake>"
    ends, _ = connected_pair()
    assert repr(ends.server) == "<QuicMachine inbound, 0 streams>"
    ends.server.close()
    assert repr(ends.server) == "<QuicMachine inbound, ended>"
