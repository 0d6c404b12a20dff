"""Paths through blocks of any codec: names of maps, numbers of lists, and from link to link. Pure.

In dag-pb a name is one of the data model's (`Links/0/Hash`), or that of a link.
"""

from collections.abc import Sequence

from stack.dag import CODECS, codec
from stack.dag.model import EncodeError, Value
from stack.dag.unixfs.reader import LinkNotFound
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import code_of
from stack.sansio.interfaces import Buffer


def decode(cid: Cid, block: Buffer) -> Value:
    """What a block holds; its bytes where its codec has no row, as raw. Raises DecodeError."""
    return codec(cid.codec).decode(block) if cid.codec in CODECS else bytes(block)


def descend(cid: Cid, block: Buffer, names: Sequence[str]) -> tuple[Value, Sequence[str]]:
    """Where these names lead inside a block, and those that are left when that is a link. Raises LinkNotFound, DecodeError."""
    value = decode(cid, block)
    for position, name in enumerate(names):
        if position and isinstance(value, Cid):
            return value, names[position:]
        value = _below(cid, value, name)
    return value, ()


def _below(cid: Cid, value: Value, name: str) -> Value:
    if isinstance(value, dict):
        if name in value:
            return value[name]
        links = value.get("Links")
        for link in links if isinstance(links, list) else ():
            if isinstance(link, dict) and link.get("Name") == name and isinstance(link.get("Hash"), Cid):
                return link["Hash"]
    elif isinstance(value, list) and name.isascii() and name.isdigit() and len(name) < 10 and int(name) < len(value):
        return value[int(name)]
    raise LinkNotFound(name, cid, f"there is no {name!r} in {cid}")


def encode(name: str, value: Value) -> bytes:
    """A value as a block of the codec of this name. Raises EncodeError, DecodeError for a name that no codec has."""
    code = code_of(name)
    if code not in CODECS:
        raise EncodeError(f"{name} holds no values; there are dag-cbor, dag-json and dag-pb")
    return codec(code).encode(value)
