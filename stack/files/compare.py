"""What of a batch of entries must be asked for, and what is there already, or need not come to be told."""

import os
import stat
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anyio.to_thread

from stack.dag.unixfs.directory import Entry
from stack.errors import Refused
from stack.files import target
from stack.files.chosen import Chosen
from stack.files.directory import Directory
from stack.files.fetch_file import Same, same_leaves
from stack.files.found import LEAVES_TOGETHER
from stack.files.inline import inline_size
from stack.files.making import Making
from stack.files.update import CHANGED, NEW
from stack.files.work import Work
from stack.multiformats.multicodec import DAG_PB, RAW


async def not_there(
    work: Work, base: Path, making: Making, chosen: Chosen, directory: Directory, batch: list[Entry]
) -> tuple[list[Entry], set[str]]:
    """The entries that must be asked for: not a file of one block that is there and right; and the names of those of which only mode
    and time may be others. An update that only shows what it would do asks for nothing that can be nothing but a file."""
    update = work.update
    only_shows = update is not None and update.dry_run
    place = base.joinpath(*directory.below)
    there: dict[str, os.stat_result] = {}
    if only_shows:
        names = [entry.name for entry in batch]
        there = await anyio.to_thread.run_sync(partial(_statuses, base, directory, names))
    known = [
        entry
        for entry in batch
        if entry.name in (there if only_shows else directory.there) and entry.cid.codec in (RAW, DAG_PB)
    ]
    kept = work.found if work.writes else None
    same = await anyio.to_thread.run_sync(same_leaves, base, place, known, kept) if known else Same({}, set())
    await work.found.keep(LEAVES_TOGETHER)
    for size in same.files.values():
        work.files += 1
        work.progress.add(size, written=False)
    others = [entry for entry in batch if entry.name not in same.files]
    if chosen:
        chosen.took(len(same.files))
    if update is None or not only_shows:
        return others, same.bytes
    left: list[Entry] = []
    for entry in others:
        coming = entry.dag_size if entry.cid.codec == RAW else inline_size(entry.cid)
        if coming is None or entry.name in same.bytes:
            left.append(entry)
            continue
        await making.directory(directory)
        if chosen:
            chosen.took(1)
        below, status = (*directory.below, entry.name), there.get(entry.name)
        if status is None or not stat.S_ISDIR(status.st_mode) or await update.clear(base, below):
            update.told(below, NEW if status is None else CHANGED)
            work.files_written += 1
        work.files += 1
        work.progress.add(coming, written=False)
    return left, same.bytes


def _statuses(base: Path, directory: Directory, names: Sequence[str]) -> dict[str, os.stat_result]:
    """Those of a directory that are there; none where it is not."""
    found: dict[str, os.stat_result] = {}
    try:
        with target.opened(base, directory.below) as within:
            for name in names:
                try:
                    found[name] = os.stat(name, dir_fd=within, follow_symlinks=False)
                except FileNotFoundError:
                    continue
    except Refused:
        return {}
    return found
