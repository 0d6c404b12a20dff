"""What a task raises ends what it served, and no more."""

import anyio
import anyio.lowlevel
import pytest

from stack.errors import StoreError
from stack.streams import supervision
from stack.streams.supervision import Supervisor, TaskFailed, supervised
from stack.trace import TraceEvent

pytestmark = pytest.mark.anyio


class Fault(Exception):
    """What nobody expected."""


async def raises() -> None:
    raise Fault


async def test_a_task_that_raises_ends_alone_and_what_it_served_is_told() -> None:
    told: list[TraceEvent] = []
    ended = anyio.Event()
    other = anyio.Event()
    async with supervised(told.append) as tasks:
        tasks.start(raises, owner="a stream", failed=ended.set)
        await ended.wait()
        tasks.start(lambda: _set(other), owner="another stream")
        await other.wait()
    assert [(type(event), getattr(event, "owner", None)) for event in told] == [(TaskFailed, "a stream")]


async def _set(event: anyio.Event) -> None:
    event.set()


async def test_what_ends_it_may_raise_too() -> None:
    def failed() -> None:
        raise Fault

    told: list[TraceEvent] = []
    async with supervised(told.append) as tasks:
        tasks.start(raises, owner="a stream", failed=failed)
        while len(told) < 2:
            await anyio.lowlevel.checkpoint()


async def test_a_group_of_errors_is_contained_like_one() -> None:
    async def group() -> None:
        async with anyio.create_task_group() as inner:
            inner.start_soon(raises)
            inner.start_soon(raises)

    told: list[TraceEvent] = []
    async with supervised(told.append) as tasks:
        tasks.start(group, owner="a link")
        while not told:
            await anyio.lowlevel.checkpoint()


async def test_a_duty_that_fails_is_begun_again_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "PAUSE_SECONDS", 0.01)
    begun = 0
    worked = anyio.Event()

    async def duty() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise Fault
        worked.set()
        await anyio.sleep_forever()

    async with supervised() as tasks:
        tasks.keep(duty, owner="upkeep")
        await worked.wait()
    assert begun == 3


async def test_a_duty_that_returns_is_over() -> None:
    calls: list[int] = []

    async def duty() -> None:
        calls.append(1)

    async with anyio.create_task_group() as group:
        Supervisor(group).keep(duty, owner="once")
    assert calls == [1]


async def test_leaving_cancels_and_what_the_body_raises_is_not_wrapped() -> None:
    with pytest.raises(Fault):
        async with supervised() as tasks:
            tasks.start(anyio.sleep_forever, owner="for ever")
            assert not tasks.cancelled
            raise Fault


async def test_a_flood_of_one_fault_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    told: list[TraceEvent] = []
    async with supervised(told.append) as tasks:
        for _ in range(100):
            tasks.start(raises, owner="a stream")
        while len(told) < 100:
            await anyio.lowlevel.checkpoint()
    assert len(caplog.records) == 1


async def test_what_is_told_may_raise_and_the_next_one_is_told() -> None:
    def fault(word: str) -> None:
        raise Fault(word)

    traced: list[TraceEvent] = []
    told: list[str] = []
    async with supervised(traced.append) as tasks:
        tasks.call(fault, "hello", owner="a listener")
        tasks.call(told.append, "hello", owner="a listener")
    assert told == ["hello"]
    assert [type(event) for event in traced] == [TaskFailed]


async def test_a_fault_that_comes_together_with_a_cancellation_is_contained() -> None:
    """On trio both leave a group as one `BaseExceptionGroup`, which is no `Exception`."""

    async def group() -> None:
        async with anyio.create_task_group() as inner:
            inner.start_soon(anyio.sleep_forever)
            try:
                await anyio.sleep_forever()
            finally:
                raise Fault

    told: list[TraceEvent] = []
    async with supervised(told.append) as tasks:
        tasks.keep(group, owner="a link")
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
    assert [type(event) for event in told] == [TaskFailed]


async def test_a_trace_that_raises_ends_nothing() -> None:
    def trace(event: TraceEvent) -> None:
        traced.set()
        raise Fault

    traced = anyio.Event()
    async with supervised(trace) as tasks:
        tasks.start(raises, owner="a stream")
        await traced.wait()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (StoreError("the block index cannot be locked"), "the block index cannot be locked"),
        (OSError(5, "Input/output error", "/x"), "[Errno 5] Input/output error: '/x'"),
        (ExceptionGroup("", [StoreError("full")]), "full"),
    ],
)
async def test_what_the_system_does_to_a_duty_is_told_in_a_sentence_and_not_as_a_fault(
    caplog: pytest.LogCaptureFixture, error: Exception, sentence: str
) -> None:
    async def fails() -> None:
        raise error

    told: list[TraceEvent] = []
    async with supervised(told.append) as tasks:
        tasks.start(fails, owner="looking at files")
        while not told:
            await anyio.lowlevel.checkpoint()
    assert [record.getMessage() for record in caplog.records] == [f"looking at files: {sentence}"]
    assert caplog.records[0].exc_info is None
