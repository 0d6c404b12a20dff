"""A node whose event loop is watched: `python -m tests.bench.rows.observed FILE`, the home and the rest by the environment.

Says where it is and what it shares; on SIGUSR1 by how many seconds each turn of the watch was late since the last time, as JSON.
"""

import gc
import json
import os
import signal
import sys
from collections.abc import Mapping

import anyio

from stack.cli import GC_THRESHOLD
from stack.files.ticket import decode_ticket
from stack.node.config import load
from stack.node.node import Node

EVERY_SECONDS = 0.005


async def main(path: str) -> None:
    """Until it is ended."""
    late: list[float] = []

    async def watch() -> None:
        while True:
            due = anyio.current_time() + EVERY_SECONDS
            await anyio.sleep_until(due)
            late.append(anyio.current_time() - due)

    config = load({"role": "daemon"})
    with anyio.open_signal_receiver(signal.SIGUSR1) as signals:
        async with Node.open(config) as node, anyio.create_task_group() as tasks:
            ticket = decode_ticket(await node.share(path, open=True))
            gc.collect()
            gc.freeze()  # as the daemon does
            told: Mapping[str, str] = {"address": f"{ticket.addresses[0]}/p2p/{ticket.peer}", "cid": str(ticket.root)}
            print(json.dumps(told), flush=True)
            tasks.start_soon(watch)
            async for _ in signals:
                print(json.dumps(late), flush=True)
                late.clear()


if __name__ == "__main__":
    gc.set_threshold(GC_THRESHOLD)  # as the command does
    anyio.run(main, sys.argv[1], backend=os.environ.get("STACK_BACKEND", "asyncio"))
