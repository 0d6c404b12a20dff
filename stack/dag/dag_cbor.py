"""dag-cbor: the strict subset of CBOR in which a value has exactly one form.

Source: the IPLD specification of dag-cbor (ipld/ipld, specs/codecs/dag-cbor/spec.md, "Strictness"), RFC 8949. Both
directions keep their own stack: nesting is bounded by `DEPTH_MAX` and never by the interpreter's recursion limit.
"""

import math
import struct
from collections.abc import Iterator

from stack.dag.model import DEPTH_MAX, INTEGER_MAX, INTEGER_MIN, ITEMS_MAX, Codec, EncodeError, Value, links_of
from stack.errors import DecodeError
from stack.multiformats.cid import Cid
from stack.sansio.interfaces import Buffer

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _LIST, _MAP, _TAG, _SIMPLE = range(8)
"""The major types of CBOR."""

_LINK_TAG = 42
_IDENTITY_PREFIX = 0
"""A link is the CID behind the identity multibase prefix."""

_SIMPLE_VALUES: dict[int, Value] = {20: False, 21: True, 22: None}
_FLOAT64 = 27
_double = struct.Struct(">d")


def encode(value: Value) -> bytes:
    """The one form of `value`.

    Raises EncodeError on integers over 64 bits, floats that are not finite, text that is no Unicode, nesting over
    `DEPTH_MAX`, and objects that are not of the data model.
    """
    out = bytearray()
    waiting: list[Iterator[Value]] = [iter((value,))]
    while waiting:
        for item in waiting[-1]:
            if isinstance(item, list):
                _put_head(out, _LIST, len(item))
                waiting.append(iter(item))
            elif isinstance(item, dict):
                _put_head(out, _MAP, len(item))
                waiting.append(_entries(item))
            else:
                _put_scalar(out, item)
                continue
            if len(waiting) > DEPTH_MAX + 1:
                raise EncodeError(f"dag-cbor: nested deeper than {DEPTH_MAX}")
            break
        else:
            waiting.pop()
    return bytes(out)


def _entries(item: dict[str, Value]) -> Iterator[Value]:
    """Keys and values in turn, shorter keys first, keys of one length by their bytes."""
    for key in sorted(item, key=_key_order):
        yield key
        yield item[key]


def _key_order(key: str) -> tuple[int, bytes]:
    if not isinstance(key, str):
        raise EncodeError("dag-cbor: the key of a map must be text")
    data = _utf8(key)
    return len(data), data


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise EncodeError("dag-cbor: text that is not Unicode") from None


def _put_scalar(out: bytearray, item: Value) -> None:
    if item is None:
        out.append(0xF6)
    elif isinstance(item, bool):
        out.append(0xF5 if item else 0xF4)
    elif isinstance(item, int):
        if not INTEGER_MIN <= item <= INTEGER_MAX:
            raise EncodeError("dag-cbor: an integer over 64 bits")
        _put_head(out, *((_UNSIGNED, item) if item >= 0 else (_NEGATIVE, -1 - item)))
    elif isinstance(item, str):
        data = _utf8(item)
        _put_head(out, _TEXT, len(data))
        out += data
    elif isinstance(item, bytes):
        _put_head(out, _BYTES, len(item))
        out += item
    elif isinstance(item, float):
        if not math.isfinite(item):
            raise EncodeError("dag-cbor: a float must be finite")
        out.append(_SIMPLE << 5 | _FLOAT64)
        out += _double.pack(item)
    elif isinstance(item, Cid):
        data = bytes(item)
        _put_head(out, _TAG, _LINK_TAG)
        _put_head(out, _BYTES, 1 + len(data))
        out.append(_IDENTITY_PREFIX)
        out += data
    else:
        raise EncodeError(f"dag-cbor: {type(item).__name__} is not of the data model")


def _put_head(out: bytearray, major: int, argument: int) -> None:
    """A major type and its argument in the fewest bytes."""
    if argument < 24:
        out.append(major << 5 | argument)
        return
    step = next(step for step in range(4) if argument < 1 << (8 << step))
    out.append(major << 5 | 24 + step)
    out += argument.to_bytes(1 << step, "big")


def decode(data: Buffer) -> Value:
    """The value in these bytes, all of them. Raises DecodeError on anything but the one form the specification allows.

    Nothing is allocated for a length that is only claimed; at most `ITEMS_MAX` items, `DEPTH_MAX` levels.
    """
    return _Reader(bytes(data)).read()


def links(data: Buffer) -> list[Cid]:
    """The links of a block, in order. Raises DecodeError."""
    return links_of(decode(data))


class _Reader:
    """One pass over one block. `read` is its only entry."""

    __slots__ = ("_block", "_budget", "_position")

    def __init__(self, block: bytes) -> None:
        self._block = block
        self._position = 0
        self._budget = ITEMS_MAX

    def read(self) -> Value:
        try:
            value = self._value()
        except IndexError:
            raise DecodeError("dag-cbor: the block ends inside an item") from None
        if self._position != len(self._block):
            raise DecodeError(f"dag-cbor: {len(self._block) - self._position} bytes after the value")
        return value

    def _value(self) -> Value:
        """The value at the position, without recursion: `outer` holds what encloses the list or map being filled."""
        outer: list[tuple[list[Value] | dict[str, Value], int, bytes]] = []
        container: list[Value] | dict[str, Value] | None = None
        missing = 0  # entries the container still wants
        key = b""  # of the entry being read, when the container is a map
        while True:
            if isinstance(container, dict):
                key = self._key(key if container else None)
            major, argument = self._head()
            value: Value
            if major in (_LIST, _MAP):
                value = [] if major == _LIST else {}
                if len(outer) + (container is not None) >= DEPTH_MAX:
                    raise DecodeError(f"dag-cbor: nested deeper than {DEPTH_MAX}")
                self._charge(argument * (major - _LIST + 1))
                if argument:
                    if container is not None:
                        outer.append((container, missing, key))
                    container, missing = value, argument
                    continue
            else:
                value = self._scalar(major, argument)
            while container is not None:
                if isinstance(container, dict):
                    container[key.decode()] = value
                else:
                    container.append(value)
                missing -= 1
                if missing:
                    break
                value = container
                container, missing, key = outer.pop() if outer else (None, 0, b"")
            else:
                return value

    def _head(self) -> tuple[int, int]:
        """Major type and argument. For major type 7 the argument is the number of the simple value, or `_FLOAT64`."""
        first = self._block[self._position]
        self._position += 1
        major, info = first >> 5, first & 31
        if info < 24 or major == _SIMPLE:
            return major, info
        if info > 27:
            raise DecodeError(f"dag-cbor: {'indefinite length' if info == 31 else 'reserved head'} ({first:#04x})")
        size = 1 << info - 24
        argument = int.from_bytes(self._take(size), "big")
        # RFC 8949 4.2.1: the shortest form; half of the longer form's range belongs to the shorter one.
        if argument < (24 if size == 1 else 1 << 4 * size):
            raise DecodeError("dag-cbor: an integer or a length in more bytes than it needs")
        return major, argument

    def _take(self, size: int) -> bytes:
        """The next `size` bytes. Raises DecodeError when they are not there."""
        start = self._position
        if size > len(self._block) - start:
            raise DecodeError("dag-cbor: a length goes past the end of the block")
        self._position = start + size
        return self._block[start : self._position]

    def _charge(self, items: int) -> None:
        """Count items that a list or map claims; each takes at least one byte, so that a lie is told at once."""
        if items > len(self._block) - self._position:
            raise DecodeError("dag-cbor: a list or map claims more items than there are bytes")
        self._budget -= items
        if self._budget < 0:
            raise DecodeError(f"dag-cbor: more than {ITEMS_MAX} items")

    def _key(self, previous: bytes | None) -> bytes:
        major, argument = self._head()
        if major != _TEXT:
            raise DecodeError("dag-cbor: the key of a map must be text")
        key = self._take(argument)
        if previous is not None and (len(key), key) <= (len(previous), previous):
            raise DecodeError("dag-cbor: keys of a map twice or out of order")
        _text(key)
        return key

    def _scalar(self, major: int, argument: int) -> Value:
        if major == _UNSIGNED:
            return argument
        if major == _NEGATIVE:
            return -1 - argument
        if major == _BYTES:
            return self._take(argument)
        if major == _TEXT:
            return _text(self._take(argument))
        if major == _TAG:
            return self._link(argument)
        if argument == _FLOAT64:
            number: float = _double.unpack(self._take(8))[0]
            if not math.isfinite(number):
                raise DecodeError("dag-cbor: a float must be finite")
            return number
        try:
            return _SIMPLE_VALUES[argument]
        except KeyError:
            raise DecodeError(f"dag-cbor: simple value or short float {argument}") from None

    def _link(self, tag: int) -> Cid:
        if tag != _LINK_TAG:
            raise DecodeError(f"dag-cbor: tag {tag}, only {_LINK_TAG} is known")
        major, size = self._head()
        if major != _BYTES:
            raise DecodeError("dag-cbor: a link must be bytes")
        data = self._take(size)
        if not data or data[0] != _IDENTITY_PREFIX:
            raise DecodeError("dag-cbor: a link must begin with a zero byte")
        return Cid.decode(data[1:])


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise DecodeError("dag-cbor: text that is not UTF-8") from None


CODEC = Codec(name="dag-cbor", decode=decode, encode=encode, links=links)
