"""The contract between commands and a node, and the four kinds of request."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Generic, Protocol, TypeVar

from stack.values import dataclass

A = TypeVar("A")


class Ask(Generic[A]):
    """A question with one answer."""


class Watch(Generic[A]):
    """Work that tells of itself while it runs; leaving the context stops it."""


class Read:
    """Work whose answer is a stream of bytes."""


class Write(Generic[A]):
    """Work that takes a stream of bytes and has one answer."""


class Api(Protocol):
    """A node, here or in another process. Raises StackErrors; from another process a `NodeError` with the same words and exit code."""

    @property
    def is_elsewhere(self) -> bool: ...
    async def ask(self, request: Ask[A]) -> A: ...
    def watch(self, request: Watch[A]) -> AbstractAsyncContextManager[AsyncIterator[A]]: ...
    def read(self, request: Read) -> AbstractAsyncContextManager[AsyncIterator[bytes]]: ...
    async def write(self, request: Write[A], data: AsyncIterator[bytes]) -> A: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """It was done; `count` things were."""

    count: int = 0
