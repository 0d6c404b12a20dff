"""The tree over the leaves of a file, balanced or trickle, byte-exact with Kubo; pure, and never larger than a branch.

The caller cuts and hashes leaves where it likes (worker threads, any number at once) and tells their CIDs in the file's
order. Leaves need not be copied: `leaf_block` gives the bytes to put before and after the payload where it lies.

Source: ipfs/boxo ipld/unixfs/importer (balanced/builder.go, trickle/trickledag.go, helpers/dagbuilder.go).
"""

from collections import deque
from dataclasses import field
from typing import NamedTuple

from stack.dag import dag_pb
from stack.dag.unixfs.data import NodeKind, UnixTime, encode_attributes, encode_data, encode_uvarint
from stack.dag.unixfs.options import ImportOptions, inline_cid
from stack.errors import LocalProtocolError
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB, RAW
from stack.multiformats.multihash import IDENTITY, IDENTITY_BYTES_MAX
from stack.sansio.interfaces import Buffer
from stack.values import dataclass

Block = tuple[Cid, bytes]

_REPEAT = 4
"""Trickle: how many subtrees of one depth a node has before the next are one deeper (`depthRepeat`)."""


class FileRoot(NamedTuple):
    """A finished file."""

    cid: Cid
    size: int
    """Bytes of the file."""
    dag_size: int
    """Bytes of all its blocks, those that occur twice counted twice: the Tsize of a link to it."""


class _Child(NamedTuple):
    cid: Cid
    size: int
    dag_size: int


def leaf_block(
    options: ImportOptions, payload: Buffer, *, mode: int | None = None, mtime: UnixTime | None = None
) -> tuple[Cid, bytes, bytes]:
    """The CID of the leaf with this payload, and the bytes of its block before and after the payload.

    Mode and time are for the one leaf of a file that has no other (balanced layout, no raw leaves) and are lost on any
    other; tell the builder by `whole_file`. May be called from any thread; hashes without joining the parts. Raises
    LocalProtocolError for a mode or time with raw leaves.
    """
    if options.raw_leaves:
        if mode or mtime:
            raise LocalProtocolError("a raw leaf has no place for mode and time")
        return options.cid(RAW, payload), b"", b""
    prefix, suffix = leaf_frame(
        NodeKind.RAW if options.trickle else NodeKind.FILE, memoryview(payload).nbytes, mode=mode, mtime=mtime
    )
    return options.cid(DAG_PB, prefix, payload, suffix), prefix, suffix


def leaf_frame(
    kind: NodeKind, size: int, *, mode: int | None = None, mtime: UnixTime | None = None
) -> tuple[bytes, bytes]:
    """What stands before and after `size` bytes of payload in a dag-pb leaf."""
    length = encode_uvarint(size)
    before = bytes((0x08, kind)) + (b"\x12" + length if size else b"")
    after = b"\x18" + length + encode_attributes(mode, mtime)
    return b"\x0a" + encode_uvarint(len(before) + size + len(after)) + before, after


@dataclass(slots=True)
class _Branch:
    """A node of a trickle tree that still grows."""

    depth_max: int
    """Subtrees below it are less deep than this."""
    children: list[_Child] = field(default_factory=list)
    subtrees: int = 0


class FileBuilder:
    """Builds the tree of one file.

    Facts from outside: `add_leaf` for each leaf in order. Commands: `finish`. Outputs to drain after each call:
    `next_block`, the nodes above the leaves, children before parents; a block inside its own CID is not given out.
    Memory: the children of one node a level.
    """

    def __init__(self, options: ImportOptions) -> None:
        self._options = options
        self._blocks: deque[Block] = deque()
        self._leaves = 0
        self._whole_file = False
        # Balanced: the children collected at each level, leaves first. Trickle: the branch that grows, root first.
        self._levels: list[list[_Child]] = []
        self._branches = [_Branch(depth_max=-1)]

    def add_leaf(self, cid: Cid, payload_size: int, block_size: int, *, whole_file: bool = False) -> None:
        """The next leaf: its CID, bytes of the file in it, bytes of its block.

        `whole_file` says that its block records the mode and time of the file. Raises LocalProtocolError when such a
        leaf is not alone.
        """
        if self._whole_file or (whole_file and self._leaves):
            raise LocalProtocolError("a leaf that is a whole file cannot be one of several")
        self._whole_file = whole_file
        self._leaves += 1
        leaf = _Child(cid, payload_size, block_size)
        if self._options.trickle:
            self._add_trickle(leaf)
        else:
            self._add_balanced(0, leaf)

    def next_block(self) -> Block | None:
        """The next finished node, or None."""
        return self._blocks.popleft() if self._blocks else None

    def finish(self, *, mode: int | None = None, mtime: UnixTime | None = None) -> FileRoot:
        """No more leaves: the root, which records mode and time. `next_block` still has nodes, the root last.

        Raises LocalProtocolError for a mode or time when the only leaf was made without them and the options have no `inline_root`.
        """
        if self._options.trickle:
            while len(self._branches) > 1:
                self._close_branch()
            return self._root(self._node(self._branches[0].children, mode, mtime))
        if not self._leaves:
            return self._root(self._empty_leaf(mode, mtime))
        level = 0
        while level + 1 < len(self._levels):
            level += 1
            self._add_balanced(level, self._node(self._levels[level - 1]))
        if self._leaves > 1:
            return self._root(self._node(self._levels[level], mode, mtime))
        if (mode or mtime) and not self._whole_file:
            if self._options.inline_root and self._levels[0][0].cid.codec == RAW:
                return self._root(self._node(self._levels[0], mode, mtime, inline=True))
            raise LocalProtocolError("the only leaf of this file must be made with its mode and time")
        return self._root(self._levels[0][0])

    def _add_balanced(self, level: int, child: _Child) -> None:
        """Put a child into the node that grows at this level, starting a new one where that is full.

        A full node is closed only when one more child comes: the root must not be, before its mode and time are known.
        """
        while True:
            if level == len(self._levels):
                self._levels.append([])
            children = self._levels[level]
            if len(children) < self._options.max_file_links:
                children.append(child)
                return
            self._levels[level] = [child]
            child = self._node(children)
            level += 1

    def _add_trickle(self, leaf: _Child) -> None:
        """Put a leaf where the layout wants it: nodes fill with leaves first, then with ever deeper subtrees."""
        while True:
            branch = self._branches[-1]
            if len(branch.children) < self._options.max_file_links:
                branch.children.append(leaf)
                return
            depth = branch.subtrees // _REPEAT + 1
            if depth == branch.depth_max:
                self._close_branch()
            else:
                branch.subtrees += 1
                self._branches.append(_Branch(depth))

    def _close_branch(self) -> None:
        node = self._node(self._branches.pop().children)
        self._branches[-1].children.append(node)

    def _node(
        self, children: list[_Child], mode: int | None = None, mtime: UnixTime | None = None, *, inline: bool = False
    ) -> _Child:
        sizes = [child.size for child in children]
        data = encode_data(NodeKind.FILE, file_size=sum(sizes), block_sizes=sizes, mode=mode, mtime=mtime)
        # Kubo writes the name of these links, empty, where the specification would rather have none.
        links = tuple(dag_pb.Link("", child.dag_size, child.cid) for child in children)
        block = dag_pb.encode(dag_pb.Node(data, links))
        cid = self._emit(block, DAG_PB, inline=inline)
        return _Child(cid, sum(sizes), len(block) + sum(child.dag_size for child in children))

    def _empty_leaf(self, mode: int | None, mtime: UnixTime | None) -> _Child:
        """The leaf of an empty file, which nobody adds."""
        if self._options.inline_root and self._options.raw_leaves and (mode or mtime):
            block = b"".join(leaf_frame(NodeKind.FILE, 0, mode=mode, mtime=mtime))
            return _Child(self._emit(block, DAG_PB, inline=True), 0, len(block))
        _, before, after = leaf_block(self._options, b"", mode=mode, mtime=mtime)
        cid = self._emit(before + after, RAW if self._options.raw_leaves else DAG_PB)
        return _Child(cid, 0, len(before + after))

    def _emit(self, block: bytes, codec: int, *, inline: bool = False) -> Cid:
        fits = inline and len(block) <= IDENTITY_BYTES_MAX
        cid = inline_cid(codec, block) if fits else self._options.cid(codec, block)
        if cid.hash_code != IDENTITY:
            self._blocks.append((cid, block))
        return cid

    @staticmethod
    def _root(child: _Child) -> FileRoot:
        return FileRoot(*child)
