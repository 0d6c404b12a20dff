"""From an async generator to a context that closes it: a generator left half-way would leave its clean-up to chance."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
A = TypeVar("A")


def streaming(
    function: Callable[P, AsyncGenerator[A, None]],
) -> Callable[P, AbstractAsyncContextManager[AsyncIterator[A]]]:
    """A handler written as a generator, called as a context."""

    @asynccontextmanager
    @wraps(function)
    async def opened(*args: P.args, **kwargs: P.kwargs) -> AsyncIterator[AsyncIterator[A]]:
        async with aclosing(function(*args, **kwargs)) as items:
            yield items

    return opened
