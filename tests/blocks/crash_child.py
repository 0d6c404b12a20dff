"""A process that is killed: it works on a store for ever and says on stdout what has been acknowledged.

Run as `python -m tests.blocks.crash_child MODE HOME FIRST`; each line is a number that `test_crash` knows the meaning of.
"""

import sys
from pathlib import Path

import anyio
from anyio import to_thread

from stack.blocks import commits, packs, partfile, sweeps
from stack.blocks.store import DiskStore
from stack.multiformats.cid import Cid
from stack.testing.conformance.stores import Block
from tests.blocks.support import leaves_of, noise
from tests.blocks.test_marking import links, node

FILE_BYTES = 4_000_000
LEAF_BYTES = 4_000


def put_block(number: int) -> Block:
    """The block that number `number` stands for, of some size up to 60 kB."""
    data = noise(1 + number * 7919 % 60_000, number)
    return Cid.of(data), data


def pinned_root(number: int) -> tuple[Block, list[Block]]:
    """A small DAG: its root and its leaves."""
    leaves = [put_block(number * 10 + each) for each in range(3)]
    return node(*(cid for cid, _ in leaves)), leaves


def say(number: int) -> None:
    """Acknowledge."""
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


async def puts(store: DiskStore, first: int) -> None:
    """Four tasks put blocks, each one behind the other."""

    async def work(number: int) -> None:
        while True:
            await store.put([put_block(number)])
            say(number)
            number += 4

    async with anyio.create_task_group() as tasks:
        for task in range(4):
            tasks.start_soon(work, first + task)


async def fetch(store: DiskStore, home: Path) -> None:
    """Fetch a file in place in an order of its own, going on with what is there; say which leaves are on record."""
    data = noise(FILE_BYTES)
    leaves = leaves_of(data, LEAF_BYTES)
    writer = await store.create_file(home / "film.part", FILE_BYTES)
    present = {offset for offset, _ in await writer.present()}
    missing = [leaf for leaf in leaves if leaf.offset not in present]
    missing.sort(key=lambda leaf: hash(leaf.cid))
    for start in range(0, len(missing), 20):
        batch = missing[start : start + 20]
        async with anyio.create_task_group() as tasks:
            for leaf in batch:
                payload = data[leaf.offset : leaf.offset + leaf.length]
                tasks.start_soon(to_thread.run_sync, writer.write, leaf, payload)
        await writer.checkpoint()
        for leaf in batch:
            say(leaf.offset)
    await writer.seal(home / "film")
    say(-1)


async def collections(store: DiskStore, first: int) -> None:
    """Put DAGs, pin every third, collect what is left over, all the time."""
    number = first
    while True:
        root, leaves = pinned_root(number)
        with store.hold():
            await store.put([root, *leaves])
            if number % 3 == 0:
                await store.add_pin(root[0])
                say(number)
        if number % 4 == 3:
            await store.collect(links)
        number += 1


async def main(mode: str, home: Path, first: int) -> None:
    """Open the store, with bounds so small that everything happens often, and work."""
    packs.PACK_BYTES_MAX = 600_000
    commits.GROUP_BYTES_MAX = 200_000
    partfile.CHECKPOINT_BYTES = 30_000
    partfile.UNRECORDED_BYTES_MAX = 60_000
    sweeps.COMPACT_LIVE_MAX = 0.9
    async with DiskStore.open(home) as store:
        if mode == "puts":
            await puts(store, first)
        elif mode == "fetch":
            await fetch(store, home)
        else:
            await collections(store, first)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
