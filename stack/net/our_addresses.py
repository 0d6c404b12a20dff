"""Where others can dial us, from all who know something of it: the owner, our listeners, a router, other peers, a relay."""

import logging
import time
from collections.abc import Callable, Sequence
from enum import Enum
from itertools import chain

from stack.identity.keys import PrivateKey
from stack.identity.peer_id import PeerId
from stack.identity.peer_record import PeerRecord
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import IpAddress, Reach, expand, ip_of, is_relayed, reach_of, unique
from stack.net.observed import ObservedAddresses
from stack.platform import interface_addresses

_log = logging.getLogger(__name__)

ADDRESSES_MAX = 32
"""Addresses we tell of ourselves: an identify message stays below 4 KiB."""
SOURCE_MAX = 8
"""Of one source that is told (`OurAddresses.tell`)."""


class AddressSource(Enum):
    """Who says that others reach us there. Addresses are told in this order, listening ones that are not public last."""

    EXTERNAL = "external"
    """The owner of the node: a port that is forwarded, a proxy."""
    LISTENING = "listening"
    """Our listeners, on the addresses of this computer."""
    MAPPED = "mapped"
    """A router that we have asked to let others in."""
    OBSERVED = "observed"
    """Other peers: enough of them see us there, or one has dialled us there because we asked for it."""
    RELAYED = "relayed"
    """A relay that keeps a place for us, told or as a listener; these end in `/p2p-circuit`."""


class OurAddresses:
    """Getters: `all`, `of`, `bound`, `ips`, `has_lost`, `signed_record`, `interfaces`. Commands: `tell`, `on_move`. Facts: `look` (at the
    interfaces again), `observe`, `clock_jumped`."""

    def __init__(
        self,
        key: PrivateKey,
        listening: Callable[[], list[Multiaddr]],
        read_interfaces: Callable[[], list[str]],
        external: Sequence[Multiaddr] = (),
        changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`external`: where a router or proxy lets others in to us, as its owner says. `changed` is called when what we tell others may
        be another than before. Raises OSError when the interfaces cannot be read."""
        self._key = key
        self._told = {AddressSource.EXTERNAL: tuple(external)}
        self._listening = listening
        self._read_interfaces = read_interfaces
        self._changed = changed
        self._clock = clock
        self._movers: list[Callable[[], None]] = []
        self.of_this_computer = read_interfaces is interface_addresses
        """They are the system's, which tells when they change; not those of a test."""
        self.interfaces = read_interfaces()
        self._fault = ""
        self._lost: frozenset[str] = frozenset()
        self._observed = ObservedAddresses()
        self._record: tuple[tuple[Multiaddr, ...] | None, int, bytes] | None = None

    def look(self) -> bool:
        """Read the interfaces' addresses; True when they have changed. What others have seen of the old ones counts no more, and
        those who asked by `on_move` are told. What cannot be read now is as it was: that is logged, once."""
        before, fault = self.interfaces, ""
        try:
            self.interfaces = self._read_interfaces()
        except OSError as error:
            fault = error.strerror or str(error)
        if fault and fault != self._fault:
            _log.warning("cannot look at the interfaces: %s", fault)
        self._fault = fault
        if before == self.interfaces:
            return False
        self._lost = frozenset(before) - frozenset(self.interfaces)
        self._observed.moved()
        self._told.pop(AddressSource.OBSERVED, None)
        for callback in self._movers:
            callback()
        self._changed()
        return True

    def has_lost(self, address: Multiaddr) -> bool:
        """This was one of our addresses before the last change: what stands on it is dead."""
        ip = ip_of(address)
        return ip is not None and str(ip) in self._lost

    def on_move(self, callback: Callable[[], None]) -> None:
        """Call `callback` when this computer's addresses have changed: it is in another network, perhaps. It must not raise."""
        self._movers.append(callback)

    def tell(self, source: AddressSource, addresses: Sequence[Multiaddr]) -> None:
        """What `source` knows now, in place of what it knew before; at most SOURCE_MAX count. Listeners are not told of: they are asked."""
        fresh = tuple(unique(addresses))[:SOURCE_MAX]
        if fresh != self._told.get(source, ()):
            self._told[source] = fresh
            self._changed()

    def observe(self, observer: Multiaddr, address: Multiaddr, *, dialled_us: bool) -> None:
        """The peer at `observer`, who dialled us or was dialled, sees us at `address`."""
        now = self._clock()
        before = self._observed.believed(now)
        self._observed.observe(observer, address, now, dialled_us=dialled_us)
        if self._observed.believed(now) != before:
            self._changed()

    def ips(self) -> list[IpAddress]:
        """Our IP addresses as several peers outside see them; of use to whoever opens a port there."""
        return self._observed.ips(self._clock())

    def bound(self) -> list[Multiaddr]:
        """What our listeners on this computer are bound to: wildcards stand for every address of their family."""
        return [address for address in self._listening() if not is_relayed(address)]

    def of(self, source: AddressSource) -> list[Multiaddr]:
        """What one source knows."""
        told = self._told.get(source, ())
        if source is AddressSource.OBSERVED:
            return unique([*told, *self._observed.believed(self._clock())])
        if source is AddressSource.RELAYED:
            return unique([*told, *(address for address in self._listening() if is_relayed(address))])
        if source is not AddressSource.LISTENING:
            return list(told)
        listening = [address for bound in self.bound() for address in expand(bound, self.interfaces)]
        return unique(sorted(listening, key=reach_of, reverse=True))

    def all(self) -> list[Multiaddr]:
        """In the order of their sources; of our listeners what is not public comes last, what is seen from furthest away first."""
        found = {source: self.of(source) for source in AddressSource}
        listening = found[AddressSource.LISTENING]
        near = [address for address in listening if reach_of(address) is not Reach.PUBLIC]
        found[AddressSource.LISTENING] = listening[: len(listening) - len(near)]
        return unique([*chain.from_iterable(found.values()), *near])[:ADDRESSES_MAX]

    def clock_jumped(self, seconds: float) -> None:
        """The wall clock was set: the next record gets a number by it. One of a clock that stood in the past when we began is lower
        than what others remember of an earlier run, and ignored."""
        if self._record is not None and seconds > 0:
            self._record = (None, *self._record[1:])

    def signed_record(self, wall: float) -> bytes:
        """Our addresses, signed; a new sequence number (wall time in nanoseconds) only when they have changed."""
        addresses = tuple(self.all())
        if self._record is None or self._record[0] != addresses:
            sequence = max(int(wall * 1e9), self._record[1] + 1 if self._record else 0)
            envelope = PeerRecord(PeerId.of(self._key.public), sequence, addresses).seal(self._key)
            self._record = (addresses, sequence, envelope)
        return self._record[2]
