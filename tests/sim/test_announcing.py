"""Look-ups in networks of 200 nodes of which some come and go, what announcing costs them, and sybils that announce what they have
not."""

import pytest

from tests.sim.scenarios.announcing import LookupsResult, lookups
from tests.sim.scenarios.lying import lying_announcers


def bounds_hold(result: LookupsResult) -> bool:
    within = result.p99 <= 3 and result.median_round_trips <= 2 and result.bytes_per_second <= 1000
    return bool(within and result.settled)


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_everything_is_found_soon_in_a_network_that_has_stood_for_a_day(seed: int) -> None:
    # Two of three records that are kept are of nodes that have left.
    result = lookups(nodes=200, seed=seed, files=20, warm=5, seconds=30, each_second=2, aged=True)
    assert bounds_hold(result)
    assert result.left > 200


@pytest.mark.parametrize("seed", [1, 2])
def test_everything_is_found_soon_in_a_network_that_has_just_grown(seed: int) -> None:
    result = lookups(nodes=50, seed=seed, files=5, change=0.1, warm=5, seconds=30, each_second=2)
    assert bounds_hold(result)
    assert result.fresh


def test_a_fetch_starts_within_five_seconds_though_ten_times_as_many_lie_as_have_what_they_announce() -> None:
    result = lying_announcers(nodes=200, seed=1, honest=4, fetches=5, files=2)
    assert result.sybils == 40
    assert result.median < 5
