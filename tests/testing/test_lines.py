"""Bad lines of the test kit: they lose nothing, repeat themselves, and do what was asked at the step that was named."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from stack.multiformats.multiaddr import Multiaddr
from stack.testing.lines import Fault, Line, LineStream, RawLineStream, line_stream_pair
from stack.testing.streams import receive_exactly, settled

pytestmark = pytest.mark.anyio

HERE, THERE = Multiaddr.parse("/memory/1"), Multiaddr.parse("/memory/2")
SAID = bytes(range(250)) * 400


def pair(line: Line) -> tuple[LineStream, LineStream]:
    first, second = line_stream_pair(HERE, THERE, line)
    assert isinstance(first, LineStream) and isinstance(second, LineStream)
    return first, second


@asynccontextmanager
async def saying(stream: RawLineStream, data: bytes) -> AsyncIterator[None]:
    """`data` is written in the background."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.send_all, memoryview(data))
        yield
        tasks.cancel_scope.cancel()


async def sizes(line: Line) -> list[int]:
    """How much each try of one end is taken while the other reads everything."""
    first, second = pair(line)
    taken, room = [], memoryview(bytearray(1000))
    for _ in range(100):
        taken.append(first.send_now(memoryview(SAID)))
        while taken[-1] and second.receive_now(room) is not None:
            pass
    return taken


async def test_the_same_seed_makes_the_same_choices_and_another_seed_others() -> None:
    one = await sizes(Line(seed=1))
    assert one == await sizes(Line(seed=1))
    assert one != await sizes(Line(seed=2))
    assert 0 in one and len(set(one)) > 10


async def test_a_full_line_takes_nothing_until_the_other_end_reads() -> None:
    """And who waits for room waits for a third of it, as of a socket of Linux."""
    first, second = pair(Line(capacity=10, piece=1000, turns=0))
    assert sum(first.send_now(memoryview(SAID)) for _ in range(20)) == 10
    waited = anyio.Event()

    async def wait() -> None:
        await first.wait_writable()
        waited.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await settled()
        assert await receive_exactly(second, 3) == SAID[:3]
        await settled()
        assert not waited.is_set()
        assert await receive_exactly(second, 1) == SAID[3:4]
    assert sum(first.send_now(memoryview(SAID)) for _ in range(20)) == 4
    assert first.wire.under_way() == 10


async def test_bytes_take_their_time_on_a_line_with_a_rate_and_a_delay() -> None:
    first, second = pair(Line(rate=100_000, delay=0.02))
    async with saying(first, SAID[:5000]):
        began = anyio.current_time()
        assert await receive_exactly(second, 5000) == SAID[:5000]
        assert anyio.current_time() - began >= 0.07


async def test_a_reset_at_any_step_breaks_both_ends_and_keeps_nobody_waiting() -> None:
    for step in range(1, 60):
        first, second = pair(Line(capacity=500, piece=100, fault=Fault.RESET, step=step))
        with anyio.fail_after(5):
            with pytest.raises((anyio.BrokenResourceError, ExceptionGroup)):
                async with saying(first, SAID):
                    await receive_exactly(second, len(SAID))
            for end in (first, second):
                with pytest.raises(anyio.BrokenResourceError):
                    await end.send_all(memoryview(b"x"))
        assert first.wire.under_way() == 0


async def test_a_half_close_lets_what_is_under_way_arrive_and_the_other_direction_go_on() -> None:
    first, second = pair(Line(turns=0, fault=Fault.HALF_CLOSE, step=4))
    await first.send_all(memoryview(b"abc"))
    assert first.wire.steps < 4
    with pytest.raises(anyio.BrokenResourceError):
        await first.send_all(memoryview(SAID))
    heard = bytearray()
    with pytest.raises(anyio.EndOfStream):
        while True:
            heard += await receive_exactly(second, 1)
    assert heard.startswith(b"abc")
    async with saying(second, SAID):
        assert await receive_exactly(first, len(SAID)) == SAID


async def test_what_stands_still_goes_on_when_it_is_told_to() -> None:
    first, second = pair(Line(fault=Fault.STAND_STILL, step=5))
    heard: list[bytes] = []

    async def hear() -> None:
        heard.append(await receive_exactly(second, len(SAID)))

    async with saying(first, SAID), anyio.create_task_group() as tasks:
        tasks.start_soon(hear)
        await settled()
        assert not heard and first.wire.still
        first.wire.go_on()
    assert heard == [SAID]
