"""A short fuzz of everything that reads what strangers wrote; `tox -e fuzz` does it for longer."""

import os

import pytest

from tests.fuzz.engine import Target, run
from tests.fuzz.targets import TARGETS

SECONDS = float(os.environ.get("STACK_FUZZ_SECONDS", "1"))
"""For each target."""


@pytest.mark.timeout(SECONDS * 3 + 60)
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name.replace(" ", "-"))
def test_what_strangers_wrote_is_read_or_refused(target: Target) -> None:
    assert target.seeds
    assert run(target, seconds=SECONDS) > 10
