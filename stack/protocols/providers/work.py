"""What updates of each peer cost, on all its streams together. Pure."""

from stack.identity.peer_id import PeerId
from stack.sansio.pace import Pace

MICROSECONDS = 1_000_000

SHARE = 8
"""A peer may take one second in so many of the event loop: one run of the largest bitmap takes 20 bytes and 340 us, a bitmap 6 ms, a
record to verify 120 us, and 32 streams may bring 100 of them a second each. What honest receivers say takes a fiftieth."""

BURST = MICROSECONDS // 4
"""And so much at once, after a silence."""

PEERS_MAX = 1024
"""Of whom that is remembered."""


class PeerWork:
    """Command: `take`."""

    def __init__(self) -> None:
        self._paces: dict[PeerId, Pace] = {}

    def take(self, peer: PeerId, seconds: float, now: float) -> float:
        """So much of the event loop's time was taken for a peer; seconds to wait before it is heard any further."""
        pace = self._paces.pop(peer, None) or Pace(MICROSECONDS // SHARE, now, burst=BURST)
        self._paces[peer] = pace
        if len(self._paces) > PEERS_MAX:
            del self._paces[next(iter(self._paces))]
        return pace.take(int(seconds * MICROSECONDS), now)
