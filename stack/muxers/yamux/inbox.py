"""Received bytes of a stream that nobody has read yet."""

from collections import deque

SEGMENT_BYTES = 16 * 1024
"""Smaller pieces are joined: one object for each of 262,144 frames of one byte would take forty times their size."""


class Inbox:
    """A queue of bytes. Facts: `append`. Commands: `read_into`, `put_back`, `clear`."""

    __slots__ = ("_offset", "_segments", "_size")

    def __init__(self) -> None:
        self._segments: deque[bytearray] | None = None
        self._offset = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, data: memoryview) -> None:
        """Copy `data` to the end."""
        if self._segments is None:
            self._segments = deque()
        segments = self._segments
        if segments and len(segments[-1]) + len(data) <= SEGMENT_BYTES:
            segments[-1] += data
        else:
            segments.append(bytearray(data))
        self._size += len(data)

    def put_back(self, data: bytes) -> None:
        """`data` was handed out and not taken: it comes first again."""
        if not data:
            return
        if self._segments is None:
            self._segments = deque()
        elif self._offset:
            del self._segments[0][: self._offset]
        self._offset = 0
        self._segments.appendleft(bytearray(data))
        self._size += len(data)

    def read_into(self, out: memoryview) -> int:
        """Move bytes to `out`; says how many."""
        filled = 0
        room = len(out)
        segments = self._segments
        while segments and filled < room:
            first = segments[0]
            piece = memoryview(first)[self._offset : self._offset + room - filled]
            size = len(piece)
            out[filled : filled + size] = piece
            piece.release()
            filled += size
            self._offset += size
            if self._offset == len(first):
                segments.popleft()
                self._offset = 0
        if not segments:
            self._segments = None
        self._size -= filled
        return filled

    def clear(self) -> None:
        """Forget everything."""
        self._segments = None
        self._offset = 0
        self._size = 0
