"""What a pure machine looks like from outside.

Time (`now`, monotonic seconds) and randomness are arguments; nothing here reads a clock. Four kinds of methods: getters,
facts from outside, commands of the application, outputs to drain. Shape after h11, h2 and quinn-proto.
"""

from collections.abc import MutableSequence, Sequence
from typing import NewType, Protocol, TypeVar

E_co = TypeVar("E_co", covariant=True)
T = TypeVar("T")
StreamId = NewType("StreamId", int)

Buffer = bytes | bytearray | memoryview
"""What the data path takes: anything contiguous that can be read without a copy."""


class Randomness(Protocol):
    """What machines ask of a source of randomness: `random.Random(seed)` in tests, `random.SystemRandom()` in a node."""

    def random(self) -> float: ...
    def randrange(self, start: int, stop: int, /) -> int: ...
    def randbytes(self, n: int, /) -> bytes: ...
    def shuffle(self, x: MutableSequence[T], /) -> None: ...
    def sample(self, population: Sequence[T], k: int) -> list[T]: ...


class ByteMachine(Protocol[E_co]):
    """Small messages on one stream: negotiation, handshakes, identify."""

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes from the peer; `b""` means the peer sends no more."""
        ...

    def next_event(self) -> E_co | None:
        """The next thing that happened, or None."""
        ...

    def data_to_send(self) -> bytes:
        """Bytes to send now; empties what it returns."""
        ...

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called, in the time of `now`, or None."""
        ...

    def handle_timeout(self, now: float) -> None:
        """The deadline has passed; moves or clears it."""
        ...


class DataMachine(Protocol[E_co]):
    """The data path: payload never travels in an event, and is copied once on its way out."""

    def receive_data(self, data: memoryview, now: float) -> int:
        """Take bytes from the peer, at least one, and say how many: no more than a fraction of a turn's work. The rest is
        offered again. `data` is borrowed and valid until this call returns."""
        ...

    def write_to(self, out: memoryview) -> int:
        """Fill at most `len(out)` bytes to be sent; 0 means nothing to send."""
        ...

    def send(self, stream: StreamId, data: Buffer) -> int:
        """Offer payload; says how much was taken. What was taken must stay unchanged until it has been written."""
        ...

    def read_into(self, stream: StreamId, out: memoryview) -> int:
        """Move received payload of `stream` into `out`; returns how much."""
        ...

    def next_event(self) -> E_co | None: ...
    def next_timeout(self) -> float | None: ...
    def handle_timeout(self, now: float) -> None: ...
