"""A file that many fetch, and a fetch from many: short forms. `long.py swarm providers` has the long ones, with their bounds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance import namespaces, swarm
from tests.acceptance.kit import MIB

RATE = 4_000_000
PROVIDERS = 4
SLACK_SECONDS = 6.0
"""For processes to start on a machine that does other things too."""


@pytest.fixture
def star() -> Iterator[namespaces.Star]:
    """Five computers around a switch."""
    reason = namespaces.missing()
    if reason is not None:
        pytest.skip(f"NOT TESTED: swarms in namespaces; {reason}")
    with namespaces.Star(1 + PROVIDERS) as star:
        yield star


@pytest.mark.timeout(120)
def test_receivers_give_each_other_what_they_have_and_finish_without_the_sharer(
    place: Path, star: namespaces.Star
) -> None:
    source = swarm.made(place, 24 * MIB)
    report = swarm.swarm(star, place, source, RATE)
    print(f"\n{report}")
    assert report.copies < 2  # of four
    assert report.seconds < swarm.ALONE_MOST * 24 * MIB / RATE + SLACK_SECONDS


@pytest.mark.timeout(120)
@pytest.mark.parametrize("stop", [False, True], ids=["all-well", "one-stops"])
def test_many_providers_give_together_what_each_has_and_one_that_stands_still_costs_little(
    place: Path, star: namespaces.Star, stop: bool
) -> None:
    size = 64 * MIB
    source = swarm.made(place, size)
    seconds = swarm.fetched_from_many(star, place, source, rate=RATE, count=PROVIDERS, stop=stop)
    ideal = size / RATE / PROVIDERS
    print(f"\n{seconds:.1f} s, ideal {ideal:.1f} s")
    assert seconds < ideal * swarm.one_less(PROVIDERS, stop) + (swarm.STALL_MOST if stop else 0) + SLACK_SECONDS


@pytest.mark.timeout(120)
def test_a_provider_that_sends_wrong_blocks_is_dropped_and_named(place: Path, star: namespaces.Star) -> None:
    source = swarm.made(place, 24 * MIB)
    _, liar, dropped = swarm.fetched_past_a_liar(star, place, source, rate=RATE, count=PROVIDERS)
    assert (dropped["peer_id"], dropped["reason"]) == (liar, "sent a wrong block")
