"""Whether something grows is told from what it does at the moment."""

from random import Random

import pytest

from tests.lab.soak import GROWTH_MAX, growth


def samples(hour: float, noise: float) -> list[dict[str, float]]:
    """Two nodes for an hour, after ten minutes in which they fill up: by how much they grow in it, and what comes and goes."""
    chance = Random(5)
    return [
        {"minute": minute, "node": node, "memory": min(1, (minute + 5) / 15) * size * (1 + hour * minute / 60) + more}
        for node, size in ((0, 100.0), (1, 160.0))
        for minute in (half / 2 for half in range(120))
        for more in [noise * size if chance.random() < 0.2 else chance.uniform(0, 3)]
    ]


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_what_comes_and_goes_has_not_grown(noise: float) -> None:
    assert abs(growth(samples(0.0, noise), "memory")) < GROWTH_MAX / 2


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_a_fifth_more_an_hour_is_growth(noise: float) -> None:
    assert growth(samples(0.2, noise), "memory") > GROWTH_MAX


def test_what_was_measured_once_says_nothing() -> None:
    with pytest.raises(ValueError, match="too short"):
        growth(samples(0.0, 0.0)[:1], "memory")
