"""An index with many blocks: `python -m tests.bench.rows.index fill|look-up HOME BLOCKS`.

The blocks are said to lie in sparse files: nothing reads them.
"""

import sys
from pathlib import Path

import anyio

from stack.blocks.interfaces import FileStamp, Leaf
from stack.blocks.store import DiskStore
from stack.multiformats.cid import Cid

LEAF = 1024
A_FILE = 10_000
LOOK_UPS = 10_000


def cid(number: int) -> Cid:
    """Of a block by its number."""
    return Cid.of(number.to_bytes(8, "big"))


async def fill(store: DiskStore, home: Path, count: int) -> None:
    """Put so many blocks on record, a file's at a time."""
    for first in range(0, count, A_FILE):
        numbers = range(first, min(first + A_FILE, count))
        path = home.parent / f"file{first}"
        with path.open("wb") as file:
            file.truncate(LEAF * len(numbers))
        status = path.stat()
        leaves = [Leaf(cid(number), LEAF * (number - first), LEAF) for number in numbers]
        await store.add_file(path, FileStamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns), leaves)


async def look_up(store: DiskStore, count: int) -> None:
    """Blocks from all over the index."""
    for first in range(0, LOOK_UPS, 100):
        wanted = [cid(number * 7919 % count) for number in range(first, first + 100)]
        assert len(await store.has(wanted)) == len(set(wanted))


async def main(work: str, home: Path, count: int) -> None:
    """One of the two."""
    home.mkdir(parents=True, exist_ok=True)
    async with DiskStore.open(home) as store:
        if work == "fill":
            await fill(store, home, count)
        else:
            await look_up(store, count)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
