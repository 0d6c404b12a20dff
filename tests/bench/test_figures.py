"""What many runs come to."""

import pytest

from tests.bench.figures import End, Figure, Kind, Spread, number, ratios, turn


def kind(name: str, *values: float) -> Kind:
    return Kind(name, tuple(Figure(value, (End("sharer", 1.0, 100), End("receiver", value, 200))) for value in values))


def test_a_spread_is_the_median_with_the_least_and_the_most() -> None:
    assert Spread.of([5, 1, 2]) == Spread(2, 1, 5)
    assert str(Spread.of([1234.5, 100.0])) == "667 (100 to 1,234)"


def test_a_kind_tells_what_each_end_took() -> None:
    some = kind("stack", 1.0, 3.0)
    assert some.value == Spread(2, 1, 3)
    assert some.cpu == {"sharer": Spread(1, 1, 1), "receiver": Spread(2, 1, 3)}
    assert some.peak == {"sharer": Spread(100, 100, 100), "receiver": Spread(200, 200, 200)}


@pytest.mark.parametrize(("more", "times"), [(True, 2.0), (False, 0.5)])
def test_ratios_are_of_runs_beside_each_other_and_say_how_many_times_better_ours_is(more: bool, times: float) -> None:
    """The machine is twice as quick in the second round: the ratio is the same."""
    kinds = [kind("stack", 200.0, 400.0), kind("other", 100.0, 200.0)]
    assert ratios(kinds, ["other"], more=more) == {("stack", "other"): Spread(times, times, times)}


def test_there_is_no_ratio_to_nothing() -> None:
    assert ratios([kind("stack", 1.0), kind("other", 0.0)], ["other"], more=True) == {}
    assert ratios([kind("stack", 1.0)], [], more=True) == {}


def test_each_kind_is_first_in_turn() -> None:
    orders = [turn(["a", "b", "c"], number) for number in range(4)]
    assert orders == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]
    assert turn([], 3) == []


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1234.4, "1,234"),
        (99.95, "100"),
        (12.34, "12.3"),
        (9.994, "9.99"),
        (0.1, "0.10"),
        (0.0123, "0.0123"),
        (0.0, "0"),
    ],
)
def test_numbers_have_three_digits(value: float, said: str) -> None:
    assert number(value) == said
