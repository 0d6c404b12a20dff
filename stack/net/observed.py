"""Where others say they see us. Believed when enough of them who have nothing to do with each other say the same. Pure."""

from collections import Counter, OrderedDict

from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import Reach, neighbourhood_of, reach_of

WITNESSES_MIN = 4
"""Distinct neighbourhoods that must agree: go-libp2p's ActivationThresh."""
WITNESSES_MAX = 256
"""Neighbourhoods remembered, the oldest goes first; with one vote each this bounds what anybody can make us keep (A33)."""
BELIEVED_MAX = 4
"""Addresses told to others at most."""
VOTE_SECONDS = 3600.0
"""A vote is forgotten after an hour, when the address may long have changed."""


class ObservedAddresses:
    """One vote per neighbourhood (IPv4 /24, IPv6 /48): what the last peer there said. These addresses are never dialled.

    Facts: `observe`. Getters: `believed`.
    """

    def __init__(self) -> None:
        self._votes: OrderedDict[str, tuple[Multiaddr, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._votes)

    def observe(self, observer: Multiaddr, address: Multiaddr, now: float) -> None:
        """The peer at `observer` says that it sees us at `address`. Only public addresses, told from afar, count."""
        witness = neighbourhood_of(observer)
        if witness is None or reach_of(observer) is not Reach.PUBLIC:
            return
        if reach_of(address) is not Reach.PUBLIC or neighbourhood_of(address) is None:
            return
        self._votes[witness] = (address, now)
        self._votes.move_to_end(witness)
        if len(self._votes) > WITNESSES_MAX:
            self._votes.popitem(last=False)

    def believed(self, now: float) -> list[Multiaddr]:
        """Addresses with enough witnesses, the most attested first."""
        counts = Counter(address for address, seen in self._votes.values() if now - seen <= VOTE_SECONDS)
        return [address for address, count in counts.most_common(BELIEVED_MAX) if count >= WITNESSES_MIN]
