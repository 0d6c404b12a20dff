"""Driving a machine on a stream."""

import anyio
import pytest

from stack.errors import RemoteProtocolError
from stack.multiformats.multiaddr import Multiaddr
from stack.streams.memory import memory_stream_pair
from stack.streams.pump import drive

pytestmark = pytest.mark.anyio

HERE, THERE = Multiaddr.parse("/memory/1"), Multiaddr.parse("/memory/2")


class Echo:
    """Asks, and reports the answer; gives up when the deadline has passed twice; is offended by an `x`."""

    def __init__(self, *, minds_the_end: bool = False) -> None:
        self.sending = b"ask"
        self.events: list[str] = []
        self.patience = 2
        self.deadline: float | None = None
        self.minds_the_end = minds_the_end

    def receive_data(self, data: bytes, now: float) -> None:
        if data == b"x":
            self.sending = b"shame"
            raise RemoteProtocolError("x")
        if data == b"X":
            raise RemoteProtocolError("X")
        if data or self.minds_the_end:
            self.events.append(data.decode() or "end")
        if not data and self.minds_the_end:
            raise RemoteProtocolError("the end")

    def next_event(self) -> str | None:
        return self.events.pop(0) if self.events else None

    def data_to_send(self) -> bytes:
        data, self.sending = self.sending, b""
        return data

    def next_timeout(self) -> float | None:
        return self.deadline

    def handle_timeout(self, now: float) -> None:
        self.patience -= 1
        if self.patience:
            self.deadline = now + 0.005
        else:
            self.deadline = None
            self.events.append("gave up")


async def test_what_the_machine_says_is_sent_and_its_event_returned() -> None:
    first, second = memory_stream_pair(HERE, THERE)
    await second.send_all(memoryview(b"answer"))
    assert await drive(first, Echo()) == "answer"
    room = memoryview(bytearray(10))
    assert await second.receive_into(room) == 3
    assert bytes(room[:3]) == b"ask"


async def test_no_more_is_read_than_the_machine_wants() -> None:
    first, second = memory_stream_pair(HERE, THERE)
    await second.send_all(memoryview(b"answer"))
    assert await drive(first, Echo(), at_most=lambda: 2) == "an"
    assert await drive(first, Echo(), at_most=lambda: 4) == "swer"


async def test_the_machine_is_told_when_its_deadline_has_passed() -> None:
    first, _ = memory_stream_pair(HERE, THERE)
    machine = Echo()
    machine.deadline = anyio.current_time() + 0.005
    assert await drive(first, machine) == "gave up"


async def test_last_words_are_sent_before_the_error_is_raised() -> None:
    first, second = memory_stream_pair(HERE, THERE)
    await second.send_all(memoryview(b"x"))
    with pytest.raises(RemoteProtocolError):
        await drive(first, Echo())
    room = memoryview(bytearray(10))
    assert await second.receive_into(room) == 8
    assert bytes(room[:8]) == b"askshame"


async def test_last_words_to_a_peer_that_has_gone_do_not_hide_why_it_was_refused() -> None:
    first, second = memory_stream_pair(HERE, THERE)
    await second.send_all(memoryview(b"x"))
    await second.aclose()
    machine = Echo()
    machine.sending = b""
    with pytest.raises(RemoteProtocolError):
        await drive(first, machine)


async def test_an_error_without_last_words_is_raised() -> None:
    first, second = memory_stream_pair(HERE, THERE)
    await second.send_all(memoryview(b"X"))
    with pytest.raises(RemoteProtocolError):
        await drive(first, Echo())


async def test_the_end_is_raised_unless_the_machine_has_its_own_error_for_it() -> None:
    for machine, error in ((Echo(), anyio.EndOfStream), (Echo(minds_the_end=True), RemoteProtocolError)):
        first, second = memory_stream_pair(HERE, THERE)
        await second.aclose()
        machine.sending = b""
        with pytest.raises(error):
            await drive(first, machine)
