"""A node in a process of its own, forked from one that has loaded everything: it starts in some milliseconds, can be killed and stopped."""

import gc
import json
import logging
import os
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import anyio

from stack.node.config import Config
from stack.node.node import Node
from stack.sansio.budget import Resource
from tests.lab import switch

MODULES = (
    "stack.gossipsub.shell.service", "stack.node.announcing", "stack.discovery.service", "stack.discovery.mdns.service",
    "stack.control.serving", "stack.blocks.store", "stack.transports.websocket.transport",
    *(f"stack.node.handlers.{name}" for name in ("announce", "files", "identity", "jobs", "peers", "pubsub", "reading", "shares", "store")),
)  # fmt: skip
"""Loaded on use by a node; before the fork they cost nothing afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a node holds."""

    tasks: int
    descriptors: int
    received: int
    """Bytes of receive buffers that are lent."""
    budget: dict[str, int]
    connections: int
    sessions: int
    memory: int
    """Bytes resident."""


def preload() -> None:
    """Load what a node loads, so that children have it."""
    for module in MODULES:
        __import__(module)
    gc.collect()
    gc.freeze()


def start(config: Config, namespace: str, backend: str, log: Path) -> int:
    """Fork a node; returns its process id. It reports to `log.with_suffix(".report")` on SIGUSR1 and ends on SIGTERM."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        switch.die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        switch.enter(namespace)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        logging.basicConfig(level=logging.WARNING, stream=sys.stderr, force=True)
        anyio.run(_live, config, log.with_suffix(".report"), backend=backend)
        code = 0
    except BaseException:  # noqa: BLE001 - a child must never go on in its parent's code
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


async def _live(config: Config, report: Path) -> None:
    with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGTERM) as signals:
        async with Node.open(config) as node:
            async for number in signals:
                if number == signal.SIGTERM:
                    return
                part = report.with_suffix(".part")
                part.write_text(json.dumps(_report(node)))
                part.rename(report)


def _report(node: Node) -> dict[str, object]:
    gc.collect()
    budget = node.host.budget
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {
        "tasks": _tasks(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "received": node.exchange._receiver.used,
        "budget": {resource.value: budget.used(resource) for resource in Resource},
        "connections": len(node.host.connections()),
        "sessions": len(node.exchange.sessions),
        "memory": int(status["VmRSS"].split()[0]) * 1024,
    }


def _tasks() -> int:
    if "trio" in sys.modules:
        import trio

        try:
            return trio.lowlevel.current_statistics().tasks_living
        except RuntimeError:
            pass
    import asyncio

    return len(asyncio.all_tasks())


def read_report(log: Path) -> Report | None:
    """What the node has reported last, if it has."""
    try:
        return Report(**json.loads(log.with_suffix(".report").read_text()))
    except FileNotFoundError:
        return None
