"""For how long, how often and for whom a code is good. Pure."""

from enum import Enum
from typing import Final

TRIES: Final = 3
"""Whoever guesses has three of 2^24: one of five million codes falls to it."""


class Ending(Enum):
    """Why a code is good no longer."""

    USED = "used"
    TIME = "time"
    TRIES = "tries"
    WITHDRAWN = "withdrawn"


class Offer:
    """One code. A try is counted when it begins: breaking off, or trying at many places at once, gives nobody more of them.

    Commands: `begin` for each try, then `take` or `fail` for it; `withdraw`, `handle_timeout`. Getters: `left`, `failed`, `ending`.
    """

    def __init__(self, until: float, tries: int = TRIES) -> None:
        """`until` in monotonic seconds."""
        self.until = until
        self.left = tries
        """Tries that may begin."""
        self.failed = 0
        self.ending: Ending | None = None
        self._under_way = 0

    def __repr__(self) -> str:
        return f"<Offer {self.ending or 'open'}, {self.left} tries left>"

    def begin(self, now: float) -> bool:
        """Somebody tries: whether there is a try for it."""
        self.handle_timeout(now)
        if self.ending is not None or not self.left:
            return False
        self.left -= 1
        self._under_way += 1
        return True

    def take(self, now: float) -> bool:
        """A try was right: whether it gets the ticket, which one does, and in time."""
        self._under_way -= 1
        self.handle_timeout(now)
        if self.ending is not None:
            return False
        self.ending = Ending.USED
        return True

    def fail(self) -> None:
        """A try was wrong, or broken off."""
        self._under_way -= 1
        self.failed += 1
        if self.ending is None and not self.left and not self._under_way:
            self.ending = Ending.TRIES

    def withdraw(self) -> None:
        """Whoever gives it does so no longer: tries that are under way get nothing."""
        self.ending = self.ending or Ending.WITHDRAWN

    def handle_timeout(self, now: float) -> None:
        """Its time may be over."""
        if self.ending is None and now >= self.until:
            self.ending = Ending.TIME
