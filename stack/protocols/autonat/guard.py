"""What a server of AutoNAT does for whom, so that nobody can use it against others. Pure.

It dials only public addresses, and one that is not where the asker comes from only after the asker has sent more than the dial
costs. How often is counted by where askers come from, for peer ids are free; by whom they want dialled; and for all together.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from ipaddress import IPv6Address, ip_network

from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import Reach, group_of, ip_of, is_relayed, is_worth_dialling, reach_of
from stack.net.limits import TokenBucket
from stack.protocols.autonat.messages import Answer, V1Status
from stack.sansio.interfaces import Randomness
from stack.values import dataclass

DATA_BYTES_MIN, DATA_BYTES_MAX = 30_000, 100_000
"""What is asked for before a dial to elsewhere: the specification's figures. Handshakes cost less than 10 kB."""
GROUP_RATE, GROUP_BURST = 12 / 60, 12
"""Requests of one address group, and dials to one; go-libp2p's figure for a peer."""
ALL_RATE, ALL_BURST = 60 / 60, 60
"""Requests of everybody together; go-libp2p's figure."""
DATA_RATE, DATA_BURST = 12 / 60, 12
"""Of those, such as make us read dial data; go-libp2p's figure."""
DIALS_MAX = 8
"""Under way at a time."""
GROUPS_MAX = 1024
"""Groups whose requests are counted; the least recently seen is forgotten, and the bound for all holds."""
V1_ADDRESSES_MAX = 4
"""Of a request of version 1 that are dialled."""
EMBEDDING = tuple(map(ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16")))
"""IPv6 addresses with an IPv4 address in them that a gateway would go to, a private one perhaps."""


def may_be_dialled(address: Multiaddr) -> bool:
    """Whether it may be dialled for somebody: an IP address that is public, with a port. Names are not looked up for others."""
    ip = ip_of(address)
    if ip is None or address.protocols[0] == "ip6zone" or is_relayed(address) or not is_worth_dialling(address):
        return False
    if isinstance(ip, IPv6Address) and any(ip in network for network in EMBEDDING):
        return False
    has_port = address.get("tcp") is not None or address.get("udp") is not None
    return has_port and reach_of(address) is Reach.PUBLIC


@dataclass(frozen=True, slots=True)
class Dial:
    """Version 2: do this, then `Guard.done`."""

    index: int
    """Which of the addresses."""
    address: Multiaddr
    data: int
    """Bytes to be received before; 0 when the asker comes from there."""


@dataclass(frozen=True, slots=True)
class V1Dials:
    """Version 1: dial these until one is reached, then `Guard.done`."""

    addresses: tuple[Multiaddr, ...]


class Guard:
    """Facts: `asked`, `asked_v1` (each says what to do), `done`."""

    def __init__(self, can_dial: Callable[[Multiaddr], bool], random: Randomness, now: float) -> None:
        """`can_dial`: a transport knows the address, and we have an address of its family ourselves."""
        self._can_dial = can_dial
        self._random = random
        self._all = TokenBucket(ALL_RATE, ALL_BURST, now)
        self._data = TokenBucket(DATA_RATE, DATA_BURST, now)
        self._groups: OrderedDict[str, TokenBucket] = OrderedDict()
        self._dials = 0

    def asked(self, observed: Multiaddr, addresses: Sequence[Multiaddr | None], now: float) -> Dial | Answer:
        """A request of version 2, of somebody who comes from `observed`: what to do, or why nothing is done."""
        refusal = self._admit(observed, now)
        if refusal is not None:
            return refusal
        for index, address in enumerate(addresses):
            if address is None or not self._may_dial(address):
                continue
            if ip_of(address) == ip_of(observed):
                self._dials += 1
                return Dial(index, address, 0)
            if not self._take(f"to {group_of(address)}", now) or not self._data.take(now):
                return Answer.REJECTED
            self._dials += 1
            return Dial(index, address, self._random.randrange(DATA_BYTES_MIN, DATA_BYTES_MAX + 1))
        return Answer.REFUSED

    def asked_v1(
        self, asker: PeerId, named: bytes, observed: Multiaddr, addresses: Sequence[Multiaddr | None], now: float
    ) -> V1Dials | V1Status:
        """A request of version 1, in which the peer `named` is to be dialled: nobody but the asker is, and where it comes from."""
        if named != bytes(asker):
            return V1Status.BAD_REQUEST
        if self._admit(observed, now) is not None:
            return V1Status.DIAL_REFUSED
        here = ip_of(observed)
        theirs = [each for each in addresses if each is not None and ip_of(each) == here and self._may_dial(each)]
        if not theirs:
            return V1Status.DIAL_REFUSED
        self._dials += 1
        return V1Dials(tuple(theirs[:V1_ADDRESSES_MAX]))

    def done(self) -> None:
        """What was to be done for a request is over, one way or the other."""
        self._dials -= 1

    def _admit(self, observed: Multiaddr, now: float) -> Answer | None:
        if is_relayed(observed) or reach_of(observed) is not Reach.PUBLIC:
            return Answer.REFUSED  # where it comes from says nothing of how the world sees it
        if self._dials >= DIALS_MAX or not self._take(f"of {group_of(observed)}", now) or not self._all.take(now):
            return Answer.REJECTED
        return None

    def _may_dial(self, address: Multiaddr) -> bool:
        return may_be_dialled(address) and self._can_dial(address)

    def _take(self, group: str, now: float) -> bool:
        bucket = self._groups.get(group)
        if bucket is None:
            bucket = self._groups[group] = TokenBucket(GROUP_RATE, GROUP_BURST, now)
            if len(self._groups) > GROUPS_MAX:
                self._groups.popitem(last=False)
        self._groups.move_to_end(group)
        return bucket.take(now)
