"""Whether our clock is right: it is looked at from time to time, and members tell theirs. Source: docs/announce.md, "Clocks"."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import TypeVar

from stack.identity.peer_id import PeerId
from stack.net.upkeep import WakeDetector
from stack.values import dataclass

WRONG_SECONDS = 120.0
"""Clocks further apart than this are told of: records are refused when one is ten minutes ahead, or as old as they are good for."""
_UNITS = ((86_400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))
ADVICE = "what is announced with a wrong date is not found; set the clock"
OPINIONS_MAX = 64
"""Members whose clock we remember; the one that told it longest ago is forgotten."""


N = TypeVar("N", int, float)


def median_low(values: Iterable[N]) -> N:
    """The lower one of two in the middle. That of the standard library loads its decimals and fractions, 3 ms of the start of a node."""
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2]


@dataclass(frozen=True, slots=True)
class ClockOpinion:
    """What others make of our clock."""

    ahead: float
    """Seconds; negative when it is behind."""
    peers: int
    """Of so many, the median."""

    @property
    def is_wrong(self) -> bool:
        """Others may refuse what we date, or we what they do."""
        return abs(self.ahead) >= WRONG_SECONDS

    def __str__(self) -> str:
        seconds = abs(self.ahead)
        size, unit = next((size, unit) for size, unit in _UNITS if seconds >= 2 * size or size == 1)
        of = (
            "that of the one peer that told it (one of the two is wrong)"
            if self.peers == 1
            else f"those of its {self.peers} peers (their median)"
        )
        return f"this computer's clock is {seconds / size:.0f} {unit} {'ahead of' if self.ahead > 0 else 'behind'} {of}"


class Clocks:
    """Facts: `look`, `told`. Getters: `opinion`."""

    __slots__ = ("_detector", "_told")

    def __init__(self) -> None:
        self._detector: WakeDetector | None = None
        self._told: OrderedDict[str | PeerId, float] = OrderedDict()
        """By address group, so that many identities in few networks have few voices: how far we are ahead of them."""

    def look(self, now: float, wall: float) -> float:
        """By how many seconds the wall clock was set, or went on while the machine slept, since the last look. What others told
        before is forgotten then: which of the two it was, they tell anew."""
        if self._detector is None:
            self._detector = WakeDetector(wall, now)
        jump = self._detector.jump(wall, now)
        if jump:
            self._told.clear()
        return jump

    def told(self, peer: PeerId, group: str | None, time: float, wall: float) -> None:
        """A member has said what time it is."""
        voice = group if group is not None else peer
        self._told.pop(voice, None)
        self._told[voice] = wall - time
        if len(self._told) > OPINIONS_MAX:
            self._told.popitem(last=False)

    @property
    def opinion(self) -> ClockOpinion | None:
        """None: nobody has told the time."""
        return ClockOpinion(median_low(self._told.values()), len(self._told)) if self._told else None
