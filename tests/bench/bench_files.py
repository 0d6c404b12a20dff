"""What sharing, fetching and reading cost by themselves: hashing, in place, from a peer in memory, and back through the DAG.

python -m tests.bench.bench_files [MiB] [asyncio|trio]
"""

import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

from stack.blocks.memory import MemoryStore
from stack.blocks.store import DiskStore
from stack.dag.unixfs.options import PROFILES, profile
from stack.files.add import Adder
from stack.files.fetch import Fetcher, FetchRequest
from stack.files.read import open_content
from tests.files.conftest import FakeExchange, blocks_of, content


async def measure(what: str, size: int, work: Callable[[], Awaitable[object]]) -> None:
    """Print MiB a second, and MiB a CPU-second."""
    wall, cpu = time.perf_counter(), time.process_time()
    await work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{what}: {size / wall / 2**20:.0f} MiB/s, {size / cpu / 2**20:.0f} MiB per CPU-second")


async def bench(directory: Path, size: int) -> None:
    source = directory / "source"
    piece = content("bench", 2**20)
    with source.open("wb") as file:
        for number in range(size >> 20):
            file.write(number.to_bytes(8, "big") + piece[8:])
    for name in PROFILES:
        await bench_profile(directory, source, name)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"peak memory, with all of it in memory as the peer: {peak} MiB")


async def bench_profile(directory: Path, source: Path, name: str) -> None:
    """All figures of one profile."""
    size, options, home = source.stat().st_size, profile(name), directory / name
    await measure(f"{name}: only hash", size, lambda: Adder(None, options).add([source]))
    memory = MemoryStore()
    root = (await Adder(memory, options).add([source])).cid
    exchange = FakeExchange(blocks_of(memory))
    home.mkdir()
    async with DiskStore.open(home) as store:

        async def read() -> None:
            async with exchange.session(root) as session, open_content(session, store, root) as pieces:
                async for _ in pieces:
                    pass

        await measure(f"{name}: add in place", size, lambda: Adder(store, options).add([source]))
        await measure(f"{name}: read back", size, read)
    shutil.rmtree(home)
    home.mkdir()
    async with DiskStore.open(home) as store:
        request = FetchRequest(root=root, directory=directory, out=Path("fetched"))
        await measure(f"{name}: fetch", size, lambda: Fetcher(store, exchange).fetch(request))
        await measure(f"{name}: is it there?", size, lambda: Fetcher(store, exchange).fetch(request))
    (directory / "fetched").unlink()
    shutil.rmtree(home)


def main() -> None:
    mebibytes = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    with tempfile.TemporaryDirectory() as directory:
        anyio.run(bench, Path(directory), mebibytes << 20, backend=sys.argv[2] if len(sys.argv) > 2 else "asyncio")


if __name__ == "__main__":
    main()
