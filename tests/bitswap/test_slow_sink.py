"""What comes while the thread that hands blocks over stands still, because a disk does."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from stack.bitswap.cutting import LEAD_BYTES
from stack.bitswap.messages import ENTRIES_AT_ONCE, PROTOCOL_1_2, OutgoingMessage
from stack.bitswap.shell import intake as intake_module
from stack.bitswap.shell.intake import BLOCK_BYTES, Intake
from stack.multiformats import varint
from tests.bitswap.exchanges import Node, Raw, nodes, some_blocks
from tests.net.hosts import connect, settled

pytestmark = pytest.mark.anyio

SIZE = 800
UNLENT = 64 * 1024
BLOCKS = some_blocks(1500, SIZE)


@asynccontextmanager
async def stuck(here: Node, there: Node) -> AsyncIterator[Raw]:
    """While the context lasts the first block that was fetched cannot be written."""
    raw, answers, asked = Raw(there.host), threading.Event(), threading.Event()

    def write(cid: object, data: memoryview) -> None:
        asked.set()
        answers.wait(30)

    await connect(there.host, here.host)
    cid, data = BLOCKS[0]
    async with here.exchange.session(cid, providers=[there.provider]) as session, anyio.create_task_group() as tasks:
        tasks.start_soon(session.fetch, [cid], write)
        await raw.received(1)
        await raw.send(here.host, OutgoingMessage(blocks=[(cid, data)]))
        await settled(asked.is_set)
        try:
            yield raw
        finally:
            answers.set()


def waiting(intake: Intake) -> int:
    """Blocks in memory that nobody was lent."""
    return sum(len(arrival.blocks) for arrival in intake._waiting if arrival.loan is None)


async def test_attack_3_short_messages_wait_with_their_peer_while_the_disk_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody was lent their memory, and there was no end to them."""
    monkeypatch.setattr(intake_module, "UNLENT_BYTES_MAX", UNLENT)
    async with nodes([], []) as [here, there]:
        intake = here.exchange._intake
        async with stuck(here, there) as raw, anyio.create_task_group() as tasks:

            async def flood() -> None:
                for block in BLOCKS[1:]:
                    await raw.send(here.host, OutgoingMessage(blocks=[block]))

            tasks.start_soon(flood)
            await settled(lambda: intake._unlent > UNLENT)
            await anyio.wait_all_tasks_blocked()
            assert waiting(intake) <= UNLENT // (BLOCK_BYTES + SIZE) + 1
            tasks.cancel_scope.cancel()
        await settled(lambda: intake._unlent == 0)


async def test_short_messages_with_a_long_list_wait_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over 64 entries of a few bytes fit into a message for which nobody is lent memory: with them nobody waited."""
    monkeypatch.setattr(intake_module, "UNLENT_BYTES_MAX", UNLENT)
    presences, empty = b"\x22\x07\x0a\x05\x01\x55\x00\x01A" * (ENTRIES_AT_ONCE + 1), b"\x12\x00"
    blocks = (LEAD_BYTES - len(presences) - 10) // len(empty)
    body = presences + empty * blocks
    async with nodes([], []) as [here, there]:
        intake = here.exchange._intake
        async with stuck(here, there), anyio.create_task_group() as tasks:
            stream = await there.host.open_stream(here.host.peer_id, PROTOCOL_1_2)

            async def flood() -> None:
                for _ in range(100):
                    await stream.send(varint.encode(len(body)) + body)

            tasks.start_soon(flood)
            await settled(lambda: intake._unlent > UNLENT)
            await anyio.wait_all_tasks_blocked()
            assert waiting(intake) <= UNLENT // BLOCK_BYTES + blocks
            tasks.cancel_scope.cancel()
        await settled(lambda: intake._unlent == 0)


async def test_what_was_found_in_the_store_waits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that waits looked into the store each second, and read the same 8 MiB each time."""
    monkeypatch.setattr(intake_module, "UNLENT_BYTES_MAX", UNLENT)
    found = 0
    async with nodes([], []) as [here, there]:

        async def find() -> None:
            nonlocal found
            for cid, data in BLOCKS[1:100]:
                await here.exchange.found_here(cid, data)
                found += 1

        async with anyio.create_task_group() as tasks:
            async with stuck(here, there):
                tasks.start_soon(find)
                await anyio.wait_all_tasks_blocked()
                assert found < 50
            await settled(lambda: found == 99)
        await settled(lambda: here.exchange._intake._unlent == 0)
