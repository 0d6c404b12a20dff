"""Lines as people have them: a socket that takes a few bytes and then waits, an end that comes in the middle of something.

Loopback's buffers are never full, so what runs over it never waits for a peer to read. Over a `Line` everything waits: a write
takes some bytes and leaves the rest, a try may find nothing although something is there, and at a chosen step the connection is
reset, half-closed, or stands still. Same seed, same choices. Nothing sleeps, unless a rate or a delay is asked for.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from random import Random

import anyio
import anyio.lowlevel

from stack.multiformats.multiaddr import Multiaddr
from stack.transports.memory import MemoryNetwork, MemoryTransport

RELUCTANT = 0.25
"""How many of the tries find nothing, although something is there or there is room."""


class Fault(Enum):
    """What may happen to a connection."""

    RESET = "reset"
    """Both ends break at once; what was under way is lost."""
    HALF_CLOSE = "half-close"
    """Whoever acts just then can send no more; the other end reads what is under way, then the end, and may go on sending."""
    STAND_STILL = "stand-still"
    """Nothing arrives any more, in either direction, until `Wire.go_on`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """How a line behaves. The defaults are a bad one that loses nothing."""

    seed: int = 0
    capacity: int = 64 * 1024
    """Bytes that are under way in one direction at most: the socket is full then, until the other end reads. Who waits for room waits
    until a third of it is free, as Linux has it."""
    piece: int = 16 * 1024
    """One write takes, and one read gives, between 1 and so many bytes."""
    turns: int = 2
    """Turns of the event loop that a wait lasts longer than it must, at most. With 0 no try finds nothing without a reason."""
    rate: float | None = None
    """Bytes a second in each direction; None is as fast as both ends are."""
    delay: float = 0.0
    """Seconds from one end to the other."""
    direct: bool = True
    """The streams can be tried without waiting (`DirectStream`), as TCP; else they are plain `RawStream`s."""
    fault: Fault | None = None
    step: int = 0
    """The fault happens at this step of the connection: each try and each wait of either end is one, the first is 1."""


class _Lane:
    """One direction."""

    __slots__ = ("_arrived", "_free_at", "_line", "_under_way", "broken", "changed", "data", "ended")

    def __init__(self, line: Line) -> None:
        self._line = line
        self._under_way: deque[tuple[float, int]] = deque()
        self._arrived = 0
        self._free_at = 0.0
        self.data = bytearray()
        self.ended = False
        """The writer sends no more."""
        self.broken = False
        """Nobody reads any more."""
        self.changed = anyio.Event()

    def wake(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()

    @property
    def room(self) -> int:
        return self._line.capacity - len(self.data)

    def put(self, data: memoryview) -> None:
        self.data += data
        if self._line.rate is None and not self._line.delay:
            self._arrived += len(data)
        else:
            self._free_at = max(self._free_at, anyio.current_time()) + len(data) / (self._line.rate or float("inf"))
            self._under_way.append((self._free_at + self._line.delay, len(data)))
        self.wake()

    def take(self, size: int) -> bytes:
        data = bytes(self.data[:size])
        del self.data[:size]
        self._arrived -= size
        self.wake()
        return data

    def arrived(self) -> int:
        """Bytes that can be read now."""
        while self._under_way and self._under_way[0][0] <= anyio.current_time():
            self._arrived += self._under_way.popleft()[1]
        return self._arrived

    def next_arrival(self) -> float:
        return self._under_way[0][0] if self._under_way else float("inf")


class Wire:
    """One connection over a line. Getters: `steps`. Commands: `reset`, `stand_still`, `go_on`."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.steps = 0
        """Tries and waits of both ends so far: a run without a fault tells at how many steps one can happen."""
        self._lanes = (_Lane(line), _Lane(line))
        self.still = False
        self.was_reset = False

    def reset(self) -> None:
        """See `Fault.RESET`."""
        self.was_reset = True
        for lane in self._lanes:
            lane.data.clear()
            lane.wake()

    def stand_still(self) -> None:
        """See `Fault.STAND_STILL`."""
        self.still = True

    def go_on(self) -> None:
        """What stood still moves again."""
        self.still = False
        for lane in self._lanes:
            lane.wake()

    def under_way(self) -> int:
        """Bytes that were taken from one end and not yet given to the other."""
        return sum(len(lane.data) for lane in self._lanes)

    def _step(self, outgoing: _Lane) -> None:
        self.steps += 1
        if self.steps != self.line.step or self.line.fault is None:
            return
        if self.line.fault is Fault.RESET:
            self.reset()
        elif self.line.fault is Fault.STAND_STILL:
            self.stand_still()
        else:
            outgoing.ended = True
            outgoing.wake()


class RawLineStream:
    """One end: a `RawStream`."""

    def __init__(self, wire: Wire, side: int, *, local: Multiaddr, remote: Multiaddr, random: Random) -> None:
        self.wire = wire
        self.local_address = local
        self.remote_address = remote
        self._in, self._out = wire._lanes[1 - side], wire._lanes[side]
        self._random = random
        self._waited = False
        self._closed = False

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.local_address} - {self.remote_address}{' closed' if self._closed else ''}>"
        )

    @property
    def under_way(self) -> int:
        """See `TrackedStream.under_way`."""
        return len(self._out.data) - self._out.arrived()

    async def receive_into(self, buffer: memoryview) -> int:
        """See `RawStream.receive_into`."""
        while (received := self._receive_now(buffer)) is None:
            await self.wait_readable()
        return received

    async def wait_readable(self) -> None:
        """See `RawStream.wait_readable`."""
        await self._wait(self._in, self._readable)

    async def send_all(self, data: memoryview) -> None:
        """See `RawStream.send_all`."""
        while data := data[self._send_now(data) :]:
            await self._wait_writable()

    async def aclose(self) -> None:
        """See `RawStream.aclose`."""
        if not self._closed:
            self._closed = True
            self._in.broken = True
            self._in.data.clear()
            self._out.ended = True
            self._in.wake()
            self._out.wake()

    def _receive_now(self, buffer: memoryview) -> int | None:
        self._begin()
        arrived = self._in.arrived()
        if self.wire.still:
            return None
        if not arrived:  # asked once: something may arrive meanwhile, which is not the end
            if self._in.ended and not self._in.data:
                raise anyio.EndOfStream
            return None
        if self._reluctant():
            return None
        size = min(len(buffer), arrived, self._random.randint(1, self.wire.line.piece))
        buffer[:size] = self._in.take(size)
        return size

    def _send_now(self, data: memoryview) -> int:
        self._begin()
        if self._out.broken or self._out.ended:
            raise anyio.BrokenResourceError
        size = min(len(data), self._out.room, self._random.randint(1, self.wire.line.piece))
        if size <= 0 or self._reluctant():
            return 0
        self._out.put(data[:size])
        return size

    async def _wait_writable(self) -> None:
        await self._wait(self._out, self._writable)

    def _readable(self) -> bool:
        return not self.wire.still and bool(self._in.arrived() or (self._in.ended and not self._in.data))

    def _writable(self) -> bool:
        return self._out.room * 3 >= self.wire.line.capacity or self._out.broken or self._out.ended

    async def _wait(self, lane: _Lane, ready: Callable[[], bool]) -> None:
        self._begin()
        for _ in range(1 + self._random.randint(0, self.wire.line.turns)):
            await anyio.lowlevel.checkpoint()
        self._check()
        while not ready():
            with anyio.CancelScope(deadline=lane.next_arrival()):
                await lane.changed.wait()
            self._check()
        self._waited = True

    def _begin(self) -> None:
        self._check()
        self.wire._step(self._out)
        self._check()

    def _check(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError
        if self.wire.was_reset:
            raise anyio.BrokenResourceError("reset")

    def _reluctant(self) -> bool:
        """Whether a try finds nothing without a reason; never twice without a wait between."""
        waited, self._waited = self._waited, False
        return not waited and self.wire.line.turns > 0 and self._random.random() < RELUCTANT


class LineStream(RawLineStream):
    """One end: a `DirectStream`."""

    def receive_now(self, buffer: memoryview) -> int | None:
        """See `DirectStream.receive_now`."""
        return self._receive_now(buffer)

    def send_now(self, data: memoryview) -> int:
        """See `DirectStream.send_now`."""
        return self._send_now(data)

    async def wait_writable(self) -> None:
        """See `DirectStream.wait_writable`."""
        await self._wait_writable()


def line_stream_pair(
    first: Multiaddr, second: Multiaddr, line: Line = Line(), *, number: int = 0
) -> tuple[RawLineStream, RawLineStream]:
    """Two ends, at these addresses; `number` makes the choices of several connections over one line differ."""
    wire = Wire(line)
    kind = LineStream if line.direct else RawLineStream
    randoms = [Random(f"{line.seed}/{number}/{side}") for side in (0, 1)]
    return (
        kind(wire, 0, local=first, remote=second, random=randoms[0]),
        kind(wire, 1, local=second, remote=first, random=randoms[1]),
    )


class LineTransport(MemoryTransport):
    """A `Transport` for `/memory/<number>` whose connections run over `line`; for hosts and nodes. `wires` has them all."""

    def __init__(self, line: Line = Line(), network: MemoryNetwork | None = None) -> None:
        super().__init__(network or MemoryNetwork(), pair=self._make_pair)
        self.line = line
        self.wires: list[Wire] = []

    def _make_pair(self, first: Multiaddr, second: Multiaddr) -> tuple[RawLineStream, RawLineStream]:
        ends = line_stream_pair(first, second, self.line, number=len(self.wires))
        self.wires.append(ends[0].wire)
        return ends
