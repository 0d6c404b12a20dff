"""What a relay gives to whom: reservations and circuits, each within its bound. Pure."""

from collections import Counter
from collections.abc import Collection

from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import group_of, is_relayed, neighbourhood_of
from stack.net.limits import TokenBucket
from stack.protocols.relay.messages import UNLIMITED, Limit, Status
from stack.values import dataclass

LIMIT = Limit(seconds=120, data=128 * 1024)
QUESTIONERS_MAX = 4096
"""Peers whose questions are counted: more than may be connected, as one may ask while it goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayParameters:
    """Figures of go-libp2p (p2p/protocol/circuitv2/relay/resources.go) where it has one."""

    reservations: int = 128
    """In all. Peers that are allowed by name are not counted: they always get one."""
    reservations_of_group: int = 8
    """Of one IPv4 address or IPv6 /56."""
    reservations_of_neighbourhood: int = 32
    """Of one IPv4 /24 or IPv6 /48; go-libp2p counts by the provider's number, which we do not know."""
    reservation_seconds: int = 3600
    """Until one has to be renewed."""
    circuits: int = 128
    """Relayed connections at a time, in all."""
    circuits_of_peer: int = 16
    """At a time, of those from a peer and those to it together."""
    circuits_of_group: int = 16
    """At a time, asked for from one IPv4 address or IPv6 /56 by who is not allowed by name: as many as one peer has."""
    circuits_of_neighbourhood: int = 32
    """The same, of one IPv4 /24 or IPv6 /48."""
    circuits_of_allowed: int = 64
    """As `circuits_of_peer`, of a peer that is allowed by name; they do not count in `circuits`."""
    questions_per_second: float = 2.0
    """Of one peer in the long run: each is a signature, or a stream to somebody else."""
    questions_at_once: int = 64
    """And how many of them may come together: as many as an allowed peer may have circuits."""
    limit: Limit = LIMIT
    """Of a circuit between strangers: enough to meet, and to find out how to do without the relay."""

    def __post_init__(self) -> None:
        if not self.limit.seconds or not self.limit.data:
            raise ValueError("strangers have a limit of time and of bytes")


@dataclass(frozen=True, slots=True)
class Circuit:
    """One relayed connection; given back by `RelayPlaces.ended`."""

    source: PeerId
    target: PeerId
    limit: Limit
    counted: bool
    """It is one of the circuits of strangers."""
    asked_by_stranger: bool
    """Who asked for it is not allowed by name, whoever is at the other end."""
    asked_from: tuple[str, ...]
    """The address groups whose circuits it is counted with."""


@dataclass(slots=True)
class _Place:
    until: float
    group: str | None
    neighbourhood: str | None
    counted: bool


class RelayPlaces:
    """Requests: `may_ask`, `reserve`, `connect`; the last two return what is granted, or why not. Facts: `ended`, `peer_disconnected`.

    `allowed` are peers whom the owner of the relay has named: they have a place whoever else is there, and a connection from or to one
    of them has no limit of time and bytes. For everybody else the limits are such that nobody moves files for free.
    """

    def __init__(self, parameters: RelayParameters, allowed: Collection[PeerId] = ()) -> None:
        self._parameters = parameters
        self._allowed = frozenset(allowed)
        self._places: dict[PeerId, _Place] = {}
        self._circuits: Counter[tuple[PeerId, bool]] = Counter()
        """Of each peer those that strangers have asked for, True, and those that peers have who are allowed by name: strangers cannot keep
        these from each other, nor from a stranger."""
        self._asked_from: Counter[str] = Counter()
        self._counted = 0
        self._questions: dict[PeerId, TokenBucket] = {}

    def __repr__(self) -> str:
        return f"<RelayPlaces: {len(self._places)} reservations, {self._circuits.total() // 2} circuits>"

    @property
    def reservations(self) -> int:
        """Kept now, expired ones included until somebody asks again."""
        return len(self._places)

    @property
    def circuits(self) -> int:
        """Open now."""
        return self._circuits.total() // 2

    def limit(self, *peers: PeerId) -> Limit:
        """That of a connection between `peers`."""
        return UNLIMITED if self._allowed.intersection(peers) else self._parameters.limit

    def may_ask(self, peer: PeerId, now: float) -> bool:
        """One more question of a connected peer."""
        bucket = self._questions.get(peer)
        if bucket is None:
            parameters = self._parameters
            bucket = TokenBucket(parameters.questions_per_second, parameters.questions_at_once, now)
            self._questions[peer] = bucket
            if len(self._questions) > QUESTIONERS_MAX:
                del self._questions[next(iter(self._questions))]
        return bucket.take(now)

    def reserve(self, peer: PeerId, address: Multiaddr, now: float) -> int | Status:
        """`peer`, connected from `address`, asks for a place: the seconds for which it has it, or why it has none."""
        if is_relayed(address):
            return Status.PERMISSION_DENIED  # "should not accept reservations over already relayed connections"
        self._places = {known: place for known, place in self._places.items() if place.until > now}
        place = _Place(
            now + self._parameters.reservation_seconds,
            group_of(address),
            neighbourhood_of(address),
            peer not in self._allowed,
        )
        if place.counted and not self._has_room(peer, place):
            return Status.RESERVATION_REFUSED
        self._places[peer] = place
        return self._parameters.reservation_seconds

    def connect(self, source: PeerId, address: Multiaddr, target: PeerId, now: float) -> Circuit | Status:
        """`source`, connected from `address`, asks to be connected to `target`."""
        if is_relayed(address) or source == target:
            return Status.PERMISSION_DENIED
        place = self._places.get(target)
        if place is None or place.until <= now:
            return Status.NO_RESERVATION
        parameters = self._parameters
        counted = not self._allowed.intersection((source, target))
        stranger = source not in self._allowed
        group, neighbourhood = group_of(address), neighbourhood_of(address)
        bounds = ((group, parameters.circuits_of_group), (neighbourhood, parameters.circuits_of_neighbourhood))
        full = counted and self._counted >= parameters.circuits
        if full or any(self._circuits[peer, stranger] >= self._circuits_of(peer) for peer in (source, target)):
            return Status.RESOURCE_LIMIT_EXCEEDED
        if stranger and any(name is not None and self._asked_from[name] >= most for name, most in bounds):
            return Status.RESOURCE_LIMIT_EXCEEDED
        asked_from = tuple(name for name, _ in bounds if name is not None) if stranger else ()
        self._asked_from.update(asked_from)
        self._circuits.update(((source, stranger), (target, stranger)))
        self._counted += counted
        return Circuit(source, target, self.limit(source, target), counted, stranger, asked_from)

    def ended(self, circuit: Circuit) -> None:
        """It is over, or did not come about."""
        self._counted -= circuit.counted
        self._circuits.subtract((peer, circuit.asked_by_stranger) for peer in (circuit.source, circuit.target))
        self._asked_from.subtract(circuit.asked_from)
        self._circuits, self._asked_from = +self._circuits, +self._asked_from

    def peer_disconnected(self, peer: PeerId) -> None:
        """ "If the peer disconnects, the reservation is no longer valid.\""""
        self._places.pop(peer, None)
        self._questions.pop(peer, None)

    def _circuits_of(self, peer: PeerId) -> int:
        allowed = peer in self._allowed
        return self._parameters.circuits_of_allowed if allowed else self._parameters.circuits_of_peer

    def _has_room(self, peer: PeerId, place: _Place) -> bool:
        others = [other for known, other in self._places.items() if known != peer and other.counted]
        of_group = sum(other.group == place.group for other in others)
        of_neighbourhood = sum(other.neighbourhood == place.neighbourhood for other in others)
        parameters = self._parameters
        if len(others) >= parameters.reservations:
            return False
        if place.group is None:  # loopback: nobody is a stranger there
            return True
        return (
            of_group < parameters.reservations_of_group and of_neighbourhood < parameters.reservations_of_neighbourhood
        )
