"""Messages behind a length: an unsigned varint, then that many bytes. The length is checked before anything is kept."""

from stack.errors import RemoteProtocolError
from stack.sansio.buffer import ReceiveBuffer


class DelimitedReader:
    """Cuts a byte stream into messages of at most `limit` bytes.

    Facts: `receive_data`. Outputs: `next_message`.
    """

    __slots__ = ("_buffer", "_limit")

    def __init__(self, limit: int, *, backlog: int | None = None) -> None:
        self._limit = limit
        self._buffer = ReceiveBuffer(backlog if backlog is not None else 2 * limit + 64 * 1024)

    def receive_data(self, data: bytes | memoryview) -> None:
        """Take bytes. Raises LimitExceeded when whole messages are not fetched while more arrive."""
        self._buffer.append(data)

    def next_message(self) -> bytes | None:
        """The next whole message, or None. Raises RemoteProtocolError on a length over the limit or a bad varint."""
        size = self._buffer.take_uvarint()
        if size is None:
            return None
        if size > self._limit:
            raise RemoteProtocolError(f"message of {size} bytes, {self._limit} are allowed")
        message = self._buffer.take(size)
        if message is None:
            self._buffer.rollback()
            return None
        self._buffer.commit()
        return message

    def take_rest(self) -> bytes:
        """Bytes after the last message."""
        return self._buffer.take_all()


def encode_uvarint(value: int) -> bytes:
    """An unsigned varint of `value` >= 0."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_delimited(message: bytes) -> bytes:
    """`message` behind its length."""
    return encode_uvarint(len(message)) + message
