"""Decisions about standing connections."""

from stack.net.interfaces import Direction
from stack.net.upkeep import DUPLICATE_IDLE_SECONDS, WAKE_SECONDS, Standing, WakeDetector, best, superfluous, to_trim
from tests.net.identities import peers_in_order

SMALL, LARGE = peers_in_order(2)
IN, OUT = Direction.INBOUND, Direction.OUTBOUND


def standing(
    direction: Direction = OUT,
    opened_at: float = 0.0,
    streams: int = 0,
    idle_since: float | None = 0.0,
    protected: bool = False,
) -> Standing:
    return Standing(
        direction=direction, opened_at=opened_at, streams=streams, idle_since=idle_since, protected=protected
    )


def same(connection: Standing) -> Standing:
    return connection


def test_both_ends_choose_the_same_connection() -> None:
    dialled_by_small = (standing(OUT, 5.0), standing(IN, 5.1))
    dialled_by_large = (standing(IN, 1.0), standing(OUT, 1.1))
    at_small = [dialled_by_large[0], dialled_by_small[0]]
    at_large = [dialled_by_large[1], dialled_by_small[1]]
    assert best(at_small, same, SMALL, LARGE) is dialled_by_small[0]
    assert best(at_large, same, LARGE, SMALL) is dialled_by_small[1]


def test_of_equal_ones_the_oldest_is_best() -> None:
    old, young = standing(OUT, 1.0), standing(OUT, 2.0)
    assert best([young, old], same, SMALL, LARGE) is old


def test_duplicates_close_only_once_they_have_carried_nothing_for_a_while() -> None:
    kept, idle, busy = standing(OUT, 0.0), standing(IN, 0.0, idle_since=1.0), standing(IN, 0.0, 3, idle_since=None)
    connections = [kept, idle, busy]
    assert superfluous(connections, same, SMALL, LARGE, 1.0 + DUPLICATE_IDLE_SECONDS - 0.1) == []
    assert superfluous(connections, same, SMALL, LARGE, 1.0 + DUPLICATE_IDLE_SECONDS) == [idle]
    assert superfluous([kept], same, SMALL, LARGE, 1000.0) == []


def test_only_the_peer_with_the_smaller_id_closes_duplicates() -> None:
    connections = [standing(OUT, 0.0), standing(IN, 0.0)]
    assert len(superfluous(connections, same, SMALL, LARGE, 1000.0)) == 1
    assert superfluous(connections, same, LARGE, SMALL, 1000.0) == []


def trimmed(connections: list[Standing], low: int, high: int) -> list[Standing]:
    return to_trim(connections, same, low_water=low, high_water=high, grace=20.0, now=100.0)


def test_nothing_is_trimmed_up_to_the_high_water() -> None:
    assert trimmed([standing() for _ in range(10)], 5, 10) == []


def test_trimming_goes_down_to_the_low_water_and_spares_the_useful() -> None:
    protected = standing(protected=True)
    fresh = standing(opened_at=90.0)
    busy = standing(streams=5)
    old_out, young_out = standing(OUT, 1.0), standing(OUT, 50.0)
    old_in, young_in = standing(IN, 1.0), standing(IN, 50.0)
    everything = [protected, fresh, busy, old_out, young_out, old_in, young_in]
    assert trimmed(everything, 3, 6) == [young_in, old_in, young_out, old_out]
    assert trimmed(everything, 1, 6) == [young_in, old_in, young_out, old_out, busy]


def test_sleep_is_noticed_by_the_clocks_drifting_apart() -> None:
    detector = WakeDetector(wall=1000.0, monotonic=5.0)
    assert detector.jump(1005.0, 10.0) == 0
    assert detector.jump(1005.0 + WAKE_SECONDS, 10.0) == 0
    assert detector.jump(5000.0, 11.0) == 3984.0
    assert detector.jump(5005.0, 16.0) == 0
    assert detector.jump(1000.0, 17.0) == -4006.0
