"""What acceptance tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.kit import Machine, temporary_place


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of this test's own, with a short path."""
    with temporary_place() as folder:
        yield folder


@pytest.fixture
def sharer(place: Path) -> Machine:
    """One computer."""
    return Machine(place / "a")


@pytest.fixture
def receiver(place: Path) -> Machine:
    """Another computer."""
    return Machine(place / "b")
