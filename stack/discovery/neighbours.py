"""Which of the peers that mDNS names are dialled, and when. Pure.

What a link says is not proved: anybody on it can name peers that do not exist, at addresses that do. So the table is
bounded, dials are paced, and who does not answer is tried again ever more rarely.
"""

from collections import OrderedDict

from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.limits import TokenBucket
from stack.values import dataclass

REMEMBERED_MAX = 256
"""Neighbours in the table; the one not heard of for longest goes first, connected ones stay."""
ADDRESSES_MAX = 16
"""Of one neighbour; what was told last comes first."""
CONNECTED_MAX = 64
"""Neighbours we dial until so many are connected: a lab of hundreds needs no full mesh. More may dial us."""
DIAL_RATE, DIAL_BURST = 4.0, 32
"""Dials a second: a lab that comes back after an outage at once, a flood of made-up names at a walk."""
FRESH_SECONDS = 150.0
"""A neighbour not heard of for this long is not dialled again: two of go-libp2p's questions, and some."""
BACKOFF_FIRST_SECONDS = 5.0
BACKOFF_LAST_SECONDS = 600.0
"""After failures: doubled from the first to the last."""
POLITE_SECONDS = 0.3
"""Both ends hear of each other at once; the one with the larger id waits, so that there is one connection and not two."""


@dataclass(slots=True)
class _Neighbour:
    addresses: tuple[Multiaddr, ...]
    heard: float
    due: float
    backoff: float = BACKOFF_FIRST_SECONDS
    connected: bool = False
    dialling: bool = False


class Neighbours:
    """Facts: `heard`, `connected`, `disconnected`, `failed`. Commands: `next_dial`. Getters: `next_timeout`, `rows`."""

    def __init__(self, ours: PeerId, now: float) -> None:
        self._ours = ours
        self._peers: OrderedDict[PeerId, _Neighbour] = OrderedDict()
        self._pace = TokenBucket(DIAL_RATE, DIAL_BURST, now)
        self._paused_until = now

    def __len__(self) -> int:
        return len(self._peers)

    def rows(self) -> list[tuple[PeerId, tuple[Multiaddr, ...], bool]]:
        """Every neighbour, its addresses, and whether it is connected."""
        return [(peer, neighbour.addresses, neighbour.connected) for peer, neighbour in self._peers.items()]

    def heard(self, peer: PeerId, addresses: tuple[Multiaddr, ...], now: float, *, connected: bool) -> None:
        """It has told its addresses (again); `connected` says whether there is a connection already."""
        known = self._peers.get(peer)
        if known is None:
            due = now if self._ours < peer else now + POLITE_SECONDS
            known = self._peers[peer] = _Neighbour(addresses, now, due, connected=connected)
            if len(self._peers) > REMEMBERED_MAX:
                idle = (other for other, row in self._peers.items() if not row.connected and other != peer)
                del self._peers[next(idle, peer)]
        elif set(addresses) - set(known.addresses):
            # What one link tells is added to what another one told; new addresses are worth a dial at once.
            known.addresses = tuple(dict.fromkeys((*addresses, *known.addresses)))[:ADDRESSES_MAX]
            known.backoff = BACKOFF_FIRST_SECONDS
            known.due = min(known.due, now + POLITE_SECONDS)
        known.heard = now
        if peer in self._peers:
            self._peers.move_to_end(peer)

    def connected(self, peer: PeerId) -> None:
        """There is a connection, whoever dialled."""
        known = self._peers.get(peer)
        if known is not None:
            known.connected = True
            known.dialling = False
            known.backoff = BACKOFF_FIRST_SECONDS

    def disconnected(self, peer: PeerId, now: float) -> None:
        """The last connection has ended; dialled again when it goes on being heard of."""
        self._rest(peer, now)

    def failed(self, peer: PeerId, now: float) -> None:
        """A dial has failed."""
        self._rest(peer, now)

    def next_dial(self, now: float) -> tuple[PeerId, tuple[Multiaddr, ...]] | None:
        """Whom to dial now; `connected` or `failed` must follow."""
        if sum(row.connected or row.dialling for row in self._peers.values()) >= CONNECTED_MAX:
            return None
        for peer, row in self._peers.items():
            if self._waits(row) and row.due <= now and now - row.heard <= FRESH_SECONDS:
                if not self._pace.take(now):
                    self._paused_until = now + 1 / DIAL_RATE
                    return None
                row.dialling = True
                return peer, row.addresses
        return None

    def next_timeout(self, now: float) -> float | None:
        """When `next_dial` may have somebody; None when that needs a fact first."""
        if sum(row.connected or row.dialling for row in self._peers.values()) >= CONNECTED_MAX:
            return None
        due = [
            max(row.due, now)
            for row in self._peers.values()
            if self._waits(row) and max(row.due, now) - row.heard <= FRESH_SECONDS
        ]
        return max(min(due), self._paused_until) if due else None

    def _waits(self, row: _Neighbour) -> bool:
        return not row.connected and not row.dialling

    def _rest(self, peer: PeerId, now: float) -> None:
        known = self._peers.get(peer)
        if known is not None:
            known.connected = known.dialling = False
            known.due = now + known.backoff
            known.backoff = min(2 * known.backoff, BACKOFF_LAST_SECONDS)
