"""How fast the disk store reads, hashes and writes. Run as a script: `python -m tests.bench.bench_store [DIRECTORY]`; prints MB/s."""

import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import anyio

from stack.blocks.interfaces import FileStamp, Leaf
from stack.blocks.store import DiskStore
from stack.multiformats.cid import Cid

KIB = 1024
MIB = 1024 * 1024
TOTAL = 128 * MIB


def report(name: str, amount: float, seconds: float, unit: str = "MB/s") -> None:
    """One line."""
    print(f"{name:<52}{amount / seconds / (1e6 if unit == 'MB/s' else 1):>12,.0f} {unit}")


async def timed(name: str, total: int, work: Callable[[], Coroutine[None, None, None]]) -> None:
    """The best of three, so that a noisy neighbour does not count."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        await work()
        best = min(best, time.perf_counter() - start)
    report(name, total, best)


async def reads(store: DiskStore, path: Path, size: int, at_once: int, framed: bool) -> None:
    """Serve blocks out of a file in place, `at_once` in a call, by one and by two tasks."""
    data = path.read_bytes()
    prefix, suffix = (b"\x0a\x8a\x80\x40", b"\x18\x80\x80\x40") if framed else (b"", b"")
    leaves = [
        Leaf(Cid.of(prefix + data[offset : offset + size] + suffix), offset, size, prefix, suffix)
        for offset in range(0, len(data), size)
    ]
    status = path.stat()
    await store.add_file(path, FileStamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns), leaves)
    cids = [leaf.cid for leaf in leaves]
    batches = [cids[start : start + at_once] for start in range(0, len(cids), at_once)]

    async def serve(part: list[list[Cid]]) -> None:
        out = memoryview(bytearray((size + 64) * at_once))
        for batch in part:
            assert None not in await store.read_into(batch, out)

    async def serve_in_two() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve, batches[::2])
            tasks.start_soon(serve, batches[1::2])

    label = f"read_into {at_once} x {size // KIB} KiB{', framed' if framed else ''}"
    await timed(f"{label}, one task", TOTAL, lambda: serve(batches))
    await timed(f"{label}, two tasks", TOTAL, serve_in_two)


async def small(store: DiskStore) -> None:
    """Blocks of 1 KiB, as DAG nodes are."""
    blocks = [(Cid.of(number.to_bytes(KIB, "big")), number.to_bytes(KIB, "big")) for number in range(4000)]
    cids = [cid for cid, _ in blocks]
    start = time.perf_counter()
    for first in range(0, len(blocks), 500):
        await store.put(blocks[first : first + 500])
    report("put 500 x 1 KiB", len(blocks), time.perf_counter() - start, "blocks/s")
    start = time.perf_counter()
    await store.has(cids)
    report("has, 1,000 a call", len(cids), time.perf_counter() - start, "blocks/s")
    out = memoryview(bytearray(256 * KIB))
    start = time.perf_counter()
    for first in range(0, len(cids), 200):
        await store.read_into(cids[first : first + 200], out)
    report("read_into 200 x 1 KiB", len(cids), time.perf_counter() - start, "blocks/s")
    start = time.perf_counter()
    for cid in cids[:1000]:
        await store.get(cid)
    report("get 1 KiB, one after the other", 1000, time.perf_counter() - start, "blocks/s")


async def writes(store: DiskStore, directory: Path) -> None:
    """A fetch in place (hash not counted: the caller has done that), and puts."""
    payload = bytes(MIB)
    leaf_cid = Cid.of(payload)
    writer = await store.create_file(directory / "fetched.part", TOTAL)
    start = time.perf_counter()
    for offset in range(0, TOTAL, MIB):
        await anyio.to_thread.run_sync(writer.write, Leaf(leaf_cid, offset, MIB), payload)
    await writer.seal(directory / "fetched")
    report("fetch in place, 1 MiB leaves, until sealed", TOTAL, time.perf_counter() - start)
    blocks = [(Cid.of(data), data) for data in (number.to_bytes(MIB, "big") for number in range(TOTAL // MIB))]
    start = time.perf_counter()
    for first in range(0, len(blocks), 16):
        await store.put(blocks[first : first + 16])
    report("put 16 x 1 MiB, hashed and synced", TOTAL, time.perf_counter() - start)


async def main(directory: Path) -> None:
    """All of it, in a directory that is removed afterwards."""
    path = directory / "shared"
    with path.open("wb") as file:
        for number in range(4 * TOTAL // MIB):
            file.write(number.to_bytes(32, "big") * (MIB // 128))
    async with DiskStore.open(directory / "home") as store:
        for size, at_once, framed in (
            (MIB, 1, False),
            (256 * KIB, 4, False),
            (256 * KIB, 4, True),
            (256 * KIB, 1, False),
        ):
            await reads(store, path, size, at_once, framed)
        await small(store)
        await writes(store, directory)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as place:
        anyio.run(main, Path(place))
