"""Verdicts come whatever happens to the thread that verifies; asyncio and trio."""

from collections.abc import Callable, Sequence

import anyio
import anyio.to_thread
import pytest

from stack.gossipsub.events import Validate, Verdict
from stack.gossipsub.messages import Message
from stack.gossipsub.shell import judge as judge_module
from stack.gossipsub.shell.judge import BATCH, HELP_FROM, WAITING_MAX, Judge
from stack.gossipsub.signing import Author
from stack.identity.keys import generate
from stack.identity.peer_id import PeerId
from stack.streams.supervision import supervised

pytestmark = pytest.mark.anyio

TOPIC = "t"
KEY = generate()
PEER = PeerId.of(KEY.public)
GOOD = Author.of(KEY).write(TOPIC, b"data", 1)
FORGED = Message(TOPIC, b"other", GOOD.author, GOOD.seqno, GOOD.signature, GOOD.key)
MANY = 400


def validates(count: int, start: int = 0, message: Message = GOOD) -> list[Validate]:
    return [Validate(token, PEER, message, True) for token in range(start, start + count)]


def threads_fail(monkeypatch: pytest.MonkeyPatch, error: Exception, times: int) -> None:
    run_sync, left = anyio.to_thread.run_sync, [times]

    async def failing(function: Callable[..., object], *arguments: object, **options: object) -> object:
        if function is judge_module._check and left[0]:
            left[0] -= 1
            raise error
        return await run_sync(function, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(anyio.to_thread, "run_sync", failing)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
@pytest.mark.parametrize("times", [1, MANY])
async def test_a_thread_that_cannot_be_started_ends_no_gossip(
    error: Exception, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch stayed at the head of the line: no later verdict was told, and readers waited for room for ever."""
    threads_fail(monkeypatch, error, times)
    told: list[tuple[int, Verdict]] = []
    async with supervised() as tasks:
        judge = Judge(tasks, told.extend)
        for validate in (*validates(10), *validates(1, 10, FORGED)):
            judge.submit(validate)
        await anyio.wait_all_tasks_blocked()
        for validate in validates(MANY, 11):
            judge.submit(validate)
        with anyio.fail_after(20):
            await judge.wait_for_room()
            while len(told) < MANY + 11:
                await anyio.sleep(0.01)
        judge.close()
    assert told == [(token, Verdict.BAD_SIGNATURE if token == 10 else Verdict.ACCEPT) for token in range(MANY + 11)]


async def test_what_could_not_be_judged_is_ignored_and_nobodys_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(message: Message) -> bool:
        raise MemoryError

    monkeypatch.setattr(judge_module, "is_authentic", no_memory)
    told: list[tuple[int, Verdict]] = []
    async with supervised() as tasks:
        judge = Judge(tasks, told.extend)
        for validate in validates(BATCH):
            judge.submit(validate)
        with anyio.fail_after(20):
            while len(told) < BATCH:
                await anyio.sleep(0.01)
        judge.close()
    assert told == [(token, Verdict.IGNORE) for token in range(BATCH)]


async def test_a_reader_that_is_cancelled_while_it_helps_leaves_nothing_untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stream was replaced between two turns of telling: what it had verified waited for the next full batch."""
    told: list[tuple[int, Verdict]] = []
    scope = anyio.CancelScope()

    def result(verdicts: Sequence[tuple[int, Verdict]]) -> None:
        told.extend(verdicts)
        scope.cancel()

    class OneAtATime:
        calls = 0

        @property
        def over(self) -> bool:
            self.calls += 1
            return self.calls > 1

        async def give_way(self) -> None:
            await anyio.lowlevel.checkpoint()

    async with supervised() as tasks:
        judge = Judge(tasks, result)
        await anyio.wait_all_tasks_blocked()
        monkeypatch.setattr(judge_module, "Turn", OneAtATime)
        for validate in validates(HELP_FROM + 1):
            judge.submit(validate)
        judge._work = anyio.Event()  # the verifiers are at work elsewhere
        with scope:
            await judge.wait_for_room()
        assert scope.cancelled_caught and len(told) < HELP_FROM + 1 <= WAITING_MAX
        with anyio.fail_after(5):
            while len(told) < HELP_FROM + 1:
                await anyio.sleep(0.01)
        judge.close()
    assert [token for token, _ in told] == list(range(HELP_FROM + 1))
