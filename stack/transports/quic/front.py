"""What becomes of a datagram on a socket that many connections share: it belongs to one, begins one, or is answered and forgotten. Pure."""

from collections import deque
from collections.abc import Callable
from ipaddress import ip_address
from typing import Generic, TypeVar

from stack.transports.quic.library import (
    ID_BYTES,
    IDLE_SECONDS,
    INITIAL_BYTES_MIN,
    Address,
    Retries,
    offer_version,
    read_header,
)
from stack.values import dataclass

RETRY_ABOVE = 16
"""Handshakes under way, above which whoever comes has to show that it is where it says: that takes it one round trip more."""
RETRY_ABOVE_OF_GROUP = 2
"""And of those from one group of addresses: whoever writes another's address on datagrams must not use up what that one may (its places
and its rate, in `net.limits.InboundGate`)."""
GROUP_BYTES = 7
"""Of an IPv6 address, which is its /56; an IPv4 address is shorter, and a group by itself."""
HANDSHAKES_MAX = 256
"""And above which nobody is let in: as many as a host has places for connections without identity."""
FIRST_DATAGRAMS_MAX = 4
"""Of a connection that nobody has opened yet: a first message with a post-quantum key fills two."""
FAREWELL_SECONDS = IDLE_SECONDS
"""So long who has closed a connection says so again to a peer that goes on with it: what it said first may be lost. A peer with nothing to
send asks within that time whether we are there."""
FAREWELLS_MAX = 256
"""Connections, with some 8 ids of 8 bytes and a datagram of about 50 each."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """To be sent back; nothing is kept."""

    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """A client begins a connection."""

    id: bytes
    """What its datagrams are sent to for now."""
    original_id: bytes
    """What the first of them was sent to."""
    retry_id: bytes | None
    """Where our Retry has sent it."""


@dataclass(slots=True, kw_only=True)
class _Farewell:
    """Of a connection that is over."""

    ids: list[bytes]
    data: bytes
    until: float
    heard: int = 0
    """Datagrams that have come for it since. The first is answered, the second, the fourth, the eighth (RFC 9000, 10.2.1)."""


class Front(Generic[T]):
    """Getters: `sort`, `handshakes`. Facts: `began`, `ended`. Commands: `add`, `remove`, `remove_id`, `bid_farewell`; `listening` may be
    set."""

    def __init__(self, make_id: Callable[[], bytes]) -> None:
        """`make_id` gives ID_BYTES random bytes."""
        self._routes: dict[bytes, T] = {}
        self._farewells: dict[bytes, _Farewell] = {}
        self._over: deque[_Farewell] = deque()
        self._make_id = make_id
        self._retries = Retries()
        self._handshakes: dict[bytes, int] = {}
        self.handshakes = 0
        """Under way, of who has come to us."""
        self.listening = False

    def __len__(self) -> int:
        return len(self._routes)

    def add(self, id: bytes, owner: T) -> None:
        """What is sent to `id` is for `owner`."""
        self._routes[id] = owner

    def remove(self, owner: T) -> None:
        """Nothing is for `owner` any more."""
        self._routes = {id: other for id, other in self._routes.items() if other is not owner}

    def remove_id(self, id: bytes) -> None:
        """What is sent to `id` is for nobody."""
        self._routes.pop(id, None)

    def bid_farewell(self, owner: T, data: bytes, now: float) -> None:
        """Nothing is for `owner` any more, and whoever sends something is told `data` again for a while."""
        farewell = _Farewell(
            ids=[id for id, other in self._routes.items() if other is owner], data=data, until=now + FAREWELL_SECONDS
        )
        self.remove(owner)
        self._over.append(farewell)
        self._farewells |= dict.fromkeys(farewell.ids, farewell)
        while len(self._over) > FAREWELLS_MAX or self._over[0].until <= now:
            for id in self._over.popleft().ids:
                del self._farewells[id]

    def began(self, address: Address) -> None:
        """A handshake of who has come from there."""
        self.handshakes += 1
        group = _group_of(address)
        self._handshakes[group] = self._handshakes.get(group, 0) + 1

    def ended(self, address: Address) -> None:
        """It is over, one way or the other."""
        self.handshakes -= 1
        group = _group_of(address)
        self._handshakes[group] -= 1
        if not self._handshakes[group]:
            del self._handshakes[group]

    def sort(self, data: bytes, address: Address, now: float) -> T | Answer | Beginning | None:
        """Whose it is, or what to say, or who begins; None: nobody's."""
        header = read_header(data)
        if header is None:
            return None
        owner = self._routes.get(header.to)
        if owner is not None:
            return owner
        farewell = self._farewells.get(header.to)
        if farewell is not None and now < farewell.until:
            farewell.heard += 1
            return Answer(data=farewell.data) if farewell.heard.bit_count() == 1 else None
        if not self.listening or len(data) < INITIAL_BYTES_MIN:
            return None
        if header.foreign:
            return Answer(data=offer_version(header))
        if not header.initial or len(header.to) < ID_BYTES or self.handshakes >= HANDSHAKES_MAX:
            return None
        original = self._retries.original_id(header, address, now) if header.token else None
        if original is not None:
            return Beginning(id=header.to, original_id=original, retry_id=header.to)
        of_group = self._handshakes.get(_group_of(address), 0)
        if self.handshakes >= RETRY_ABOVE or of_group >= RETRY_ABOVE_OF_GROUP:
            return Answer(data=self._retries.ask(header, address, self._make_id(), now))
        return Beginning(id=header.to, original_id=header.to, retry_id=None)


def _group_of(address: Address) -> bytes:
    return ip_address(address[0]).packed[:GROUP_BYTES]
