"""How sessions meet peers; asyncio and trio."""

from types import SimpleNamespace
from typing import Any

import pytest

from stack.bitswap.shell.meeting import Meeting
from stack.streams.supervision import supervised
from tests.net.hosts import settled
from tests.turns import steps_counted

pytestmark = pytest.mark.anyio

PEERS = 2000


class Room:
    """An exchange with many connections and one session; asks nobody in earnest."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.gone: set[int] = set()
        self.host = self
        self.session: Any = SimpleNamespace(closed=False, enclosure=None, root=None)

    def connections(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(peer=number) for number in range(PEERS)]

    def is_connected(self, peer: int) -> bool:
        return peer not in self.gone

    def ask(self, root: object, peer: int) -> None:
        self.asked.append(peer)


async def test_hundreds_that_are_connected_are_asked_in_turns() -> None:
    room: Any = Room()
    async with supervised() as tasks:
        meeting = Meeting(room, tasks, room, None)
        with steps_counted():
            meeting.ask_connected(room.session)
            await settled(lambda: len(room.asked) == PEERS)
        assert room.asked == list(range(PEERS))


async def test_who_has_left_meanwhile_is_not_asked_and_nobody_for_a_session_that_is_over() -> None:
    room: Any = Room()
    room.gone = {3}
    async with supervised() as tasks:
        meeting = Meeting(room, tasks, room, None)
        meeting.ask_connected(room.session)
        await settled(lambda: len(room.asked) == PEERS - 1)
        assert 3 not in room.asked
        room.session.closed = True
        meeting.ask_connected(room.session)
    assert len(room.asked) == PEERS - 1
