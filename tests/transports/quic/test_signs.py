"""What shows over QUIC that a peer is there: datagrams that come, and what it has acknowledged."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import anyio
import pytest
from anyio.abc import TaskGroup

from stack.sansio.budget import Scope
from stack.streams.signs import LEAST_BYTES_PER_SECOND, Patience, Question
from stack.transports.quic.endpoint import Endpoint
from stack.transports.quic.library import Address
from tests.transports.quic.ends import LIMITS, connected, connected_pair

RATE = 3000
"""Bytes a second: what one of twenty gets who share a line of 60 KB/s."""


class SlowLine:
    """Of each socket of QUIC in this process."""

    def __init__(self) -> None:
        self.still = False
        self._free_at: dict[Endpoint, float] = {}
        self._send = Endpoint.send

    def take(
        self, tasks: TaskGroup, endpoint: Endpoint, datagrams: list[tuple[bytes, Address]], source: str | None
    ) -> None:
        for data, address in datagrams:
            at = max(self._free_at.get(endpoint, 0.0), anyio.current_time()) + len(data) / RATE
            self._free_at[endpoint] = at
            tasks.start_soon(self._carry, at, endpoint, data, address, source)

    async def _carry(self, at: float, endpoint: Endpoint, data: bytes, address: Address, source: str | None) -> None:
        await anyio.sleep_until(at)
        if not self.still:
            self._send(endpoint, [(data, address)], source)


@asynccontextmanager
async def slow_line(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SlowLine]:
    line = SlowLine()
    async with anyio.create_task_group() as tasks:
        with monkeypatch.context() as patched:
            patched.setattr(Endpoint, "send", lambda *args: line.take(tasks, *args))
            yield line
        tasks.cancel_scope.cancel()


def test_what_was_handed_over_has_arrived_when_it_is_acknowledged() -> None:
    ends, _ = connected_pair()
    client = ends.client
    before = client.handed_over
    id = client.streams.open()
    assert client.streams.send(id, bytes(5000)) == 5000
    assert (client.handed_over, client.acknowledged) == (before + 5000, before)
    ends.run(0.2)
    assert client.acknowledged == client.handed_over == before + 5000


@pytest.mark.parametrize("by_peer", [False, True])
def test_what_is_taken_back_when_a_stream_ends_has_not_arrived(by_peer: bool) -> None:
    ends, _ = connected_pair()
    client, id = ends.client, ends.client.streams.open()
    client.streams.send(id, b"!")
    ends.run(0.1)
    arrived = client.acknowledged
    ends.lose = lambda data: len(data) > 500
    client.streams.send(id, bytes(5000))
    if by_peer:
        ends.server.streams.reset(id)
    else:
        client.streams.reset(id)
    ends.run(2.0)
    assert client.acknowledged == client.handed_over == arrived


@pytest.mark.anyio
async def test_a_slow_line_on_which_a_lot_goes_out_is_not_taken_for_a_dead_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The acknowledgements of what one of many is sent were fewer bytes than somebody must bring who is waited for."""
    async with (
        connected((Scope("here", LIMITS), Scope("there", LIMITS))) as (here, there),
        slow_line(monkeypatch) as line,
        anyio.create_task_group() as tasks,
    ):
        stream = await here.open_stream()

        async def hear() -> None:
            heard = await there.accept_stream()
            while True:
                await heard.receive()

        tasks.start_soon(hear)
        tasks.start_soon(stream.send, bytes(1_000_000))
        await anyio.sleep(3.0)  # until it knows how slow the line is, it sends most again
        patience = Patience(lambda: here.signs, 2.0, anyio.current_time())
        question = Question(here.signs)
        heard = [here.signs.heard]
        for _ in range(3):
            await anyio.sleep(2.0)
            patience.look(anyio.current_time())
            assert question.shows_life(here.signs)
            heard.append(here.signs.heard)
        assert min(after - before for before, after in pairwise(heard)) < 2 * LEAST_BYTES_PER_SECOND
        line.still = True
        await anyio.sleep(0.5)
        patience = Patience(lambda: here.signs, 1.0, anyio.current_time())
        question = Question(here.signs)
        await anyio.sleep(1.0)
        with pytest.raises(TimeoutError):
            patience.look(anyio.current_time())
        assert not question.shows_life(here.signs)
        tasks.cancel_scope.cancel()
