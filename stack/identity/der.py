"""The first look at a DER structure: is its length true? Before anything else touches what a peer sent (CVE-2026-110789)."""

from stack.errors import DecodeError

_SEQUENCE = 0x30
_LENGTH_BYTES_MAX = 2
"""Keys are shorter than 64 KiB."""


def check_sequence(data: bytes, limit: int) -> None:
    """Raise DecodeError unless `data` is one DER sequence, as long as it says, minimal, and at most `limit` bytes."""
    if len(data) > limit:
        raise DecodeError(f"a key of this type has at most {limit} bytes, this one has {len(data)}")
    if len(data) < 2 or data[0] != _SEQUENCE:
        raise DecodeError("a key in DER begins with a sequence")
    length, start = data[1], 2
    if length >= 0x80:
        start += length & 0x7F
        if start - 2 > _LENGTH_BYTES_MAX:
            raise DecodeError("the length of a key in DER is out of bounds")
        length = int.from_bytes(data[2:start])
        if length < 0x80 or data[2] == 0:
            raise DecodeError("the length of a key in DER is not minimal")
    if start + length != len(data):
        raise DecodeError(f"the key says {length} bytes, {len(data) - start} are there")
