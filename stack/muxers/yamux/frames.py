"""Yamux frames: a header of 12 bytes, and payload behind it when it carries data.

Source: libp2p specs yamux/README.md ("Framing"), a copy of hashicorp/yamux spec.md. All fields are big-endian.
"""

from enum import IntEnum
from struct import Struct

from stack.errors import RemoteProtocolError

HEADER_BYTES = 12
VERSION = 0

PAYLOAD_BYTES_MAX = 65507
"""Of the frames we send: with its header, one fills a Noise frame of 65,519 bytes of plaintext."""

FRAME_LENGTH_MAX = 16 * 1024 * 1024
"""Of a data frame we are sent. No window is larger, so no honest frame is."""

UINT32_MAX = 2**32 - 1

# Flags are plain integers and not an IntFlag: they are combined for every frame, and that costs a microsecond each.
SYN = 1
ACK = 2
FIN = 4
RST = 8


class FrameType(IntEnum):
    """The second byte of a header."""

    DATA = 0
    WINDOW_UPDATE = 1
    PING = 2
    GO_AWAY = 3


class GoAwayCode(IntEnum):
    """Why a connection ends."""

    NORMAL = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2


DATA = int(FrameType.DATA)
WINDOW_UPDATE = int(FrameType.WINDOW_UPDATE)
PING = int(FrameType.PING)
GO_AWAY = int(FrameType.GO_AWAY)

_header = Struct(">BBHII")


def encode_header(kind: int, flags: int, stream: int, length: int) -> bytes:
    """One header; the payload of a data frame follows it."""
    return _header.pack(VERSION, kind, flags, stream, length)


def write_header(out: memoryview, offset: int, kind: int, flags: int, stream: int, length: int) -> None:
    """The same, straight into `out`."""
    _header.pack_into(out, offset, VERSION, kind, flags, stream, length)


def decode_header(data: memoryview | bytearray | bytes, offset: int = 0) -> tuple[int, int, int, int]:
    """The header at `offset`: (type, flags, stream, length). Unknown flags mean nothing.

    Raises RemoteProtocolError for another version, an unknown type, or a frame that is on the wrong level: data and
    windows belong to a stream, pings and go-away to the connection (stream 0).
    """
    version, kind, flags, stream, length = _header.unpack_from(data, offset)
    if version != VERSION:
        raise RemoteProtocolError(f"yamux version {version}", code=GoAwayCode.PROTOCOL_ERROR)
    if kind > GO_AWAY:
        raise RemoteProtocolError(f"yamux frame of type {kind}", code=GoAwayCode.PROTOCOL_ERROR)
    if (stream == 0) != (kind >= PING):
        raise RemoteProtocolError(f"{FrameType(kind).name} frame on stream {stream}", code=GoAwayCode.PROTOCOL_ERROR)
    if kind == DATA and length > FRAME_LENGTH_MAX:
        raise RemoteProtocolError(f"a data frame of {length} bytes", code=GoAwayCode.PROTOCOL_ERROR)
    return kind, flags, stream, length
