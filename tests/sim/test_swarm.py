"""A small flash crowd, and fetches among providers that lie."""

import pytest

from tests.sim.scenarios.figures import quantile
from tests.sim.scenarios.swarm import flash_crowd, lying_providers


@pytest.mark.parametrize("seed", [1, 2])
def test_a_crowd_gets_its_file_much_faster_than_one_after_the_other(seed: int) -> None:
    result = flash_crowd(receivers=8, seed=seed, leaves=32)
    assert result.finished
    assert len(result.times) == 8
    assert result.times[-1] < 8 * result.alone / 2
    assert result.seed_copies < 4


@pytest.mark.parametrize("honest", [4, 16])
def test_a_fetch_starts_within_five_seconds_though_providers_lie(honest: int) -> None:
    # Of 20 providers that are named, so many have what they say; the others are of all kinds of liars.
    results = [lying_providers(fetches=5, seed=seed, honest_named=honest) for seed in (1, 2, 3, 4, 5)]
    starts = [start for result in results for start in result.starts]
    assert len(starts) == sum(len(result.ends) for result in results) == 25
    assert quantile(starts, 0.5) < 5


def test_a_lone_honest_provider_among_nineteen_liars_is_found_in_the_end() -> None:
    result = lying_providers(fetches=10, seed=1, honest_named=1)
    assert len(result.ends) == 10
    assert result.p99 < 15


def test_a_lone_honest_provider_among_two_hundred_liars_is_found_within_four_seconds() -> None:
    # As many as a fifth of 1,000 nodes; dials to those who do not answer hang for five seconds.
    result = lying_providers(fetches=5, seed=1, nodes=223, liars=0.9, named=201, honest_named=1)
    assert len(result.ends) == 5
    assert result.median < 4
    assert result.p99 < 5


def test_a_crowd_s_run_can_be_repeated() -> None:
    assert flash_crowd(receivers=4, seed=3, leaves=12).trace == flash_crowd(receivers=4, seed=3, leaves=12).trace
