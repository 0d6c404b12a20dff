"""Wants of a session that nobody is being asked for: a queue, and a bounded look-ahead of it free to go in any order. Pure."""

from collections import deque
from collections.abc import Iterable

from stack.bitswap.interfaces import Order
from stack.bitswap.session_peer import SessionPeer
from stack.bitswap.session_want import SessionWant
from stack.protocols.providers.ranges import LeafRanges

WINDOW_PART = 64
"""Of all that is wanted, so much is asked for ahead of those who have it all: receivers of one file need pieces to trade."""

RANK_INTERVAL = 0.1
"""Seconds between two rankings by rarity: as often as ranges are told. One costs about 1 ms for 20 peers."""


class WantPool:
    """Getters: `open`, `queued`, `nothing_for`. Commands: `add`, `reopen`, `discard`, `fill`, `rank`, `open_up`.
    Outputs: `pick`, `pick_probes`."""

    __slots__ = ("_look_ahead", "_order", "_queue", "_version", "open")

    def __init__(self, order: Order, look_ahead: int) -> None:
        self._order = order
        self._look_ahead = look_ahead
        self._queue: deque[SessionWant] = deque()
        self._version = 0
        """Rises when there may be something for a peer for whom there was nothing before."""
        self.open: list[SessionWant] = []
        """The look-ahead, the next one last."""

    @property
    def queued(self) -> bool:
        """Whether wants wait behind the look-ahead."""
        return bool(self._queue)

    def nothing_for(self, peer: SessionPeer) -> bool:
        """Whether it is known that no open want is for this peer."""
        return not self.open or peer.searched == self._version

    def add(self, want: SessionWant) -> None:
        """A new want, behind all others."""
        self._queue.append(want)

    def reopen(self, want: SessionWant) -> None:
        """Nobody is being asked for it any more: it goes first."""
        want.open = True
        self.open.append(want)
        self._version += 1

    def discard(self, want: SessionWant) -> None:
        """It is not needed any more."""
        want.done = True
        if want.open:
            want.open = False
            self.open.remove(want)

    def open_up(self) -> None:
        """Any peer may take what it could not take before."""
        self._version += 1

    def fill(self) -> bool:
        """Take from the queue once half of the look-ahead is gone: each time costs a ranking, and a search for every peer."""
        if not self._queue or 2 * len(self.open) > self._look_ahead:
            return False
        while self._queue and len(self.open) < self._look_ahead:
            want = self._queue.popleft()
            if not want.done:
                want.open = True
                self.open.append(want)
        self._version += 1
        return True

    def rank(self, known: Iterable[LeafRanges]) -> None:
        """Sort the look-ahead: in the order of the file, or so that what the fewest of `known` have goes first."""
        if self._order is Order.FILE:
            self.open.sort(key=lambda want: -want.rank)
            return
        ranges = tuple(known)
        for want in self.open:
            known_at = want.holders if want.leaf is None else [each for each in ranges if want.leaf in each]
            want.rarity = len(known_at)
        self.open.sort(key=lambda want: (-want.rarity, -want.rank))
        self._version += 1

    def pick(
        self, peer: SessionPeer, room: int, count: int, size: int, *, rare_only: bool = False
    ) -> list[SessionWant]:
        """Take what this peer may have, up to `room` bytes at `size` each; a poor peer gets what is least urgent.

        With `rare_only` only what no other peer is known to have.
        """
        picked: list[SessionWant] = []
        position = 0 if peer.poor else len(self.open) - 1
        step = 1 if peer.poor else -1
        while 0 <= position < len(self.open):
            want = self.open[position]
            if peer.may_have(want) and not (rare_only and want.rarity):
                del self.open[position]
                want.open = False
                picked.append(want)
                room -= size
                if room <= 0 or len(picked) >= count:
                    return picked
            position += step
        peer.searched = self._version
        return picked

    def pick_probes(self, peer: SessionPeer, count: int) -> list[SessionWant]:
        """Wants of which the peer itself has not told whether it has them, nor others that it has; they stay in the pool."""
        if not count or peer.probed == self._version:
            return []
        unknown = [
            want
            for want in reversed(self.open)
            if (want.leaf is None or peer.ranges is None or peer.heard)
            and peer not in want.told
            and not peer.may_have(want)
        ]
        if len(unknown) <= count:
            peer.probed = self._version
        return unknown[:count]
