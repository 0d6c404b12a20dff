"""Leaves of a file as a fetch meets them: is this block a leaf, does it fit its place, is it there already. For worker threads."""

import os
import stat
from collections.abc import Callable
from functools import lru_cache

from stack.blocks.hashing import matches
from stack.blocks.index import FRAME_BYTES_MAX
from stack.blocks.interfaces import BLOCK_SIZE_MAX, Leaf
from stack.dag.unixfs import builder
from stack.dag.unixfs.data import NodeKind, UnixTime
from stack.dag.unixfs.reader import FilePart, UnixFSNode, decode_part, leaf_frame
from stack.errors import DecodeError
from stack.multiformats import multihash
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB, RAW
from stack.multiformats.multihash import IDENTITY
from stack.sansio.interfaces import Buffer

LeafSink = Callable[[Leaf, Buffer], None]
"""Takes a leaf and its payload: writes it, or compares it with what is there."""

Keep = Callable[[Leaf], None]
"""Takes a leaf that was found where it should be."""


def no_keeping(leaf: Leaf) -> None:
    """A `Keep` that does nothing."""


class WrongSize(DecodeError):
    """A block is not as large as the nodes above it say: whoever made this DAG lies, or made a mistake."""

    def __init__(self, cid: Cid, announced: int, size: int) -> None:
        super().__init__(
            f"{cid} holds {size} bytes of the file where {announced} were announced; nothing of it is kept"
        )
        self.cid = cid
        self.announced = announced
        self.size = size


def is_certainly_node(part: FilePart) -> bool:
    """Whether a part cannot be one block with all its bytes, so that it must have parts of its own."""
    return part.cid.codec != RAW and part.size > BLOCK_SIZE_MAX


def is_hole(part: FilePart) -> bool:
    """Whether a part is one leaf of nothing but zeros, as its CID tells: where a file has none of that, nothing is written."""
    if part.size > BLOCK_SIZE_MAX or part.cid.codec not in (RAW, DAG_PB) or part.cid.hash_code == IDENTITY:
        return False
    return part.cid.multihash in _zeros(part.size, part.cid.codec, part.cid.hash_code)


@lru_cache(maxsize=64)
def _zeros(size: int, codec: int, hash_code: int) -> tuple[bytes, ...]:
    """The multihashes of leaves with as many zeros."""
    frames = ((b"", b""),) if codec == RAW else _frames(size)
    try:
        return tuple(multihash.digest(hash_code, b"".join((prefix, bytes(size), end))) for prefix, end in frames)
    except DecodeError:
        return ()


@lru_cache(maxsize=256)
def _frames(size: int) -> tuple[tuple[bytes, bytes], ...]:
    """What writers put around this much payload in a dag-pb leaf: balanced and trickle layout."""
    return builder.leaf_frame(NodeKind.FILE, size), builder.leaf_frame(NodeKind.RAW, size)


def place_leaf(part: FilePart, block: Buffer, sink: LeafSink) -> bool:
    """Give the payload of a leaf to `sink`, without a copy where the leaf has a usual form; False for a node with children.

    Raises WrongSize, DecodeError, and what `sink` raises.
    """
    view = memoryview(block)
    if part.cid.codec == RAW:
        if len(view) != part.size:
            raise WrongSize(part.cid, part.size, len(view))
        sink(_leaf(part, view), view)
        return True
    if part.cid.codec == DAG_PB:
        for prefix, suffix in _frames(part.size):
            end = len(prefix) + part.size
            if end + len(suffix) == len(view) and view[: len(prefix)] == prefix and view[end:] == suffix:
                payload = view[len(prefix) : end]
                sink(_leaf(part, payload, prefix, suffix), payload)
                return True
    raw = bytes(view)
    node = decode_part(part, raw)
    if node.links:
        return False
    prefix, suffix = leaf_frame(node, raw)
    sink(_leaf(part, node.payload, prefix, suffix), node.payload)
    return True


def whole_leaf(node: UnixFSNode, block: bytes) -> tuple[Leaf, memoryview]:
    """The leaf that a file of one block is, and its payload."""
    return _leaf(FilePart(node.cid, 0, node.file_size), node.payload, *leaf_frame(node, block)), node.payload


def _leaf(part: FilePart, payload: memoryview, prefix: bytes = b"", suffix: bytes = b"") -> Leaf:
    if part.cid.hash_code == IDENTITY or len(prefix) + len(suffix) > FRAME_BYTES_MAX:
        # The block is no leaf in place for a store. Its payload can be: as the raw block that it would be by itself.
        return Leaf(Cid.of(payload), part.offset, part.size)
    return Leaf(part.cid, part.offset, part.size, prefix, suffix)


def is_in_place(fd: int, part: FilePart, keep: Keep = no_keeping) -> bool | None:
    """Whether the bytes of a part are at their offset in a file, `keep` is told the leaf then; None when that cannot be told without its
    block.

    Raises OSError.
    """
    if part.size > BLOCK_SIZE_MAX:
        return None
    payload = os.pread(fd, part.size, part.offset)
    if part.cid.codec == RAW:
        found = len(payload) == part.size and matches(part.cid.multihash, payload)
        if found and part.cid.hash_code != IDENTITY:
            keep(Leaf(part.cid, part.offset, part.size))
        return found
    if part.cid.codec != DAG_PB or part.cid.hash_code == IDENTITY or len(payload) < part.size:
        return None
    for prefix, suffix in _frames(part.size):
        if matches(part.cid.multihash, b"".join((prefix, payload, suffix))):
            keep(Leaf(part.cid, part.offset, part.size, prefix, suffix))
            return True
    return None


def is_whole_leaf(fd: int, cid: Cid, size: int, keep: Keep = no_keeping) -> bool:
    """Whether an open file, as it is or with the permissions and time that it has, is a block of `size` bytes, of which `keep` is told
    then. One that may be executed is not a file with a time and no mode: who tells times tells what is executable.

    Raises OSError.
    """
    status = os.fstat(fd)
    if cid.codec == RAW:
        return is_in_place(fd, FilePart(cid, 0, status.st_size), keep) is True
    if cid.codec != DAG_PB or cid.hash_code == IDENTITY:
        return False
    for mode, mtime in _attributes(status):
        prefix, suffix = builder.leaf_frame(NodeKind.FILE, status.st_size, mode=mode, mtime=mtime)
        if len(prefix) + status.st_size + len(suffix) == size:
            payload = os.pread(fd, status.st_size, 0)
            if len(payload) == status.st_size and matches(cid.multihash, b"".join((prefix, payload, suffix))):
                keep(Leaf(cid, 0, status.st_size, prefix, suffix))
                return True
    return False


def _attributes(status: os.stat_result) -> tuple[tuple[int | None, UnixTime | None], ...]:
    """What a root may say of the mode and time of this file."""
    mode, mtime = stat.S_IMODE(status.st_mode) or None, UnixTime.of_nanoseconds(status.st_mtime_ns)
    timed = (mode if mode and mode & 0o111 else None, mtime)
    return timed, (mode, mtime), (mode, None), (None, None)


def one_leaf(root: UnixFSNode) -> Cid | None:
    """The raw leaf that has all bytes of a file below this root; None for any other file."""
    if len(root.links) != 1 or root.block_sizes != (root.file_size,):
        return None
    leaf = root.links[0].cid
    return leaf if leaf.codec == RAW and leaf.hash_code != IDENTITY else None


def has_bytes(fd: int, root: UnixFSNode, keep: Keep = no_keeping) -> bool:
    """Whether an open file has just the bytes of a file of at most one leaf (`one_leaf`), of which `keep` is told then. Raises OSError."""
    if os.fstat(fd).st_size != root.file_size:
        return False
    leaf = one_leaf(root)
    if leaf is None:
        return os.pread(fd, root.file_size, 0) == root.payload
    return is_in_place(fd, FilePart(leaf, 0, root.file_size), keep) is True


def has_attributes(fd: int, root: UnixFSNode) -> bool:
    """Whether an open file has the mode and time that its root says, as `is_whole_leaf`. Raises OSError."""
    return (root.mode or None, root.mtime) in _attributes(os.fstat(fd))


def take_from(fd: int, part: FilePart, sink: LeafSink) -> bool:
    """Give a part that another file has at the same offset to `sink`; False when it does not have it. Raises OSError, and what
    `sink` raises."""
    if part.size > BLOCK_SIZE_MAX or part.cid.hash_code == IDENTITY:
        return False
    payload = os.pread(fd, part.size, part.offset)
    if len(payload) != part.size:
        return False
    frames = ((b"", b""),) if part.cid.codec == RAW else _frames(part.size) if part.cid.codec == DAG_PB else ()
    for prefix, suffix in frames:
        if matches(part.cid.multihash, b"".join((prefix, payload, suffix)) if prefix else payload):
            sink(Leaf(part.cid, part.offset, part.size, prefix, suffix), payload)
            return True
    return False
