"""A fetch that is disturbed goes on: kills, restarts, standing still, another address. `long.py` has the long forms."""

from pathlib import Path

import pytest

from tests.acceptance import namespaces, scenarios
from tests.acceptance.kit import MIB

RATE = 24.0 * MIB


@pytest.mark.timeout(120)
def test_a_fetch_that_is_killed_goes_on_where_it_was(place: Path) -> None:
    report = scenarios.killed_and_resumed(place, size=96 * MIB, kills=3, rate=RATE, seed=20261123)
    print(f"\n{report}")
    assert report.kills
    assert all(kill.lost <= report.allowed for kill in report.kills), str(report)
    assert report.sent <= report.size * (1 + scenarios.DAG_PART) + len(report.kills) * report.allowed


@pytest.mark.timeout(120)
def test_a_fetch_goes_on_when_the_sharer_was_killed_and_came_back(place: Path) -> None:
    scenarios.sharer_restarted(place, size=64 * MIB, rate=RATE)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("who", ["sharer", "receiver"])
def test_a_fetch_goes_on_after_one_end_stood_still(place: Path, who: str) -> None:
    scenarios.one_stopped(place, size=64 * MIB, rate=RATE, seconds=5.0, who=who)


@pytest.mark.timeout(120)
def test_a_fetch_goes_on_when_the_receiver_has_another_address(place: Path) -> None:
    reason = namespaces.missing()
    if reason is not None:
        pytest.skip(f"NOT TESTED: a change of address in the middle of a fetch; {reason}")
    scenarios.address_changed(place, size=64 * MIB, mbit=160)
