"""Task groups that fail with one error, as callers expect of a function."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup


@asynccontextmanager
async def task_group() -> AsyncIterator[TaskGroup]:
    """As `anyio.create_task_group`, but what it raises is the first error of a task, not a group of one."""
    try:
        async with anyio.create_task_group() as group:
            yield group
    except BaseExceptionGroup as errors:
        error = _first(errors)
        if error is None:
            raise
        raise error from error.__cause__


def _first(errors: BaseExceptionGroup[BaseException]) -> Exception | None:
    """The first error that is no cancellation; None where only cancellations are."""
    for error in errors.exceptions:
        found = _first(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, Exception):
            return found
    return None
