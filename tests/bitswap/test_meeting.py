"""How sessions meet peers; asyncio and trio."""

from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from stack.bitswap.shell import meeting as module
from stack.bitswap.shell.meeting import ASKED_AT_ONCE, Meeting
from stack.streams.supervision import supervised
from tests.net.hosts import settled
from tests.turns import steps_counted

pytestmark = pytest.mark.anyio

PEERS = 2000
SECRET = SimpleNamespace(secret=b"of a ticket")


class Waiting:
    """A session that nobody brings anything."""

    def __init__(self, enclosure: object = None) -> None:
        self.closed = False
        self.enclosure = enclosure
        self.root = object()
        self.addresses: dict[int, object] = {}
        self.seeking = SimpleNamespace(active=True)
        self.introductions = self
        self.took_back: list[int] = []

    def reports(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(peer=n, denials=n % 4, stalled=n == 3, unproved=n == 6) for n in range(7)]

    def ended(self, peer: int) -> None:
        self.took_back.append(peer)

    def is_said_to_have(self, peer: int) -> bool:
        return False

    def peer_unproved(self, peer: int, now: float) -> None:
        pass


class Room:
    """An exchange with many connections; asks nobody in earnest. Who is asked answers at once, unless all are `silent`."""

    def __init__(self, peers: int = PEERS, *, silent: bool = False) -> None:
        self.peers = peers
        self.silent = silent
        self.asked: list[int] = []
        self.waiting: list[anyio.Event] = []
        self.anew: list[int] = []
        self.gone: set[int] = set()
        self.host = self

    def connections(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(peer=number) for number in range(self.peers)]

    def is_connected(self, peer: int) -> bool:
        return peer not in self.gone

    def ask(self, root: object, peer: int) -> anyio.Event:
        self.asked.append(peer)
        said = anyio.Event()
        if self.silent:
            self.waiting.append(said)
        else:
            said.set()
        return said

    def listen(self, listener: object) -> None:
        pass

    async def prove(self, peer: int, secret: bytes, *, anew: bool = False) -> bool:
        if anew:
            self.anew.append(peer)
        await self.ask(secret, peer).wait()
        return False

    def drain(self, session: object) -> None:
        pass


async def test_hundreds_that_are_connected_are_asked_in_turns() -> None:
    room: Any = Room()
    session: Any = Waiting()
    async with supervised() as tasks:
        meeting = Meeting(room, tasks, room, None)
        with steps_counted():
            meeting.ask_connected(session)
            await settled(lambda: len(room.asked) == PEERS)
        assert room.asked == list(range(PEERS))


async def test_who_has_left_meanwhile_is_not_asked_and_nobody_for_a_session_that_is_over() -> None:
    room: Any = Room()
    room.gone = {3}
    session: Any = Waiting()
    async with supervised() as tasks:
        meeting = Meeting(room, tasks, room, None)
        meeting.ask_connected(session)
        await settled(lambda: len(room.asked) == PEERS - 1)
        assert 3 not in room.asked
        await settled(lambda: not meeting._rounds)
        session.closed = True
        meeting.ask_connected(session)
        await settled(lambda: not meeting._rounds)
    assert len(room.asked) == PEERS - 1


@pytest.mark.parametrize("enclosure", [None, SECRET])
async def test_however_many_sessions_wait_a_few_peers_are_asked_at_a_time(
    monkeypatch: pytest.MonkeyPatch, enclosure: object
) -> None:
    """24 own fetches of a node with 100 busy peers asked 2,400 questions at once, and again every 4 s: neither they nor the provider
    that they waited for got to anything else, and all gave up after 30 s, "connected, and silent"."""
    monkeypatch.setattr(module, "ANSWER_SECONDS", 1000.0)
    room: Any = Room(100, silent=True)
    sessions: list[Any] = [Waiting(enclosure) for _ in range(24)]
    async with supervised() as tasks:
        meeting = Meeting(room, tasks, room, room)
        for session in sessions * 7:  # as often as in 30 s
            meeting.ask_connected(session)
        await anyio.wait_all_tasks_blocked()
        assert len(room.asked) == ASKED_AT_ONCE
        for already in range(3):
            room.waiting[already].set()
            await anyio.wait_all_tasks_blocked()
            assert len(room.asked) == ASKED_AT_ONCE + already + 1


async def test_who_is_silent_makes_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.001)
    room: Any = Room(5 * ASKED_AT_ONCE, silent=True)
    session: Any = Waiting()
    async with supervised() as tasks:
        Meeting(room, tasks, room, None).ask_connected(session)
        await settled(lambda: len(room.asked) == room.peers)


async def test_who_says_that_it_has_not_what_is_wanted_proves_anew() -> None:
    """What had been proved held for good: who waited did not hear that the share had ended."""
    room: Any = Room(7)
    session: Any = Waiting(SECRET)
    async with supervised() as tasks:
        meeting = Meeting(room, tasks, room, room)
        meeting.ask_connected(session)
        await settled(lambda: len(session.took_back) == 3)
    assert room.anew == session.took_back == [1, 2, 5]
