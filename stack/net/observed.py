"""Where others say they see us. Believed when enough of them who have nothing to do with each other say the same. Pure."""

from collections import Counter, OrderedDict
from typing import Generic, TypeVar

from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import IpAddress, Reach, ip_of, is_relayed, neighbourhood_of, reach_of

T = TypeVar("T")

WITNESSES_MIN = 4
"""Distinct neighbourhoods that must agree before an address is told to others unchecked: go-libp2p's ActivationThresh."""
IP_WITNESSES_MIN = 2
"""And before our IP address outside is taken for known: it is shown, and what is guessed from it is told only after a check."""
WITNESSES_MAX = 256
"""Neighbourhoods remembered, the oldest goes first; with one vote each this bounds what anybody can make us keep (A33)."""
BELIEVED_MAX = 4
"""Addresses told to others at most."""
VOTE_SECONDS = 3600.0
"""A vote is forgotten after an hour, when the address may long have changed."""


class _Votes(Generic[T]):
    """One vote per witness: its last."""

    def __init__(self) -> None:
        self._votes: OrderedDict[str, tuple[T, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._votes)

    def cast(self, witness: str, vote: T, now: float) -> None:
        """What a witness says now."""
        self._votes[witness] = (vote, now)
        self._votes.move_to_end(witness)
        if len(self._votes) > WITNESSES_MAX:
            self._votes.popitem(last=False)

    def agreed(self, witnesses: int, now: float) -> list[T]:
        """What at least so many say, the most attested first."""
        counts = Counter(vote for vote, seen in self._votes.values() if now - seen <= VOTE_SECONDS)
        return [vote for vote, count in counts.most_common(BELIEVED_MAX) if count >= witnesses]


class ObservedAddresses:
    """One vote per neighbourhood (IPv4 /24, IPv6 /48): what the last peer there said. These addresses are never dialled.

    Facts: `observe`, `moved`. Getters: `believed`, `ips`.
    """

    def __init__(self) -> None:
        self.moved()

    def __len__(self) -> int:
        return len(self._ips)  # of whoever tells an address, the IP is known too

    def moved(self) -> None:
        """Our own addresses have changed: what was seen before is seen no more."""
        self._whole: _Votes[Multiaddr] = _Votes()
        self._ips: _Votes[IpAddress] = _Votes()

    def observe(self, observer: Multiaddr, address: Multiaddr, now: float, *, dialled_us: bool = True) -> None:
        """The peer at `observer` says that it sees us at `address`. Only public addresses, told from afar, count; of one that we
        dialled only the IP, for the port of a connection that goes out leads nobody in."""
        witness, ip = neighbourhood_of(observer), ip_of(address)
        if witness is None or reach_of(observer) is not Reach.PUBLIC or is_relayed(observer) or is_relayed(address):
            return
        if ip is None or reach_of(address) is not Reach.PUBLIC:
            return
        self._ips.cast(witness, ip, now)
        if dialled_us:
            self._whole.cast(witness, address, now)

    def believed(self, now: float) -> list[Multiaddr]:
        """Addresses with enough witnesses, the most attested first."""
        return self._whole.agreed(WITNESSES_MIN, now)

    def ips(self, now: float) -> list[IpAddress]:
        """Our IP addresses outside."""
        return self._ips.agreed(IP_WITNESSES_MIN, now)
