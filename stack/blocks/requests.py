"""Group commit: who waits for the same sync waits in one line, and one thread at a time serves as many as it may at once.

A group is whatever has been asked while the one before was on its way, so nobody waits for a clock.
"""

from collections import deque
from typing import Generic, TypeVar

from stack.errors import CorruptStore, NoSpace, StackError, StoreError


class Request:
    """Something that is to be on disk. `done` says that it is over, `error` how it went; one that is `given_up` before its
    turn is passed over. `weight` is its share of what a group may be."""

    __slots__ = ("done", "error", "given_up", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.done = False
        self.given_up = False
        self.error: StackError | None = None

    def settle(self, error: BaseException | None) -> None:
        """It is over, as its whole group is. Each has an error of its own, because each is raised in another task."""
        if error is not None and self.error is None:
            kind = type(error) if isinstance(error, NoSpace | CorruptStore) else StoreError
            self.error = kind(str(error))
        self.done = True


R = TypeVar("R", bound=Request)


class Line(Generic[R]):
    """Requests that wait, first come first served. Any thread may `submit`; one thread at a time calls `take`."""

    def __init__(self, weight_max: int) -> None:
        self._weight_max = weight_max
        self._waiting: deque[R] = deque()

    def submit(self, request: R) -> None:
        """Wait in line."""
        self._waiting.append(request)

    def take(self) -> list[R]:
        """The next group: at least one request, and more as long as they fit together."""
        group: list[R] = []
        weight = 0
        while self._waiting and (not group or weight + self._waiting[0].weight <= self._weight_max):
            request = self._waiting.popleft()
            if not request.given_up:
                group.append(request)
                weight += request.weight
        return group
