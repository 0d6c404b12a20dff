"""Places for inbound streams: a peer has a small part of them, and when all are taken who holds most gives one back. Pure."""

from collections import OrderedDict
from collections.abc import Callable, Mapping

from stack.errors import LimitExceeded
from stack.identity.peer_id import PeerId

STREAMS_OF_A_PROTOCOL = 64
"""Of one peer at a time, for protocols that do not say how many they need: what go-libp2p gives, so that what an application opens there
it opens here."""


class Place:
    """Of one stream. `active` is set whenever something has moved; to look at the clock each time would cost more."""

    __slots__ = ("active", "drop", "peer", "protocol")

    def __init__(self, peer: PeerId, drop: Callable[[], object]) -> None:
        self.peer = peer
        self.drop = drop
        self.protocol: str | None = None
        self.active = False


class StreamPlaces:
    """Commands: `take`, `agree`, `release`. Getters: `taken`, `of`.

    Who comes is never refused because others hold too much: the stream of theirs on which nothing has moved for longest is
    dropped. Those of one peer are kept in that order as a clock does it: a stream that was used since it was last looked at
    goes to the end.
    """

    def __init__(self, total: int, of_a_peer: int, bounds: Mapping[str, int]) -> None:
        """`bounds` says for some protocols how many streams one peer may have."""
        self._total = total
        self._of_a_peer = of_a_peer
        self._bounds = bounds
        self._peers: dict[PeerId, OrderedDict[Place, None]] = {}
        self.taken = 0
        """In all."""

    def of(self, peer: PeerId) -> int:
        """How many a peer has."""
        return len(self._peers.get(peer, ()))

    def take(self, peer: PeerId, drop: Callable[[], object]) -> Place:
        """A place for a new stream; `drop` ends it when it has to go."""
        if self.of(peer) >= self._of_a_peer:
            self._drop_one(peer)
        elif self.taken >= self._total:
            self._drop_one(max(self._peers, key=self.of))
        place = Place(peer, drop)
        self._peers.setdefault(peer, OrderedDict())[place] = None
        self.taken += 1
        return place

    def agree(self, place: Place, protocol: str) -> None:
        """The stream is of this protocol. Raises LimitExceeded when its peer has as many of them as it may."""
        bound = self._bounds.get(protocol, STREAMS_OF_A_PROTOCOL)
        if sum(other.protocol == protocol for other in self._peers.get(place.peer, ())) >= bound:
            raise LimitExceeded(f"streams of {protocol} of a peer", bound)
        place.protocol = protocol

    def release(self, place: Place) -> None:
        """The stream is over; may be said twice."""
        places = self._peers.get(place.peer)
        if places is not None and place in places:
            del places[place]
            self.taken -= 1
            if not places:
                del self._peers[place.peer]

    def _drop_one(self, peer: PeerId) -> None:
        places = self._peers[peer]
        for _ in range(len(places)):
            place = next(iter(places))
            if not place.active:
                break
            place.active = False
            places.move_to_end(place)
        place = next(iter(places))
        self.release(place)
        place.drop()
