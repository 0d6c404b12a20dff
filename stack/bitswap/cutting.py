"""Bytes of a stream in, whole messages out: `[varint length | message]`. Pure.

Memory follows the bytes that came, never the length that was announced: a message begins in a small lead that every stream has,
goes on in a first buffer, and gets a larger one whenever that is full. Whoever moves the bytes lends the buffers and fills what
`buffer` says, so no byte of a block passes through anything else.
"""

from stack.bitswap.messages import MESSAGE_BYTES_MAX
from stack.errors import RemoteProtocolError
from stack.values import dataclass

LEAD_BYTES = 1024
"""Read first of every message. Most messages without blocks fit; a stream on which nothing comes holds no more."""

FIRST_BYTES = 64 * 1024
"""The first buffer of a long message; more is lent for bytes that have come (A01, A02, findings 4 and 5)."""

GROWTH = 4
"""A full buffer is followed by one of so many times its size, as long as the message is not whole: at most a third of what has
come is copied once more."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A whole message."""

    data: memoryview
    memory: bytearray | None
    """What was lent and `data` lies in; None: it was short and is a copy."""


class Cutter:
    """Calling order: `needs` (then `lend`), `buffer`, `filled`, `next_message` until None, and again.

    Getters: `needs`, `begun`, `size`, `come`, `memory`. Commands: `lend`. Facts: `filled`. Outputs: `buffer`, `next_message`.
    """

    __slots__ = ("_end", "_have", "_lead", "_memory", "_size", "_view", "first")

    def __init__(self) -> None:
        self._lead = memoryview(bytearray(LEAD_BYTES))
        self._memory: bytearray | None = None
        self._view = self._lead
        self._have = 0
        """Bytes of `_view` that are filled."""
        self._size: int | None = None
        """Of the long message that has begun."""
        self._end = LEAD_BYTES
        """Up to where `_view` may be filled."""
        self.first = FIRST_BYTES
        """Of the next long message so much is lent at first: more to whoever has just sent one at speed."""

    def __repr__(self) -> str:
        return f"<Cutter {self._have} of {self._size if self._size is not None else 'a short message'}>"

    @property
    def begun(self) -> bool:
        """A part of a message has come."""
        return self._have > 0 or self._size is not None

    @property
    def size(self) -> int | None:
        """Of the long message that has begun."""
        return self._size

    @property
    def come(self) -> memoryview:
        """All that has come of the message that has begun."""
        return self._view[: self._have]

    @property
    def memory(self) -> bytearray | None:
        """What has been lent."""
        return self._memory

    @property
    def needs(self) -> int:
        """How large a buffer must be lent before anything more can be taken; 0: none."""
        if self._size is None:
            return 0
        if self._memory is None:
            return min(self._size, self.first)
        if self._have < self._end or self._have == self._size:
            return 0
        return min(self._size, GROWTH * len(self._memory))

    def lend(self, memory: bytearray) -> bytearray | None:
        """A buffer of at least `needs` bytes. What has come is copied there; returns the buffer that is not used any more."""
        assert self._size is not None
        before, self._memory = self._memory, memory
        view = memoryview(memory)
        view[: self._have] = self._view[: self._have]
        self._view, self._end = view, min(self._size, len(memory))
        return before

    def buffer(self) -> memoryview:
        """Where the next bytes go; empty while a buffer is needed or a message is to be taken out."""
        if self._size is not None and self._memory is None:
            return self._view[:0]
        return self._view[self._have : self._end]

    def filled(self, count: int) -> None:
        """So many bytes were written to the beginning of `buffer`."""
        self._have += count

    def next_message(self) -> Cut | None:
        """The next message that is whole. Its buffer is the caller's from then on.

        Raises RemoteProtocolError when the next one is longer than a message may be.
        """
        if self._size is None:
            return self._next_short()
        if self._have < self._size or self._memory is None:
            return None
        cut = Cut(self._view[: self._size], self._memory)
        self._memory, self._size = None, None
        self._view, self._have, self._end = self._lead, 0, LEAD_BYTES
        return cut

    def _next_short(self) -> Cut | None:
        header = _read_length(self._lead[: self._have])
        if header is None:
            return None
        size, start = header
        end = start + size
        if end > LEAD_BYTES:
            # What of it has come lies in the lead until a buffer is lent.
            self._have -= start
            self._lead[: self._have] = bytes(self._lead[start : start + self._have])
            self._size = size
            return None
        if end > self._have:
            return None
        data = memoryview(bytes(self._lead[start:end]))
        self._have -= end
        self._lead[: self._have] = bytes(self._lead[end : end + self._have])
        return Cut(data, None)


def _read_length(data: memoryview) -> tuple[int, int] | None:
    """(length of the message, where it begins), or None while that is not known. Raises RemoteProtocolError."""
    value = 0
    for index in range(min(len(data), 4)):
        byte = data[index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if value > MESSAGE_BYTES_MAX:
                break
            return value, index + 1
    else:
        if len(data) < 4:
            return None
    raise RemoteProtocolError(f"bitswap message longer than {MESSAGE_BYTES_MAX} bytes")
