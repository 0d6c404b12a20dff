"""bitswap messages: bytes <-> frozen values. Source: ipfs/specs bitswap-protocol.md, 1.0 to 1.2.

Block bytes never pass through protobuf: they are sent as buffers of their own behind hand-written headers (2.4 us for a
256 KiB block, 594 us through the library) and received as views of the message. Of what arrives, protobuf sees one entry of
a wantlist at a time: a parser that builds all objects first turns 4 MiB of empty entries into hundreds of MiB.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import field
from enum import IntEnum
from functools import lru_cache
from typing import cast

from google.protobuf.message import DecodeError as ProtobufDecodeError

from stack.blocks.interfaces import BLOCK_SIZE_MAX
from stack.errors import DecodeError, RemoteProtocolError
from stack.multiformats import multihash, varint
from stack.multiformats.cid import Cid
from stack.pb import bitswap_pb2 as pb
from stack.sansio.interfaces import Buffer
from stack.values import dataclass

PROTOCOL_1_2 = "/ipfs/bitswap/1.2.0"
PROTOCOL_1_1 = "/ipfs/bitswap/1.1.0"
PROTOCOL_1_0 = "/ipfs/bitswap/1.0.0"
PROTOCOL_UNVERSIONED = "/ipfs/bitswap"
"""boxo bsnet: speaks as 1.0.0."""

PROTOCOLS = (PROTOCOL_1_2, PROTOCOL_1_1, PROTOCOL_1_0, PROTOCOL_UNVERSIONED)
"""In order of preference."""

WITHOUT_PREFIXES = frozenset({PROTOCOL_1_0, PROTOCOL_UNVERSIONED})
"""Protocols whose blocks are bare bytes, so that each can only be dag-pb under SHA-256."""

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
"""bitswap-protocol.md: "All protocol messages MUST be less than or equal to 4MiB in size"."""

WANTS_PER_MESSAGE_MAX = 8192
"""Entries of one wantlist, or presences, that are looked at; the rest is skipped. A peer may have 1,024 wants with us."""

FIELDS_MAX = 65_536
"""Entries, presences, blocks and other fields of one message: 4 MiB of the smallest would hold the event loop for a second.
What others send is far below: 2 MiB of wants are 50,000."""

ENTRIES_AT_ONCE = 64
"""Wants or presences that are read, and acted upon, before one looks at the clock: half a millisecond."""

FIELDS_AT_ONCE = 1024
"""Fields of any kind that are read before one looks at the clock: a millisecond and a half."""

BLOCKS_PER_MESSAGE_MAX = 2048
"""Of the smallest 4 MiB would be 65,536, and take fifty times the memory that was lent for them. A peer never has more than a
thousand to answer us (`TOLD_MAX` in wants.py)."""

PAYLOAD_FIELDS_MAX = 16
"""Fields of one block, which has two: whoever adds some finds us ready, and nobody fills a message with them."""

_PREFIX_V0 = b"\x00\x70\x12\x20"
"""CIDv0 is always dag-pb under SHA-256; go-cid writes its prefix so."""

_VARINT, _BYTES = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}
_UINT64_MASK = (1 << 64) - 1


class WantKind(IntEnum):
    """What is asked for; the values are those on the wire."""

    BLOCK = 0
    HAVE = 1


@dataclass(frozen=True, slots=True)
class Want:
    """One entry of a wantlist."""

    cid: Cid
    kind: WantKind = WantKind.BLOCK
    priority: int = 1
    """Higher is answered first; an int32."""
    cancel: bool = False
    """The sender no longer wants it; all other fields but `cid` mean nothing then."""
    send_dont_have: bool = False
    """The sender wants to hear DONT_HAVE rather than nothing."""


@dataclass(frozen=True, slots=True)
class Presence:
    """HAVE or DONT_HAVE."""

    cid: Cid
    have: bool


@dataclass(frozen=True, slots=True)
class BlockPrefix:
    """All of a CID but its digest: how a block is to be hashed."""

    version: int
    codec: int
    hash_code: int
    digest_size: int

    def multihash_of(self, data: Buffer) -> bytes:
        """The multihash of `data`. Takes long for large blocks: called in worker threads."""
        return multihash.digest(self.hash_code, data, self.digest_size)


@dataclass(frozen=True, slots=True)
class Payload:
    """A received block, not yet hashed: nobody knows yet which block it is."""

    prefix: BlockPrefix
    data: memoryview
    """Borrowed from the message's buffer."""


@dataclass(frozen=True, slots=True)
class Message:
    """A received message."""

    wants: tuple[Want, ...] = ()
    full: bool = False
    """The wantlist replaces what was wanted before."""
    blocks: tuple[Payload, ...] = ()
    presences: tuple[Presence, ...] = ()
    pending_bytes: int = 0
    """Bytes of blocks the sender still has queued for us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingMessage:
    """A message to send; blocks are (CID, bytes)."""

    wants: Sequence[Want] = ()
    full: bool = False
    blocks: Sequence[tuple[Cid, Buffer]] = field(default=(), repr=False)
    presences: Sequence[Presence] = ()
    pending_bytes: int = 0


def encode_message(message: OutgoingMessage, *, protocol: str = PROTOCOL_1_2) -> list[Buffer]:
    """The message with its length in front, as buffers to be written one behind the other; block bytes are not copied.

    For protocols before 1.1 blocks travel without prefixes, and presences are left out. Raises ValueError when it is
    longer than a message may be.
    """
    bare = protocol in WITHOUT_PREFIXES
    head = pb.Message()
    head.wantlist.full = message.full
    entries = head.wantlist.entries
    for want in message.wants:
        entries.add(
            block=bytes(want.cid),
            priority=want.priority,
            cancel=want.cancel,
            want_type=want.kind.value,
            send_dont_have=want.send_dont_have,
        )
    tail = pb.Message()
    if not bare:
        for presence in message.presences:
            tail.block_presences.add(cid=bytes(presence.cid), type=0 if presence.have else 1)
        tail.pending_bytes = min(message.pending_bytes, 2**31 - 1)
    parts: list[Buffer] = []
    pending = head.SerializeToString()
    for cid, data in message.blocks:
        if bare:
            pending += b"\x12" + varint.encode(len(data))
        else:
            inner = b"\x0a" + varint.encode(len(cid.prefix)) + cid.prefix + b"\x12" + varint.encode(len(data))
            pending += b"\x1a" + varint.encode(len(inner) + len(data)) + inner
        parts += (pending, data)
        pending = b""
    pending += tail.SerializeToString()
    if pending:
        parts.append(pending)
    size = sum(map(len, parts))
    if size > MESSAGE_BYTES_MAX:
        raise ValueError(f"message of {size} bytes, at most {MESSAGE_BYTES_MAX} are allowed")
    parts[0] = varint.encode(size) + bytes(parts[0])
    return parts


def decode_message(data: memoryview) -> Message:
    """Read one whole message (without its length). The blocks are views of `data`. Raises as `decode_by_and_by`."""
    decoding = decode_by_and_by(data)
    while True:
        try:
            next(decoding)
        except StopIteration as end:
            return cast(Message, end.value)


def decode_by_and_by(data: memoryview) -> Generator[None, None, Message]:
    """The same, but the caller decides when it goes on: the longest wantlist takes 50 ms, fields that say nothing 80. Stops after
    each ENTRIES_AT_ONCE, and FIELDS_AT_ONCE.

    Raises RemoteProtocolError on anything malformed: cut fields, CIDs that are none, hash functions that are not allowed,
    blocks over 2 MiB, too many blocks or fields. Unknown fields are skipped.
    """
    if len(data) > MESSAGE_BYTES_MAX:
        raise RemoteProtocolError(f"bitswap message of {len(data)} bytes")
    reader = _Reader(data)
    wants: list[Want] = []
    full = False
    blocks: list[Payload] = []
    presences: list[Presence] = []
    pending_bytes = 0
    try:
        for number, kind, start, end in reader.fields(0, len(data)):
            if reader.has_read_much():
                yield
            if kind == _BYTES:
                if number in (2, 3) and len(blocks) >= BLOCKS_PER_MESSAGE_MAX:
                    raise DecodeError(f"more than {BLOCKS_PER_MESSAGE_MAX} blocks")
                if number == 1:
                    full |= yield from reader.wantlist(start, end, wants)
                elif number == 2:
                    blocks.append(_payload(_PREFIX_V0, data[start:end]))
                elif number == 3:
                    blocks.append(reader.payload(start, end))
                elif number == 4 and len(presences) < WANTS_PER_MESSAGE_MAX:
                    presences.append(reader.presence(start, end))
                    if not len(presences) % ENTRIES_AT_ONCE:
                        yield
            elif number == 5 and kind == _VARINT:
                pending_bytes = max(_int32(start), 0)
    except (DecodeError, ProtobufDecodeError) as error:
        raise RemoteProtocolError(f"bitswap message: {error}") from error
    return Message(tuple(wants), full, tuple(blocks), tuple(presences), pending_bytes)


def in_parts(message: Message) -> Iterator[Message]:
    """The same, with few wants and presences at a time; the blocks are in the last part."""
    entries = max(len(message.wants), len(message.presences))
    if entries <= ENTRIES_AT_ONCE:
        yield message
        return
    for first in range(0, entries, ENTRIES_AT_ONCE):
        last = first + ENTRIES_AT_ONCE
        yield Message(
            message.wants[first:last],
            message.full and not first,
            message.blocks if last >= entries else (),
            message.presences[first:last],
            message.pending_bytes,
        )


@lru_cache(maxsize=256)
def decode_prefix(prefix: bytes) -> BlockPrefix:
    """Read a CID prefix. Raises DecodeError when it is cut, or names a hash that is not allowed for blocks."""
    version, offset = varint.decode(prefix)
    codec, offset = varint.decode(prefix, offset)
    code, offset = varint.decode(prefix, offset)
    size, offset = varint.decode(prefix, offset)
    if version > 1:
        raise DecodeError(f"CID version {version} in a block's prefix")
    if offset != len(prefix):
        raise DecodeError("bytes follow a block's prefix")
    multihash.check_allowed_function(code, size)
    return BlockPrefix(version, codec, code, size)


def _payload(prefix: bytes, data: memoryview) -> Payload:
    if len(data) > BLOCK_SIZE_MAX:
        raise DecodeError(f"block of {len(data)} bytes, at most {BLOCK_SIZE_MAX} are allowed")
    return Payload(decode_prefix(prefix), data)


def _int32(value: int) -> int:
    """protobuf int32: the low 32 bits, signed."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


class _Reader:
    """Protobuf fields of one message; `_left` bounds how many are looked at in all."""

    __slots__ = ("_data", "_left", "_rest_at")

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._left = FIELDS_MAX
        self._rest_at = FIELDS_MAX - FIELDS_AT_ONCE

    def has_read_much(self) -> bool:
        """Whether others should have a turn, since it was said last."""
        if self._left > self._rest_at:
            return False
        self._rest_at = self._left - FIELDS_AT_ONCE
        return True

    def fields(self, offset: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """(number, wire type, start, end) of each field; for numbers `start` is the value. Raises DecodeError."""
        data = self._data
        left = self._left
        while offset < end:
            left -= 1
            if left < 0:
                raise DecodeError(f"more than {FIELDS_MAX} fields")
            # Numbers of one byte are read here, without a call: that halves the time of a wantlist.
            key = data[offset]
            if key < 0x80:
                offset += 1
            else:
                key, offset = self._varint(offset, end)
            number, kind = key >> 3, key & 7
            if kind in _FIXED_BYTES:
                offset += _FIXED_BYTES[kind]
                self._left = left
                yield number, kind, 0, offset
                left = self._left
                continue
            if kind not in (_VARINT, _BYTES):
                raise DecodeError(f"wire type {kind}")
            if offset < end and data[offset] < 0x80:
                value = data[offset]
                offset += 1
            else:
                value, offset = self._varint(offset, end)
            self._left = left
            if kind == _VARINT:
                yield number, kind, value, offset
                left = self._left
                continue
            if value > end - offset:
                raise DecodeError("field is cut short")
            yield number, kind, offset, offset + value
            left = self._left
            offset += value
        self._left = left
        if offset > end:
            raise DecodeError("field is cut short")

    def wantlist(self, start: int, end: int, wants: list[Want]) -> Generator[None, None, bool]:
        """Add the entries of a wantlist to `wants`; says whether it is a full one."""
        full = False
        for number, kind, first, last in self.fields(start, end):
            if self.has_read_much():
                yield
            if number == 1 and kind == _BYTES:
                if len(wants) < WANTS_PER_MESSAGE_MAX:
                    wants.append(self._want(first, last))
                    if not len(wants) % ENTRIES_AT_ONCE:
                        yield
            elif number == 2 and kind == _VARINT:
                full = first != 0
        return full

    def payload(self, start: int, end: int) -> Payload:
        prefix = b""
        payload = self._data[:0]
        least = self._left - PAYLOAD_FIELDS_MAX
        for number, kind, first, last in self.fields(start, end):
            if self._left < least:
                raise DecodeError(f"more than {PAYLOAD_FIELDS_MAX} fields of a block")
            if number == 1 and kind == _BYTES:
                prefix = bytes(self._data[first:last])
            elif number == 2 and kind == _BYTES:
                payload = self._data[first:last]
        return _payload(prefix, payload)

    def presence(self, start: int, end: int) -> Presence:
        presence = pb.Message.BlockPresence.FromString(bytes(self._data[start:end]))
        return Presence(Cid.decode(presence.cid), presence.type == 0)

    def _want(self, start: int, end: int) -> Want:
        entry = pb.Message.Wantlist.Entry.FromString(bytes(self._data[start:end]))
        kind = WantKind.HAVE if entry.want_type == 1 else WantKind.BLOCK
        return Want(Cid.decode(entry.block), kind, entry.priority, entry.cancel, entry.send_dont_have)

    def _varint(self, offset: int, end: int) -> tuple[int, int]:
        """A protobuf varint: at most ten bytes, need not be minimal."""
        value = shift = 0
        for index in range(offset, min(offset + 10, end)):
            byte = self._data[index]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & _UINT64_MASK, index + 1
            shift += 7
        raise DecodeError("varint is cut short or too long")
