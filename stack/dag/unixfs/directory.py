"""Directories and symbolic links as blocks, plain or sharded exactly where Kubo 0.42 would shard them.

Source: ipfs/boxo ipld/unixfs/io/directory.go; IPIP-499 for how the size is estimated.
"""

from collections.abc import Generator, Iterable
from typing import NamedTuple

from stack.dag import dag_pb
from stack.dag.unixfs.data import NodeKind, UnixTime, encode_data, uvarint_size
from stack.dag.unixfs.hamt import Hashed, build_shard, hash_name
from stack.dag.unixfs.options import ImportOptions, SizeEstimation
from stack.errors import Refused
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB
from stack.multiformats.multihash import IDENTITY

Block = tuple[Cid, bytes]


class Entry(NamedTuple):
    """A name in a directory."""

    name: str
    """Bytes that are not UTF-8 are lone surrogates, as in `os.fsdecode`."""
    cid: Cid
    dag_size: int
    """Bytes of all blocks below, repeated ones counted each time. In a foreign directory: what its author claims."""


class DirectoryRoot(NamedTuple):
    """A finished directory."""

    cid: Cid
    dag_size: int
    """Bytes of all its blocks and all that is in it: the Tsize of a link to it."""
    sharded: bool


def build_directory(
    options: ImportOptions, entries: Iterable[Entry], *, mode: int | None = None, mtime: UnixTime | None = None
) -> Generator[Block, None, DirectoryRoot]:
    """The blocks of a directory, its root last; returns the root. A block inside its own CID is not given out.

    Memory: about 300 bytes an entry. Raises Refused when two entries have one name, LimitExceeded when the hashes of
    two names are equal in all their bits.
    """
    listed = list(entries)
    if len({entry.name for entry in listed}) != len(listed):
        raise Refused("two entries of a directory have the same name")
    data = encode_data(NodeKind.DIRECTORY, mode=mode, mtime=mtime)
    sharded = _is_sharded(options, listed, data)
    if sharded:
        hashed = sorted(Hashed(hash_name(name), name, cid, size) for name, cid, size in listed)
        cid, dag_size = yield from build_shard(options, hashed, mode=mode, mtime=mtime)
        return DirectoryRoot(cid, dag_size, sharded)
    block = dag_pb.encode(dag_pb.Node(data, tuple(dag_pb.Link(name, size, cid) for name, cid, size in listed)))
    cid = options.cid(DAG_PB, block)
    if cid.hash_code != IDENTITY:
        yield cid, block
    return DirectoryRoot(cid, len(block) + sum(entry.dag_size for entry in listed), sharded)


def symlink_block(options: ImportOptions, target: str, *, mtime: UnixTime | None = None) -> Block:
    """The block of a symbolic link; it records no mode."""
    data = encode_data(NodeKind.SYMLINK, payload=target.encode("utf-8", "surrogateescape"), mtime=mtime)
    block = dag_pb.encode(dag_pb.Node(data, ()))
    return options.cid(DAG_PB, block), block


def _is_sharded(options: ImportOptions, entries: list[Entry], data: bytes) -> bool:
    if not options.hamt_threshold:
        return False
    if 0 < options.max_directory_links < len(entries):
        return True
    if options.hamt_estimation is SizeEstimation.DISABLED:
        return False
    if options.hamt_estimation is SizeEstimation.LINKS:
        size = sum(_name_size(entry) + len(bytes(entry.cid)) for entry in entries)
    else:
        size = _delimited(len(data)) + sum(map(_link_size, entries))
    return size > options.hamt_threshold


def _link_size(entry: Entry) -> int:
    """Bytes of a link in the block of a plain directory."""
    size = _delimited(len(bytes(entry.cid))) + _delimited(_name_size(entry)) + 1 + uvarint_size(entry.dag_size)
    return _delimited(size)


def _delimited(size: int) -> int:
    """Bytes of a field that holds this many: its tag is one byte."""
    return 1 + uvarint_size(size) + size


def _name_size(entry: Entry) -> int:
    return len(entry.name.encode("utf-8", "surrogateescape"))
