"""Whether somebody is there who has not answered yet.

On a line that is slow or full an answer waits behind all that was sent before it, the question too, and a frame comes in many pieces:
seconds, minutes. A line is dead when nothing moves on it any more, and only then.
"""

from stack.values import dataclass


@dataclass(frozen=True, slots=True)
class Signs:
    """Of life, as they are now."""

    heard_at: float
    """When something last came from the peer, be it part of a frame (anyio's clock)."""
    handed_over: int = 0
    """Bytes for the peer so far."""
    arrived: int = 0
    """Of those, what its machine has acknowledged; what the system does not tell counts as arrived."""


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
