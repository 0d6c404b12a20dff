"""How much strangers may ask of us: the figures, and the gate that every inbound connection passes first. Pure."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import field
from enum import Enum

from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import group_of, is_relayed, relay_of
from stack.sansio.budget import Limits, Resource
from stack.values import dataclass

MIB = 1 << 20
STREAM_BYTES = 16 * 1024
"""What a stream that is served costs by its task alone (measured: 15 KiB)."""
STREAMS_UNCHARGED = 8
"""The first streams of a peer are not charged for that: one of each protocol is served even when the budget is full."""


def _system() -> Limits:
    return {
        Resource.BYTES: 256 * MIB,
        Resource.CONNECTIONS_IN: 1024,
        Resource.CONNECTIONS_OUT: 1024,
        Resource.STREAMS_IN: 16384,
        Resource.STREAMS_OUT: 8192,
        Resource.TASKS: 16384,
    }


def _transient() -> Limits:
    return {Resource.BYTES: 32 * MIB, Resource.CONNECTIONS_IN: 256, Resource.CONNECTIONS_OUT: 512}


def _peer() -> Limits:
    return {
        Resource.BYTES: 64 * MIB,
        Resource.CONNECTIONS_IN: 8,
        Resource.CONNECTIONS_OUT: 8,
        Resource.STREAMS_IN: 512,
        Resource.STREAMS_OUT: 512,
        Resource.TASKS: 2048,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class NetLimits:
    """Bounds of a host. Shape and most figures after go-libp2p's resource manager for a machine with 8 GiB."""

    system: Limits = field(default_factory=_system)
    """Everything together; ignored when the host is given a budget that stands already."""
    transient: Limits = field(default_factory=_transient)
    """Connections whose peer has not yet proved who it is."""
    peer: Limits = field(default_factory=_peer)
    """One authenticated peer."""
    streams: int = 4096
    """Inbound streams that are served at a time; when there are more, those who hold most give back the idlest. What the
    budget has for inbound streams is more: those that wait to be served, or for the peer to end them, are in it too."""
    connection_bytes: int = 32 * MIB
    """One connection (design: windows within 32 MiB a connection)."""
    connections_per_group: int = 8
    """Inbound connections from one IPv4 /32 or IPv6 /56 at a time; loopback has no limit. Of more, who does nothing
    goes (`upkeep.gives_way`)."""
    connections_per_relay: int = 64
    """And through one relay of ours, which counts those of each peer."""
    group_rate: float = 3.0
    """New inbound connections a second from one group, in the long run (A04): a script that fetches one small file after the other
    makes two. A handshake costs some 5 ms of the event loop: ten a second of ten addresses were half of it (attack 5)."""
    group_burst: int = 40
    """And how many at once: a home network behind one address that comes back after an outage, some trying two ways at a time."""
    dial_attempts: int = 256
    """Attempts to dial under way at a time."""
    low_water: int = 160
    """Trimming goes down to this many connections."""
    high_water: int = 192
    """Above this many connections, unprotected ones are trimmed."""
    grace: float = 20.0
    """Seconds for which a new connection may show what it is good for."""

    @classmethod
    def of_node(cls, memory: int, descriptors: int, *, low_water: int, high_water: int) -> "NetLimits":
        """For a node that may hold so many bytes, and have so many files and sockets open: a quarter of these is left for files.
        There are fewer connections than were asked for when they would be all that may come in: trimming makes room."""
        few = max(descriptors // 8, 1)
        inbound = min(max(1024, high_water + 256), descriptors // 2)
        high_water = min(high_water, max(inbound - min(256, few), 1))
        system = {
            **_system(),
            Resource.BYTES: memory,
            Resource.CONNECTIONS_IN: inbound,
            Resource.CONNECTIONS_OUT: min(1024, descriptors // 4),
        }
        return cls(
            system=system,
            transient={
                Resource.BYTES: 32 * MIB,
                Resource.CONNECTIONS_IN: min(256, few),
                Resource.CONNECTIONS_OUT: min(512, few),
            },
            streams=max(min(4096, memory // 4 // STREAM_BYTES), 1),
            dial_attempts=min(256, few),
            low_water=min(low_water, high_water),
            high_water=high_water,
        )

    @property
    def streams_of_a_peer(self) -> int:
        """Inbound streams of one peer that are served at a time."""
        return max(self.streams // 16, 1)

    def __post_init__(self) -> None:
        if not 0 < self.low_water <= self.high_water:
            raise ValueError("0 < low_water <= high_water")


DEBT_SECONDS_MAX = 60.0
"""Who owes waits no longer than this: others may have come to share its address."""


class TokenBucket:
    """`rate` things a second in the long run, `burst` at once. Facts carry `now` in monotonic seconds."""

    __slots__ = ("_burst", "_rate", "_seen", "_tokens")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._seen = now

    def take(self, now: float, count: int = 1) -> bool:
        """True when one more, or `count` more, is allowed now."""
        self._tokens = min(float(self._burst), self._tokens + (now - self._seen) * self._rate)
        self._seen = now
        if self._tokens < count:
            return False
        self._tokens -= count
        return True

    def charge(self, count: int) -> None:
        """Something that was allowed has cost `count` more: it is owed, for DEBT_SECONDS_MAX at most."""
        self._tokens = max(self._tokens - count, -self._rate * DEBT_SECONDS_MAX)


CUT_CONNECTIONS = 20
"""A connection that was cut off counts like so many: a flood that is cut off and dials again at once costs as much as one that is
let be (attack 5), and 200 that go for each other when the table is full, a whole core of handshakes (attack 6)."""
SILENT_CONNECTIONS = 4
"""And one that had to go for others, and had not said a word (attack 3)."""


class Refusal(Enum):
    """Why an inbound connection was not let in."""

    RATE = "too many new connections from this address"
    GROUP = "too many open connections from this address"
    BUDGET = "the budget for new connections is used up"


class InboundGate:
    """Counts inbound connections per address group, and how fast new ones come.

    Facts: `admit` (None = let in; then `leave` must follow when it has ended), `charge`. Loopback and memory are never refused.
    """

    BUCKETS_MAX = 4096
    """Groups remembered; the least recently seen is forgotten, so that a flood of addresses costs 1 MiB at most."""

    def __init__(self, limits: NetLimits) -> None:
        self._limits = limits
        self._open: dict[str, int] = {}
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def admit(self, address: Multiaddr, now: float, displace: Callable[[], bool] = lambda: False) -> Refusal | None:
        """Decide on a connection from `address`; None means that it is counted from now on. Where its group has no place left,
        `displace` may have one of its connections `leave`: True."""
        group = gate_of(address)
        if group is None:
            return None
        bucket = self._buckets.get(group)
        if bucket is None:
            bucket = self._buckets[group] = TokenBucket(self._limits.group_rate, self._limits.group_burst, now)
            if len(self._buckets) > self.BUCKETS_MAX:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(group)
        if not bucket.take(now):
            return Refusal.RATE
        limits = self._limits
        most = limits.connections_per_relay if is_relayed(address) else limits.connections_per_group
        if self._open.get(group, 0) >= most and not displace():
            return Refusal.GROUP
        self._open[group] = self._open.get(group, 0) + 1
        return None

    def charge(self, address: Multiaddr, connections: int) -> None:
        """One from `address` was as dear as so many: the next one from there comes later."""
        bucket = self._buckets.get(gate_of(address) or "")
        if bucket is not None:
            bucket.charge(connections)

    def leave(self, address: Multiaddr) -> None:
        """An admitted connection from `address` has ended."""
        group = gate_of(address)
        if group is None:
            return
        self._open[group] -= 1
        if not self._open[group]:
            del self._open[group]

    @property
    def groups(self) -> int:
        """How many groups have an open connection."""
        return len(self._open)


def gate_of(address: Multiaddr) -> str | None:
    """Whose places a connection from there takes; None where it takes none. Who comes through a relay does not take those of who else
    is where that is."""
    return f"behind {relay_of(address)[1]}" if is_relayed(address) else group_of(address)
