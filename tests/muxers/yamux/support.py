"""Two yamux machines and a link, and frames written by hand."""

from stack.muxers.yamux import frames
from stack.muxers.yamux.connection import YamuxMachine
from stack.muxers.yamux.events import Event, StreamOpened
from stack.muxers.yamux.frames import ACK, DATA, FIN, PING, RST, SYN, WINDOW_UPDATE
from stack.muxers.yamux.parameters import YamuxParameters
from stack.sansio.budget import Resource, Scope
from stack.sansio.interfaces import StreamId
from stack.testing.pair import DataPair, drain, events, feed

Header = tuple[int, int, int, int]

__all__ = ["ACK", "DATA", "FIN", "PING", "RST", "SYN", "WINDOW_UPDATE"]


def scope() -> Scope:
    """Unlimited; what is left in it at the end was leaked."""
    return Scope("test", {})


def used(budget: Scope) -> int:
    """Everything that is still reserved."""
    return sum(budget.used(resource) for resource in Resource)


def machine(
    *, outbound: bool, parameters: YamuxParameters | None = None, budget: Scope | None = None, now: float = 0.0
) -> YamuxMachine:
    """One end."""
    return YamuxMachine(outbound=outbound, parameters=parameters or YamuxParameters(), scope=budget or scope(), now=now)


def frame(kind: int, flags: int, stream: int, length: int, payload: bytes = b"") -> bytes:
    """A frame as it is on the wire; `length` need not be honest."""
    return frames.encode_header(kind, flags, stream, length) + payload


def data(stream: int, payload: bytes, flags: int = 0) -> bytes:
    """An honest data frame."""
    return frame(DATA, flags, stream, len(payload), payload)


def split(wire: bytes) -> list[tuple[int, int, int, int, bytes]]:
    """Frames on the wire, with their payload."""
    found = []
    while wire:
        header = frames.decode_header(wire)
        size = header[3] if header[0] == DATA else 0
        found.append((*header, wire[12 : 12 + size]))
        wire = wire[12 + size :]
    return found


def headers(wire: bytes) -> list[Header]:
    """The same without."""
    return [(kind, flags, stream, length) for kind, flags, stream, length, _ in split(wire)]


def read(end: YamuxMachine, stream: StreamId, size: int = 1 << 20) -> bytes:
    """What waits on a stream."""
    out = bytearray(size)
    return bytes(out[: end.read_into(stream, memoryview(out))])


class Ends:
    """A dialler and a listener with a stream of the dialler's between them, accepted."""

    def __init__(self, parameters: YamuxParameters | None = None, *, step: int | None = None) -> None:
        self.budgets = scope(), scope()
        self.dialler = machine(outbound=True, parameters=parameters, budget=self.budgets[0])
        self.listener = machine(outbound=False, parameters=parameters, budget=self.budgets[1])
        self.link: DataPair[Event] = DataPair(self.dialler, self.listener, step=step)
        self.stream = self.dialler.open()
        self.link.run()
        assert events(self.listener) == [StreamOpened(stream=self.stream)]
        self.listener.accept(self.stream)
        self.link.run()
        assert events(self.dialler) == []

    def quiet(self) -> tuple[list[Event], list[Event]]:
        """Move everything; what both ends have to tell."""
        self.link.run()
        return events(self.dialler), events(self.listener)


def raw_listener(
    parameters: YamuxParameters | None = None, budget: Scope | None = None
) -> tuple[YamuxMachine, StreamId]:
    """A listening end to which frames are written by hand, with stream 1 open and accepted."""
    end = machine(outbound=False, parameters=parameters, budget=budget)
    feed(end, frame(WINDOW_UPDATE, SYN, 1, 0))
    assert events(end) == [StreamOpened(stream=StreamId(1))]
    end.accept(StreamId(1))
    assert headers(drain(end)) == [(WINDOW_UPDATE, ACK, 1, 0)]
    return end, StreamId(1)
