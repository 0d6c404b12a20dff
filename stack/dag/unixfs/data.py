"""The protobuf message inside dag-pb that makes a node a file or a directory; by hand, for canonical bytes and speed.

Source: ipfs/specs unixfs.md, "`dag-pb` Node". Written with fields in number order, blocksizes not packed, as all
implementations do; read as protobuf asks: any order, the last one counts, unknown fields skipped.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from stack.errors import ConfigError, DecodeError
from stack.values import dataclass

FILE_SIZE_MAX: Final = 2**63 - 1
"""Largest file that is believed: what a signed 64-bit file offset can say. A sum of hostile sizes goes further."""

NANOSECONDS = 1_000_000_000

_UINT64 = 2**64 - 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class NodeKind(IntEnum):
    """What a node is, numbered as `DataType`. RAW is a block of the raw codec, and the deprecated type of that name."""

    RAW = 0
    DIRECTORY = 1
    FILE = 2
    METADATA = 3
    SYMLINK = 4
    HAMT_SHARD = 5

    @property
    def noun(self) -> str:
        """What people call it, with its article."""
        return _NOUNS[self]


_NOUNS = {
    NodeKind.RAW: "a file",
    NodeKind.DIRECTORY: "a directory",
    NodeKind.FILE: "a file",
    NodeKind.METADATA: "metadata",
    NodeKind.SYMLINK: "a symbolic link",
    NodeKind.HAMT_SHARD: "a directory",
}


@dataclass(frozen=True, slots=True)
class UnixTime:
    """A time of modification: seconds since 1970, negative before, and nanoseconds after that second."""

    seconds: int
    nanoseconds: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.nanoseconds < NANOSECONDS:
            raise ConfigError(f"nanoseconds of a time lie between 0 and 999999999, not {self.nanoseconds}")
        if not -(2**63) <= self.seconds < 2**63:
            raise ConfigError(f"seconds of a time must fit into 64 bits: {self.seconds}")

    @staticmethod
    def of_nanoseconds(value: int) -> "UnixTime":
        """From nanoseconds since 1970, as `os.stat` gives them."""
        return UnixTime(*divmod(value, NANOSECONDS))

    @property
    def in_nanoseconds(self) -> int:
        """Nanoseconds since 1970."""
        return self.seconds * NANOSECONDS + self.nanoseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A decoded message. `payload` is a slice of the bytes it was decoded from."""

    kind: NodeKind
    payload: slice
    file_size: int
    block_sizes: tuple[int, ...]
    hash_type: int
    fanout: int
    mode: int | None
    """Permission bits, 12 of them: the other 20 have no meaning yet and are masked off, as the specification asks."""
    mtime: UnixTime | None


def encode_uvarint(value: int) -> bytes:
    """A protobuf varint of at most 64 bits."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def uvarint_size(value: int) -> int:
    """How many bytes `encode_uvarint` makes of this."""
    return (value.bit_length() + 6) // 7 or 1


def encode_data(
    kind: NodeKind,
    *,
    payload: bytes = b"",
    file_size: int | None = None,
    block_sizes: Iterable[int] = (),
    hash_type: int | None = None,
    fanout: int | None = None,
    mode: int | None = None,
    mtime: UnixTime | None = None,
) -> bytes:
    """The canonical message; what is None or empty is absent, and so is a mode of 0, which Kubo takes for none."""
    out = bytearray((0x08, kind))
    if payload:
        out += b"\x12" + encode_uvarint(len(payload)) + payload
    if file_size is not None:
        out += b"\x18" + encode_uvarint(file_size)
    for size in block_sizes:
        out += b"\x20" + encode_uvarint(size)
    if hash_type is not None:
        out += b"\x28" + encode_uvarint(hash_type)
    if fanout is not None:
        out += b"\x30" + encode_uvarint(fanout)
    return bytes(out + encode_attributes(mode, mtime))


def encode_attributes(mode: int | None, mtime: UnixTime | None) -> bytes:
    """The last fields of a message."""
    out = b""
    if mode:
        out += b"\x38" + encode_uvarint(mode)
    if mtime is not None:
        # A negative int64 is written as its two's complement, ten bytes long.
        time = b"\x08" + encode_uvarint(mtime.seconds & _UINT64)
        if mtime.nanoseconds:
            # unixfs.md, "mtime Field": a fraction of 0 must be stripped.
            time += b"\x15" + mtime.nanoseconds.to_bytes(4, "little")
        out += b"\x42" + encode_uvarint(len(time)) + time
    return out


def decode_data(data: bytes) -> Data:
    """The message in these bytes. Raises DecodeError."""
    kind: NodeKind | None = None
    payload = slice(0, 0)
    numbers = {3: 0, 5: 0, 6: 0}
    block_sizes: list[int] = []
    mode: int | None = None
    mtime: UnixTime | None = None
    position = 0
    while position < len(data):
        field, wire, value, position = _field(data, position)
        if field not in _WIRE_TYPES:
            continue
        if wire != _WIRE_TYPES[field] and (field, wire) != (4, _BYTES):
            raise DecodeError(f"UnixFS: field {field} has wire type {wire}")
        if field == 1:
            try:
                kind = NodeKind(value)
            except ValueError:
                raise DecodeError(f"UnixFS: there is no node type {value}") from None
        elif field == 2:
            payload = slice(value, position)
        elif field == 4:
            if wire == _VARINT:
                block_sizes.append(value)
            while wire == _BYTES and value < position:
                size, value = _uvarint(data, value, position)
                block_sizes.append(size)
        elif field == 7:
            mode = value & 0o7777
        elif field == 8:
            mtime = _decode_time(data[value:position])
        else:
            numbers[field] = value
    if kind is None:
        raise DecodeError("UnixFS: a node without type")
    return Data(
        kind=kind,
        payload=payload,
        file_size=numbers[3],
        block_sizes=tuple(block_sizes),
        hash_type=numbers[5],
        fanout=numbers[6],
        mode=mode,
        mtime=mtime,
    )


_WIRE_TYPES = {1: _VARINT, 2: _BYTES, 3: _VARINT, 4: _VARINT, 5: _VARINT, 6: _VARINT, 7: _VARINT, 8: _BYTES}


def _decode_time(data: bytes) -> UnixTime:
    seconds: int | None = None
    nanoseconds = 0
    position = 0
    while position < len(data):
        field, wire, value, position = _field(data, position)
        if (field, wire) == (1, _VARINT):
            seconds = value - 2**64 if value >= 2**63 else value
        elif (field, wire) == (2, _FIXED32):
            nanoseconds = int.from_bytes(data[value:position], "little")
            # unixfs.md, "mtime Field": outside of this range, 0 included, the whole metadata is malformed.
            if not 1 <= nanoseconds < NANOSECONDS:
                raise DecodeError(f"UnixFS: {nanoseconds} nanoseconds in a time of modification")
    if seconds is None:
        raise DecodeError("UnixFS: a time of modification without seconds")
    return UnixTime(seconds, nanoseconds)


def _field(data: bytes, position: int) -> tuple[int, int, int, int]:
    """The field at `position`: number, wire type, value (for all but varints: where it starts), where it ends."""
    tag, position = _uvarint(data, position, len(data))
    field, wire = tag >> 3, tag & 7
    if wire == _VARINT:
        value, position = _uvarint(data, position, len(data))
        return field, wire, value, position
    if wire == _BYTES:
        size, position = _uvarint(data, position, len(data))
    elif wire == _FIXED64:
        size = 8
    elif wire == _FIXED32:
        size = 4
    else:
        raise DecodeError(f"UnixFS: field {field} has wire type {wire}")
    if position + size > len(data):
        raise DecodeError(f"UnixFS: field {field} goes past the end")
    return field, wire, position, position + size


def _uvarint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """A protobuf varint: 64 bits in up to 10 bytes, not necessarily the fewest; and where it ends."""
    value = shift = 0
    while position < end:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > _UINT64:
                raise DecodeError("UnixFS: a number over 64 bits")
            return value, position
        shift += 7
        if shift > 63:
            raise DecodeError("UnixFS: a number longer than 10 bytes")
    raise DecodeError("UnixFS: the message ends inside a number")
