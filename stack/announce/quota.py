"""How much of others' records is looked at: so many bytes a second of each source, more at once."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)

SOURCES_MAX = 1024
"""Sources remembered; the least recent is forgotten, so that a flood of them costs 200 KiB at most."""


class Quota(Generic[S]):
    """Token buckets by source. Facts: `take`, `charge`."""

    __slots__ = ("_buckets", "_burst", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        """`rate` a second in the long run, `burst` at once."""
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[S, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, source: S, amount: float, now: float) -> bool:
        """True when a source may have so much more now; else nothing is taken."""
        buckets = self._buckets
        left, at = buckets.get(source, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        allowed = left >= amount
        if source not in buckets and len(buckets) >= SOURCES_MAX:
            buckets.popitem(last=False)
        buckets[source] = (left - amount if allowed else left, now)
        buckets.move_to_end(source)
        return allowed

    def charge(self, source: S, amount: float) -> None:
        """Something that was allowed has cost so much more: a source may come to owe, and waits until it has paid."""
        left, at = self._buckets[source]
        self._buckets[source] = (left - amount, at)
