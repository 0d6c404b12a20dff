"""Windows and the memory behind them, at every bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.errors import LimitExceeded, RemoteProtocolError
from stack.muxers.yamux.windows import (
    CHARGE_BYTES,
    GROWTH_ROUND_TRIPS,
    IDLE_SECONDS,
    LITTLE_BYTES,
    ROUND_TRIP_MIN,
    WINDOW_INITIAL,
    ReceiveWindow,
    SendWindow,
)
from stack.sansio.budget import Reservation, Resource, Scope

MIB = 1 << 20
MOST = 16 * MIB
ROUND_TRIP = 0.5
FAST = GROWTH_ROUND_TRIPS * ROUND_TRIP
LONG_AFTER = 1000.0


def budget(limit: int = 32 * MIB) -> Reservation:
    return Scope("test", {Resource.BYTES: limit}).reserve(Resource.BYTES, 0)


def unread(limit: int = 4 * MIB) -> Reservation:
    return Scope("peer", {Resource.UNREAD: limit}).reserve(Resource.UNREAD, 0)


def window(memory: Reservation | None = None, most: int = MOST) -> ReceiveWindow:
    return ReceiveWindow(memory or budget(), unread(), most, 0.0)


def received(size: int, memory: Reservation | None = None) -> ReceiveWindow:
    """A window of which `size` bytes have come and were read."""
    result = window(memory)
    result.receive(size)
    result.read(size, 0)
    return result


# What the peer lets us send.


def test_both_ends_begin_with_256_KiB() -> None:
    assert SendWindow().credit == window().credit == window().size == WINDOW_INITIAL == 262144


@pytest.mark.parametrize(("asked", "taken", "left"), [(0, 0, 262144), (1, 1, 262143), (262144, 262144, 0)])
def test_sending_uses_the_window(asked: int, taken: int, left: int) -> None:
    send = SendWindow()
    assert send.take(asked) == taken
    assert send.credit == left


def test_no_more_is_taken_than_the_window_holds() -> None:
    send = SendWindow()
    assert send.take(262145) == 262144
    assert send.take(1) == 0
    assert send.credit == 0


def test_only_a_window_that_was_used_up_is_reported_as_opened() -> None:
    send = SendWindow()
    assert send.open(1) is False
    send.take(262145)
    assert send.open(0) is False
    assert send.open(1) is True
    assert send.open(1) is False
    assert send.credit == 2


def test_A23_a_window_may_reach_the_largest_32_bit_number_and_not_one_more() -> None:
    send = SendWindow()
    send.open(2**32 - 1 - WINDOW_INITIAL)
    assert send.credit == 2**32 - 1
    with pytest.raises(RemoteProtocolError) as caught:
        send.open(1)
    assert caught.value.code == 1
    assert send.credit == 2**32 - 1
    assert send.open(0) is False


@pytest.mark.parametrize("delta", [0xFFFF0000, 2**32 - 1, 2**32 - WINDOW_INITIAL])
def test_A23_a_first_credit_that_overflows_is_refused_and_changes_nothing(delta: int) -> None:
    send = SendWindow()
    with pytest.raises(RemoteProtocolError):
        send.open(delta)
    assert send.credit == WINDOW_INITIAL


def test_a_large_credit_that_fits_is_taken() -> None:
    send = SendWindow()
    send.open(2**31)
    assert send.credit == 2**31 + WINDOW_INITIAL


# What we let the peer send.


def test_the_whole_window_may_be_sent_at_once_and_not_one_byte_more() -> None:
    full = window()
    full.receive(WINDOW_INITIAL)
    assert (full.credit, full.unread) == (0, WINDOW_INITIAL)
    full.receive(0)
    with pytest.raises(RemoteProtocolError) as caught:
        full.receive(1)
    assert caught.value.code == 1
    assert (full.credit, full.unread) == (0, WINDOW_INITIAL)


def test_a_frame_one_byte_over_the_window_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="262145"):
        window().receive(WINDOW_INITIAL + 1)


def test_credit_is_owed_for_bytes_read_and_not_for_bytes_received() -> None:
    some = window()
    some.receive(1000)
    assert some.owed == 0
    some.read(400, 600)
    assert some.owed == 400
    some.read(600, 0)
    assert some.owed == 1000


@pytest.mark.parametrize(("size", "due"), [(131071, False), (131072, True), (131073, True)])
def test_credit_is_due_from_half_of_the_window_on(size: int, due: bool) -> None:
    assert received(size).due is due


def test_what_is_handed_back_fills_the_window_exactly() -> None:
    half = received(131072)
    assert half.take_credit(LONG_AFTER, ROUND_TRIP) == 131072
    assert (half.credit, half.size, half.owed) == (WINDOW_INITIAL, WINDOW_INITIAL, 0)
    assert half.due is False


def test_unread_bytes_are_not_handed_back() -> None:
    some = window()
    some.receive(200000)
    some.read(150000, 50000)
    assert some.take_credit(LONG_AFTER, ROUND_TRIP) == 150000
    assert some.credit == WINDOW_INITIAL - 50000


def test_a_window_read_within_four_round_trips_doubles() -> None:
    fast = received(131072)
    assert fast.take_credit(FAST - 0.001, ROUND_TRIP) == 131072 + WINDOW_INITIAL
    assert fast.size == fast.credit == 2 * WINDOW_INITIAL


def test_a_window_read_in_exactly_four_round_trips_does_not() -> None:
    slow = received(131072)
    assert slow.take_credit(FAST, ROUND_TRIP) == 131072
    assert slow.size == WINDOW_INITIAL


def test_a_round_trip_below_10_ms_counts_as_10_ms() -> None:
    limit = GROWTH_ROUND_TRIPS * ROUND_TRIP_MIN
    assert limit == pytest.approx(0.04)
    for round_trip in (0.0, 0.0001, ROUND_TRIP_MIN):
        fast, slow = received(131072), received(131072)
        fast.take_credit(limit * 0.999, round_trip)
        slow.take_credit(limit, round_trip)
        assert (fast.size, slow.size) == (2 * WINDOW_INITIAL, WINDOW_INITIAL)


def test_the_time_is_counted_from_the_last_time_credit_was_taken() -> None:
    some = received(131072)
    some.take_credit(LONG_AFTER, ROUND_TRIP)
    some.receive(131072)
    some.read(131072, 0)
    some.take_credit(LONG_AFTER + FAST - 0.001, ROUND_TRIP)
    assert some.size == 2 * WINDOW_INITIAL


def test_growth_ends_at_16_MiB() -> None:
    memory = budget()
    some = window(memory)
    sizes = []
    for _ in range(9):
        some.receive(some.credit)
        some.read(some.unread, 0)
        some.take_credit(0.0, ROUND_TRIP)
        sizes.append(some.size)
        assert some.credit == some.size
    assert sizes == [524288, MIB, 2 * MIB, 4 * MIB, 8 * MIB, 16 * MIB, 16 * MIB, 16 * MIB, 16 * MIB]
    assert memory.amount == some.charged == 16 * MIB - WINDOW_INITIAL


def test_growth_ends_at_a_smaller_bound_exactly() -> None:
    some = ReceiveWindow(budget(), unread(), WINDOW_INITIAL + 1, 0.0)
    some.receive(131072)
    some.read(131072, 0)
    assert some.take_credit(0.0, ROUND_TRIP) == 131073
    assert some.size == WINDOW_INITIAL + 1


def test_growth_is_charged_and_given_back() -> None:
    memory = budget()
    some = received(131072, memory)
    some.take_credit(0.0, ROUND_TRIP)
    assert memory.amount == some.charged == WINDOW_INITIAL
    some.release()
    assert memory.amount == some.charged == 0
    some.release()
    assert memory.amount == 0


def test_a_window_does_not_grow_beyond_the_budget() -> None:
    exact, short = received(131072, budget(WINDOW_INITIAL)), received(131072, budget(WINDOW_INITIAL - 1))
    exact.take_credit(0.0, ROUND_TRIP)
    assert exact.size == 2 * WINDOW_INITIAL
    assert short.take_credit(0.0, ROUND_TRIP) == 131072
    assert (short.size, short.charged) == (WINDOW_INITIAL, 0)


def test_two_streams_share_one_budget() -> None:
    memory = budget(WINDOW_INITIAL)
    first, second = received(131072, memory), received(131072, memory)
    first.take_credit(0.0, ROUND_TRIP)
    second.take_credit(0.0, ROUND_TRIP)
    assert (first.size, second.size) == (2 * WINDOW_INITIAL, WINDOW_INITIAL)


# What waits to be read.


@pytest.mark.parametrize(
    ("waiting", "charged"),
    [(0, 0), (1, 4096), (4096, 4096), (4097, 65536), (65535, 65536), (65536, 65536), (65537, 131072), (262144, 262144)],
)
def test_waiting_bytes_are_charged_in_whole_steps(waiting: int, charged: int) -> None:
    memory = budget()
    some = window(memory)
    some.keep(waiting)
    assert some.charged == memory.amount == charged


def test_waiting_bytes_that_do_not_fit_the_budget_are_refused_and_nothing_is_charged() -> None:
    memory = budget(CHARGE_BYTES)
    some = window(memory)
    some.keep(CHARGE_BYTES)
    with pytest.raises(LimitExceeded):
        some.keep(CHARGE_BYTES + 1)
    assert some.charged == memory.amount == CHARGE_BYTES


def test_reading_gives_back_what_waits_no_more() -> None:
    memory = budget()
    some = window(memory)
    some.receive(200000)
    some.keep(200000)
    assert memory.amount == 4 * CHARGE_BYTES
    some.read(70000, 130000)
    assert memory.amount == 2 * CHARGE_BYTES
    some.read(130000, 0)
    assert memory.amount == some.charged == 0


def test_growth_that_was_granted_stays_charged_while_nothing_waits() -> None:
    memory = budget()
    some = received(131072, memory)
    some.take_credit(0.0, ROUND_TRIP)
    some.receive(300000)
    some.keep(300000)
    assert memory.amount == 5 * CHARGE_BYTES
    some.read(300000, 0)
    assert memory.amount == some.charged == WINDOW_INITIAL


def test_a_read_without_anything_charged_charges_nothing() -> None:
    memory = budget()
    some = window(memory)
    some.receive(100000)
    some.read(50000, 50000)
    assert memory.amount == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(["receive", "read", "credit"]), st.integers(0, MIB), st.floats(0, 2)), max_size=60
    )
)
def test_whatever_happens_the_sums_hold(steps: list[tuple[str, int, float]]) -> None:
    memory = budget(4 * MIB)
    some = window(memory)
    now = 0.0
    for kind, size, later in steps:
        now += later
        if kind == "receive":
            try:
                some.receive(min(size, some.credit))
                some.keep(some.unread)
            except LimitExceeded:
                break
        elif kind == "read":
            taken = min(size, some.unread)
            some.read(taken, some.unread - taken)
        else:
            assert some.take_credit(now, ROUND_TRIP) >= 0
            assert some.credit + some.unread == some.size
        assert some.credit + some.unread + some.owed == some.size
        assert WINDOW_INITIAL <= some.size <= MOST
        assert max(some.unread, some.size - WINDOW_INITIAL) <= some.charged <= 4 * MIB or not some.unread
        assert some.charged == memory.amount
    some.release()
    assert memory.amount == 0


# What was lent, and is called back (finding 23).


def grown(memory: Reservation, size: int, now: float = 0.0) -> ReceiveWindow:
    """A window that has grown to `size`, all of it granted to the peer."""
    some = window(memory)
    while some.size < size:
        use(some, now)
    return some


def use(some: ReceiveWindow, now: float) -> None:
    """Its peer sends all it may, and all is read at once."""
    some.receive(some.credit)
    some.read(some.unread, 0)
    if some.due:
        some.take_credit(now, ROUND_TRIP)


def test_finding_23_growth_is_called_back_when_the_memory_is_needed() -> None:
    """Windows and messages draw from one pot: messages were thrown away while windows held it."""
    node = Scope("node", {Resource.BYTES: 4 * MIB})
    some = grown(node.child("a connection").reserve(Resource.BYTES, 0), 4 * MIB)
    assert node.used(Resource.BYTES) == 4 * MIB - WINDOW_INITIAL
    assert node.without_room(Resource.BYTES, 4 * MIB) is None
    message = node.reserve(Resource.BYTES, 3 * MIB)
    assert some.size == MIB
    assert node.used(Resource.BYTES) == 4 * MIB - WINDOW_INITIAL
    message.grow(MIB)
    assert (some.size, some.charged, some.spare, list(node.holders)) == (WINDOW_INITIAL, 0, 0, [])
    assert node.without_room(Resource.BYTES, 1) is node


def test_finding_23_the_largest_window_gives_first_and_no_more_than_is_needed() -> None:
    node = Scope("node", {Resource.BYTES: 8 * MIB})
    memory = node.reserve(Resource.BYTES, 0)
    large, small = grown(memory, 4 * MIB), grown(memory, MIB)
    node.reserve(Resource.BYTES, 4 * MIB)
    assert (large.size, small.size) == (2 * MIB, MIB)


def test_finding_23_what_waits_to_be_read_is_not_called_back() -> None:
    node = Scope("node", {Resource.BYTES: 4 * MIB})
    some = grown(node.reserve(Resource.BYTES, 0), 2 * MIB)
    some.receive(2 * MIB)
    some.keep(MIB)
    with pytest.raises(LimitExceeded):
        node.reserve(Resource.BYTES, 3 * MIB + 1)
    assert some.size == 2 * MIB
    node.reserve(Resource.BYTES, 3 * MIB)
    assert some.charged == MIB and some.spare == 0


def test_finding_23_credit_that_was_granted_is_used_up_before_there_is_more() -> None:
    """It cannot be taken from the peer: what comes of it is charged as it comes."""
    memory = budget(4 * MIB)
    some = grown(memory, 4 * MIB)
    for _ in range(4):
        some.call_back()
    assert (some.size, some.credit, some.owed, memory.amount) == (WINDOW_INITIAL, 4 * MIB, 0, 0)
    some.receive(3 * MIB)
    some.keep(3 * MIB)
    assert memory.amount == 3 * MIB
    some.read(3 * MIB, 0)
    assert memory.amount == 0
    assert not some.due and some.take_credit(LONG_AFTER, ROUND_TRIP) == 0
    some.receive(MIB - WINDOW_INITIAL // 2)
    some.read(MIB - WINDOW_INITIAL // 2, 0)
    assert some.due and some.take_credit(2 * LONG_AFTER, ROUND_TRIP) == WINDOW_INITIAL // 2
    assert some.credit == some.size == WINDOW_INITIAL


def test_finding_23_many_streams_end_up_with_equal_parts() -> None:
    """Whoever came first had all, and the others stayed at 256 KiB."""
    memory = budget(32 * MIB)
    windows = [grown(memory, 16 * MIB)]
    for _ in range(15):
        windows.append(window(memory))
        for _ in range(12):
            for some in windows:
                use(some, 0.0)
        assert memory.amount == sum(each.charged for each in windows) <= 32 * MIB
    sizes = [each.size for each in windows]
    assert max(sizes) <= 2 * min(sizes), sizes
    assert sum(sizes) >= 16 * MIB


def test_finding_23_a_window_that_is_not_used_becomes_small() -> None:
    memory = budget()
    some = grown(memory, MIB, now=5.0)
    some.rest(5.0 + IDLE_SECONDS - 0.001)
    assert some.size == MIB
    some.rest(5.0 + IDLE_SECONDS)
    assert (some.size, memory.amount) == (WINDOW_INITIAL, 0)


def test_finding_23_of_a_connection_that_has_ended_only_what_waits_is_held() -> None:
    memory = budget()
    some = grown(memory, MIB)
    some.receive(MIB)
    some.keep(100_000)
    some.end()
    assert memory.amount == 2 * CHARGE_BYTES
    some.release()
    assert memory.amount == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["receive", "read", "credit", "need", "back", "rest"]),
            st.integers(0, 2),
            st.integers(0, 2 * MIB),
            st.floats(0, 2),
        ),
        max_size=80,
    )
)
def test_finding_23_whatever_is_called_back_the_sums_hold(steps: list[tuple[str, int, int, float]]) -> None:
    node = Scope("node", {Resource.BYTES: 6 * MIB})
    memory = node.child("a connection", {Resource.BYTES: 4 * MIB}).reserve(Resource.BYTES, 0)
    needed = node.reserve(Resource.BYTES, 0)
    windows = [window(memory) for _ in range(3)]
    now = 0.0
    for kind, which, size, later in steps:
        now += later
        some = windows[which]
        granted = some.credit + some.unread
        try:
            match kind:
                case "receive":
                    some.receive(min(size, some.credit))
                    some.keep(some.unread)
                case "read":
                    taken = min(size, some.unread)
                    some.read(taken, some.unread - taken)
                case "credit" if some.due:
                    assert some.take_credit(now, ROUND_TRIP) > 0
                    assert some.credit + some.unread == some.size
                case "need":
                    needed.grow(size)
                case "back":
                    needed.shrink(size)
                case "rest":
                    some.rest(now)
        except LimitExceeded:
            if kind == "receive":
                break
        if kind not in ("credit", "read"):
            assert some.credit + some.unread == granted
        for each in windows:
            assert each.credit >= 0 and WINDOW_INITIAL <= each.size <= MOST
            assert each.charged >= each.size - WINDOW_INITIAL
            assert (each in node.holders) == (each.size > WINDOW_INITIAL)
        assert memory.amount == sum(each.charged for each in windows) <= 4 * MIB
        assert node.used(Resource.BYTES) == memory.amount + needed.amount <= 6 * MIB
    for each in windows:
        each.release()
    assert memory.amount == 0 and not node.holders


def test_finding_4_what_waits_in_windows_of_streams_is_counted_until_it_is_read_and_growth_is_not() -> None:
    counted = unread(WINDOW_INITIAL)
    some = ReceiveWindow(budget(), counted, MOST, 0.0)
    some.receive(WINDOW_INITIAL)
    some.keep(LITTLE_BYTES)
    assert counted.amount == 0
    some.keep(WINDOW_INITIAL)
    assert counted.amount == WINDOW_INITIAL
    other = ReceiveWindow(budget(), counted, MOST, 0.0)
    other.receive(LITTLE_BYTES + 1)
    with pytest.raises(LimitExceeded):
        other.keep(LITTLE_BYTES + 1)
    other.release()
    some.read(WINDOW_INITIAL, 0)
    assert counted.amount == 0
    assert some.take_credit(0.0, ROUND_TRIP) == 2 * WINDOW_INITIAL
    some.receive(2 * WINDOW_INITIAL)
    some.keep(2 * WINDOW_INITIAL)
    assert counted.amount == WINDOW_INITIAL
    some.release()
    assert counted.amount == 0
