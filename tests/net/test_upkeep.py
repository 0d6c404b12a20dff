"""Decisions about standing connections."""

from dataclasses import replace

from stack.net.interfaces import Direction
from stack.net.upkeep import (
    DUPLICATE_IDLE_SECONDS,
    SHOWN_BYTES,
    SUPERSEDED_SECONDS,
    WAKE_SECONDS,
    Standing,
    WakeDetector,
    best,
    gives_way,
    superfluous,
    to_trim,
)
from tests.net.identities import peers_in_order

MIB = 1 << 20
SMALL, LARGE = peers_in_order(2)
IN, OUT = Direction.INBOUND, Direction.OUTBOUND


def standing(
    direction: Direction = OUT,
    opened_at: float = 0.0,
    moved: int = 0,
    idle_since: float | None = 0.0,
    protected: bool = False,
    neighbourhood: str | None = None,
) -> Standing:
    return Standing(
        direction=direction,
        opened_at=opened_at,
        moved=moved,
        idle_since=idle_since,
        protected=protected,
        neighbourhood=neighbourhood,
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
    kept, idle, busy = standing(OUT, 0.0), standing(IN, 0.0, idle_since=1.0), standing(IN, 0.0, idle_since=None)
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
    busy = standing(IN, moved=MIB)
    old_out, young_out = standing(OUT, 1.0), standing(OUT, 50.0)
    old_in, young_in = standing(IN, 1.0), standing(IN, 50.0)
    everything = [protected, fresh, busy, old_out, young_out, old_in, young_in]
    assert trimmed(everything, 3, 6) == [young_in, old_in, young_out, old_out]
    assert trimmed(everything, 1, 6) == [young_in, old_in, young_out, old_out, busy]


def test_attack_6_newcomers_have_half_of_the_places_and_who_was_there_stays() -> None:
    """161 newcomers had every older connection cut, because all of them were too young to go."""
    honest = [standing(IN, number / 10, neighbourhood=f"honest {number}") for number in range(110)]
    flood = [standing(IN, 85.0 + number / 100, neighbourhood="8.8.8.0/24") for number in range(1000)]
    arrived = standing(IN, 80.5, neighbourhood="of an honest one that has come first")
    going = to_trim([*honest, arrived, *flood], same, low_water=160, high_water=192, grace=20.0, now=100.0)
    assert going == flood[: 1001 - 80]


def test_attack_6_of_newcomers_who_has_shown_something_stays_longer() -> None:
    shown = standing(IN, 90.0, moved=2000)
    served = standing(IN, 90.0, moved=MIB)
    flood = [standing(IN, 91.0 + number / 100) for number in range(20)]
    assert trimmed([shown, served, *flood], 10, 12) == flood[:16]


def test_attack_6_we_do_not_close_what_we_have_just_dialled() -> None:
    dialled = [standing(OUT, 90.0) for _ in range(20)]
    assert trimmed(dialled, 5, 10) == []


def test_attack_6_the_largest_neighbourhood_goes_first() -> None:
    many = [standing(IN, float(number), neighbourhood="8.8.8.0/24") for number in range(6)]
    few = [standing(IN, 10.0 + number, neighbourhood=f"9.9.{number}.0/24") for number in range(6)]
    assert trimmed(many + few, 7, 8) == [many[5], many[4], many[3], many[2], many[1]]


def test_finding_33_how_many_streams_stand_open_shows_nothing_what_has_moved_does() -> None:
    honest = standing(IN, 1.0, idle_since=5.0)
    strangers = [standing(IN, 2.0 + number, idle_since=None) for number in range(5)]
    useful = standing(IN, 50.0, moved=64 * MIB, idle_since=60.0)
    assert trimmed([honest, useful, *strangers], 2, 6) == strangers[::-1]


def test_sleep_is_noticed_by_the_clocks_drifting_apart() -> None:
    detector = WakeDetector(wall=1000.0, monotonic=5.0)
    assert detector.jump(1005.0, 10.0) == 0
    assert detector.jump(1005.0 + WAKE_SECONDS, 10.0) == 0
    assert detector.jump(5000.0, 11.0) == 3984.0
    assert detector.jump(5005.0, 16.0) == 0
    assert detector.jump(1000.0, 17.0) == -4006.0


def relayed(
    direction: Direction = OUT, *, superseded_at: float | None = None, idle_since: float | None = None
) -> Standing:
    return replace(standing(direction, 0.0, idle_since=idle_since), relayed=True, superseded_at=superseded_at)


def test_a_direct_connection_is_better_than_an_older_one_through_a_relay() -> None:
    assert best([relayed(OUT), standing(IN, 9.0)], same, SMALL, LARGE) == standing(IN, 9.0)


def test_beside_a_direct_connection_either_end_closes_what_goes_through_a_relay() -> None:
    direct = standing(IN, 5.0, idle_since=None)
    idle, busy = relayed(superseded_at=5.0, idle_since=6.0), relayed(superseded_at=5.0)
    for ours, theirs in ((SMALL, LARGE), (LARGE, SMALL)):
        assert superfluous([idle, direct, busy], same, ours, theirs, 6.0 + DUPLICATE_IDLE_SECONDS) == [idle]
        assert superfluous([direct, busy], same, ours, theirs, 5.0 + SUPERSEDED_SECONDS - 0.1) == []
        assert superfluous([direct, busy], same, ours, theirs, 5.0 + SUPERSEDED_SECONDS) == [busy]


def goes(*places: int | Standing, now: float = 1000.0) -> int | None:
    """Which of those who have the places of an address."""
    return gives_way(dict(enumerate(places)), grace=20.0, now=now)


def test_who_has_not_said_a_word_is_the_first_to_go_for_a_newcomer_from_its_address() -> None:
    assert goes(standing(IN), 2, 0, 1, 0) == 2


def test_of_those_past_their_grace_who_do_not_work_the_one_that_moved_least_goes() -> None:
    young = standing(IN, 990.0)
    busy = standing(IN, 0.0, moved=MIB)
    assert goes(young, busy, standing(IN, 0.0, moved=300), standing(IN, 0.0, moved=200), 1) == 3
    assert goes(busy, standing(IN, 0.0, protected=True)) is None


def test_nobody_who_works_goes_for_a_newcomer_however_slow_its_line_is() -> None:
    slow = standing(IN, 975.0, moved=25 * 1000)
    assert goes(*[slow] * 7, standing(IN, 0.0, moved=MIB)) is None
    pings = standing(IN, 0.0, moved=SHOWN_BYTES)
    assert goes(*[slow] * 7, pings) == 7


def test_who_comes_again_within_its_grace_keeps_no_more_than_half_of_the_places() -> None:
    busy = standing(IN, 0.0, moved=MIB)
    young = [standing(IN, 985.0 + number) for number in range(5)]
    assert goes(busy, busy, busy, *young) == 3
    assert goes(busy, busy, busy, busy, *young[:4]) is None


def test_of_handshakes_that_do_not_go_on_one_of_the_older_half_goes() -> None:
    busy = standing(IN, 0.0, moved=MIB)
    assert goes(busy, 2, 1, 1, 1) == 2
    assert goes(*[busy] * 7, 1) is None
