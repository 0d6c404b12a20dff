"""A receive buffer for small messages: take, commit, roll back; nothing is consumed while input is incomplete."""

from stack.errors import LimitExceeded, RemoteProtocolError

UVARINT_BYTES_MAX = 9
"""multiformats/unsigned-varint: at most 9 bytes (63 bits)."""


class ReceiveBuffer:
    """Bytes received and not yet understood, at most `limit` of them.

    Facts: `append`. Outputs: `take`, `take_uvarint`; each returns None when more bytes are needed. A caller that took
    one part and misses the next calls `rollback`; one that is done calls `commit`.
    """

    __slots__ = ("_data", "_limit", "_position")

    def __init__(self, limit: int) -> None:
        self._data = bytearray()
        self._position = 0
        self._limit = limit

    def __len__(self) -> int:
        return len(self._data) - self._position

    def append(self, data: bytes | memoryview) -> None:
        """Add received bytes. Raises LimitExceeded when more than the limit would wait here."""
        if len(self) + len(data) > self._limit:
            raise LimitExceeded("bytes waiting in a receive buffer", self._limit)
        self._data += data

    def take(self, size: int) -> bytes | None:
        """`size` bytes, or None."""
        if len(self) < size:
            return None
        start = self._position
        self._position += size
        return bytes(self._data[start : self._position])

    def take_uvarint(self) -> int | None:
        """A minimal unsigned varint, or None. Raises RemoteProtocolError when it is longer than 9 bytes or not minimal."""
        value = shift = 0
        for count in range(UVARINT_BYTES_MAX):
            index = self._position + count
            if index >= len(self._data):
                return None
            byte = self._data[index]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and count:
                    raise RemoteProtocolError("varint is not minimal")
                self._position = index + 1
                return value
            shift += 7
        raise RemoteProtocolError("varint longer than 9 bytes")

    def commit(self) -> None:
        """What was taken is understood; forget it."""
        del self._data[: self._position]
        self._position = 0

    def rollback(self) -> None:
        """Give back what was taken since the last commit."""
        self._position = 0

    def take_all(self) -> bytes:
        """Everything that is left, for handing on to the next protocol."""
        rest = bytes(self._data[self._position :])
        self._data.clear()
        self._position = 0
        return rest
