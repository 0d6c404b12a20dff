"""What runs showed, and what many of them come to. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class End:
    """One of the computers of a run."""

    name: str
    cpu: float
    """User and system seconds of all its processes."""
    peak: int
    """Bytes resident at most."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One run of one kind."""

    value: float
    """In the unit of its row."""
    ends: tuple[End, ...] = ()


@dataclass(frozen=True, slots=True)
class Spread:
    """Many values of the same thing."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """At least one value."""
        return cls(median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.least)} to {number(self.most)})"


@dataclass(frozen=True, slots=True)
class Kind:
    """All runs of one kind."""

    name: str
    figures: tuple[Figure, ...]

    @property
    def value(self) -> Spread:
        """In the unit of the row."""
        return Spread.of([figure.value for figure in self.figures])

    @property
    def cpu(self) -> dict[str, Spread]:
        """CPU-seconds by end."""
        return {name: Spread.of([end.cpu for end in ends]) for name, ends in self._ends().items()}

    @property
    def peak(self) -> dict[str, Spread]:
        """Bytes by end."""
        return {name: Spread.of([end.peak for end in ends]) for name, ends in self._ends().items()}

    def _ends(self) -> dict[str, list[End]]:
        ends: dict[str, list[End]] = {}
        for figure in self.figures:
            for end in figure.ends:
                ends.setdefault(end.name, []).append(end)
        return ends


def ratios(kinds: Sequence[Kind], anchors: Sequence[str], *, more: bool) -> dict[tuple[str, str], Spread]:
    """How many times better each kind is than each anchor, by pairs that ran beside each other. `more`: more is better."""
    found = {}
    for ours in kinds:
        for other in kinds:
            if ours.name in anchors or other.name not in anchors:
                continue
            pairs = [(one.value, two.value) for one, two in zip(ours.figures, other.figures, strict=False)]
            times = [one / two if more else two / one for one, two in pairs if one > 0 and two > 0]
            if times:
                found[ours.name, other.name] = Spread.of(times)
    return found


def turn(names: Sequence[str], round_number: int) -> list[str]:
    """In which order kinds run: the first pays for memory that those after it use again, so each is first in turn."""
    first = round_number % len(names) if names else 0
    return [*names[first:], *names[:first]]


def number(value: float) -> str:
    """With three digits that mean something."""
    for limit, form in ((99.95, ",.0f"), (9.995, ".1f"), (0.0995, ".2f")):
        if abs(value) >= limit:
            return format(value, form)
    return format(value, ".3g")
