"""When what reads gives up, though nobody has told it how long to wait."""

import pytest
from anyio import create_task_group, fail_after

from stack import Node
from stack.bitswap.interfaces import Provider
from stack.errors import NoProvider, Stalled
from stack.files import watch
from stack.multiformats.cid import Cid
from stack.node import patience
from stack.node.api import WatchWaiting
from stack.node.handlers import reading

pytestmark = pytest.mark.anyio

FIRST, REST = Cid.of(b"first"), Cid.of(b"the rest")


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "has it no more"])
async def test_what_reads_ends_when_nobody_is_left_who_has_the_rest(
    monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    """`stack cat` hung without a word when its only peer had gone, or a file had changed there (finding 2, its other half)."""

    async def ends() -> None:
        monkeypatch.setattr(patience, "FIRST_PROVIDER_SECONDS", 0.5)
        with pytest.raises(Stalled, match="nobody is left who has the rest"):
            await session.get(REST)

    with fail_after(40):
        async with Node.open() as reader, reader.patient_session(FIRST) as session:
            async with Node.open() as sharer:
                await sharer.put([(FIRST, b"first")])
                session.add_provider(Provider(sharer.peer_id, tuple(sharer.host.addresses()), "user"))
                assert await session.get(FIRST) == b"first"
                if not gone:
                    await ends()
            if gone:
                await ends()


async def test_why_what_is_read_does_not_come_is_told_while_it_does_not_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`stack cat TICKET` of a share that had ended waited for 30 seconds without a word, and then did not say why either."""
    monkeypatch.setattr(watch, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(reading, "QUIET_SECONDS", 0.05)
    async with Node.open() as sharer:
        gone = Provider(sharer.peer_id, tuple(sharer.host.addresses()), "user")
    async with Node.open() as reader:

        async def read() -> None:
            with pytest.raises(NoProvider, match=r"1 peer tried, \S+: connection refused"):
                async with reader.patient_session(FIRST, [gone]) as session:
                    await session.get(FIRST)

        with fail_after(20):
            async with create_task_group() as tasks, reader.watch(WatchWaiting(source=FIRST.text)) as waits:
                tasks.start_soon(read)
                async for told in waits:
                    if told.reason:
                        break
                monkeypatch.setattr(patience, "FIRST_PROVIDER_SECONDS", 0.0)
        assert (told.peer, told.tried, told.reason) == (gone.peer, 1, "connection refused")
        assert not reader.reading
