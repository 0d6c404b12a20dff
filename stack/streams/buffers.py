"""Buffers for the data path, borrowed only while bytes move, within a budget."""

from threading import Lock

FRAME_BYTES = 65537
"""A full Noise frame. Every buffer holds at least one, or a frame could never be opened."""

BUFFER_BYTES = 5 * FRAME_BYTES
"""One read or write of a socket. A block of 256 KiB with what stands around it goes out in one system call, and what
the kernel has just copied is still in the processor's cache when the cipher comes. Whole frames, so that the reads of a
busy connection end where frames end."""

POOL_BYTES_MAX = 64 * 1024 * 1024
"""Of a process, in large buffers."""

KEPT_MIN, KEPT_MAX = 4, 16
"""Free buffers that are kept for the next borrower: fresh memory costs page faults. As many as are lent, so that a node with which
nobody speaks gives back what a rush has left (4 MiB)."""


class BufferPool:
    """Lends large buffers; when its budget is used up, small ones of one frame, so that no connection ever waits for
    another one's peer to read. Event loops in several threads may share it.

    Commands: `borrow`, `give_back`. Getters: `lent`, `scarce`.
    """

    __slots__ = ("_free", "_lock", "_most", "lent")

    def __init__(self, limit: int = POOL_BYTES_MAX) -> None:
        self._lock = Lock()
        self._free: list[memoryview] = []
        self._most = limit // BUFFER_BYTES
        self.lent = 0
        """Large buffers that are with a borrower."""

    def __repr__(self) -> str:
        return f"<BufferPool {self.lent} of {self._most} lent, {len(self._free)} free>"

    @property
    def scarce(self) -> bool:
        """Half of the budget is lent: whoever can do without a buffer while it waits should."""
        return 2 * self.lent >= self._most

    def borrow(self) -> memoryview:
        """A buffer of `BUFFER_BYTES`, or of `FRAME_BYTES` when the budget is used up; its content is arbitrary."""
        with self._lock:
            if self.lent >= self._most:
                return memoryview(bytearray(FRAME_BYTES))
            self.lent += 1
            return self._free.pop() if self._free else memoryview(bytearray(BUFFER_BYTES))

    def give_back(self, buffer: memoryview) -> None:
        """The borrower is done; no view of `buffer` may be used any more."""
        if len(buffer) < BUFFER_BYTES:
            return
        with self._lock:
            self.lent -= 1
            self._free.append(buffer)
            while len(self._free) > max(KEPT_MIN, min(self.lent, KEPT_MAX)):
                self._free.pop()


POOL = BufferPool()
"""Of this process."""
