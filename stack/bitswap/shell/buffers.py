"""Buffers for whole messages, kept for reuse: fresh memory costs a page fault every 4 KiB. Pure."""

from bisect import bisect_left

from stack.bitswap.messages import MESSAGE_BYTES_MAX

KIB = 1024
SIZES = (64 * KIB, 320 * KIB, 1088 * KIB, 2112 * KIB, 3392 * KIB, MESSAGE_BYTES_MAX)
"""One block of 256 KiB, 1 MiB, 2 MiB, three of 1 MiB or thirteen of 256 KiB, with their headers; the longest message. The smallest is
for the beginning of any."""

KEPT_BYTES_MAX = 16 * 1024 * KIB
"""Free buffers kept in all: what one fast peer has under way."""


def buffer_size(size: int) -> int:
    """What a message of `size` bytes is charged: the buffer it gets. Raises ValueError over the longest message."""
    index = bisect_left(SIZES, size)
    if index == len(SIZES):
        raise ValueError(f"message of {size} bytes")
    return SIZES[index]


class MessageBuffers:
    """Commands: `borrow`, `give_back`, `rest`. Getters: `kept`."""

    __slots__ = ("_free", "_least", "kept")

    def __init__(self) -> None:
        self._free: dict[int, list[bytearray]] = {size: [] for size in SIZES}
        self._least = dict.fromkeys(SIZES, 0)
        """How many of each were free at any time since the last `rest`."""
        self.kept = 0
        """Bytes of free buffers."""

    def borrow(self, size: int) -> bytearray:
        """A buffer of at least `size` bytes, exactly `buffer_size(size)`; its content is arbitrary."""
        charged = buffer_size(size)
        free = self._free[charged]
        if not free:
            return bytearray(charged)
        self.kept -= charged
        self._least[charged] = min(self._least[charged], len(free) - 1)
        return free.pop()

    def give_back(self, buffer: bytearray) -> None:
        """The borrower is done; no view of it may be used any more."""
        if self.kept + len(buffer) <= KEPT_BYTES_MAX:
            self.kept += len(buffer)
            self._free[len(buffer)].append(buffer)

    def rest(self) -> None:
        """Let go of those that nobody has needed since the last time: after an attack, or a fetch, they are of no use."""
        for size, free in self._free.items():
            unneeded = self._least[size]
            del free[len(free) - unneeded :]
            self.kept -= unneeded * size
            self._least[size] = len(free)
