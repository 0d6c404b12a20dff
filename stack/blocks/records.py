"""The format of a pack: a head of 8 bytes, then records, each of which says by itself what it is.

    head    "stkpack1"
    record  mark (4) | bytes of the multihash (1) | bytes of the block (4, big endian) | multihash | crc32 of all that (4) | block

The multihash vouches for the block, the crc32 for the rest. So an index can be made from packs alone, and a record that
was cut off by a crash is told from a whole one. The idea is that of Perkeep's diskpacked.
"""

import zlib
from struct import Struct
from typing import Final

from stack.values import dataclass

HEAD: Final = b"stkpack1"
MARK: Final = b"\xf5blk"
"""Begins each record; after damage, reading goes on at the next one. 0xf5 occurs in no UTF-8 text."""

_FIXED = Struct(">4sBI")
_CRC = Struct(">I")

RECORD_HEAD_MAX: Final = _FIXED.size + 255 + _CRC.size
"""The longest head of a record."""


@dataclass(frozen=True, slots=True)
class RecordHead:
    """What stands before a block in a pack."""

    multihash: bytes
    length: int
    """Bytes of the block."""
    size: int
    """Bytes of this head."""


def head_size(multihash: bytes) -> int:
    """Bytes that stand before a block of this name."""
    return _FIXED.size + len(multihash) + _CRC.size


def encode_head(multihash: bytes, length: int) -> bytes:
    """What stands before a block of `length` bytes."""
    head = _FIXED.pack(MARK, len(multihash), length) + multihash
    return head + _CRC.pack(zlib.crc32(head))


def decode_head(data: bytes | memoryview) -> RecordHead | None:
    """The head at the beginning of `data`, or None when no whole and sound one is there."""
    if len(data) < _FIXED.size:
        return None
    mark, named, length = _FIXED.unpack_from(data)
    end = _FIXED.size + named
    if mark != MARK or len(data) < end + _CRC.size or _CRC.unpack_from(data, end)[0] != zlib.crc32(data[:end]):
        return None
    return RecordHead(bytes(data[_FIXED.size : end]), length, end + _CRC.size)
