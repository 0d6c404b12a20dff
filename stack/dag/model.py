"""The IPLD data model: what dag-cbor and dag-json hold, and what every codec can be turned into."""

from collections.abc import Callable

from stack.errors import StackError
from stack.multiformats.cid import Cid
from stack.sansio.interfaces import Buffer
from stack.values import dataclass

Value = None | bool | int | float | str | bytes | Cid | list["Value"] | dict[str, "Value"]
"""A value of the data model. Integers lie in `INTEGER_MIN..INTEGER_MAX`, floats are finite, text is valid Unicode."""

INTEGER_MIN = -(2**64)
INTEGER_MAX = 2**64 - 1
"""What CBOR's major types 0 and 1 can say; dag-json is held to the same, so that each value has both forms."""

DEPTH_MAX = 1024
"""Lists and maps inside each other, as in go-ipld-prime; it stops blocks of nothing but opening brackets."""

ITEMS_MAX = 10 * 2**20 // 4
"""Entries of all lists and maps of one block, a map's counting twice; go-ipld-prime's budget of 10 Mi at 4 an entry."""


class EncodeError(StackError):
    """This value has no form in that codec."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """A row of `stack.dag.CODECS`."""

    name: str
    """As in the multicodec table."""
    decode: Callable[[Buffer], Value]
    """A block as a value of the data model. Raises DecodeError."""
    encode: Callable[[Value], bytes]
    """A value as a block. Raises EncodeError."""
    links: Callable[[Buffer], list[Cid]]
    """The links of a block in the order of its bytes, duplicates kept. Raises DecodeError."""


def links_of(value: Value) -> list[Cid]:
    """Every link inside `value`, depth first, in the order of lists and maps."""
    found: list[Cid] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Cid):
            found.append(item)
        elif isinstance(item, list):
            waiting.extend(reversed(item))
        elif isinstance(item, dict):
            waiting.extend(reversed(item.values()))
    return found
