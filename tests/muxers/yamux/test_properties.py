"""A yamux connection as a pure machine: what holds whatever happens."""

from hypothesis import given, settings
from hypothesis import strategies as st

from stack.errors import LocalProtocolError, RemoteProtocolError
from stack.muxers.yamux.events import (
    Event,
)
from stack.sansio.budget import Resource
from stack.sansio.interfaces import StreamId
from stack.testing.pair import DataPair, drain, events, feed
from tests.muxers.yamux.support import (
    DATA,
    frame,
    machine,
    read,
    scope,
    used,
)

WINDOW = 262144
ONE = StreamId(1)


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
