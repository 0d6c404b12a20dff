"""Sharded directories: which entry lies in which shard, what a shard's block says, and what a foreign one may say.

A name's hash is cut into digits of `log2(fanout)` bits, the highest first. A shard has a link for each digit that
occurs: to the entry, when only one name has it (link name: the digit in hexadecimal, then the name), else to a shard of
the next digit (link name: the digit alone). Sources: unixfs.md, "`dag-pb` `HAMTDirectory`"; ipfs/boxo ipld/unixfs/hamt.
"""

from collections.abc import Generator, Sequence
from typing import Final, NamedTuple

from stack.dag import dag_pb
from stack.dag.unixfs.data import NodeKind, UnixTime, encode_data
from stack.dag.unixfs.options import ImportOptions
from stack.errors import DecodeError, LimitExceeded
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB
from stack.multiformats.multihash import IDENTITY

MURMUR3_X64_64: Final = 0x22
"""The only hash function in use, by its multicodec."""

HASH_BITS: Final = 64
"""The digits of a name end here, and so does the tree: at most `64 / log2(fanout)` shards lie above each other."""

_MASK = 2**64 - 1
_C1 = 0x87C37B91114253D5
_C2 = 0x4CF5AD432745937F


class Hashed(NamedTuple):
    """An entry of a directory with the hash of its name; sorts by hash."""

    hash: int
    name: str
    cid: Cid
    dag_size: int


class ShardLink(NamedTuple):
    """A link of a shard, its name taken apart."""

    digit: int
    name: str
    """The name of an entry; empty for a shard."""
    link: dag_pb.Link


Block = tuple[Cid, bytes]


def digit_bits(fanout: int) -> int:
    """Bits of a name's hash that one shard looks at."""
    return fanout.bit_length() - 1


def prefix_length(fanout: int) -> int:
    """Hexadecimal characters of a digit in the name of a link."""
    return len(f"{fanout - 1:X}")


def hash_name(name: str) -> int:
    """The hash of a name, 64 bits."""
    return murmur3(name.encode("utf-8", "surrogateescape"))


def murmur3(data: bytes) -> int:
    """murmur3-x64-64: the first half of MurmurHash3 x64 128 with seed 0 (Austin Appleby, public domain)."""
    h1 = h2 = 0
    whole = len(data) & ~15
    for position in range(0, whole, 16):
        h1 ^= _mix(int.from_bytes(data[position : position + 8], "little"), _C1, 31, _C2)
        h1 = ((h1 << 27 | h1 >> 37) + h2) * 5 + 0x52DCE729 & _MASK
        h2 ^= _mix(int.from_bytes(data[position + 8 : position + 16], "little"), _C2, 33, _C1)
        h2 = ((h2 << 31 | h2 >> 33) + h1) * 5 + 0x38495AB5 & _MASK
    h1 ^= _mix(int.from_bytes(data[whole : whole + 8], "little"), _C1, 31, _C2)
    h2 ^= _mix(int.from_bytes(data[whole + 8 :], "little"), _C2, 33, _C1)
    h1 ^= len(data)
    h2 ^= len(data)
    h1 = h1 + h2 & _MASK
    h2 = h2 + h1 & _MASK
    return _finish(h1) + _finish(h2) & _MASK


def _mix(value: int, first: int, rotation: int, second: int) -> int:
    value = value * first & _MASK
    value = (value << rotation | value >> (64 - rotation)) & _MASK
    return value * second & _MASK


def _finish(value: int) -> int:
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD & _MASK
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 & _MASK
    return value ^ value >> 33


def build_shard(
    options: ImportOptions,
    entries: Sequence[Hashed],
    depth: int = 0,
    *,
    mode: int | None = None,
    mtime: UnixTime | None = None,
) -> Generator[Block, None, tuple[Cid, int]]:
    """The blocks of a sharded directory, this shard last; returns its CID and the bytes of all its blocks and entries.

    `entries` are sorted and have the first `depth` digits in common. Calls itself once a digit, at most 21 deep. A block
    inside its own CID is not given out. Raises LimitExceeded when two names have the same hash.
    """
    fanout = options.max_hamt_fanout
    bits, width = digit_bits(fanout), prefix_length(fanout)
    shift = HASH_BITS - bits * (depth + 1)
    if shift < 0:
        raise LimitExceeded("depth of a sharded directory", depth)
    links: list[dag_pb.Link] = []
    occupied = total = 0
    start = 0
    while start < len(entries):
        digit = entries[start].hash >> shift & fanout - 1
        end = start + 1
        while end < len(entries) and entries[end].hash >> shift & fanout - 1 == digit:
            end += 1
        if end - start == 1:
            _, name, cid, size = entries[start]
        else:
            name = ""
            cid, size = yield from build_shard(options, entries[start:end], depth + 1)
        links.append(dag_pb.Link(f"{digit:0{width}X}{name}", size, cid))
        occupied |= 1 << digit
        total += size
        start = end
    data = encode_data(
        NodeKind.HAMT_SHARD,
        # As boxo writes it: big-endian, leading zero bytes left out.
        payload=occupied.to_bytes((occupied.bit_length() + 7) // 8, "big"),
        hash_type=MURMUR3_X64_64,
        fanout=fanout,
        mode=mode,
        mtime=mtime,
    )
    block = dag_pb.encode(dag_pb.Node(data, tuple(links)))
    cid = options.cid(DAG_PB, block)
    if cid.hash_code != IDENTITY:
        yield cid, block
    return cid, len(block) + total


def shard_links(links: Sequence[dag_pb.Link], bit_field: bytes, fanout: int) -> list[ShardLink]:
    """The links of a foreign shard. Raises DecodeError unless there is one for each bit of the field, properly named."""
    width = prefix_length(fanout)
    found: list[ShardLink] = []
    occupied = 0
    for link in links:
        text = link.name or ""
        prefix = text[:width]
        try:
            digit = int(prefix, 16)
        except ValueError:
            digit = -1
        # Anything but the one right form of a digit would be found by some readers and not by others.
        if not 0 <= digit < fanout or prefix != f"{digit:0{width}X}":
            raise DecodeError(f"a link of a shard with fanout {fanout} is called {prefix!r}")
        if occupied >> digit & 1:
            raise DecodeError(f"a shard has two links for {prefix}")
        occupied |= 1 << digit
        found.append(ShardLink(digit, text[width:], link))
    if occupied != int.from_bytes(bit_field, "big"):
        raise DecodeError("the bit field of a shard does not tell its links")
    return found
