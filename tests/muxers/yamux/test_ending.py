"""A yamux connection as a pure machine: how streams end, and what is legal."""

import pytest

from stack.errors import LocalProtocolError, RemoteProtocolError
from stack.muxers.yamux.events import (
    StreamEnded,
    StreamReadable,
    StreamReset,
    StreamWritten,
)
from stack.muxers.yamux.parameters import YamuxParameters
from stack.muxers.yamux.stream import TRANSITIONS, Input, State, Stream
from stack.muxers.yamux.table import LATE_BYTES
from stack.muxers.yamux.windows import ReceiveWindow
from stack.sansio.budget import Resource
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
    feed(end, data(1, bytes(LATE_BYTES + 1)) + data(1, b"and more"))
    assert headers(drain(end)) == [(WINDOW_UPDATE, RST, 1, 0)]


def test_a_peer_that_answers_to_its_protocol_when_we_have_said_all_is_not_reset() -> None:
    """It would forget what it has not read yet: pushes of identify were lost so."""
    end, stream = raw_listener()
    end.close_stream(stream)
    drain(end)
    for late in (b"\x13/multistream/1.0.0\n", b"\x16/ipfs/id/push/1.0.0\n"):
        feed(end, data(1, late))
    assert drain(end) == b""
    feed(end, data(1, bytes(LATE_BYTES)))
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
    feed(end, b"".join(data(id, bytes(LATE_BYTES + 1)) for id in (1, 3, 5)))
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


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("input", Input)
def test_every_state_and_input_is_a_legal_step_or_an_error_of_whoever_caused_it(state: State, input: Input) -> None:
    memory = scope().reserve(Resource.BYTES, 0)
    stream = Stream(1, outbound=True, window=ReceiveWindow(memory, memory, 1 << 24, 0.0), reservation=memory)
    stream.state = state
    if (state, input) in TRANSITIONS:
        stream.move(input)
        assert stream.state is TRANSITIONS[state, input]
    else:
        with pytest.raises(LocalProtocolError if input.name.startswith("SEND") else RemoteProtocolError):
            stream.move(input)
        assert stream.state is state


def test_a_stream_that_is_reset_hands_no_credit_back() -> None:
    end, stream = raw_listener()
    feed(end, data(1, bytes(WINDOW)))
    read(end, stream, WINDOW // 2)
    end.reset(stream)
    assert headers(drain(end)) == [(WINDOW_UPDATE, RST, 1, 0)]


def test_a_reset_by_the_peer_leaves_nothing_unwritten_even_if_there_is_still_something_to_read() -> None:
    end, stream = raw_listener()
    end.send(stream, b"unsent")
    feed(end, data(1, b"complete", FIN) + frame(WINDOW_UPDATE, RST, 1, 0))
    assert end.waiting(stream) == 8
    assert end.unwritten(stream) == 0
    assert drain(end) == b""
