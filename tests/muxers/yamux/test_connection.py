"""A yamux connection as a pure machine: opening, pings, silence, going away."""

import pytest

from stack.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from stack.muxers.yamux.events import (
    BacklogOpened,
    GoAwayReceived,
    PongReceived,
    StreamOpened,
    StreamReadable,
)
from stack.muxers.yamux.frames import GO_AWAY, GoAwayCode
from stack.muxers.yamux.parameters import YamuxParameters
from stack.sansio.budget import Resource, Scope
from stack.sansio.interfaces import StreamId
from stack.testing.pair import drain, events, feed
from tests.muxers.yamux.support import (
    ACK,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    data,
    frame,
    headers,
    machine,
    raw_listener,
    read,
    scope,
    used,
)

WINDOW = 262144
ONE = StreamId(1)


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


def test_pings_are_answered_in_their_order() -> None:
    end = machine(outbound=False)
    feed(end, b"".join(frame(PING, SYN, 0, number) for number in (7, 8, 9)))
    assert headers(drain(end)) == [(PING, ACK, 0, 7), (PING, ACK, 0, 8), (PING, ACK, 0, 9)]
