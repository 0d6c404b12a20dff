"""A yamux connection as a pure machine: payload, windows and posted buffers."""

import pytest

from stack.errors import LocalProtocolError
from stack.muxers.yamux.connection import YamuxMachine
from stack.muxers.yamux.events import (
    StreamReadable,
    StreamWritten,
    WindowOpened,
)
from stack.sansio.interfaces import StreamId
from stack.testing.pair import drain, events, feed
from tests.muxers.yamux.support import (
    ACK,
    DATA,
    FIN,
    PING,
    SYN,
    WINDOW_UPDATE,
    Ends,
    data,
    frame,
    headers,
    raw_listener,
    read,
    split,
)

WINDOW = 262144
ONE = StreamId(1)


@pytest.mark.parametrize("step", [None, 1, 5, 13, 65519])
def test_bytes_arrive_in_order_however_they_are_cut(step: int | None) -> None:
    ends = Ends(step=step)
    payload = bytes(range(256)) * 300
    assert ends.dialler.send(ends.stream, payload) == len(payload)
    told, heard = ends.quiet()
    assert told == [StreamWritten(stream=ends.stream)]
    assert heard == [StreamReadable(stream=ends.stream)]
    assert read(ends.listener, ends.stream) == payload


def test_one_data_frame_fills_one_noise_frame() -> None:
    end, stream = raw_listener()
    end.send(stream, bytes(200000))
    out = memoryview(bytearray(65519))
    assert [end.write_to(out) for _ in range(5)] == [65519, 65519, 65519, 12 + 200000 - 3 * 65507, 0]


def test_small_frames_share_a_buffer() -> None:
    ends = Ends()
    others = [ends.dialler.open() for _ in range(3)]
    for stream in (ends.stream, *others):
        ends.dialler.send(stream, b"hello")
    out = memoryview(bytearray(65519))
    assert ends.dialler.write_to(out) == 3 * 12 + 4 * 17
    assert ends.dialler.write_to(out) == 0


def test_streams_take_turns_frame_by_frame() -> None:
    ends = Ends()
    other = ends.dialler.open()
    ends.dialler.send(ends.stream, bytes(150000))
    ends.dialler.send(other, bytes(100000))
    order = [(stream, length) for kind, _, stream, length in headers(drain(ends.dialler)) if kind == DATA]
    # The opening of the other stream takes 12 bytes of the first buffer.
    assert order == [(1, 65495), (3, 65507), (1, 65507), (3, 34493), (1, 18998)]


def test_several_offers_go_into_one_frame() -> None:
    end, stream = raw_listener()
    for piece in (b"one", b"two", memoryview(b"three"), bytearray(b"four")):
        end.send(stream, piece)
    assert split(drain(end)) == [(DATA, 0, 1, 15, b"onetwothreefour")]
    assert events(end) == [StreamWritten(stream=stream)]


def test_an_offer_is_cut_over_frames_without_loss() -> None:
    end, stream = raw_listener()
    pieces = [bytes([n]) * 50000 for n in range(3)]
    for piece in pieces:
        end.send(stream, piece)
    found = split(drain(end))
    assert [length for _, _, _, length, _ in found] == [65507, 65507, 18986]
    assert b"".join(payload for *_, payload in found) == b"".join(pieces)


def test_the_window_bounds_what_is_taken_and_its_opening_is_told() -> None:
    end, stream = raw_listener()
    assert end.send(stream, bytes(WINDOW + 1)) == WINDOW
    assert end.send(stream, b"x") == 0
    assert end.unwritten(stream) == WINDOW
    drain(end)
    assert events(end) == [StreamWritten(stream=stream)]
    assert end.unwritten(stream) == 0
    feed(end, frame(WINDOW_UPDATE, 0, 1, 1))
    assert events(end) == [WindowOpened(stream=stream)]
    assert end.send(stream, b"xy") == 1


def test_an_empty_offer_writes_nothing() -> None:
    end, stream = raw_listener()
    assert end.send(stream, b"") == 0
    assert not end.pending
    assert drain(end) == b""


def test_room_that_holds_no_header_is_left_alone() -> None:
    end, stream = raw_listener()
    end.ping(0.0)
    end.send(stream, b"hello")
    assert end.write_to(memoryview(bytearray(11))) == 0
    assert end.write_to(memoryview(bytearray(12))) == 12
    assert end.write_to(memoryview(bytearray(12))) == 0
    assert end.write_to(memoryview(bytearray(13))) == 13
    assert headers(drain(end)) == [(DATA, 0, 1, 4)]


def test_a_little_room_behind_other_frames_is_not_worth_a_fragment() -> None:
    end, stream = raw_listener()
    end.ping(0.0)
    end.send(stream, bytes(5000))
    assert end.write_to(memoryview(bytearray(12 + 12 + 4095))) == 12
    end.ping(0.0)
    assert end.write_to(memoryview(bytearray(12 + 12 + 4096))) == 12 + 12 + 4096
    assert end.unwritten(stream) == 904
    end.ping(0.0)
    assert end.write_to(memoryview(bytearray(12 + 12 + 904))) == 12 + 12 + 904


def test_what_is_retracted_is_never_written_and_the_window_gets_it_back() -> None:
    end, stream = raw_listener()
    end.send(stream, bytes(1000))
    assert end.retract(stream) == 1000
    assert drain(end) == b""
    assert end.retract(stream) == 0
    assert end.send(stream, bytes(WINDOW + 1)) == WINDOW


def test_a_partly_written_offer_is_retracted_from_where_it_stands() -> None:
    end, stream = raw_listener()
    end.send(stream, bytes(1000))
    end.write_to(memoryview(bytearray(112)))
    assert end.retract(stream) == 900
    assert drain(end) == b""


def test_an_end_that_was_said_is_still_written_after_a_retraction() -> None:
    end, stream = raw_listener()
    end.send(stream, bytes(1000))
    end.finish(stream)
    assert end.retract(stream) == 1000
    assert headers(drain(end)) == [(DATA, FIN, 1, 0)]


def test_credit_is_returned_only_for_what_was_read() -> None:
    end, stream = raw_listener()
    feed(end, data(1, bytes(WINDOW)), now=1000.0)
    assert drain(end) == b""
    read(end, stream, WINDOW // 2 - 1)
    assert drain(end) == b""
    read(end, stream, 1)
    assert headers(drain(end)) == [(WINDOW_UPDATE, 0, 1, WINDOW // 2)]


def test_credit_that_waits_to_be_written_is_one_frame_a_stream() -> None:
    end, stream = raw_listener()
    feed(end, data(1, bytes(WINDOW)), now=1000.0)
    read(end, stream, WINDOW // 2)
    read(end, stream, WINDOW // 2)
    assert headers(drain(end)) == [(WINDOW_UPDATE, 0, 1, WINDOW)]


def test_a_window_that_is_read_fast_grows() -> None:
    end, stream = raw_listener()
    feed(end, data(1, bytes(WINDOW)), now=0.01)
    read(end, stream)
    assert headers(drain(end)) == [(WINDOW_UPDATE, 0, 1, 2 * WINDOW)]


def test_the_round_trip_of_pings_decides_what_is_fast() -> None:
    end, stream = raw_listener()
    end.ping(0.0)
    feed(end, frame(PING, ACK, 0, 0), now=1.0)
    drain(end)
    feed(end, data(1, bytes(WINDOW)), now=3.9)
    read(end, stream)
    assert headers(drain(end)) == [(WINDOW_UPDATE, 0, 1, 2 * WINDOW)]


def test_no_credit_is_returned_to_a_peer_that_has_finished() -> None:
    end, stream = raw_listener()
    feed(end, data(1, bytes(WINDOW), FIN))
    assert len(read(end, stream)) == WINDOW
    assert drain(end) == b""


def test_a_posted_buffer_is_filled_straight_from_the_frames() -> None:
    end, stream = raw_listener()
    buffer = memoryview(bytearray(10))
    end.post(stream, buffer)
    feed(end, data(1, b"hello") + data(1, b"world!!"))
    assert events(end) == [StreamReadable(stream=stream)]
    assert end.waiting(stream) == 2
    assert end.collect(stream) == 10
    assert bytes(buffer) == b"helloworld"
    assert read(end, stream) == b"!!"
    assert end.counters.copied_in == 12 + 2


def test_what_was_posted_and_filled_counts_as_read() -> None:
    end, stream = raw_listener()
    end.post(stream, memoryview(bytearray(WINDOW)))
    feed(end, data(1, bytes(WINDOW // 2)), now=1000.0)
    assert drain(end) == b""
    end.collect(stream)
    assert headers(drain(end)) == [(WINDOW_UPDATE, 0, 1, WINDOW // 2)]


def test_a_buffer_taken_back_unread_loses_nothing() -> None:
    end, stream = raw_listener()
    end.post(stream, memoryview(bytearray(8)))
    feed(end, data(1, b"onetwothree"))
    end.withdraw(stream)
    assert read(end, stream) == b"onetwothree"
    end.withdraw(stream)
    end.post(stream, memoryview(bytearray(8)))
    end.withdraw(stream)
    assert end.collect(stream) == 0


def test_only_one_buffer_is_posted_and_only_when_nothing_waits() -> None:
    end, stream = raw_listener()
    end.post(stream, memoryview(bytearray(8)))
    with pytest.raises(LocalProtocolError):
        end.post(stream, memoryview(bytearray(8)))
    end.collect(stream)
    feed(end, data(1, b"x"))
    with pytest.raises(LocalProtocolError):
        end.post(stream, memoryview(bytearray(8)))


def test_each_wait_is_told_once_that_there_is_something() -> None:
    end, stream = raw_listener()
    for _ in range(2):
        feed(end, data(1, b"one") + data(1, b"two"))
        assert events(end) == [StreamReadable(stream=stream)]
        feed(end, data(1, b"three"))
        assert events(end) == []
        assert read(end, stream, 4) == b"onet"
        feed(end, data(1, b"four"))
        assert events(end) == []
        assert read(end, stream) == b"wothreefour"


def test_every_kind_of_frame_is_pending_by_itself_and_fits_exactly_into_its_own_size() -> None:
    def ping(end: YamuxMachine, stream: StreamId) -> None:
        end.ping(0.0)

    def pong(end: YamuxMachine, stream: StreamId) -> None:
        feed(end, frame(PING, SYN, 0, 7))

    def credit(end: YamuxMachine, stream: StreamId) -> None:
        feed(end, data(1, bytes(WINDOW)))
        read(end, stream)

    def finish(end: YamuxMachine, stream: StreamId) -> None:
        end.finish(stream)

    for cause in (ping, pong, credit, finish):
        end, stream = raw_listener()
        assert not end.pending
        cause(end, stream)
        assert end.pending
        assert end.write_to(memoryview(bytearray(11))) == 0
        assert end.write_to(memoryview(bytearray(12))) == 12
        assert not end.pending


def test_each_byte_is_counted_once_out_and_once_or_twice_in() -> None:
    ends = Ends()
    ends.dialler.send(ends.stream, bytes(100_000))
    ends.quiet()
    assert (ends.dialler.counters.sent, ends.dialler.counters.copied_out) == (100_000, 100_000)
    assert (ends.listener.counters.received, ends.listener.counters.copied_in) == (100_000, 100_000)
    read(ends.listener, ends.stream)
    assert ends.listener.counters.copied_in == 200_000
