"""Reading foreign UnixFS: what a node is, which part of a file lies where, what is in a directory, where a path leads.

Nothing here believes a block beyond its hash. Functions on one node return values; those that need more blocks are
generators: they yield the CID of a block and are sent its bytes, so that the caller decides how to get it, and may work
on several branches at once with `children` and `list_node`. Nothing recurses.

Source: ipfs/specs unixfs.md; its MUSTs about rejecting are quoted where they are kept.
"""

from collections.abc import Generator
from typing import Final, TypeVar

from stack.dag import dag_pb
from stack.dag.unixfs.data import FILE_SIZE_MAX, NodeKind, UnixTime, decode_data
from stack.dag.unixfs.directory import Entry
from stack.dag.unixfs.hamt import HASH_BITS, MURMUR3_X64_64, digit_bits, hash_name, shard_links
from stack.dag.unixfs.options import is_fanout
from stack.errors import DecodeError, LocalProtocolError, StackError
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB, RAW, name_of
from stack.multiformats.multihash import IDENTITY
from stack.sansio.interfaces import Buffer
from stack.values import dataclass

FILE_DEPTH_MAX: Final = 128
"""Nodes of a file below each other. With two links a node, 63 levels hold the largest file there can be; a chain of
nodes with one link each is built to waste its reader's time."""

_Result = TypeVar("_Result")
BlockReader = Generator[Cid, bytes, _Result]
"""Yields the CID of each block it needs, is sent the block's bytes, returns a result."""


class LinkNotFound(StackError):
    """A path leads to a name that is not there."""

    def __init__(self, name: str, cid: Cid, message: str = "") -> None:
        super().__init__(message or f"no link named {name!r} under {cid}")
        self.name = name
        self.cid = cid


class NotADirectory(LinkNotFound):
    """Entries, or the one called `name`, are sought in something that has none; `kind` is what it is."""

    def __init__(self, name: str, cid: Cid, kind: NodeKind) -> None:
        sought = f"there is no {name!r} in it" if name else "not a directory"
        super().__init__(name, cid, f"{cid} is {kind.noun}, {sought}")
        self.kind = kind


class NotAFile(DecodeError):
    """The bytes of a file are sought in something that is none; `kind` is what it is."""

    def __init__(self, cid: Cid, kind: NodeKind) -> None:
        super().__init__(f"{cid} is {kind.noun}, not a file")
        self.kind = kind


class LeadsOut(DecodeError):
    """A path goes up from where it begins."""

    def __init__(self) -> None:
        super().__init__("the path leads out of its root")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixFSNode:
    """A decoded block, its claims about itself checked."""

    cid: Cid
    kind: NodeKind
    payload: memoryview
    """File: the bytes in this block, before those of its children. Symbolic link: its target. Shard: its bit field."""
    payload_start: int
    """Where the payload lies in a block without links."""
    file_size: int
    """Bytes of the file: payload and `block_sizes`. 0 for what is no file."""
    block_sizes: tuple[int, ...] = ()
    """Bytes of the file below each link."""
    links: tuple[dag_pb.Link, ...] = ()
    fanout: int = 0
    """Of a shard."""
    mode: int | None = None
    mtime: UnixTime | None = None

    @property
    def is_file(self) -> bool:
        return self.kind in (NodeKind.FILE, NodeKind.RAW)

    @property
    def is_directory(self) -> bool:
        return self.kind in (NodeKind.DIRECTORY, NodeKind.HAMT_SHARD)

    @property
    def target(self) -> str:
        """Where a symbolic link leads; hostile text like any other."""
        return bytes(self.payload).decode("utf-8", "surrogateescape")


def decode_node(cid: Cid, block: Buffer) -> UnixFSNode:
    """The node in a block. Raises DecodeError; a node that contradicts itself is refused."""
    block = bytes(block)
    if cid.codec == RAW:
        return UnixFSNode(cid=cid, kind=NodeKind.RAW, payload=memoryview(block), payload_start=0, file_size=len(block))
    if cid.codec != DAG_PB:
        raise DecodeError(f"{cid} is {name_of(cid.codec)}, not UnixFS")
    node = dag_pb.decode(block)
    if node.data is None:
        raise DecodeError(f"{cid} is dag-pb, but not UnixFS")
    data = decode_data(node.data)
    payload = memoryview(node.data)[data.payload]
    is_file = data.kind in (NodeKind.FILE, NodeKind.RAW)
    if is_file:
        _check_file(cid, node.links, data.block_sizes, len(payload), data.file_size)
    elif data.kind is NodeKind.HAMT_SHARD:
        # unixfs.md, "HAMT Structure and Parameters": a larger fanout makes readers allocate (CVE-2023-23625).
        if not is_fanout(data.fanout) or data.hash_type != MURMUR3_X64_64 or len(payload) > data.fanout // 8:
            raise DecodeError(f"shard {cid} has fanout {data.fanout}, hash {data.hash_type:#x}")
    elif data.kind is NodeKind.SYMLINK and node.links:
        # unixfs.md, "`dag-pb` `Symlink`": MUST NOT have children.
        raise DecodeError(f"symbolic link {cid} has links")
    return UnixFSNode(
        cid=cid,
        kind=data.kind,
        payload=payload,
        payload_start=len(block) - len(node.data) + data.payload.start,
        file_size=data.file_size if is_file else 0,
        block_sizes=data.block_sizes,
        links=node.links,
        fanout=data.fanout,
        mode=data.mode,
        mtime=data.mtime,
    )


def _check_file(
    cid: Cid, links: tuple[dag_pb.Link, ...], block_sizes: tuple[int, ...], payload: int, file_size: int
) -> None:
    # unixfs.md, "The sister-lists": MUST reject when their lengths differ.
    if len(links) != len(block_sizes):
        raise DecodeError(f"file {cid} has {len(links)} links and {len(block_sizes)} sizes for them")
    # "filesize": MUST be equal to the computed size, otherwise the file is invalid.
    if file_size != payload + sum(block_sizes) or file_size > FILE_SIZE_MAX:
        raise DecodeError(f"file {cid} says it has {file_size} bytes, its parts say {payload + sum(block_sizes)}")
    # "PBNode.Links[].Name": MUST reject a name that is not empty.
    if any(link.name for link in links):
        raise DecodeError(f"file {cid} has a link with a name")


def leaf_frame(node: UnixFSNode, block: bytes) -> tuple[bytes, bytes]:
    """What stands before and after the payload in the block of a leaf; empty for a raw one. The node has no links."""
    start = node.payload_start
    return block[:start], block[start + len(node.payload) :]


@dataclass(frozen=True, slots=True)
class FilePart:
    """A node of a file and the bytes of the file that it must hold."""

    cid: Cid
    offset: int
    """Where it starts in the file."""
    size: int
    depth: int = 0
    """How many nodes lie above it."""


def children(
    node: UnixFSNode, offset: int = 0, *, depth: int = 0, start: int = 0, stop: int = FILE_SIZE_MAX
) -> list[FilePart]:
    """The parts below a node of a file that lies at `offset`, `depth` nodes below the root; none that is empty.

    Only parts that have bytes of the file within `start` to `stop` are listed. Raises DecodeError below `FILE_DEPTH_MAX`.
    """
    if node.links and depth >= FILE_DEPTH_MAX:
        raise DecodeError(f"file node {node.cid} is {depth} levels deep")
    parts = []
    position = offset + len(node.payload)
    for link, size in zip(node.links, node.block_sizes, strict=True):
        end = position + size
        if size and end > start and position < stop:
            parts.append(FilePart(link.cid, position, size, depth + 1))
        position = end
    return parts


def decode_part(part: FilePart, block: Buffer) -> UnixFSNode:
    """The node of a part of a file. Raises DecodeError when it is none, or not as large as the nodes above it say."""
    node = decode_node(part.cid, block)
    if not node.is_file:
        raise DecodeError(f"{part.cid} is part of a file, but {node.kind.noun}")
    if node.file_size != part.size:
        raise DecodeError(f"part {part.cid} of a file has {node.file_size} bytes, {part.size} were announced")
    return node


def read_file(
    root: UnixFSNode, offset: int = 0, length: int = FILE_SIZE_MAX
) -> Generator[Cid | memoryview, bytes | None, None]:
    """The bytes of a file from `offset`, in order; needs only blocks that hold some of them.

    Yields the CID of a block it needs, to be sent its bytes; and pieces of the file as memoryviews, to be sent nothing.
    Raises NotAFile, DecodeError.
    """
    if not root.is_file:
        raise NotAFile(root.cid, root.kind)
    stop = offset + length
    waiting = [FilePart(root.cid, 0, root.file_size)]
    node = root
    while waiting:
        part = waiting.pop()
        if part.depth:
            if part.cid.hash_code == IDENTITY:
                block: bytes | None = part.cid.digest
            else:
                block = yield part.cid
            if block is None:
                raise LocalProtocolError("a reader that asked for a block was sent none")
            node = decode_part(part, block)
        piece = node.payload[max(offset - part.offset, 0) : max(stop - part.offset, 0)]
        if piece:
            yield piece
        waiting += reversed(children(node, part.offset, depth=part.depth, start=offset, stop=stop))


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a sharded directory that is still to be read."""

    cid: Cid
    fanout: int
    prefix: int
    """The digits of the hash that all names in it have in common."""
    depth: int
    """How many digits those are."""


def list_node(node: UnixFSNode, shard: Shard | None = None) -> tuple[list[Entry], list[Shard]]:
    """The entries in one node of a directory, and what else must be read; `shard` is what the node was read for.

    Keep what must be read on a stack: a hostile directory may have more shards on one level than there are atoms, but
    the first way down to its bottom shows that it lies. Of entries with the same name the first counts (unixfs.md,
    "Directory Path Resolution"). Raises DecodeError, and NotADirectory for what has no entries.
    """
    if shard is None and node.kind is NodeKind.DIRECTORY:
        entries: dict[str, Entry] = {}
        for link in node.links:
            name = link.name or ""
            entries.setdefault(name, Entry(name, link.cid, link.size or 0))
        return list(entries.values()), []
    if node.kind is not NodeKind.HAMT_SHARD:
        if shard is None:
            raise NotADirectory("", node.cid, node.kind)
        raise DecodeError(f"{node.cid} is part of a sharded directory, but {node.kind.noun}")
    if shard is None:
        shard = Shard(node.cid, node.fanout, 0, 0)
    # unixfs.md: "The same fanout value is used throughout all levels".
    if node.fanout != shard.fanout:
        raise DecodeError(f"shard {node.cid} has fanout {node.fanout}, the directory has {shard.fanout}")
    bits = digit_bits(node.fanout)
    rest = HASH_BITS - bits * (shard.depth + 1)
    if rest < 0:
        raise DecodeError(f"shard {node.cid} lies deeper than names have hash bits")
    if shard.depth and not node.links:
        # An empty shard would fit anywhere: with it a few blocks make a directory of 8^21 shards. Writers leave none.
        raise DecodeError(f"shard {node.cid} is empty")
    found: list[Entry] = []
    below: list[Shard] = []
    for digit, name, link in shard_links(node.links, bytes(node.payload), node.fanout):
        prefix = shard.prefix << bits | digit
        if not name:
            below.append(Shard(link.cid, node.fanout, prefix, shard.depth + 1))
        elif hash_name(name) >> rest != prefix:
            # Listed here it would not be found by its path; and each name has one place only, so none occurs twice.
            raise DecodeError(f"shard {node.cid} holds {name!r}, which belongs elsewhere")
        else:
            found.append(Entry(name, link.cid, link.size or 0))
    return found, below


def list_directory(root: UnixFSNode) -> BlockReader[list[Entry]]:
    """All entries of a directory, in the order of its blocks. Raises DecodeError, NotADirectory."""
    entries, waiting = list_node(root)
    waiting.reverse()
    while waiting:
        shard = waiting.pop()
        found, below = list_node(decode_node(shard.cid, (yield from _block(shard.cid))), shard)
        entries += found
        waiting += reversed(below)
    return entries


def find_entry(directory: UnixFSNode, name: str) -> BlockReader[Entry]:
    """The entry of this name. Raises LinkNotFound, NotADirectory, DecodeError."""
    if not directory.is_directory:
        raise NotADirectory(name, directory.cid, directory.kind)
    node, shard = directory, None
    while True:
        entries, below = list_node(node, shard)
        for entry in entries:
            if entry.name == name:
                return entry
        for shard in below:
            if hash_name(name) >> HASH_BITS - digit_bits(shard.fanout) * shard.depth == shard.prefix:
                node = decode_node(shard.cid, (yield from _block(shard.cid)))
                break
        else:
            raise LinkNotFound(name, directory.cid)


def resolve(root: Cid, path: str) -> BlockReader[Cid]:
    """The CID that a path below `root` leads to; its own block is not needed, symbolic links are not followed.

    Raises LinkNotFound, NotADirectory, LeadsOut for a path that leaves the root, DecodeError.
    """
    cid = root
    for name in path_names(path):
        node = decode_node(cid, (yield from _block(cid)))
        cid = (yield from find_entry(node, name)).cid
    return cid


def path_names(path: str) -> list[str]:
    """The names a path goes through; `.`, `..` and empty ones are resolved first.

    unixfs.md, "Relative Path Components": `..` removes the name to its left; where there is none the path MUST be
    rejected. Raises LeadsOut.
    """
    names: list[str] = []
    for name in path.split("/"):
        if name == "..":
            if not names:
                raise LeadsOut
            names.pop()
        elif name not in ("", "."):
            names.append(name)
    return names


def _block(cid: Cid) -> Generator[Cid, bytes, bytes]:
    """The bytes of a block; those inside a CID need no asking."""
    if cid.hash_code == IDENTITY:
        return cid.digest
    return (yield cid)
