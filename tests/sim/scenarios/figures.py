"""What the figures of a run are made from."""

from collections.abc import Iterable, Sequence

from tests.sim.networks.gossip import Sent


def quantile(values: Iterable[float], part: float) -> float:
    """The smallest value that at least this part of all do not exceed; not a number when there are none."""
    ordered = sorted(values)
    if not ordered:
        return float("nan")
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)]


def reach_of(sent: Sent, numbers: Iterable[int], within: float) -> float:
    """The part of these nodes that had a message within so many seconds."""
    numbers = tuple(numbers)
    return sum(sent.reached.get(number, within + 1) <= within for number in numbers) / len(numbers)


def part_of(values: Sequence[float], least: float) -> float:
    """The part of the values that are at least this much."""
    return sum(value >= least for value in values) / len(values)
