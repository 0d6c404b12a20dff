"""What to reckon a block with before it has come. Pure."""

from stack.blocks.interfaces import BLOCK_SIZE_MAX


class SizeEstimate:
    """What to reckon a block with: up at once, down slowly.

    A DAG starts with small nodes; leaves reckoned as such would all be asked for at once, from the first peer that is there.
    """

    __slots__ = ("_average",)

    def __init__(self, guess: int) -> None:
        self._average = float(guess)

    def count(self, size: int) -> None:
        """A block came."""
        self._average = max(float(size), 0.9 * self._average + 0.1 * size)

    @property
    def expected(self) -> int:
        """Bytes of the next one, at most what a block may have."""
        return max(1, min(int(self._average), BLOCK_SIZE_MAX))
