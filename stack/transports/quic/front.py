"""What becomes of a datagram on a socket that many connections share: it belongs to one, begins one, or is answered and forgotten. Pure."""

from collections.abc import Callable
from ipaddress import ip_address
from typing import Generic, TypeVar

from stack.transports.quic.library import (
    ID_BYTES,
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


class Front(Generic[T]):
    """Getters: `sort`, `handshakes`. Facts: `began`, `ended`. Commands: `add`, `remove`, `remove_id`; `listening` may be set."""

    def __init__(self, make_id: Callable[[], bytes]) -> None:
        """`make_id` gives ID_BYTES random bytes."""
        self._routes: dict[bytes, T] = {}
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
