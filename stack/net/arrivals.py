"""Inbound connections that have not proved yet whose they are: when there is no room for one more, one of them goes. Pure."""

from collections.abc import Callable
from itertools import islice

from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import neighbourhood_of


class Arrival:
    """One of them."""

    __slots__ = ("address", "drop", "neighbourhood", "progress")

    def __init__(self, address: Multiaddr, drop: Callable[[], object]) -> None:
        self.address = address
        self.drop = drop
        self.neighbourhood = neighbourhood_of(address)
        self.progress = 0
        """Steps of its handshake."""

    def further(self) -> None:
        """One more."""
        self.progress += 1


class Arrivals:
    """Facts: `add`, `remove`, and `progress` of one. Command: `drop_one`.

    Who comes is not refused because others hold all places with handshakes that they do not go on with. An honest one says
    something at once, is through in a second, and mostly comes from where few others do.
    """

    def __init__(self) -> None:
        self._of: dict[str | None, dict[Arrival, None]] = {}

    def add(self, address: Multiaddr, drop: Callable[[], object]) -> Arrival:
        """One has come; `drop` gives back at once what it takes."""
        arrival = Arrival(address, drop)
        self._of.setdefault(arrival.neighbourhood, {})[arrival] = None
        return arrival

    def remove(self, arrival: Arrival) -> None:
        """It is a connection now, or over; may be said twice."""
        neighbours = self._of.get(arrival.neighbourhood, {})
        neighbours.pop(arrival, None)
        if not neighbours:
            self._of.pop(arrival.neighbourhood, None)

    def drop_one(self) -> Arrival | None:
        """Of the largest neighbourhood, of the older half of it, the one that has shown least has to go, and of equal ones the
        oldest. None when there is none."""
        neighbours = max(self._of.values(), key=len, default=None)
        if neighbours is None:
            return None
        older = islice(neighbours, (len(neighbours) + 1) // 2)
        dropped = min(older, key=lambda arrival: arrival.progress)
        self.remove(dropped)
        dropped.drop()
        return dropped
