"""Inbound connections that have not proved yet whose they are: when there is no room for one more, one of them goes. Pure."""

from collections.abc import Callable

from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import neighbourhood_of


class Arrival:
    """One of them."""

    __slots__ = ("address", "drop", "neighbourhood")

    def __init__(self, address: Multiaddr, drop: Callable[[], object]) -> None:
        self.address = address
        self.drop = drop
        self.neighbourhood = neighbourhood_of(address)


class Arrivals:
    """Facts: `add`, `remove`. Command: `drop_one`.

    Who comes is not refused because others hold all places with handshakes that they do not go on with: the oldest of the
    largest neighbourhood goes. An honest one is through in a second, and mostly comes from where few others do.
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
        """The one that had to go, or None when there is none."""
        neighbours = max(self._of.values(), key=len, default=None)
        if neighbours is None:
            return None
        oldest = next(iter(neighbours))
        self.remove(oldest)
        oldest.drop()
        return oldest
