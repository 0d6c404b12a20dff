"""How much of a message that is still on its way is blocks. Pure.

Only that may be what its sender owes. Wants, presences and fields that nobody knows may be as long as a message; whoever counted them
would wait for a block for as long as they drip.
"""

from stack.blocks.interfaces import BLOCK_SIZE_MAX
from stack.errors import DecodeError
from stack.multiformats import varint

FIELDS_AT_ONCE = 1024
"""Read in one look: a millisecond. The rest is read in the next one."""

PREFIX_BYTES_MAX = 64
"""What stands in the field of a block besides the block."""

_BLOCK_FIELDS = (2, 3)
_VARINT, _BYTES = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}


class BlockBytes:
    """Fact and output in one: `look`."""

    __slots__ = ("_begun", "_bytes", "_next")

    def __init__(self) -> None:
        self._next = 0
        """Where the field begins that is to be read next."""
        self._bytes = 0
        """Of all block fields that have begun, as long as they say they are."""
        self._begun = False
        """The last field that was read is of a block."""

    def look(self, come: memoryview) -> int:
        """`come` is all that has come of the message; returns how many of these bytes are in the fields of blocks."""
        for _ in range(FIELDS_AT_ONCE):
            if self._next >= len(come):
                break
            try:
                self._read(come)
            except DecodeError:
                break  # the rest of it has not come; or it is malformed, and ends the stream when it is whole
        return self._bytes - (max(self._next - len(come), 0) if self._begun else 0)

    def _read(self, come: memoryview) -> None:
        key, start = varint.decode(come, self._next)
        kind = key & 7
        size = 0
        if kind in _FIXED_BYTES:
            start += _FIXED_BYTES[kind]
        elif kind in (_VARINT, _BYTES):
            size, start = varint.decode(come, start)
        else:
            raise DecodeError(f"wire type {kind}")
        if kind == _VARINT:
            size = 0
        self._begun = kind == _BYTES and key >> 3 in _BLOCK_FIELDS and size <= BLOCK_SIZE_MAX + PREFIX_BYTES_MAX
        self._bytes += size if self._begun else 0
        self._next = start + size
