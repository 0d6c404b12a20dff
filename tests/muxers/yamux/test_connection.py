"""A yamux connection as a pure machine."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from stack.muxers.yamux.events import (
    BacklogOpened,
    Event,
    GoAwayReceived,
    PongReceived,
    StreamEnded,
    StreamOpened,
    StreamReadable,
    StreamReset,
    StreamWritten,
    WindowOpened,
)
from stack.muxers.yamux.frames import GO_AWAY, GoAwayCode
from stack.muxers.yamux.parameters import YamuxParameters
from stack.muxers.yamux.stream import TRANSITIONS, Input, State, Stream
from stack.muxers.yamux.windows import ReceiveWindow
from stack.sansio.budget import Resource, Scope
from stack.sansio.interfaces import StreamId
from stack.testing.pair import DataPair, drain, events, feed
from tests.muxers.yamux.support import (
    ACK,
    DATA,
    FIN,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    Ends,
    data,
    frame,
    headers,
    machine,
    raw_listener,
    read,
    scope,
    split,
    used,
)

WINDOW = 262144
ONE = StreamId(1)


# Opening.


def test_the_dialler_opens_odd_streams_and_the_listener_even_ones() -> None:
    dialler, listener = machine(outbound=True), machine(outbound=False)
    assert [dialler.open(), dialler.open(), listener.open(), listener.open()] == [1, 3, 2, 4]
    assert headers(drain(dialler)) == [(WINDOW_UPDATE, SYN, 1, 0), (WINDOW_UPDATE, SYN, 3, 0)]


def test_an_accepted_stream_is_acknowledged_once() -> None:
    end, stream = raw_listener()
    end.accept(stream)
    end.accept(StreamId(99))
    assert drain(end) == b""


def test_data_may_follow_the_opening_at_once() -> None:
    dialler, listener = machine(outbound=True), machine(outbound=False)
    stream = dialler.open()
    assert dialler.send(stream, b"hello") == 5
    feed(listener, drain(dialler))
    assert events(listener) == [StreamOpened(stream=stream), StreamReadable(stream=stream)]
    assert read(listener, stream) == b"hello"


def test_a_stream_may_be_opened_by_its_first_data() -> None:
    end = machine(outbound=False)
    feed(end, data(1, b"hello", SYN))
    assert events(end) == [StreamOpened(stream=ONE), StreamReadable(stream=ONE)]
    assert read(end, ONE) == b"hello"


def test_an_opening_may_enlarge_our_window() -> None:
    end = machine(outbound=False)
    feed(end, frame(WINDOW_UPDATE, SYN, 1, 10))
    assert end.send(ONE, bytes(WINDOW + 11)) == WINDOW + 10


def test_streams_may_be_opened_out_of_order() -> None:
    end = machine(outbound=False)
    feed(end, frame(WINDOW_UPDATE, SYN, 5, 0) + frame(WINDOW_UPDATE, SYN, 3, 0))
    assert events(end) == [StreamOpened(stream=StreamId(5)), StreamOpened(stream=StreamId(3))]


@pytest.mark.parametrize("id", [2, 4, 2**32 - 2])
def test_a_peer_that_opens_with_our_numbers_is_refused(id: int) -> None:
    end = machine(outbound=False)
    with pytest.raises(RemoteProtocolError):
        feed(end, frame(WINDOW_UPDATE, SYN, id, 0))
    assert headers(drain(end)) == [(GO_AWAY, 0, 0, GoAwayCode.PROTOCOL_ERROR)]


def test_a_peer_that_opens_a_stream_twice_is_refused() -> None:
    end, _ = raw_listener()
    with pytest.raises(RemoteProtocolError):
        feed(end, frame(WINDOW_UPDATE, SYN, 1, 0))


def test_256_streams_may_wait_for_their_acknowledgement() -> None:
    end = machine(outbound=True)
    for _ in range(256):
        assert end.may_open
        end.open()
    assert not end.may_open
    with pytest.raises(LimitExceeded):
        end.open()
    feed(end, frame(WINDOW_UPDATE, ACK, 1, 0))
    assert events(end) == [BacklogOpened()]
    feed(end, frame(WINDOW_UPDATE, ACK, 1, 0) + frame(WINDOW_UPDATE, ACK, 3, 0))
    assert events(end) == []
    end.open()
    end.open()
    with pytest.raises(LimitExceeded):
        end.open()


def test_a_stream_that_ends_unacknowledged_makes_room_for_another() -> None:
    end = machine(outbound=True, parameters=YamuxParameters(backlog_max=1))
    end.reset(end.open())
    assert events(end) == [BacklogOpened()]
    assert end.open() == 3


def test_data_may_carry_the_acknowledgement() -> None:
    end = machine(outbound=True, parameters=YamuxParameters(backlog_max=1))
    end.open()
    feed(end, data(1, b"x", ACK))
    assert end.may_open


def test_1024_streams_are_the_most_that_we_open() -> None:
    end = machine(outbound=True, parameters=YamuxParameters(backlog_max=2000))
    for _ in range(1024):
        end.open()
    with pytest.raises(LimitExceeded):
        end.open()
    assert end.stream_count == 1024


def test_stream_numbers_end() -> None:
    end = machine(outbound=True)
    end._next_id = 2**32 - 1
    assert end.open() == 2**32 - 1
    with pytest.raises(LimitExceeded):
        end.open()


def test_streams_are_drawn_from_the_budget_and_return_to_it() -> None:
    budget = Scope("test", {Resource.STREAMS_OUT: 1})
    end = machine(outbound=True, budget=budget)
    stream = end.open()
    with pytest.raises(LimitExceeded):
        end.open()
    end.reset(stream)
    assert used(budget) == 0
    assert end.open() == 3


# Sending and receiving.


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


# Posted buffers.


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


# Ending.


def test_each_side_is_finished_by_itself() -> None:
    ends = Ends()
    ends.dialler.send(ends.stream, b"question")
    ends.dialler.finish(ends.stream)
    told, heard = ends.quiet()
    assert heard == [StreamReadable(stream=ends.stream), StreamEnded(stream=ends.stream)]
    assert read(ends.listener, ends.stream) == b"question"
    assert ends.listener.send(ends.stream, b"answer") == 6
    ends.listener.finish(ends.stream)
    told, heard = ends.quiet()
    assert told == [StreamReadable(stream=ends.stream), StreamEnded(stream=ends.stream)]
    assert heard == [StreamWritten(stream=ends.stream)]
    assert ends.listener.stream_count == 0
    assert ends.dialler.stream_count == 1
    assert read(ends.dialler, ends.stream) == b"answer"
    assert ends.dialler.stream_count == 0
    assert [used(budget) for budget in ends.budgets] == [0, 0]


def test_the_end_gets_a_frame_of_its_own_behind_the_data() -> None:
    end, stream = raw_listener()
    end.send(stream, b"last")
    end.finish(stream)
    assert split(drain(end)) == [(DATA, 0, 1, 4, b"last"), (DATA, FIN, 1, 0, b"")]


def test_a_finished_stream_takes_no_more_data_from_us() -> None:
    end, stream = raw_listener()
    end.finish(stream)
    with pytest.raises(LocalProtocolError):
        end.send(stream, b"x")
    with pytest.raises(LocalProtocolError):
        end.finish(stream)


def test_data_behind_the_peer_s_end_is_its_error() -> None:
    end, _ = raw_listener()
    feed(end, frame(DATA, FIN, 1, 0))
    with pytest.raises(RemoteProtocolError):
        feed(end, data(1, b"x"))


def test_an_end_said_twice_is_told_once_and_credit_still_comes() -> None:
    end, stream = raw_listener()
    feed(end, frame(DATA, FIN, 1, 0) + frame(WINDOW_UPDATE, FIN, 1, 0) + frame(WINDOW_UPDATE, 0, 1, 5))
    assert events(end) == [StreamEnded(stream=stream)]
    assert end.send(stream, bytes(WINDOW + 6)) == WINDOW + 5


def test_credit_still_comes_when_both_have_finished_and_our_end_waits_to_be_written() -> None:
    end, stream = raw_listener()
    end.finish(stream)
    feed(end, frame(WINDOW_UPDATE, FIN, 1, 0) + frame(WINDOW_UPDATE, FIN, 1, 3))
    assert end.stream_count == 1
    drain(end)
    assert end.stream_count == 0


def test_credit_with_the_peer_s_end_counts() -> None:
    end, stream = raw_listener()
    feed(end, frame(WINDOW_UPDATE, FIN, 1, 7))
    assert end.send(stream, bytes(WINDOW + 8)) == WINDOW + 7


def test_we_still_read_and_return_credit_after_our_end() -> None:
    end, stream = raw_listener()
    end.finish(stream)
    drain(end)
    feed(end, data(1, bytes(WINDOW)), now=1000.0)
    assert len(read(end, stream)) == WINDOW
    assert headers(drain(end)) == [(WINDOW_UPDATE, 0, 1, WINDOW)]


@pytest.mark.parametrize("kind", [DATA, WINDOW_UPDATE])
def test_a_reset_by_the_peer_drops_what_waits_both_ways(kind: int) -> None:
    budget = scope()
    end, stream = raw_listener(budget=budget)
    feed(end, data(1, b"unread"))
    end.send(stream, b"unsent")
    events(end)
    feed(end, frame(kind, RST, 1, 0))
    assert events(end) == [StreamReset(stream=stream, remote=True)]
    assert read(end, stream) == b""
    assert drain(end) == b""
    assert end.stream_count == used(budget) == 0


def test_the_payload_of_a_reset_is_let_pass() -> None:
    end, _ = raw_listener()
    feed(end, data(1, b"x" * 50, RST) + frame(PING, SYN, 0, 7))
    assert headers(drain(end)) == [(PING, ACK, 0, 7)]


def test_an_error_code_in_a_reset_is_no_credit() -> None:
    end, stream = raw_listener()
    feed(end, frame(WINDOW_UPDATE, RST, 1, 2**32 - 1))
    assert events(end) == [StreamReset(stream=stream, remote=True)]


def test_what_came_before_the_peer_s_end_can_be_read_after_its_reset() -> None:
    budget = scope()
    end, stream = raw_listener(budget=budget)
    feed(end, data(1, b"complete", FIN) + frame(WINDOW_UPDATE, RST, 1, 0) + data(1, b"late"))
    assert events(end)[-1] == StreamReset(stream=stream, remote=True)
    with pytest.raises(LocalProtocolError):
        end.send(stream, b"x")
    assert read(end, stream) == b"complete"
    assert end.stream_count == used(budget) == 0


def test_such_a_stream_can_be_reset_or_closed_without_a_word() -> None:
    for command in ("reset", "close_stream"):
        end, stream = raw_listener()
        feed(end, data(1, b"complete", FIN) + frame(WINDOW_UPDATE, RST, 1, 0))
        getattr(end, command)(stream)
        assert end.stream_count == 0
        assert drain(end) == b""


def test_our_reset_is_said_once_and_gives_everything_back() -> None:
    budget = scope()
    end, stream = raw_listener(budget=budget)
    feed(end, data(1, bytes(100000)))
    end.send(stream, b"unsent")
    end.reset(stream)
    end.reset(stream)
    assert headers(drain(end)) == [(WINDOW_UPDATE, RST, 1, 0)]
    assert used(budget) == 0
    feed(end, data(1, b"in flight") + frame(WINDOW_UPDATE, 0, 1, 5))
    assert drain(end) == b""


def test_a_reset_in_the_middle_of_a_frame_lets_the_rest_pass() -> None:
    end, stream = raw_listener()
    whole = data(1, b"x" * 100)
    feed(end, whole[:50])
    end.reset(stream)
    drain(end)
    feed(end, whole[50:] + frame(PING, SYN, 0, 7))
    assert headers(drain(end)) == [(PING, ACK, 0, 7)]


def test_a_closed_stream_is_over_with_our_end_as_in_go() -> None:
    budget = scope()
    end, stream = raw_listener(budget=budget)
    feed(end, data(1, bytes(100000)))
    end.close_stream(stream)
    assert budget.used(Resource.BYTES) == 0
    feed(end, data(1, b"still coming"))
    assert headers(drain(end)) == [(DATA, FIN, 1, 0)]
    assert end.stream_count == used(budget) == 0


def test_a_peer_that_goes_on_sending_to_a_closed_stream_is_told_once() -> None:
    end, stream = raw_listener()
    end.close_stream(stream)
    drain(end)
    feed(end, data(1, b"more") + data(1, b"and more"))
    assert headers(drain(end)) == [(WINDOW_UPDATE, RST, 1, 0)]


@pytest.mark.parametrize("last", [frame(DATA, FIN, 1, 0), frame(WINDOW_UPDATE, RST, 1, 0)])
def test_a_peer_that_ends_a_closed_stream_is_told_nothing(last: bytes) -> None:
    end, stream = raw_listener()
    end.close_stream(stream)
    drain(end)
    feed(end, frame(WINDOW_UPDATE, 0, 1, 9) + last + data(1, b"late"))
    assert drain(end) == b""


def test_only_the_last_256_closed_streams_are_remembered() -> None:
    end = machine(outbound=False, parameters=YamuxParameters(backlog_max=1000))
    for id in range(1, 2 * 258, 2):
        feed(end, frame(WINDOW_UPDATE, SYN, id, 0))
        end.close_stream(StreamId(id))
    drain(end)
    feed(end, data(1, b"x") + data(3, b"x") + data(5, b"x"))
    assert headers(drain(end)) == [(WINDOW_UPDATE, RST, 5, 0)]


def test_a_stream_closed_while_a_send_waits_does_not_end_cleanly() -> None:
    end, stream = raw_listener()
    end.send(stream, b"half of it")
    end.close_stream(stream)
    assert headers(drain(end)) == [(WINDOW_UPDATE, RST, 1, 0)]


def test_closing_after_finishing_says_nothing_more() -> None:
    end, stream = raw_listener()
    end.finish(stream)
    drain(end)
    end.close_stream(stream)
    assert drain(end) == b""
    assert end.stream_count == 0


def test_commands_on_a_stream_that_is_gone_do_nothing() -> None:
    end = machine(outbound=True)
    gone = StreamId(77)
    assert end.send(gone, b"x") == end.retract(gone) == end.collect(gone) == end.waiting(gone) == 0
    assert end.unwritten(gone) == end.read_into(gone, memoryview(bytearray(1))) == 0
    end.post(gone, memoryview(bytearray(1)))
    end.withdraw(gone)
    end.finish(gone)
    end.close_stream(gone)
    end.reset(gone)
    assert not end.pending


# The connection.


def test_a_ping_is_answered_and_measured() -> None:
    dialler, listener = machine(outbound=True), machine(outbound=False)
    assert dialler.ping(10.0) == 0
    feed(listener, drain(dialler))
    feed(dialler, drain(listener), now=10.25)
    assert events(dialler) == [PongReceived(ping=0, round_trip=0.25)]
    assert dialler.round_trip == 0.25
    assert dialler.ping(11.0) == 1


def test_an_answer_nobody_asked_for_means_nothing() -> None:
    end = machine(outbound=True)
    feed(end, frame(PING, ACK, 0, 5))
    assert events(end) == []


def test_after_32_unanswered_pings_the_oldest_is_forgotten() -> None:
    end = machine(outbound=True)
    for _ in range(33):
        end.ping(0.0)
    feed(end, frame(PING, ACK, 0, 0) + frame(PING, ACK, 0, 1))
    assert [event.ping for event in events(end) if isinstance(event, PongReceived)] == [1]


def test_a_silent_peer_is_asked_after_30_s_and_given_up_10_s_later() -> None:
    end = machine(outbound=True, now=100.0)
    assert end.next_timeout() == 130.0
    end.handle_timeout(129.9)
    assert drain(end) == b""
    end.handle_timeout(130.0)
    assert headers(drain(end)) == [(PING, SYN, 0, 0)]
    assert end.next_timeout() == 140.0
    end.handle_timeout(139.9)
    with pytest.raises(RemoteProtocolError, match="silent for 10 s"):
        end.handle_timeout(140.0)


def test_any_byte_is_a_sign_of_life() -> None:
    end = machine(outbound=True, now=100.0)
    feed(end, b"\x00", now=120.0)
    assert end.next_timeout() == 150.0
    end.handle_timeout(150.0)
    feed(end, b"\x02", now=151.0)
    assert end.next_timeout() == 181.0


def test_after_a_go_away_of_ours_new_streams_are_refused_and_old_ones_live() -> None:
    end, stream = raw_listener()
    end.go_away()
    feed(end, frame(WINDOW_UPDATE, SYN, 3, 0) + data(1, b"still here"))
    assert headers(drain(end)) == [(GO_AWAY, 0, 0, 0), (WINDOW_UPDATE, RST, 3, 0)]
    assert read(end, stream) == b"still here"
    with pytest.raises(LocalProtocolError):
        end.open()


def test_after_a_go_away_of_the_peer_s_we_open_nothing() -> None:
    end, stream = raw_listener()
    feed(end, frame(GO_AWAY, 0, 0, 2))
    assert events(end) == [GoAwayReceived(code=2)]
    with pytest.raises(LocalProtocolError):
        end.open()
    assert end.send(stream, b"x") == 1


def test_the_last_words_after_an_offence_are_said_once() -> None:
    end, _ = raw_listener()
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            feed(end, b"\x01" + bytes(11))
    assert headers(drain(end)) == [(GO_AWAY, 0, 0, GoAwayCode.PROTOCOL_ERROR)]


def test_what_came_before_an_offence_is_still_told() -> None:
    end, stream = raw_listener()
    with pytest.raises(RemoteProtocolError):
        feed(end, data(1, b"good") + b"\x01" + bytes(11))
    assert events(end) == [StreamReadable(stream=stream)]
    assert read(end, stream) == b"good"


def test_a_closed_connection_keeps_only_what_can_still_be_read() -> None:
    budget = scope()
    end, stream = raw_listener(budget=budget)
    feed(end, frame(WINDOW_UPDATE, SYN, 3, 0) + data(1, b"received"))
    end.close()
    assert end.stream_count == 1
    assert budget.used(Resource.STREAMS_IN) == 0
    assert read(end, stream) == b"received"
    assert end.stream_count == used(budget) == 0


def test_a_posted_buffer_can_be_collected_from_a_closed_connection() -> None:
    end, stream = raw_listener()
    buffer = memoryview(bytearray(10))
    end.post(stream, buffer)
    feed(end, data(1, b"received"))
    end.close()
    assert end.collect(stream) == 8
    assert bytes(buffer[:8]) == b"received"
    assert end.stream_count == 0


def test_repr_shows_state_in_one_line() -> None:
    end, _ = raw_listener()
    assert repr(end) == "<YamuxMachine 1 streams>"
    end.go_away()
    assert repr(end) == "<YamuxMachine 1 streams, going away>"
    record = end._table.get(1)
    assert repr(record) == "<Stream 1 inbound open, 0 unread, 0 unwritten>"


# The table of what is legal.


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("input", Input)
def test_every_state_and_input_is_a_legal_step_or_an_error_of_whoever_caused_it(state: State, input: Input) -> None:
    memory = scope().reserve(Resource.BYTES, 0)
    stream = Stream(1, outbound=True, window=ReceiveWindow(memory, 1 << 24, 0.0), reservation=memory)
    stream.state = state
    if (state, input) in TRANSITIONS:
        stream.move(input)
        assert stream.state is TRANSITIONS[state, input]
    else:
        with pytest.raises(LocalProtocolError if input.name.startswith("SEND") else RemoteProtocolError):
            stream.move(input)
        assert stream.state is state


# Properties.

COMMANDS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "open",
                "accept",
                "send",
                "read",
                "post",
                "collect",
                "withdraw",
                "finish",
                "close",
                "reset",
                "ping",
                "move",
            ]
        ),
        st.booleans(),
        st.integers(0, 7),
        st.integers(0, 300000),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(COMMANDS, st.sampled_from([None, 1000]))
def test_any_commands_at_both_ends_keep_the_peace_and_leave_nothing_behind(
    commands: list[tuple[str, bool, int, int]], step: int | None
) -> None:
    budgets = scope(), scope()
    ends = machine(outbound=True, budget=budgets[0]), machine(outbound=False, budget=budgets[1])
    link: DataPair[Event] = DataPair(*ends, step=step)
    ids: list[StreamId] = []
    sent: dict[tuple[int, StreamId], bytes] = {}
    got: dict[tuple[int, StreamId], bytes] = {}
    posted: dict[tuple[int, StreamId], memoryview] = {}
    for number, (command, first, which, size) in enumerate(commands):
        side = 0 if first else 1
        end = ends[side]
        if command == "open":
            ids.append(end.open())
            continue
        if command == "ping":
            end.ping(0.0)
            continue
        if command == "move":
            (link.forward if first else link.back)()
            continue
        if not ids:
            continue
        stream = ids[which % len(ids)]
        try:
            if command == "accept":
                end.accept(stream)
            elif command == "send":
                payload = bytes([number]) * size
                taken = end.send(stream, payload)
                sent[side, stream] = sent.get((side, stream), b"") + payload[:taken]
            elif command == "read":
                got[side, stream] = got.get((side, stream), b"") + read(end, stream, size)
            elif command == "post":
                buffer = memoryview(bytearray(size + 1))
                end.post(stream, buffer)
                posted[side, stream] = buffer
            elif command == "collect":
                filled = end.collect(stream)
                got[side, stream] = got.get((side, stream), b"") + bytes(posted.get((side, stream), b"")[:filled])
            elif command == "withdraw":
                end.withdraw(stream)
            elif command == "finish":
                end.finish(stream)
            elif command == "close":
                end.close_stream(stream)
            else:
                end.reset(stream)
        except LocalProtocolError:
            pass
    link.run()
    for (side, stream), received in got.items():
        assert sent.get((1 - side, stream), b"").startswith(received)
    for end, budget in zip(ends, budgets, strict=True):
        events(end)
        end.close()
        for stream in ids:
            end.close_stream(stream)
        assert used(budget) == 0


@settings(deadline=None)
@given(st.binary(max_size=2000), st.booleans())
def test_any_bytes_from_the_peer_end_in_our_error_or_not_at_all(garbage: bytes, outbound: bool) -> None:
    budget = scope()
    end = machine(outbound=outbound, budget=budget)
    try:
        feed(end, garbage)
    except RemoteProtocolError:
        pass
    drain(end)
    end.close()
    assert budget.used(Resource.STREAMS_IN) == 0


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.integers(0, 15), st.integers(0, 6), st.sampled_from([0, 1, 100, WINDOW, 2**32 - 1])
        )
    )
)
def test_any_frames_from_the_peer_end_in_our_error_or_not_at_all(frames: list[tuple[int, int, int, int]]) -> None:
    budget = scope()
    end = machine(outbound=False, budget=budget)
    try:
        for kind, flags, stream, length in frames:
            feed(end, frame(kind, flags, stream, length, bytes(length) if kind == DATA and length <= WINDOW else b""))
    except RemoteProtocolError:
        pass
    drain(end)
    end.close()
    assert budget.used(Resource.STREAMS_IN) == 0
