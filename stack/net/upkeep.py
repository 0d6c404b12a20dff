"""Decisions about connections that stand already: which serves new streams, which are closed, when to probe all. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from stack.identity.peer_id import PeerId
from stack.net.interfaces import Direction

T = TypeVar("T")

DUPLICATE_IDLE_SECONDS = 10.0
"""A duplicate is closed after carrying nothing for this long: time for a stream that the other end is just opening."""
WAKE_SECONDS = 10.0
"""Wall and monotonic clock apart by more than this between two looks: the machine slept, or its clock was set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the decisions need to know of one connection."""

    direction: Direction
    opened_at: float
    """Monotonic seconds."""
    streams: int
    idle_since: float | None
    """Monotonic seconds since when it has carried no stream; None while it carries one."""
    protected: bool


def best(connections: Sequence[T], standing: Callable[[T], Standing], ours: PeerId, theirs: PeerId) -> T:
    """The connection for new streams. Both ends come to the same answer: what the peer with the smaller id dialled,
    of those the oldest."""
    smaller_dialled = Direction.OUTBOUND if ours < theirs else Direction.INBOUND
    return min(connections, key=lambda c: (standing(c).direction is not smaller_dialled, standing(c).opened_at))


def superfluous(
    connections: Sequence[T], standing: Callable[[T], Standing], ours: PeerId, theirs: PeerId, now: float
) -> list[T]:
    """Duplicates to close now: not the best, and without a stream for a while (closing a busy one resets Kubo's streams).

    Only the peer with the smaller id closes; if both did, each might close the one that the other keeps.
    """
    if len(connections) < 2 or theirs < ours:
        return []
    kept = best(connections, standing, ours, theirs)
    return [
        connection
        for connection in connections
        if connection is not kept
        and (idle := standing(connection).idle_since) is not None
        and now - idle >= DUPLICATE_IDLE_SECONDS
    ]


def to_trim(
    connections: Iterable[T],
    standing: Callable[[T], Standing],
    *,
    low_water: int,
    high_water: int,
    grace: float,
    now: float,
) -> list[T]:
    """Connections to close because there are too many: none up to the high water, then down to the low one.

    Protected and new ones stay; first to go are those without streams, inbound before outbound, young before old (who
    has stayed long tends to stay).
    """
    standings = [(connection, standing(connection)) for connection in connections]
    if len(standings) <= high_water:
        return []
    candidates = [pair for pair in standings if not pair[1].protected and now - pair[1].opened_at >= grace]
    candidates.sort(key=lambda pair: (pair[1].streams, pair[1].direction is Direction.OUTBOUND, -pair[1].opened_at))
    return [connection for connection, _ in candidates[: len(standings) - low_water]]


class WakeDetector:
    """Notices that the machine slept (the monotonic clock stands still then, the wall clock does not), or that its clock was set."""

    def __init__(self, wall: float, monotonic: float) -> None:
        self._offset = wall - monotonic
        self._listeners: dict[object, Callable[[float], None]] = {}

    def listen(self, callback: Callable[[float], None]) -> Callable[[], None]:
        """One more whom the owner is to tell of jumps, until the returned function is called."""
        place = object()
        self._listeners[place] = callback

        def end() -> None:
            self._listeners.pop(place, None)

        return end

    def listeners(self) -> tuple[Callable[[float], None], ...]:
        """Whom to tell."""
        return tuple(self._listeners.values())

    def jump(self, wall: float, monotonic: float) -> float:
        """By how many seconds the wall clock went on more than the other since the last call: the machine slept, or its clock
        was set (less than 0: back). 0 when they went together."""
        before, self._offset = self._offset, wall - monotonic
        jump = self._offset - before
        return jump if abs(jump) > WAKE_SECONDS else 0.0
