"""Small files of a directory are read and hashed in one worker call, and recorded together with those of others."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import anyio.to_thread

from stack.blocks.disk import let_go, open_below, stamp_of, unchanged
from stack.blocks.interfaces import Block, SourceChanged
from stack.dag.unixfs.builder import FileBuilder, FileRoot
from stack.files.add_file import FileAdder, FileRows
from stack.files.private import IsPrivate
from stack.files.scan import Below

TOGETHER = 128
"""Names of one worker call, of which the event loop makes what it must in 2 ms."""

SMALL_BYTES = 256 * 1024
"""What is larger is read by itself: its own calls and its own transaction cost little beside its hashing."""

COPIED_BYTES = 64 * 1024
"""The same where leaves are kept as blocks: so much of each is in memory until all of them are read."""


class _SmallFile(NamedTuple):
    name: str
    root: FileRoot
    nodes: list[Block]


async def add_small(adder: FileAdder, base: Path, inside: Below, names: Sequence[str]) -> dict[str, FileRoot]:
    """Add what is small of these names, which lie `inside` of a tree; the others, and what went wrong, are to be added one by one. Raises
    Refused, NoSpace, StoreError."""
    files, rows = await anyio.to_thread.run_sync(_read, adder, base, inside, names, limiter=adder.reader)
    await adder.keeper.files(rows)
    for each in files:
        for node in each.nodes:
            await adder.keeper.node(*node)
    return {each.name: each.root for each in files}


def _read(adder: FileAdder, base: Path, inside: Below, names: Sequence[str]) -> tuple[list[_SmallFile], list[FileRows]]:
    try:
        directory = open_below(base, inside)
    except OSError:
        return [], []
    try:
        return _read_in(adder, directory, base.joinpath(*inside), names)
    finally:
        let_go(directory)


def _read_in(
    adder: FileAdder, directory: int, place: Path, names: Sequence[str]
) -> tuple[list[_SmallFile], list[FileRows]]:
    files, rows = [], []
    small = min(SMALL_BYTES, COPIED_BYTES) if adder.keeper.copies else SMALL_BYTES
    for name in names:
        path = place / name
        try:
            opened = adder.open(path, small, directory)
            os.close(opened.file.fd)
            stamp = stamp_of(opened.status)
            if opened.leaves is None or not unchanged(stamp, os.stat(name, dir_fd=directory, follow_symlinks=False)):
                continue
        except (OSError, SourceChanged, IsPrivate):
            continue
        file, leaves = opened.file, opened.leaves
        builder = FileBuilder(file.options)
        for leaf in leaves:
            size = len(leaf.prefix) + leaf.length + len(leaf.suffix)
            builder.add_leaf(leaf.cid, leaf.length, size, whole_file=leaf.whole_file)
        root = builder.finish(mode=file.mode, mtime=file.mtime)
        files.append(_SmallFile(name, root, list(iter(builder.next_block, None))))
        rows.append((path, stamp, leaves))
        adder.remember(path, opened, b"".join(leaf.cid.digest for leaf in leaves))
    return files, rows
