"""A rate that many keep to together."""

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.sansio.pace import BURST_SECONDS, PIECE_MAX, PIECE_MIN, Pace

RATES = st.integers(1, 1 << 34)


def test_a_pace_of_nothing_is_refused() -> None:
    for rate in (0, -1):
        with pytest.raises(ValueError, match="more than nothing"):
            Pace(rate, 0.0)


def test_pieces_are_ten_milliseconds_within_bounds() -> None:
    assert Pace(4_000_000, 0.0).piece == 40_000
    assert Pace(1000, 0.0).piece == PIECE_MIN
    assert Pace(10**9, 0.0).piece == PIECE_MAX
    assert repr(Pace(5, 0.0)) == "<Pace 5 bytes a second>"


def test_a_tenth_of_a_second_goes_at_once_and_then_each_waits_for_those_before() -> None:
    pace = Pace(1_000_000, 10.0)
    assert pace.take(100_000, 10.0) == 0
    assert [pace.take(20_000, 10.0) for _ in range(3)] == pytest.approx([0.02, 0.04, 0.06])
    assert pace.take(20_000, 10.05) == pytest.approx(0.03)


def test_what_was_not_used_for_long_is_lost() -> None:
    pace = Pace(1_000_000, 0.0)
    pace.take(100_000, 0.0)
    assert pace.take(100_000, 3600.0) == 0
    assert pace.take(1000, 3600.0) == pytest.approx(0.001)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    pace = Pace(1_000_000, 5.0)
    assert pace.take(100_000, 5.0) == 0
    assert pace.take(1000, 4.0) == pytest.approx(0.001)
    assert pace.take(1000, 5.0) == pytest.approx(0.002)


@given(RATES, st.lists(st.tuples(st.floats(0, 10), st.integers(1, 256)), max_size=50))
def test_no_stretch_of_time_sees_more_than_its_rate_and_one_burst(rate: int, steps: list[tuple[float, int]]) -> None:
    pace = Pace(rate, 0.0)
    now = 0.0
    moves: list[tuple[float, int]] = []
    for gap, part in steps:
        now += gap
        size = max(pace.piece * part // 256, 1)
        moves.append((now + pace.take(size, now), size))
    times = [at for at, _ in moves]
    assert times == sorted(times)  # first come, first served
    burst = max(rate * BURST_SECONDS, pace.piece)
    for start in range(len(moves)):
        for end in range(start, len(moves)):
            moved = sum(size for _, size in moves[start : end + 1])
            allowed = burst + pace.piece + rate * (times[end] - times[start])
            assert moved <= allowed * (1 + 1e-6) + 1


@given(st.integers(1 << 14, 1 << 30), st.integers(1, 32), st.integers(1, 20))
def test_takers_that_always_have_more_get_equal_parts_of_all_of_it(rate: int, takers: int, rounds: int) -> None:
    pace = Pace(rate, 0.0)
    taken = [0] * takers
    turns = [(0.0, taker) for taker in range(takers)]
    for _ in range(takers * rounds):
        now, taker = heapq.heappop(turns)
        taken[taker] += 1
        heapq.heappush(turns, (now + pace.take(pace.piece, now), taker))
    last = max(turns)[0]
    moved = takers * rounds * pace.piece
    assert last == pytest.approx(max(moved - max(rate * BURST_SECONDS, pace.piece), 0) / rate, rel=1e-6, abs=1e-6)
    # The burst goes to whoever comes first; what is left of it no longer counts after that.
    assert max(taken) - min(taken) <= 1 + max(rate * BURST_SECONDS, pace.piece) / pace.piece
