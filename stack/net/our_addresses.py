"""Where others can dial us: what we listen on, on concrete interfaces, and what many others say they see."""

from collections.abc import Callable, Sequence

from stack.identity.keys import PrivateKey
from stack.identity.peer_id import PeerId
from stack.identity.peer_record import PeerRecord
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import expand, reach_of, unique
from stack.net.observed import ObservedAddresses

ADDRESSES_MAX = 32
"""Addresses we tell of ourselves: an identify message stays below 4 KiB."""


class OurAddresses:
    """Getters: `all`, `signed_record`, `interfaces`. Facts: `look` (at the interfaces again), `observe`, `clock_jumped`."""

    def __init__(
        self,
        key: PrivateKey,
        listening: Callable[[], list[Multiaddr]],
        read_interfaces: Callable[[], list[str]],
        external: Sequence[Multiaddr] = (),
    ) -> None:
        """`external`: where a router or proxy lets others in to us, as its owner says; told first."""
        self._key = key
        self._external = tuple(external)
        self._listening = listening
        self._read_interfaces = read_interfaces
        self.interfaces = read_interfaces()
        self._observed = ObservedAddresses()
        self._record: tuple[tuple[Multiaddr, ...] | None, int, bytes] | None = None

    def look(self) -> bool:
        """Read the interfaces' addresses; True when they have changed. Raises OSError."""
        before, self.interfaces = self.interfaces, self._read_interfaces()
        return before != self.interfaces

    def observe(self, observer: Multiaddr, address: Multiaddr, now: float) -> bool:
        """The peer at `observer`, who dialled us, sees us at `address`; True when this changes what we tell others."""
        before = self._observed.believed(now)
        self._observed.observe(observer, address, now)
        return self._observed.believed(now) != before

    def all(self, now: float) -> list[Multiaddr]:
        """What the owner says, then what is seen from furthest away, what others observed last; `now` in monotonic seconds."""
        listening = [address for bound in self._listening() for address in expand(bound, self.interfaces)]
        listening.sort(key=reach_of, reverse=True)
        return unique([*self._external, *listening, *self._observed.believed(now)])[:ADDRESSES_MAX]

    def clock_jumped(self, seconds: float) -> None:
        """The wall clock was set: the next record gets a number by it. One of a clock that stood in the past when we began is lower
        than what others remember of an earlier run, and ignored."""
        if self._record is not None and seconds > 0:
            self._record = (None, *self._record[1:])

    def signed_record(self, now: float, wall: float) -> bytes:
        """Our addresses, signed; a new sequence number (wall time in nanoseconds) only when they have changed."""
        addresses = tuple(self.all(now))
        if self._record is None or self._record[0] != addresses:
            sequence = max(int(wall * 1e9), self._record[1] + 1 if self._record else 0)
            envelope = PeerRecord(PeerId.of(self._key.public), sequence, addresses).seal(self._key)
            self._record = (addresses, sequence, envelope)
        return self._record[2]
