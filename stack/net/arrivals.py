"""Inbound connections that have not proved yet whose they are: when there is no room for one more, one of them goes. Pure."""

from collections.abc import Callable

from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import neighbourhood_of


class Arrival:
    """One of them."""

    __slots__ = ("address", "drop", "place")

    def __init__(self, address: Multiaddr, drop: Callable[[], object]) -> None:
        self.address = address
        self.drop = drop
        self.place: tuple[int, str | None] = (0, neighbourhood_of(address))
        """How much it has shown, and where it comes from."""


class Arrivals:
    """Facts: `add`, `shown`, `remove`. Command: `drop_one`.

    Who comes is not refused because others hold all places with handshakes that they do not go on with. An honest one says
    something at once, is through in a second, and mostly comes from where few others do.
    """

    def __init__(self) -> None:
        self._at: dict[tuple[int, str | None], dict[Arrival, None]] = {}

    def add(self, address: Multiaddr, drop: Callable[[], object]) -> Arrival:
        """One has come; `drop` gives back at once what it takes."""
        arrival = Arrival(address, drop)
        self._at.setdefault(arrival.place, {})[arrival] = None
        return arrival

    def shown(self, arrival: Arrival) -> None:
        """It has gone on with its handshake."""
        self.remove(arrival)
        progress, neighbourhood = arrival.place
        arrival.place = (progress + 1, neighbourhood)
        self._at.setdefault(arrival.place, {})[arrival] = None

    def remove(self, arrival: Arrival) -> None:
        """It is a connection now, or over; may be said twice."""
        at_its_place = self._at.get(arrival.place, {})
        at_its_place.pop(arrival, None)
        if not at_its_place:
            self._at.pop(arrival.place, None)

    def drop_one(self) -> Arrival | None:
        """Of those that have shown least, of the largest neighbourhood, the oldest has to go; None when there is none."""
        place = min(self._at, key=lambda place: (place[0], -len(self._at[place])), default=None)
        if place is None:
            return None
        oldest = next(iter(self._at[place]))
        self.remove(oldest)
        oldest.drop()
        return oldest
