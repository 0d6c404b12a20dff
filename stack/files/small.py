"""Files of one block in a tree: written together, because each alone would wait for the disk many times."""

from collections.abc import Sequence
from pathlib import Path

from stack.blocks.interfaces import Leaf, WholeFile
from stack.dag.unixfs.reader import UnixFSNode
from stack.files.events import FileFinished
from stack.files.parts import whole_leaf
from stack.files.update import NEW
from stack.files.work import Work
from stack.multiformats.multihash import IDENTITY
from stack.values import dataclass


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A file that is to be written; small when its root, `block`, has no links."""

    path: Path
    part: str
    """Its name until it is whole, in the same directory."""
    node: UnixFSNode
    block: bytes


async def keep_small(work: Work, files: Sequence[TreeFile], base: Path) -> list[TreeFile]:
    """Write small files of one directory below `base`; returns those that must be looked at one by one.

    Something was there before. Raises what `WholeFiles.keep_files` raises.
    """
    if not files:
        return []
    whole = [_whole(file) for file in files]
    left = {file.name for file in await work.small_files.keep_files(files[0].path.parent, whole, base=base)}
    for file in files:
        if file.path.name not in left:
            work.progress.add(file.node.file_size)
            work.files_written += 1
            work.files += 1
            if work.update is not None:
                work.update.told(file.path.relative_to(base).parts, NEW)
            work.tell(FileFinished(path=file.path, size=file.node.file_size))
    return [file for file in files if file.path.name in left]


def _whole(file: TreeFile) -> WholeFile:
    leaf, payload = whole_leaf(file.node, file.block)
    if file.node.cid.hash_code == IDENTITY:  # no node refers to these bytes as a block of their own
        leaf = Leaf(file.node.cid, leaf.offset, leaf.length)
    mtime_ns = None if file.node.mtime is None else file.node.mtime.in_nanoseconds
    return WholeFile(file.path.name, file.part, leaf, payload, file.node.mode, mtime_ns)
