"""Known attacks on yamux, by name, at the level of the machine."""

import pytest

from stack.errors import RemoteProtocolError
from stack.muxers.yamux.connection import YamuxMachine
from stack.muxers.yamux.events import StreamOpened, StreamReset
from stack.muxers.yamux.frames import GO_AWAY, GoAwayCode
from stack.muxers.yamux.parameters import YamuxParameters
from stack.muxers.yamux.receiver import CRUMBS_MAX
from stack.muxers.yamux.windows import LITTLE_BYTES
from stack.sansio.budget import Resource, Scope
from stack.sansio.interfaces import StreamId
from stack.testing.pair import drain, events, feed
from tests.muxers.yamux.support import (
    ACK,
    DATA,
    FIN,
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
GOODBYE = [(GO_AWAY, 0, 0, GoAwayCode.PROTOCOL_ERROR)]


def opened(end: YamuxMachine) -> int:
    return sum(isinstance(event, StreamOpened) for event in events(end))


def test_A01_streams_beyond_the_backlog_are_reset_and_cost_nothing() -> None:
    budget = scope()
    end = machine(outbound=False, budget=budget)
    for id in range(1, 2 * 300, 2):
        feed(end, frame(WINDOW_UPDATE, SYN, id, 0))
    assert opened(end) == end.stream_count == budget.used(Resource.STREAMS_IN) == 256
    assert headers(drain(end)) == [(WINDOW_UPDATE, RST, id, 0) for id in range(513, 600, 2)]


def test_A01_streams_beyond_1024_are_reset() -> None:
    end = machine(outbound=False)
    answers = []
    for id in range(1, 2 * 1026, 2):
        feed(end, frame(WINDOW_UPDATE, SYN, id, 0))
        end.accept(StreamId(id))
        answers += headers(drain(end))
    assert opened(end) == 1024
    assert answers[1023:] == [
        (WINDOW_UPDATE, ACK, 2047, 0),
        (WINDOW_UPDATE, RST, 2049, 0),
        (WINDOW_UPDATE, RST, 2051, 0),
    ]


def test_A01_streams_beyond_the_budget_of_the_peer_are_reset() -> None:
    budget = Scope("peer", {Resource.STREAMS_IN: 2})
    end = machine(outbound=False, budget=budget)
    for id in (1, 3, 5):
        feed(end, frame(WINDOW_UPDATE, SYN, id, 0))
    assert opened(end) == 2
    assert headers(drain(end)) == [(WINDOW_UPDATE, RST, 5, 0)]


def test_A01_data_on_a_refused_stream_is_let_pass() -> None:
    end = machine(outbound=False, parameters=YamuxParameters(streams_max=1))
    feed(end, data(1, b"one", SYN) + data(3, b"three", SYN) + data(3, b"more") + data(1, b"again"))
    assert headers(drain(end)) == [(WINDOW_UPDATE, RST, 3, 0)]
    assert read(end, StreamId(1)) == b"oneagain"


def test_A01_half_a_header_costs_twelve_bytes() -> None:
    budget = scope()
    end = machine(outbound=False, budget=budget)
    for byte in frame(WINDOW_UPDATE, SYN, 1, 0)[:11]:
        feed(end, bytes([byte]))
    assert used(budget) == 0
    assert len(end._receiver.header) == 11


def test_A02_announced_lengths_that_never_come_cost_nothing() -> None:
    budget = scope()
    end = machine(outbound=False, parameters=YamuxParameters(backlog_max=1024), budget=budget)
    for id in range(1, 2049, 2):
        feed(end, frame(WINDOW_UPDATE, SYN, id, 0))
    feed(end, frame(DATA, 0, 1, WINDOW) + b"x")
    assert budget.used(Resource.BYTES) == LITTLE_BYTES


def test_A02_unread_bytes_of_all_streams_stay_within_the_budget_of_the_connection() -> None:
    budget = scope()
    end = machine(outbound=False, budget=budget)
    filled = bytes(WINDOW)
    for id in range(1, 2 * 200, 2):
        feed(end, data(id, filled, SYN))
        assert budget.used(Resource.BYTES) <= 32 << 20
    told = events(end)
    resets = [event.stream for event in told if isinstance(event, StreamReset) and not event.remote]
    assert resets == list(range(257, 400, 2))
    assert end.stream_count == 128
    assert len(read(end, StreamId(1))) == WINDOW
    feed(end, data(401, filled, SYN))
    assert end.stream_count == 129


def test_A02_a_window_of_single_bytes_takes_no_more_than_its_size() -> None:
    end, stream = raw_listener()
    for minute in range(5):
        feed(end, data(1, b"x") * 10_000, 60.0 * minute)
    record = end._table.get(stream)
    assert record is not None and record.inbox._segments is not None
    assert len(record.inbox._segments) == 4
    assert read(end, stream) == b"x" * 50000


def test_A22_pings_to_a_peer_that_does_not_read_are_answered_32_times() -> None:
    end = machine(outbound=False)
    feed(end, frame(PING, SYN, 0, 7) * 100)
    assert headers(drain(end)) == [(PING, ACK, 0, 7)] * 32
    feed(end, frame(PING, SYN, 0, 8), 11.0)
    assert headers(drain(end)) == [(PING, ACK, 0, 8)]


EMPTY = {
    "pings": frame(PING, SYN, 0, 7),
    "answers nobody asked for": frame(PING, ACK, 0, 7),
    "data without a byte": frame(DATA, 0, 1, 0),
    "credit of nothing": frame(WINDOW_UPDATE, 0, 1, 0),
    "credit for nothing": frame(WINDOW_UPDATE, 0, 1, 1),
    "acknowledgements said again": frame(WINDOW_UPDATE, ACK, 1, 0),
    "go-aways said again": frame(GO_AWAY, 0, 0, 0),
}


@pytest.mark.parametrize("kind", EMPTY)
def test_attack_5_more_than_a_hundred_frames_in_a_row_that_say_nothing_end_the_connection(kind: str) -> None:
    end, _ = raw_listener()
    feed(end, EMPTY[kind] * 100 + data(1, b"x") + EMPTY[kind] * 100)
    feed(end, EMPTY[kind] * 100, 11.0)
    with pytest.raises(RemoteProtocolError, match="say nothing"):
        feed(end, EMPTY[kind] * 2, 11.0)
    assert GOODBYE[0] in headers(drain(end))


@pytest.mark.parametrize("id", [1, 9], ids=["for a stream", "for nobody"])
def test_attack_5_frames_of_a_byte_without_end_end_the_connection(id: int) -> None:
    """They say something, each of them, at 2 us a byte: a core was busy with two such peers for as long as they liked."""
    end, stream = raw_listener()

    def crumbs(count: int, now: float) -> None:
        for _ in range(count // 1000):
            feed(end, data(id, b"x") * 1000, now)
            read(end, stream)
            drain(end)

    crumbs(CRUMBS_MAX, 0.0)
    crumbs(CRUMBS_MAX, 11.0)
    feed(end, data(1, b"eight by") * 1000, 11.0)
    with pytest.raises(RemoteProtocolError, match="less than 8 bytes"):
        crumbs(1000, 11.0)


def test_attack_5_credit_for_what_was_sent_may_be_as_small_as_the_peer_likes() -> None:
    end, stream = raw_listener()
    for _ in range(500):
        assert end.send(stream, b"x") == 1
        drain(end)
        feed(end, frame(WINDOW_UPDATE, 0, 1, 1))


def test_attack_5_a_peer_that_keeps_an_idle_connection_alive_by_pings_is_not_counted_out() -> None:
    end, _ = raw_listener()
    for minute in range(1000):
        feed(end, frame(PING, SYN, 0, minute) * 3, 20.0 * minute)
        drain(end)


def test_attack_5_what_was_in_flight_for_streams_that_are_over_is_let_pass_and_no_more() -> None:
    end, _ = raw_listener()
    for id in range(3, 1003, 2):
        feed(end, data(id, b"x", SYN))
        end.reset(StreamId(id))
        drain(end)
    for id in range(3, 1003, 2):
        feed(end, frame(WINDOW_UPDATE, 0, id, 1) * 4 + frame(DATA, FIN, id, 0) + frame(WINDOW_UPDATE, RST, id, 0))
    with pytest.raises(RemoteProtocolError, match="say nothing"):
        feed(end, frame(WINDOW_UPDATE, RST, 999, 0) * 10_000)


@pytest.mark.parametrize("ending", ["reset", "finished", "reset after a byte"])
def test_attack_5_more_than_a_thousand_streams_opened_in_vain_end_the_connection(ending: str) -> None:
    """CVE-2023-44487: streams that are opened and ended before they were taken, or without ever saying anything."""
    end = machine(outbound=False)

    def in_vain(id: int) -> bytes:
        opening = data(id, b"x", SYN) if ending == "reset after a byte" else frame(WINDOW_UPDATE, SYN, id, 0)
        return opening + (frame(DATA, FIN, id, 0) if ending == "finished" else frame(WINDOW_UPDATE, RST, id, 0))

    ids = iter(range(1, 100_000, 2))
    for now in (0.0, 11.0):
        for _ in range(1000):
            id = next(ids)
            feed(end, in_vain(id), now)
            end.reset(StreamId(id))
            drain(end)
            events(end)
    with pytest.raises(RemoteProtocolError, match="in vain"):
        feed(end, in_vain(next(ids)), 11.0)
    assert headers(drain(end))[-1:] == GOODBYE


def test_attack_5_streams_that_carried_something_may_be_reset_as_often_as_the_peer_likes() -> None:
    end = machine(outbound=False)
    for id in range(1, 6001, 2):
        feed(end, data(id, b"x", SYN))
        end.accept(StreamId(id))
        drain(end)
        feed(end, frame(WINDOW_UPDATE, RST, id, 0))
        assert read(end, StreamId(id)) == b""
    assert end.stream_count == 0


def test_attack_5_one_call_reads_no_more_frames_than_a_part_of_a_turn_holds() -> None:
    end, _ = raw_listener()
    wire = data(1, b"x") * 1000
    assert end.receive_data(memoryview(wire), 0.0) == 31 * 13 + 12


def test_A22_refused_streams_to_a_peer_that_does_not_read_end_the_connection() -> None:
    end = machine(outbound=False, parameters=YamuxParameters(streams_max=1))
    ids = range(3, 3 + 2 * 1001, 2)
    feed(end, frame(WINDOW_UPDATE, SYN, 1, 0) + b"".join(frame(WINDOW_UPDATE, SYN, id, 0) for id in ids[:-1]))
    with pytest.raises(RemoteProtocolError, match="1000 frames"):
        feed(end, frame(WINDOW_UPDATE, SYN, ids[-1], 0))
    answers = headers(drain(end))
    assert len(answers) == 1001
    assert answers[-1:] == GOODBYE


def test_A22_streams_that_we_reset_one_by_one_for_a_peer_that_does_not_read_end_the_connection() -> None:
    end = machine(outbound=False)
    for id in range(1, 2001, 2):
        feed(end, frame(WINDOW_UPDATE, SYN, id, 0))
        end.reset(StreamId(id))
    with pytest.raises(RemoteProtocolError, match="1000 frames"):
        feed(end, frame(WINDOW_UPDATE, SYN, 2001, 0))


def test_A22_streams_opened_and_reset_hold_nothing() -> None:
    budget = scope()
    end = machine(outbound=False, budget=budget)
    for id in range(1, 2001, 2):
        feed(end, frame(WINDOW_UPDATE, SYN, id, 0) + frame(WINDOW_UPDATE, RST, id, 0))
    assert end.stream_count == used(budget) == 0
    assert drain(end) == b""


@pytest.mark.parametrize("credit", [0xFFFF0000, 2**32 - 1])
def test_A23_a_credit_that_overflows_is_a_protocol_error(credit: int) -> None:
    end, _ = raw_listener()
    with pytest.raises(RemoteProtocolError):
        feed(end, frame(WINDOW_UPDATE, 0, 1, credit))
    assert headers(drain(end)) == GOODBYE


def test_A23_a_sequence_of_credits_ends_in_a_go_away() -> None:
    end, _ = raw_listener()
    for credit in (0, 1, 2**31):
        feed(end, frame(WINDOW_UPDATE, 0, 1, credit))
    with pytest.raises(RemoteProtocolError):
        feed(end, frame(WINDOW_UPDATE, 0, 1, 2**31))
    assert headers(drain(end)) == GOODBYE


def test_A23_a_stream_opened_with_an_overflowing_credit_is_a_protocol_error_and_gives_all_back() -> None:
    budget = scope()
    end = machine(outbound=False, budget=budget)
    with pytest.raises(RemoteProtocolError):
        feed(end, frame(WINDOW_UPDATE, SYN, 1, 0xFFFF0000))
    end.close()
    assert used(budget) == 0


@pytest.mark.parametrize("length", [262145, 262146, 2**24, 2**24 + 1, 2**32 - 1])
def test_A24_a_first_frame_over_the_window_is_refused_before_the_stream_exists(length: int) -> None:
    budget = scope()
    end = machine(outbound=False, budget=budget)
    with pytest.raises(RemoteProtocolError):
        feed(end, frame(DATA, SYN, 1, length))
    assert events(end) == []
    assert end.stream_count == used(budget) == 0
    assert headers(drain(end)) == GOODBYE


@pytest.mark.parametrize("length", [262143, 262144])
def test_A24_a_first_frame_that_fills_the_window_is_taken(length: int) -> None:
    end = machine(outbound=False)
    feed(end, data(1, bytes(length), SYN))
    assert len(read(end, StreamId(1))) == length


def test_A24_later_data_over_the_window_is_refused_before_it_comes() -> None:
    end, _ = raw_listener()
    feed(end, data(1, bytes(WINDOW - 1)))
    with pytest.raises(RemoteProtocolError):
        feed(end, frame(DATA, 0, 1, 2))


def test_A25_a_peer_that_stands_still_is_given_up() -> None:
    end, _ = raw_listener()
    now = 0.0
    with pytest.raises(RemoteProtocolError):
        for _ in range(10):
            now = end.next_timeout()
            end.handle_timeout(now)
            drain(end)
    assert now == 40.0


def test_A26_opening_closing_and_resetting_from_both_sides_at_once_leaves_nothing() -> None:
    budgets = scope(), scope()
    ends = machine(outbound=True, budget=budgets[0]), machine(outbound=False, budget=budgets[1])
    for number in range(300):
        streams = ends[0].open(), ends[1].open()
        crossing = drain(ends[0]), drain(ends[1])
        feed(ends[1], crossing[0])
        feed(ends[0], crossing[1])
        for end in ends:
            for stream in streams:
                end.accept(stream)
                (end.close_stream if number % 2 else end.reset)(stream)
        crossing = drain(ends[0]), drain(ends[1])
        feed(ends[1], crossing[0])
        feed(ends[0], crossing[1])
        for end in ends:
            drain(end)
            events(end)
    assert [end.stream_count for end in ends] == [used(budget) for budget in budgets] == [0, 0]


def test_A27_any_room_for_writing_and_a_close_at_any_offset_keep_the_frames_whole() -> None:
    for taken in range(60):
        end, stream = raw_listener()
        end.send(stream, b"0123456789")
        end.ping(0.0)
        wire = bytearray()
        while len(wire) < taken and (size := end.write_to(out := memoryview(bytearray(13)))):
            wire += out[:size]
        end.close_stream(stream)
        wire += drain(end)
        peer = machine(outbound=True)
        assert peer.open() == stream
        feed(peer, bytes(wire))
        assert peer.stream_count == 1 if headers(bytes(wire))[-1][1] == FIN else peer.stream_count == 0
