"""A fetch over bitswap between processes on loopback, every block hashed, stores in memory: rate and CPU time of both ends.

    python tests/bench/bench_bitswap.py [--backend asyncio|trio] [--mib 1024] [--block 262144] [--providers 1]

boxo in memory: 94 MiB/s in order, 200 with 32 walkers (8 CPU-seconds a GiB, both ends). The target is 300 for one receiver.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from stack.bitswap.interfaces import Provider
from stack.bitswap.shell.service import Bitswap
from stack.blocks.interfaces import Block
from stack.blocks.memory import MemoryStore
from stack.identity.keys import generate
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host

MIB = 1 << 20
ANYWHERE = Multiaddr.parse("/ip4/127.0.0.1/tcp/0")


def blocks(count: int, size: int) -> Iterator[Block]:
    for index in range(count):
        data = index.to_bytes(8, "big") * (size // 8)
        yield Cid.of(data), data


async def provide(count: int, size: int) -> None:
    """Serve until a line comes, then say how much CPU time it took."""
    store = MemoryStore()
    await store.put(list(blocks(count, size)))
    async with Host(generate()) as host:
        address = await host.listen(ANYWHERE)
        async with Bitswap.open(host, store):
            before = time.process_time()
            print(address, host.peer_id, flush=True)
            await anyio.to_thread.run_sync(sys.stdin.readline)
            print(time.process_time() - before, flush=True)


async def fetch(providers: list[Provider], count: int, size: int) -> dict[str, float]:
    cids = [cid for cid, _ in blocks(count, size)]
    async with (
        Host(generate()) as host,
        Bitswap.open(host, MemoryStore()) as exchange,
        exchange.session(cids[0], providers=providers) as session,
    ):
        started, before = time.monotonic(), time.process_time()
        await session.fetch(cids, lambda cid, data: None)
        seconds, cpu = time.monotonic() - started, time.process_time() - before
        duplicates = sum(report.duplicate_bytes for report in session.reports())
    gib = count * size / (1 << 30)
    return {
        "mib_per_second": round(gib * 1024 / seconds),
        "receiver_cpu_per_gib": round(cpu / gib, 2),
        "receiver_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "duplicate_bytes": duplicates,
    }


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--backend", default="asyncio")
    arguments.add_argument("--mib", type=int, default=1024)
    arguments.add_argument("--block", type=int, default=256 * 1024)
    arguments.add_argument("--providers", type=int, default=1)
    arguments.add_argument("--provide", action="store_true")
    options = arguments.parse_args()
    count = options.mib * MIB // options.block
    if options.provide:
        anyio.run(provide, count, options.block, backend=options.backend)
        return
    command = [sys.executable, __file__, "--provide", f"--mib={options.mib}", f"--block={options.block}"]
    command.append(f"--backend={options.backend}")
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(options.providers)
    ]
    try:
        providers = []
        for process in processes:
            assert process.stdout is not None
            address, peer = process.stdout.readline().split()
            providers.append(Provider(PeerId.parse(peer), (Multiaddr.parse(address),), "user"))
        result = anyio.run(fetch, providers, count, options.block, backend=options.backend)
        cpu = 0.0
        for process in processes:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            cpu += float(process.stdout.readline())
        result["providers_cpu_per_gib"] = round(cpu / (options.mib / 1024), 2)
        print(json.dumps(result))
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
