"""Lines on which nothing moves for some seconds, and then everything: who is silent there has not gone."""

from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import IpAddress, ip_of

SECONDS_MAX = 60.0
"""Nobody is waited for longer."""
REMEMBERED_SECONDS = 600.0
PEERS_MAX = 1024
"""Remembered at a time; those longest ago go."""


class Pauses:
    """Who was taken for gone and is at the same place again is waited for twice as long the next time.

    A computer that has moved is found within seconds, for it is somewhere else; a line that pauses loses what was on its way a few
    times, and not for ever. Fact: `gave_up`. Getter: `patience`. Times in seconds.
    """

    def __init__(self) -> None:
        self._known: dict[PeerId, tuple[IpAddress | None, float, float]] = {}

    def gave_up(self, peer: PeerId, address: Multiaddr, seconds: float, now: float) -> None:
        """Nothing had shown for so long that the peer is there: the connection to it is closed."""
        self._known.pop(peer, None)
        self._known[peer] = ip_of(address), seconds, now
        if len(self._known) > PEERS_MAX:
            del self._known[next(iter(self._known))]

    def patience(self, peer: PeerId, address: Multiaddr, now: float) -> float:
        """How long a peer that is connected there is to be waited for at least."""
        place, seconds, at = self._known.get(peer, (None, 0.0, now))
        return min(2 * seconds, SECONDS_MAX) if place == ip_of(address) and now - at < REMEMBERED_SECONDS else 0.0
