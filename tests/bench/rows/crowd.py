"""Many peers in one process, for rows where one node meets many: `python -m tests.bench.rows.crowd ADDRESS COUNT [CID]`.

Says `connected` when all are. With a CID each fetches that on SIGUSR1, and it says `fetched` when all have. Then it waits to be ended.
"""

import signal
import sys
from contextlib import AsyncExitStack

import anyio

from stack.bitswap.interfaces import Provider
from stack.bitswap.shell.service import Bitswap
from stack.blocks.memory import MemoryStore
from stack.files.dag import fetch_dag
from stack.identity.keys import generate
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host
from stack.protocols.identify.service import IdentifyService

AT_ONCE = 8
"""Dials under way."""


async def main(address: str, count: int, root: str = "") -> None:
    """Until it is ended."""
    where, name = Multiaddr.parse(address).split_peer()
    assert name is not None
    peer = PeerId.parse(name)
    slots = anyio.Semaphore(AT_ONCE)
    async with AsyncExitStack() as stack:
        signals = stack.enter_context(anyio.open_signal_receiver(signal.SIGUSR1))
        peers: list[tuple[Bitswap, MemoryStore]] = []
        hosts = []
        for _ in range(count):
            host, store = await stack.enter_async_context(Host(generate())), MemoryStore()
            IdentifyService(host)
            hosts.append(host)
            peers.append((await stack.enter_async_context(Bitswap.open(host, store)), store))

        async def connect(host: Host) -> None:
            async with slots:
                await host.connect(peer, [where])

        async with anyio.create_task_group() as dials:
            for host in hosts:
                dials.start_soon(connect, host)
        print("connected", flush=True)
        async for _ in signals:
            if root:
                await fetch_all(peers, Provider(peer, (where,), "user"), Cid.parse(root))
            print("fetched", flush=True)


async def fetch_all(peers: list[tuple[Bitswap, MemoryStore]], provider: Provider, cid: Cid) -> None:
    """All of it for each of them, at the same time; the store hashes every block."""

    async def fetch(exchange: Bitswap, store: MemoryStore) -> None:
        async with exchange.session(cid, providers=[provider]) as session:
            await fetch_dag(session, store, cid)

    async with anyio.create_task_group() as fetches:
        for exchange, store in peers:
            fetches.start_soon(fetch, exchange, store)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")
