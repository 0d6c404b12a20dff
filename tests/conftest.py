"""Every async test runs on asyncio and on trio."""

import gc

import hypothesis  # noqa: F401 - it asks the garbage collector about trio: before that is told to look no more
import pytest


def pytest_collection_finish() -> None:
    """What was collected stays: to look through it for garbage takes 0.2 s each time, which tests that measure would pay."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The event loop of the test."""
    return str(request.param)
