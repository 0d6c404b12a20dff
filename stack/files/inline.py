"""Entries of a directory that tell what they are: their root is in their own CID, so that nothing is asked for to know it.

A file of one raw leaf below such a root is got as if that leaf were its root, many of them at a time.
"""

from collections.abc import Collection, Sequence

from stack.blocks.interfaces import BLOCK_SIZE_MAX
from stack.dag.unixfs.data import NodeKind
from stack.dag.unixfs.directory import Entry
from stack.dag.unixfs.reader import UnixFSNode, decode_node
from stack.errors import DecodeError
from stack.files.parts import WrongSize, one_leaf
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB
from stack.multiformats.multihash import IDENTITY


def inline_node(cid: Cid) -> UnixFSNode | None:
    """The node that a CID holds; None where it holds none. Raises DecodeError."""
    if cid.hash_code != IDENTITY or cid.codec != DAG_PB:
        return None
    return decode_node(cid, cid.digest)


def is_no_directory(cid: Cid) -> bool:
    """Whether a CID holds something that has no entries."""
    try:
        node = inline_node(cid)
    except DecodeError:
        return False  # to be told where it is fetched
    return node is not None and not node.is_directory


def inline_file(cid: Cid) -> UnixFSNode | None:
    """The root of a file of at most one leaf that a CID holds; None for anything else."""
    try:
        node = inline_node(cid)
    except DecodeError:
        return None
    if node is None or not node.is_file or (node.links and one_leaf(node) is None):
        return None
    return node


def inline_size(cid: Cid) -> int | None:
    """Bytes of such a file."""
    root = inline_file(cid)
    return None if root is None else root.file_size


class Firsts:
    """The first blocks of some entries: what is asked for, and what each entry is once it has come."""

    def __init__(self, entries: Sequence[Entry], there: Collection[str] = ()) -> None:
        """Of the names that are `there` no leaf is asked for."""
        self._leaves: dict[str, tuple[UnixFSNode, Cid]] = {}
        for entry in entries:
            root = inline_file(entry.cid) if entry.name not in there else None
            leaf = one_leaf(root) if root is not None else None
            if root is not None and leaf is not None and root.file_size <= BLOCK_SIZE_MAX:
                self._leaves[entry.name] = root, leaf

    def cid(self, entry: Entry) -> Cid:
        """What is asked for."""
        return self._leaves[entry.name][1] if entry.name in self._leaves else entry.cid

    def check(self, entry: Entry, size: int) -> None:
        """A first block has come. Raises WrongSize where it is larger than its entry says: such ones would fill our memory."""
        if 0 < entry.dag_size < size:
            raise WrongSize(entry.cid, entry.dag_size, size)
        if entry.name in self._leaves and (announced := self._leaves[entry.name][0].file_size) != size:
            raise WrongSize(entry.cid, announced, size)

    def node(self, entry: Entry, block: bytes) -> UnixFSNode:
        """What an entry is. Raises DecodeError, WrongSize."""
        if entry.name not in self._leaves:
            return decode_node(entry.cid, block)
        self.check(entry, len(block))
        root, leaf = self._leaves[entry.name]
        return UnixFSNode(
            cid=leaf,
            kind=NodeKind.FILE,
            payload=memoryview(block),
            payload_start=0,
            file_size=len(block),
            mode=root.mode,
            mtime=root.mtime,
        )
