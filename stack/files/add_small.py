"""Small files of a directory are read and hashed in one worker call, and recorded in one transaction."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import anyio.to_thread

from stack.blocks.disk import stamp_of, unchanged
from stack.blocks.interfaces import Block, SourceChanged
from stack.dag.unixfs.builder import FileBuilder, FileRoot
from stack.files.add_file import FileAdder
from stack.files.cutting import CutLeaf, OpenFile
from stack.files.private import IsPrivate

TOGETHER = 64
"""Names of one worker call, of which the event loop makes what it must in 1 ms."""

SMALL_BYTES = 64 * 1024
"""What is larger is read by itself: its own calls cost little beside its hashing."""


class _SmallFile(NamedTuple):
    path: Path
    status: os.stat_result
    file: OpenFile
    root: FileRoot
    leaves: list[CutLeaf]
    nodes: list[Block]


async def add_small(adder: FileAdder, directory: Path, names: Sequence[str]) -> dict[str, FileRoot]:
    """Add what is small of these names; the others, and what went wrong, are to be added one by one. Raises NoSpace, StoreError."""
    files = await anyio.to_thread.run_sync(_read, adder, directory, names)
    kept = await adder.keeper.files([(each.path, stamp_of(each.status), each.leaves) for each in files])
    roots = {}
    for each, is_kept in zip(files, kept, strict=True):
        if is_kept:
            roots[each.path.name] = each.root
            for node in each.nodes:
                await adder.keeper.node(*node)
            digests = b"".join(leaf.cid.digest for leaf in each.leaves)
            adder.remember(each.path, each.status, each.file, digests)
    return roots


def _read(adder: FileAdder, directory: Path, names: Sequence[str]) -> list[_SmallFile]:
    files = []
    for name in names:
        try:
            path = directory / name
            file, status, leaves = adder.open(path, SMALL_BYTES)
            try:
                if leaves is None or not unchanged(stamp_of(status), os.fstat(file.fd)):
                    continue
            finally:
                os.close(file.fd)
        except (OSError, SourceChanged, IsPrivate):
            continue
        builder = FileBuilder(file.options)
        for leaf in leaves:
            size = len(leaf.prefix) + leaf.length + len(leaf.suffix)
            builder.add_leaf(leaf.cid, leaf.length, size, whole_file=leaf.whole_file)
        root = builder.finish(mode=file.mode, mtime=file.mtime)
        files.append(_SmallFile(path, status, file, root, leaves, list(iter(builder.next_block, None))))
    return files
