"""Unsigned varints: seven bits a byte, least significant first. Source: multiformats/unsigned-varint."""

from stack.errors import DecodeError

Buffer = bytes | bytearray | memoryview
"""What is read and hashed here without a copy; the same as `sansio.interfaces.Buffer`, which is below this room."""

VARINT_BYTES_MAX = 9
"""multiformats/unsigned-varint, "Practical maximum of 9 bytes": 63 bits, so that a reader needs no big numbers."""

VALUE_MAX = (1 << 63) - 1
"""The largest value nine bytes can hold."""

_ONE_BYTE = tuple(bytes((value,)) for value in range(0x80))


def encode(value: int) -> bytes:
    """The minimal form of 0 <= value < 2**63. Raises ValueError outside of that."""
    if 0 <= value < 0x80:
        return _ONE_BYTE[value]
    if not 0 <= value <= VALUE_MAX:
        raise ValueError(f"{value} is not between 0 and 2**63 - 1")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(data: Buffer, offset: int = 0) -> tuple[int, int]:
    """The value at `offset` and the offset after it. Raises DecodeError when it is cut, not minimal or over nine bytes."""
    size = len(data)
    if offset < size and data[offset] < 0x80:
        return data[offset], offset + 1
    value = shift = 0
    for index in range(offset, offset + VARINT_BYTES_MAX):
        if index >= size:
            raise DecodeError("varint is cut short")
        byte = data[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0:
                raise DecodeError("varint is not minimal")
            return value, index + 1
        shift += 7
    raise DecodeError(f"varint longer than {VARINT_BYTES_MAX} bytes")
