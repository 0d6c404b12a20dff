"""A yamux connection as a pure machine: windows that have grown, and the memory of a node that they share."""

from stack.muxers.yamux.connection import YamuxMachine
from stack.muxers.yamux.parameters import YamuxParameters
from stack.muxers.yamux.windows import IDLE_SECONDS, WINDOW_INITIAL
from stack.sansio.budget import Resource, Scope
from stack.sansio.interfaces import StreamId
from stack.testing.pair import drain, feed
from tests.muxers.yamux.support import SYN, WINDOW_UPDATE, data, frame, machine, read, scope, used

MIB = 1 << 20
ONE = StreamId(1)


def all_read(end: YamuxMachine, streams: list[StreamId], now: float) -> None:
    """The peer uses each window up, all of it is read at once, and the credit is written."""
    for stream in streams:
        record = end._table.get(stream)
        assert record is not None
        buffer = memoryview(bytearray(record.receive_window.credit))
        end.post(stream, buffer)
        feed(end, data(stream, bytes(len(buffer))), now=now)
        assert end.collect(stream) == len(buffer)
    drain(end)


def test_finding_23_windows_of_a_peer_share_the_memory_of_its_connection_and_give_way_to_messages() -> None:
    """Four peers with ten busy streams each may hold all there is, and the memory that a message needs is there."""
    node = Scope("node", {Resource.BYTES: 16 * MIB})
    bounds = YamuxParameters(memory_max=8 * MIB)
    ends = [machine(outbound=False, parameters=bounds, budget=node.child(f"peer {number}")) for number in range(4)]
    streams = [StreamId(id) for id in range(1, 21, 2)]
    for end in ends:
        for stream in streams:
            feed(end, frame(WINDOW_UPDATE, SYN, stream, 0))
            end.accept(stream)
        for _ in range(8):
            all_read(end, streams, 0.0)
        assert node.used(Resource.BYTES) <= 16 * MIB
    held = [sum(window.spare for window in end._table.grown) for end in ends]
    assert max(held) <= 8 * MIB
    assert sum(held) > 12 * MIB
    with node.reserve(Resource.BYTES, 12 * MIB):
        assert node.used(Resource.BYTES) <= 16 * MIB
        for end in ends:
            all_read(end, streams, 100.0)
    for end in ends:
        end.close()
    assert used(node) == 0


def test_finding_23_windows_that_are_not_used_shrink_after_a_while() -> None:
    budget = scope()
    end = machine(outbound=False, budget=budget)
    feed(end, frame(WINDOW_UPDATE, SYN, 1, 0))
    assert end.next_timeout() == YamuxParameters().keep_alive
    for _ in range(4):
        all_read(end, [ONE], 0.0)
    assert budget.used(Resource.BYTES) == 15 * WINDOW_INITIAL
    assert end.next_timeout() == IDLE_SECONDS
    end.handle_timeout(IDLE_SECONDS)
    assert budget.used(Resource.BYTES) == 0
    assert end.next_timeout() == YamuxParameters().keep_alive


def test_finding_23_credit_of_a_window_that_was_called_back_meanwhile_is_not_a_frame_without_credit() -> None:
    node = Scope("node", {Resource.BYTES: 16 * MIB})
    end = machine(outbound=False, budget=node.child("connection"))
    feed(end, frame(WINDOW_UPDATE, SYN, 1, 0))
    end.accept(ONE)
    for _ in range(3):
        all_read(end, [ONE], 0.0)
    record = end._table.get(ONE)
    assert record is not None
    feed(end, data(ONE, bytes(record.receive_window.size // 2)))
    read(end, ONE, 1 << 22)
    assert end.pending
    node.reserve(Resource.BYTES, 16 * MIB)
    assert drain(end) == b""
