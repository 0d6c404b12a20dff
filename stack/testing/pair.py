"""Two machines and a link between them: protocols are tested without sockets, clocks or an event loop."""

from collections.abc import Callable
from typing import Generic, TypeVar

from stack.sansio.interfaces import ByteMachine, DataMachine

E = TypeVar("E")
F = TypeVar("F")

FRAME = 65519
"""Room of one call of `write_to`: what a Noise frame carries."""


def drain(machine: DataMachine[E], room: int = FRAME) -> bytes:
    """Everything the machine wants to send, as one string; `room` bytes are offered at a time."""
    out = bytearray()
    buffer = memoryview(bytearray(room))
    while size := machine.write_to(buffer):
        out += buffer[:size]
    return bytes(out)


def events(machine: ByteMachine[E] | DataMachine[E]) -> list[E]:
    """All events the machine has to tell."""
    told = []
    while (event := machine.next_event()) is not None:
        told.append(event)
    return told


def feed(machine: DataMachine[E], data: bytes, now: float = 0.0, *, step: int | None = None) -> None:
    """Give the machine `data`, in pieces of `step` bytes if that is said. Each piece is overwritten afterwards, as a
    reused buffer is, so that whoever kept a view of it is found out."""
    size = step or max(len(data), 1)
    for start in range(0, len(data), size):
        piece = bytearray(data[start : start + size])
        taken = 0
        while taken < len(piece):
            taken += machine.receive_data(memoryview(piece)[taken:], now)
        piece[:] = b"\xaa" * len(piece)


class DataPair(Generic[E]):
    """Two `DataMachine`s. `run` moves bytes both ways until nobody has anything to say."""

    def __init__(self, first: DataMachine[E], second: DataMachine[E], *, step: int | None = None) -> None:
        self.first = first
        self.second = second
        self.now = 0.0
        self._step = step

    def run(self) -> None:
        """Move bytes until all is quiet."""
        while self.forward() or self.back():
            pass

    def forward(self) -> int:
        """From the first to the second; says how many bytes."""
        return self._move(self.first, self.second)

    def back(self) -> int:
        """From the second to the first; says how many bytes."""
        return self._move(self.second, self.first)

    def _move(self, source: DataMachine[E], target: DataMachine[E]) -> int:
        data = drain(source)
        feed(target, data, self.now, step=self._step)
        return len(data)


class BytePair(Generic[E, F]):
    """Two `ByteMachine`s, their bytes cut by `cut` on the way; events are collected as they come."""

    def __init__(
        self,
        first: ByteMachine[E],
        second: ByteMachine[F],
        *,
        cut: Callable[[bytes], list[bytes]] = lambda data: [data],
    ) -> None:
        self.first = first
        self.second = second
        self.first_events: list[E] = []
        self.second_events: list[F] = []
        self.first_sent = b""
        self.second_sent = b""
        self._cut = cut

    def run(self) -> None:
        """Move bytes until all is quiet."""
        while True:
            forth = self.first.data_to_send()
            self.first_sent += forth
            for piece in self._cut(forth) if forth else []:
                self.second.receive_data(piece, 0.0)
            back = self.second.data_to_send()
            self.second_sent += back
            for piece in self._cut(back) if back else []:
                self.first.receive_data(piece, 0.0)
            self.first_events += events(self.first)
            self.second_events += events(self.second)
            if not forth and not back:
                return
