"""How much lies below a root, counted without fetching contents."""

import anyio.to_thread

from stack.bitswap.interfaces import Session
from stack.blocks.interfaces import BlockStore
from stack.files.read import list_entries, look_at
from stack.files.tasks import task_group
from stack.multiformats.cid import Cid
from stack.values import dataclass

COUNT_MAX = 2**63 - 1
"""Of what a tree claims to hold more is not counted."""

LIST_DIRECTORIES = 16
"""Directories that are counted at a time."""


@dataclass(slots=True)
class Count:
    """What lies below a root."""

    files: int = 0
    directories: int = 0
    bytes: int = 0
    """Of contents, as the nodes of the files claim."""

    def add(self, other: "Count", times: int = 1) -> None:
        """As much more, so many times."""
        self.files = min(self.files + other.files * times, COUNT_MAX)
        self.directories = min(self.directories + other.directories * times, COUNT_MAX)
        self.bytes = min(self.bytes + other.bytes * times, COUNT_MAX)


async def count_below(session: Session, store: BlockStore, root: Cid, path: str = "") -> Count:
    """Count without fetching contents: the directories, and the first block of what may be one. Each directory is read once, however often
    it is listed: a few that list each other hold any number of files. Raises as `list_entries`."""
    itself = await look_at(session, store, root, path)
    if itself.type != "directory":
        return Count(files=1, bytes=itself.size or 0)
    counts = {itself.cid: Count()}
    within: dict[Cid, dict[Cid, int]] = {}
    """How often each directory lists which others."""
    waiting = [itself.cid]

    async def count_one(cid: Cid) -> None:
        count, below = counts[cid], within.setdefault(cid, {})
        async for entry in list_entries(session, store, cid):
            if entry.type != "directory":
                count.add(Count(files=1, bytes=entry.size or 0))
                continue
            count.directories += 1
            below[entry.cid] = below.get(entry.cid, 0) + 1
            if entry.cid not in counts:
                counts[entry.cid] = Count()
                waiting.append(entry.cid)

    while waiting:
        some, waiting[:] = waiting[-LIST_DIRECTORIES:], waiting[:-LIST_DIRECTORIES]
        async with task_group() as group:
            for cid in some:
                group.start_soon(count_one, cid)
    await anyio.to_thread.run_sync(_sum_up, itself.cid, counts, within)
    return counts[itself.cid]


def _sum_up(root: Cid, counts: dict[Cid, Count], within: dict[Cid, dict[Cid, int]]) -> None:
    """Add to what each directory lists what lies in those that it lists, the deepest first."""
    stack = [root]
    while stack:
        cid = stack[-1]
        missing = [each for each in within.get(cid, {}) if each in within]
        if missing:
            stack += missing
            continue
        for each, times in within.pop(cid, {}).items():
            counts[cid].add(counts[each], times)
        stack.pop()
