"""Which addresses of a peer are dialled, in which order, and when: happy eyeballs (RFC 8305) as go-libp2p adapts it
(p2p/net/swarm/dial_ranker.go). Pure."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from ipaddress import IPv6Address

from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import Reach, ip_of, is_relayed, is_worth_dialling, reach_of, unique
from stack.transports.extras import lacking
from stack.values import dataclass

ADDRESSES_MAX = 64
"""Addresses tried for one dial; more is a waste or an attack (A08)."""
CONCURRENT_MAX = 8
"""Attempts under way for one peer: go-libp2p's DefaultPerPeerRateLimit."""
RELAY_DELAY_SECONDS = 0.5
"""What leads through a relay is tried so long after the last direct address: go-libp2p's figure."""
QUIC_DELAY_SECONDS = 1.0
"""What leads over UDP, so long after the last one of TCP: four round trips of 250 ms, so that TCP, which carries ten times as much here,
is had where it works."""
STAGGER_SECONDS = {Reach.LOOPBACK: 0.01, Reach.PRIVATE: 0.03, Reach.PUBLIC: 0.25}
"""Time a better address has before the next one is tried as well: 250 ms is RFC 8305's delay, 30 ms go-libp2p's on
private networks, where round trips are short."""

BACKOFF_BASE_SECONDS = 5.0
BACKOFF_STEP_SECONDS = 1.0
BACKOFF_MAX_SECONDS = 300.0
"""After n failures in a row an address rests for base + step * n^2, five minutes at most: go-libp2p's dial back-off."""
BACKOFFS_MAX = 4096
"""Addresses whose failures are remembered."""


def rank(addresses: Iterable[Multiaddr]) -> list[tuple[float, Multiaddr]]:
    """Addresses with their delay in seconds, in dialling order.

    Loopback, private and public addresses are three groups that start at once, because nothing tells which of them
    this machine shares with the peer. In each, IPv6 and IPv4 alternate, TCP before what wraps it. Then comes QUIC, and relays last.
    """
    groups: dict[Reach, list[Multiaddr]] = {reach: [] for reach in Reach}
    relayed, quic = [], []
    for address in addresses:
        if is_relayed(address):
            relayed.append(address)
        elif "quic-v1" in address.protocols:
            quic.append(address)
        else:
            groups[reach_of(address)].append(address)
    ranked = []
    for reach, members in groups.items():
        members.sort(key=lambda address: len(address.protocols))
        sixes = [address for address in members if isinstance(ip_of(address), IPv6Address)]
        others = [address for address in members if address not in sixes]
        ranked += [(place * STAGGER_SECONDS[reach], a) for place, a in enumerate(_alternate(sixes, others))]
    ranked.sort(key=lambda pair: pair[0])
    for delay, others in ((QUIC_DELAY_SECONDS, quic), (RELAY_DELAY_SECONDS, relayed)):
        later = ranked[-1][0] + delay if ranked else 0.0
        ranked += [(later + place * STAGGER_SECONDS[Reach.PUBLIC], a) for place, a in enumerate(others)]
    return ranked


def _alternate(first: list[Multiaddr], second: list[Multiaddr]) -> list[Multiaddr]:
    both = min(len(first), len(second))
    pairs = [address for pair in zip(first, second, strict=False) for address in pair]
    return pairs + first[both:] + second[both:]


class DialBackoff:
    """Failures in a row per address, and until when it is left alone. Facts: `failed`, `succeeded`. Getter: `resting`."""

    def __init__(self) -> None:
        self._failures: OrderedDict[Multiaddr, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def failed(self, address: Multiaddr, now: float) -> None:
        """A dial of `address` did not succeed."""
        count = self._failures.get(address, (0, 0.0))[0] + 1
        rest = min(BACKOFF_MAX_SECONDS, BACKOFF_BASE_SECONDS + BACKOFF_STEP_SECONDS * count * count)
        self._failures[address] = (count, now + rest)
        self._failures.move_to_end(address)
        if len(self._failures) > BACKOFFS_MAX:
            self._failures.popitem(last=False)

    def succeeded(self, address: Multiaddr) -> None:
        """A dial of `address` led to its peer."""
        self._failures.pop(address, None)

    def resting(self, address: Multiaddr, now: float) -> bool:
        """True while `address` should not be dialled unless somebody asks for it by name."""
        return self._failures.get(address, (0, now))[1] > now

    def clear(self) -> None:
        """The network has changed: what failed before may work now."""
        self._failures.clear()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One address and why it failed."""

    address: Multiaddr
    reason: str


class DialPlan:
    """The attempts of one dial to one peer.

    Facts: `add`, `failed`. Commands: `next_address` (its attempt is under way from then on). Getters: `next_timeout`,
    `done`, `attempts`. `can_dial` says whether any transport knows an address.
    """

    def __init__(self, can_dial: Callable[[Multiaddr], bool]) -> None:
        self._can_dial = can_dial
        self._seen: set[Multiaddr] = set()
        self._waiting: list[tuple[float, Multiaddr]] = []
        self._active: set[Multiaddr] = set()
        self.attempts: list[Attempt] = []

    def add(self, addresses: Iterable[Multiaddr], now: float) -> None:
        """More addresses of the peer; those seen before are ignored, those nobody can dial are recorded as attempts."""
        fresh = []
        for address in unique(addresses):
            if address in self._seen:
                continue
            if len(self._seen) >= ADDRESSES_MAX:
                break
            self._seen.add(address)
            if not is_worth_dialling(address):
                self.attempts.append(Attempt(address, "not an address that can be connected to"))
            elif not self._can_dial(address):
                self.attempts.append(Attempt(address, lacking(address)))
            else:
                fresh.append(address)
        self._waiting += [(now + delay, address) for delay, address in rank(fresh)]
        self._waiting.sort(key=lambda pair: pair[0])

    def refuse(self, address: Multiaddr, reason: str) -> None:
        """An address that is not to be dialled, with the reason, for the report."""
        if address not in self._seen and len(self.attempts) < ADDRESSES_MAX:
            self._seen.add(address)
            self.attempts.append(Attempt(address, reason))

    def next_address(self, now: float) -> Multiaddr | None:
        """The address to dial now, or None while none is due or enough are under way."""
        if not self._waiting or self._waiting[0][0] > now or len(self._active) >= CONCURRENT_MAX:
            return None
        _, address = self._waiting.pop(0)
        self._active.add(address)
        return address

    def failed(self, address: Multiaddr, reason: str, now: float) -> None:
        """An attempt under way has failed; the next in line need not wait for its delay any more (RFC 8305, 5)."""
        self._active.discard(address)
        self.attempts.append(Attempt(address, reason))
        if self._waiting and self._waiting[0][0] > now:
            self._waiting[0] = (now, self._waiting[0][1])

    def give_up(self, reason: str) -> None:
        """The dial has ended: what is under way or waits is recorded with `reason`."""
        left = [*sorted(self._active), *(address for _, address in self._waiting)]
        self.attempts += [Attempt(address, reason) for address in left]
        self._active.clear()
        self._waiting.clear()

    def next_timeout(self) -> float | None:
        """When `next_address` has one, if nothing fails before; None when nothing waits or nothing may start."""
        if not self._waiting or len(self._active) >= CONCURRENT_MAX:
            return None
        return self._waiting[0][0]

    @property
    def done(self) -> bool:
        """Nothing is under way and nothing waits: the dial has failed."""
        return not self._waiting and not self._active
