"""Whether somebody is there who has not answered yet.

On a line that is slow or full an answer waits behind all that was sent before it, the question too, and a frame comes in many pieces:
seconds, minutes. A line is dead when nothing moves on it any more, and only then.
"""

from collections.abc import Callable

from stack.values import dataclass

LEAST_BYTES_PER_SECOND = 256
"""A line on which less moves is not what somebody waits for: who sends a byte now and then has had its time. Each of a hundred who share
a line that people have gets more."""


@dataclass(frozen=True, slots=True)
class Signs:
    """Of life, as they are now."""

    heard_at: float
    """When something last came from the peer, be it part of a frame (anyio's clock)."""
    handed_over: int = 0
    """Bytes for the peer so far."""
    arrived: int = 0
    """Of those, what its machine has acknowledged; what the system does not tell counts as arrived."""
    heard: int = 0
    """Bytes that have come from it so far."""


class Question:
    """Something that the peer has to answer. Create it when it is asked."""

    __slots__ = ("_before", "_in_front")

    def __init__(self, signs: Signs) -> None:
        self._before = signs
        self._in_front = signs.handed_over

    def shows_life(self, now: Signs) -> bool:
        """Whether something has moved since the last look: bytes came, or of what stands in front of the question some arrived. That the
        peer's machine has the question itself shows nothing, for the peer may stand still."""
        before, self._before = self._before, now
        return now.heard_at > before.heard_at or min(now.arrived, self._in_front) > before.arrived


class Patience:
    """How long somebody is waited for who has to say something next: `seconds`, and as long again while the line is busy, with what stands
    in front of that or of what it answers. Create it when the wait begins. Getter: `until`. Fact: `look`, once that has passed."""

    __slots__ = ("_before", "_seconds", "_signs", "until")

    def __init__(self, signs: Callable[[], Signs], seconds: float, now: float) -> None:
        self._signs = signs
        self._seconds = seconds
        self._before = signs()
        self.until = now + seconds

    def look(self, now: float) -> None:
        """Wait on. Raises TimeoutError when too little has come, and too little of ours has arrived there."""
        before, self._before = self._before, self._signs()
        moved = self._before.heard - before.heard + self._before.arrived - before.arrived
        if moved < self._seconds * LEAST_BYTES_PER_SECOND:
            raise TimeoutError(f"nothing moved for {self._seconds:g} s")
        self.until = now + self._seconds
