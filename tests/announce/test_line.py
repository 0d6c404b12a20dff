"""Attack 2: questions of all peers together take a bounded part of the event loop, and peers take turns."""

import anyio
import pytest

from stack.announce.shell import line as line_module
from stack.announce.shell.line import BURST, MICROSECONDS, SHARE, STREAM_COST, Line
from stack.identity.peer_id import PeerId
from tests.net.hosts import settled
from tests.net.identities import peer

pytestmark = pytest.mark.anyio


class Clock:
    """Of the processor, by hand."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def asked(line: Line, clock: Clock, who: PeerId, answered: list[PeerId], seconds: float) -> None:
    """A question that costs so much."""
    async with line.turn(who):
        clock.seconds += seconds
        answered.append(who)


async def test_attack_2_who_asks_one_question_waits_for_peers_and_not_for_their_streams() -> None:
    clock, answered = Clock(), list[PeerId]()
    line = Line(anyio.current_time(), clock=clock)
    async with anyio.create_task_group() as tasks, line.turn(peer(9)):  # somebody's question is being answered
        for attacker in range(3):
            for _ in range(20):
                tasks.start_soon(asked, line, clock, peer(attacker), answered, 0.0)
        await settled(lambda: sum(place.waiting for place in line._places.values()) == 61)
        tasks.start_soon(asked, line, clock, peer(8), answered, 0.0)
        await settled(lambda: peer(8) in line._places)
    assert answered.index(peer(8)) <= 3
    assert len(answered) == 61
    assert not line._places


async def test_attack_2_questions_beyond_the_burst_wait_until_they_are_paid_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    clock, answered = Clock(), list[PeerId]()
    line = Line(anyio.current_time(), clock=clock)
    monkeypatch.setattr(line_module.anyio, "sleep", sleep)
    burst = BURST / MICROSECONDS
    for _ in range(2):
        await asked(line, clock, peer(1), answered, burst)
    assert not slept or max(slept) < SHARE * STREAM_COST / MICROSECONDS * 2
    await asked(line, clock, peer(2), answered, 0.0)
    assert slept[-1] == pytest.approx(SHARE * burst, rel=0.1)


async def test_attack_2_a_question_that_is_given_up_in_the_line_leaves_its_place() -> None:
    line = Line(anyio.current_time())
    async with line.turn(peer(1)):
        with anyio.move_on_after(0):
            async with line.turn(peer(2)):
                raise AssertionError("it is not its turn")
    assert not line._places
