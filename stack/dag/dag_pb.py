"""dag-pb, the codec of UnixFS: named links and some bytes. Written by hand because the order of its fields is its own.

Source: the IPLD specification of dag-pb (ipld/ipld, specs/codecs/dag-pb/spec.md).

Names are UTF-8 there, yet the reference decoder takes any bytes. So do we: bytes that are no UTF-8 become lone
surrogates (`surrogateescape`, as file names do in Python) and are written back as the same bytes.
"""

from collections.abc import Iterable
from typing import NamedTuple

from stack.dag.model import Codec, EncodeError, Value
from stack.errors import DecodeError
from stack.multiformats.cid import Cid
from stack.sansio.interfaces import Buffer
from stack.values import dataclass

SIZE_MAX = 2**64 - 1
"""Tsize is a protobuf uint64."""

_DATA = 0x0A  # field 1 of PBNode, length-delimited
_LINK = 0x12  # field 2 of PBNode, length-delimited
_HASH = 0x0A  # field 1 of PBLink, length-delimited
_NAME = 0x12  # field 2 of PBLink, length-delimited
_SIZE = 0x18  # field 3 of PBLink, varint


class Link(NamedTuple):
    """One link. A named tuple: a block holds up to some thousands, and a frozen dataclass costs three times as much."""

    name: str | None
    """Text as on the wire, None where the field is absent. See the module about bytes that are not UTF-8."""
    size: int | None
    """Cumulative bytes below the link, as its author claims; None where absent. Never to be trusted."""
    cid: Cid


@dataclass(frozen=True, slots=True)
class Node:
    """A dag-pb block. `data` None (absent) and `b""` are different blocks."""

    data: bytes | None
    links: tuple[Link, ...]


def encode(node: Node) -> bytes:
    """The canonical bytes: links first, sorted stably by the bytes of their names (none counts as empty), then data.

    A block that was decoded with unsorted links therefore encodes to other bytes, as with go-codec-dagpb.
    Raises EncodeError on a size outside uint64 or a name that is no text.
    """
    out = bytearray()
    for name, link in _sorted(node.links):
        cid = bytes(link.cid)
        body = bytearray((_HASH,))
        _put_bytes(body, cid)
        if link.name is not None:
            body.append(_NAME)
            _put_bytes(body, name)
        if link.size is not None:
            if not 0 <= link.size <= SIZE_MAX:
                raise EncodeError(f"dag-pb: the size of a link is {link.size}, it must fit into 64 bits")
            body.append(_SIZE)
            _put_uvarint(body, link.size)
        out.append(_LINK)
        _put_bytes(out, body)
    if node.data is not None:
        out.append(_DATA)
        _put_bytes(out, node.data)
    return bytes(out)


def decode(data: Buffer) -> Node:
    """The node in these bytes, links in the order of the bytes. Raises DecodeError.

    Strict as the specification asks: fields of a link in their order, nothing twice, no unknown field, a hash in every
    link; data may stand before or after the links, not between them.
    """
    block = bytes(data)
    end = len(block)
    position = 0
    payload: bytes | None = None
    links: list[Link] = []
    links_closed = False
    try:
        while position < end:
            field = block[position]
            start, stop = _extent(block, position + 1, end)
            if field == _LINK:
                if links_closed:
                    raise DecodeError("dag-pb: data between links")
                links.append(_decode_link(block, start, stop))
            elif field == _DATA:
                if payload is not None:
                    raise DecodeError("dag-pb: data twice")
                payload = block[start:stop]
                links_closed = bool(links)
            else:
                raise DecodeError(f"dag-pb: a node has no field {field >> 3} of wire type {field & 7}")
            position = stop
    except IndexError:
        raise DecodeError("dag-pb: the block ends inside a field") from None
    return Node(payload, tuple(links))


def _decode_link(block: bytes, position: int, end: int) -> Link:
    """The PBLink in `block[position:end]`. Raises IndexError where the block ends inside a number."""
    if position == end or block[position] != _HASH:
        raise DecodeError("dag-pb: a link without hash, or with a field before it")
    start, position = _extent(block, position + 1, end)
    cid = Cid.decode(block[start:position])
    name = size = None
    if position < end and block[position] == _NAME:
        start, position = _extent(block, position + 1, end)
        name = block[start:position].decode("utf-8", "surrogateescape")
    if position < end and block[position] == _SIZE:
        size, position = _uvarint(block, position + 1)
    if position != end:
        raise DecodeError("dag-pb: a link is hash, name, size, in this order and each at most once")
    return Link(name, size, cid)


def _extent(block: bytes, position: int, end: int) -> tuple[int, int]:
    """Start and stop of what lies behind the length at `position`, all of it before `end`."""
    size = block[position]
    start = position + 1
    if size >= 0x80:
        size, start = _uvarint(block, position)
    stop = start + size
    if stop > end:
        raise DecodeError("dag-pb: a length goes past the end of what it stands in")
    return start, stop


def _uvarint(block: bytes, position: int) -> tuple[int, int]:
    """A protobuf varint: 64 bits in up to 10 bytes, not necessarily the fewest. IndexError where the block ends."""
    value = shift = 0
    while True:
        byte = block[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise DecodeError("dag-pb: a number longer than 10 bytes")
    if value > SIZE_MAX:
        raise DecodeError("dag-pb: a number over 64 bits")
    return value, position


def _put_uvarint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _put_bytes(out: bytearray, data: Buffer) -> None:
    _put_uvarint(out, len(data))
    out += data


def _sorted(links: Iterable[Link]) -> list[tuple[bytes, Link]]:
    """The links in canonical order, each with its name's bytes."""
    try:
        named = [((link.name or "").encode("utf-8", "surrogateescape"), link) for link in links]
    except UnicodeEncodeError:
        raise EncodeError("dag-pb: the name of a link is no text") from None
    return sorted(named, key=lambda pair: pair[0])


def links(data: Buffer) -> list[Cid]:
    """The CIDs of all links in the order of the bytes. Raises DecodeError."""
    return [link.cid for link in decode(data).links]


def to_value(node: Node) -> dict[str, Value]:
    """The node as the specification's logical format: `Data` if there is any, `Links` with `Hash`, `Name`, `Tsize`."""
    value: dict[str, Value] = {}
    if node.data is not None:
        value["Data"] = node.data
    items: list[Value] = []
    for link in node.links:
        item: dict[str, Value] = {"Hash": link.cid}
        if link.name is not None:
            item["Name"] = link.name
        if link.size is not None:
            item["Tsize"] = link.size
        items.append(item)
    value["Links"] = items
    return value


def from_value(value: Value) -> Node:
    """The node of a value in the logical format. Raises EncodeError on anything else, links out of order among it.

    Stricter than `encode`, which sorts: who writes the logical format says which link stands where.
    """
    if not isinstance(value, dict) or not value.keys() <= {"Data", "Links"}:
        raise EncodeError("dag-pb: a node is a map of Data and Links")
    data = value.get("Data")
    if not isinstance(data, bytes | None) or (data is None and "Data" in value):
        raise EncodeError("dag-pb: Data must be bytes")
    items = value.get("Links")
    if not isinstance(items, list):
        raise EncodeError("dag-pb: Links must be a list")
    links = [_link_from_value(item) for item in items]
    if [link for _, link in _sorted(links)] != links:
        raise EncodeError("dag-pb: Links must be sorted by the bytes of their names")
    return Node(data, tuple(links))


def _link_from_value(value: Value) -> Link:
    if not isinstance(value, dict) or not value.keys() <= {"Hash", "Name", "Tsize"}:
        raise EncodeError("dag-pb: a link is a map of Hash, Name and Tsize")
    cid, name, size = value.get("Hash"), value.get("Name"), value.get("Tsize")
    if not isinstance(cid, Cid):
        raise EncodeError("dag-pb: Hash must be a link")
    if not isinstance(name, str | None) or (name is None and "Name" in value):
        raise EncodeError("dag-pb: Name must be text")
    if not isinstance(size, int | None) or isinstance(size, bool) or (size is None and "Tsize" in value):
        raise EncodeError("dag-pb: Tsize must be an integer")
    return Link(name, size, cid)


CODEC = Codec(
    name="dag-pb",
    decode=lambda data: to_value(decode(data)),
    encode=lambda value: encode(from_value(value)),
    links=links,
)
