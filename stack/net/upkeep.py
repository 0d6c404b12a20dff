"""Decisions about connections that stand already: which serves new streams, which are closed, when to probe all. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from stack.identity.peer_id import PeerId
from stack.net.interfaces import Direction
from stack.values import dataclass

T = TypeVar("T")

DUPLICATE_IDLE_SECONDS = 10.0
"""A duplicate is closed after carrying nothing for this long: time for a stream that the other end is just opening."""
SUPERSEDED_SECONDS = 60.0
"""A relayed connection beside a direct one is closed after so long, whatever is open on it: what is kept for long goes over by itself
when it is next used, and what is asked for again is little."""
SHOWN_BYTES = 16 * 1024
"""Who has moved so much is more than a stranger that has said who it is and asks whether we are there."""
LATELY_SECONDS = 600.0
"""In so long what has moved comes to count half."""
WORKING_RATE = 800
"""Bytes a second. Who has moved fewer is idle: nobody is kept out for its sake. SHOWN_BYTES in the 20 s of grace are as many."""
WAKE_SECONDS = 10.0
"""Wall and monotonic clock apart by more than this between two looks: the machine slept, or its clock was set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the decisions need to know of one connection."""

    direction: Direction
    opened_at: float
    """Monotonic seconds."""
    moved: int
    """Bytes that have moved lately, both ways: what it has shown itself to be good for. How many streams it has shows nothing."""
    idle_since: float | None
    """Monotonic seconds since when it has carried no stream; None while it carries one."""
    protected: bool
    neighbourhood: str | None
    """Where it comes from or goes to."""
    relayed: bool = False
    superseded_at: float | None = None
    """Monotonic seconds since when a relayed one has stood beside a direct one."""


def best(connections: Sequence[T], standing: Callable[[T], Standing], ours: PeerId, theirs: PeerId) -> T:
    """The connection for new streams. Both ends come to the same answer: a direct one, if there is one; of those what the peer with
    the smaller id dialled, of those the oldest."""
    smaller_dialled = Direction.OUTBOUND if ours < theirs else Direction.INBOUND

    def order(connection: T) -> tuple[bool, bool, float]:
        seen = standing(connection)
        return seen.relayed, seen.direction is not smaller_dialled, seen.opened_at

    return min(connections, key=order)


def superfluous(
    connections: Sequence[T], standing: Callable[[T], Standing], ours: PeerId, theirs: PeerId, now: float
) -> list[T]:
    """Duplicates to close now: not the best, and without a stream for a while (closing a busy one resets Kubo's streams).

    Only the peer with the smaller id closes; if both did, each might close the one that the other keeps. Relayed ones beside a direct
    one are closed by either, and do not stay for what is open on them.
    """
    if len(connections) < 2:
        return []
    kept = best(connections, standing, ours, theirs)
    going = []
    for connection in connections:
        seen = standing(connection)
        since = seen.superseded_at
        overdue = since is not None and now - since >= SUPERSEDED_SECONDS
        idle = seen.idle_since is not None and now - seen.idle_since >= DUPLICATE_IDLE_SECONDS
        if connection is not kept and (overdue or (idle and (ours < theirs or since is not None))):
            going.append(connection)
    return going


def to_trim(
    connections: Iterable[T],
    standing: Callable[[T], Standing],
    *,
    low_water: int,
    high_water: int,
    grace: float,
    now: float,
) -> list[T]:
    """Connections to close because there are too many: none up to the high water.

    Newcomers that have shown nothing yet have half of the places; of more the oldest go, of the largest neighbourhood first.
    If that does not do, others go down to the low water: who has moved least lately, inbound before outbound, of the largest
    neighbourhood first, young before old (who has stayed long tends to stay). Protected ones stay, and those that we have
    dialled just now.
    """
    standings = [(connection, standing(connection)) for connection in connections]
    if len(standings) <= high_water:
        return []
    newcomers: list[tuple[T, Standing]] = []
    others: list[tuple[T, Standing]] = []
    for connection, seen in standings:
        inbound, young = seen.direction is Direction.INBOUND, now - seen.opened_at < grace
        if seen.protected or (young and not inbound):
            continue
        (newcomers if young and seen.moved < SHOWN_BYTES else others).append((connection, seen))
    surplus = max(len(newcomers) - low_water // 2, 0)
    going = _crowded_first(newcomers, lambda seen: (), lambda seen: (seen.moved.bit_length(), seen.opened_at))[:surplus]
    left = len(standings) - surplus
    if left > high_water:
        going += _crowded_first(others, _worth, lambda seen: (-seen.opened_at,))[: left - low_water]
    return going


def gives_way(places: Mapping[T, int | Standing], *, grace: float, now: float) -> T | None:
    """Who goes for a newcomer from the same address, all places of which are taken: `places` in order of coming, with the steps of its
    handshake of each that has no identity yet.

    First the oldest of those who have not said a word. Then of those who are past their grace and do not work who has moved least; the
    oldest of those who have just come, where they are more than half; and of the older half of handshakes the one that has gone
    least far. None: nobody. Who works does not go, and neither does a newcomer for the next one, as long as there are few: whoever
    comes again and again moves nobody else out.
    """
    arrivals = [(seen, who) for who, seen in places.items() if isinstance(seen, int)]
    silent = next((who for steps, who in arrivals if not steps), None)
    if silent is not None:
        return silent
    standings = [(seen, who) for who, seen in places.items() if not isinstance(seen, int) and not seen.protected]
    idle = [(seen, who) for seen, who in standings if now - seen.opened_at >= grace and not _works(seen, now)]
    if idle:
        return min(idle, key=lambda pair: pair[0].moved)[1]
    newcomers = [who for seen, who in standings if now - seen.opened_at < grace and seen.moved < SHOWN_BYTES]
    if len(newcomers) > len(places) // 2:
        return newcomers[0]
    return min(arrivals[: len(arrivals) // 2], key=lambda pair: pair[0], default=(0, None))[1]


def _works(seen: Standing, now: float) -> bool:
    return seen.moved >= max(SHOWN_BYTES, WORKING_RATE * min(now - seen.opened_at, LATELY_SECONDS))


def _worth(seen: Standing) -> tuple[float, ...]:
    """In steps of four times as much, so that what is about as good is told apart by something else."""
    return ((seen.moved // SHOWN_BYTES).bit_length() // 2, seen.direction is Direction.OUTBOUND)


def _crowded_first(
    pairs: list[tuple[T, Standing]],
    first: Callable[[Standing], tuple[float, ...]],
    last: Callable[[Standing], tuple[float, ...]],
) -> list[T]:
    """In order of `first`; then each time one of the neighbourhood of which most are left; then in order of `last`."""
    left = Counter(seen.neighbourhood for _, seen in pairs)
    order = []
    for connection, seen in sorted(pairs, key=lambda pair: (first(pair[1]), last(pair[1]))):
        order.append((first(seen), -left[seen.neighbourhood], last(seen), connection))
        left[seen.neighbourhood] -= 1
    order.sort(key=lambda row: row[:3])
    return [connection for *_, connection in order]


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
