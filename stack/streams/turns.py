"""Turns of the event loop, by the time they take: calls may be of any size, and a peer chooses which."""

from time import perf_counter

import anyio.lowlevel

TURN_SECONDS = 0.002
"""For so long a task may keep the event loop busy before it gives way."""


class Turn:
    """Of one task, or of those that work on one thing. Getters: `over`. Commands: `begin`, `give_way`."""

    __slots__ = ("_began",)

    def __init__(self) -> None:
        self._began = perf_counter()

    def begin(self) -> None:
        """The task has waited: others have had their turns."""
        self._began = perf_counter()

    @property
    def over(self) -> bool:
        """The others' turn has come."""
        return perf_counter() - self._began >= TURN_SECONDS

    async def give_way(self) -> None:
        """Let the others run, if the turn is over."""
        if self.over:
            await anyio.lowlevel.checkpoint()
            self.begin()
