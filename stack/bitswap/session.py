"""The fetch of one DAG from many peers: who is asked for which block, and when another one is. Pure.

Facts in, effects out, time and randomness as arguments. Wants wait in a queue, a bounded look-ahead of it (the pool) is free
to be asked for in any order, and each peer with room in its window takes from the pool what it may have.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from stack.bitswap.interfaces import Order, PeerReport
from stack.bitswap.session_peer import PeerState, SessionParameters, SessionPeer, SessionWant, expected_size
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.protocols.providers.ranges import LeafRanges
from stack.sansio.interfaces import Randomness


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Tell `peer` that we want these blocks, or (`have`) want to know whether it has them."""

    peer: PeerId
    cids: tuple[Cid, ...]
    have: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """Tell `peer` that these are no longer wanted from it."""

    peer: PeerId
    cids: tuple[Cid, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """Be connected to `peer`; answered by `peer_connected` or `peer_unreachable`."""

    peer: PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerDropped:
    """The session will not ask `peer` again; all its wants there are to be withdrawn."""

    peer: PeerId
    reason: str


Effect = Ask | Withdraw | Connect | PeerDropped


class SessionMachine:
    """Getters: `wanted`, `reports`, `providers`. Commands: `want`, `cancel`, `add_peer`, `pause`, `resume`.
    Facts: `peer_*`, `neighbour_*`, `receive_*`, `handle_timeout`. Outputs: `next_effect`, `next_timeout`.
    """

    def __init__(
        self,
        random: Randomness,
        *,
        order: Order = Order.SPREAD,
        broadcast: bool = False,
        parameters: SessionParameters | None = None,
    ) -> None:
        self._parameters = parameters if parameters is not None else SessionParameters()
        self._random = random
        self._order = order
        self._broadcast = broadcast
        self._wants: dict[bytes, SessionWant] = {}
        self._queue: deque[SessionWant] = deque()
        self._pool: list[SessionWant] = []
        """Open wants, the next one last."""
        self._version = 0
        """Rises when the pool gains a want or a peer."""
        self._sequence = 0
        self._peers: dict[PeerId, SessionPeer] = {}
        self._neighbours: dict[PeerId, bool] = {}
        """Connected peers and whether they have been asked by broadcast."""
        self._broadcast_to: dict[bytes, list[PeerId]] = {}
        self._average: float | None = None
        self._effects: deque[Effect] = deque()
        self._withdrawals: dict[PeerId, list[Cid]] = {}
        self._dirty = False
        self._paused = False
        self._ranges_changed = False
        self._rank_at = 0.0
        self._retry_at: float | None = None
        self._endgame_at = 0.0

    def __repr__(self) -> str:
        return f"<SessionMachine {len(self._wants)} wants, {len(self._peers)} peers>"

    # getters

    @property
    def wanted(self) -> int:
        """How many blocks are still needed."""
        return len(self._wants)

    @property
    def providers(self) -> int:
        """Peers that have not been dropped."""
        return sum(peer.state is not PeerState.DROPPED for peer in self._peers.values())

    def reports(self) -> list[PeerReport]:
        """What each peer has done so far."""
        return [peer.report() for peer in self._peers.values()]

    # commands

    def want(self, cids: Iterable[Cid], leaves: Sequence[int] | None = None) -> None:
        """Fetch these blocks; `leaves` are their numbers among the leaves of the root, where known."""
        for index, cid in enumerate(cids):
            if cid.multihash in self._wants:
                continue
            self._sequence += 1
            rank = float(self._sequence) if self._order is Order.FILE else self._random.random()
            want = SessionWant(cid, leaves[index] if leaves is not None else None, rank)
            self._wants[want.multihash] = want
            self._queue.append(want)
        self._dirty = True

    def cancel(self, cids: Iterable[Cid]) -> None:
        """These are no longer needed."""
        for cid in cids:
            want = self._wants.get(cid.multihash)
            if want is not None:
                self._finish(want, None)

    def add_peer(self, peer: PeerId, *, full: bool = True) -> bool:
        """A peer that has the DAG (`full`) or parts of it, which HAVE or ranges will tell. False when there is no place."""
        known = self._peers.get(peer)
        if known is not None:
            known.full |= full
            self._open_up()
            return known.state is not PeerState.DROPPED
        if self.providers >= self._parameters.peers_max or len(self._peers) >= 4 * self._parameters.peers_max:
            return False
        self._peers[peer] = SessionPeer(peer, self._parameters, full=full)
        if peer in self._neighbours:
            self._peers[peer].state = PeerState.READY
        self._open_up()
        return True

    def pause(self) -> None:
        """Ask for nothing new: what has come cannot be kept as fast as it comes."""
        self._paused = True

    def resume(self) -> None:
        """Go on asking."""
        self._paused = False
        self._dirty = True

    # facts

    def peer_connected(self, peer: PeerId) -> None:
        """A connection to this peer is ready; told of all peers, not only those of the session."""
        self._neighbours.setdefault(peer, False)
        known = self._peers.get(peer)
        if known is not None and known.state is not PeerState.DROPPED:
            known.state = PeerState.READY
            known.rest = known.rest_until = 0.0
        self._open_up()

    def peer_disconnected(self, peer: PeerId, now: float) -> None:
        """The last connection to this peer is gone."""
        self._neighbours.pop(peer, None)
        self._peer_lost(peer, now)

    def peer_unreachable(self, peer: PeerId, now: float, *, reason: str | None = None) -> None:
        """It could not be connected or asked; with a `reason` it never will be."""
        self._peer_lost(peer, now)
        if reason is not None:
            self._drop(peer, reason)

    def receive_block(self, peer: PeerId, multihash: bytes, size: int, now: float) -> None:
        """A block came and its hash is right. It may have been asked for by another session, or be a second copy."""
        known = self._peers.get(peer)
        want = self._wants.get(multihash)
        if want is None:
            if known is not None:
                known.duplicate_bytes += size
                known.progress(now)
            return
        self._average = float(size) if self._average is None else 0.9 * self._average + 0.1 * size
        if known is not None:
            known.count_block(size, known.release(want), now)
        self._finish(want, known)

    def receive_wrong_block(self, peer: PeerId) -> None:
        """It sent bytes that nobody asked for."""
        known = self._peers.get(peer)
        if known is not None:
            known.wrong_blocks += 1
            self._drop(peer, "sent a wrong block")

    def receive_presence(self, peer: PeerId, multihash: bytes, now: float, *, have: bool) -> None:
        """HAVE or DONT_HAVE. What is said about blocks that are not wanted leaves no trace (A47)."""
        want = self._wants.get(multihash)
        if want is None:
            return
        if have and self._broadcast:
            self.add_peer(peer)
        known = self._peers.get(peer)
        if known is None:
            return
        known.progress(now)
        if have:
            want.holders.add(known)
            want.lacks.discard(known)
            self._open_up()
        else:
            self._refused(known, want, now)

    def receive_progress(self, peer: PeerId, now: float) -> None:
        """Bytes came from this peer, not yet a whole message."""
        known = self._peers.get(peer)
        if known is not None:
            known.progress(now)

    def receive_ranges(self, peer: PeerId, ranges: LeafRanges) -> None:
        """Which leaves this peer has; the object may change later, and this is to be called again then."""
        known = self._peers.get(peer)
        if known is not None:
            known.full = ranges.complete
            known.ranges = None if ranges.complete else ranges
            self._ranges_changed = True
            self._open_up()

    def handle_timeout(self, now: float) -> None:
        """Move what is late, try again what was refused, consider duplicates."""
        for peer in self._peers.values():
            if peer.outstanding and now >= peer.stall_at():
                self._stall(peer, now)
            while peer.outstanding:
                want, (asked_at, _) = next(iter(peer.outstanding.items()))
                if now < peer.overdue_at(asked_at):
                    break
                self._refused(peer, want, now)
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            for want in self._pool:
                want.lacks.clear()
            self._version += 1
        self._dirty = True

    # outputs

    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due, or None. It may be called late; the bounds hold to within that lateness."""
        if not self._wants:
            return None
        times = [] if self._retry_at is None else [self._retry_at]
        busy = False
        for peer in self._peers.values():
            if peer.outstanding:
                busy = True
                asked_at = next(iter(peer.outstanding.values()))[0]
                times += (peer.stall_at(), peer.overdue_at(asked_at))
            elif peer.rest_until and peer.state in (PeerState.READY, PeerState.KNOWN):
                times.append(peer.rest_until)
        if busy and not self._pool and not self._queue:
            times.append(self._endgame_at)
        return min(times, default=None)

    def next_effect(self, now: float) -> Effect | None:
        """The next thing to do, or None. Wants are handed out here, once for all facts since the last call."""
        if self._dirty:
            self._dirty = False
            self._connect(now)
            self._assign(now)
        if self._withdrawals:
            peer, cids = self._withdrawals.popitem()
            return Withdraw(peer=peer, cids=tuple(cids))
        return self._effects.popleft() if self._effects else None

    # decisions

    def _open_up(self) -> None:
        """Some peer may be able to give more than before."""
        self._version += 1
        self._dirty = True

    def _connect(self, now: float) -> None:
        if not self._wants:
            return
        dialling = sum(peer.state is PeerState.DIALLING for peer in self._peers.values())
        for peer in self._peers.values():
            if dialling >= self._parameters.dials:
                break
            if peer.state is PeerState.KNOWN and now >= peer.rest_until:
                peer.state = PeerState.DIALLING
                self._effects.append(Connect(peer=peer.peer))
                dialling += 1
        if self._broadcast and not self.providers:
            self._ask_neighbours()

    def _ask_neighbours(self) -> None:
        room = self._parameters.broadcast_peers - sum(self._neighbours.values())
        wants = list(islice(self._wants.values(), self._parameters.broadcast_wants))
        for peer in [peer for peer, asked in self._neighbours.items() if not asked][: max(room, 0)]:
            self._neighbours[peer] = True
            for want in wants:
                self._broadcast_to.setdefault(want.multihash, []).append(peer)
            self._effects.append(Ask(peer=peer, cids=tuple(want.cid for want in wants), have=True))

    def _assign(self, now: float) -> None:
        if self._paused or not self._wants:
            return
        self._fill_pool()
        self._rank_pool(now)
        ready = [peer for peer in self._peers.values() if peer.state is PeerState.READY]
        # Who has only parts takes first, so that the few who have all are left for what nobody else has; then the fastest.
        ready.sort(key=lambda peer: (peer.poor, peer.full, -(peer.rate or float("inf"))))
        idle = []
        for peer in ready:
            room, count = peer.room(now)
            if room <= 0 or count <= 0:
                continue
            if self._pool and peer.searched != self._version:
                self._ask(peer, self._pick(peer, room, count), now)
            if not self._pool and not self._queue and not peer.poor:
                idle.append(peer)
        if idle and now >= self._endgame_at:
            self._endgame_at = now + self._parameters.endgame_step
            for peer in idle:
                self._duplicate(peer, now)
        if any(want.lacks for want in self._pool) and self._retry_at is None:
            self._retry_at = now + self._parameters.retry

    def _fill_pool(self) -> None:
        look_ahead = self._parameters.look_ahead
        if not self._queue or 2 * len(self._pool) > look_ahead:
            return
        while self._queue and len(self._pool) < look_ahead:
            want = self._queue.popleft()
            if self._wants.get(want.multihash) is want:
                want.open = True
                self._pool.append(want)
        self._version += 1
        self._sort_pool()

    def _rank_pool(self, now: float) -> None:
        """Count how many peers are known to have each leaf; four times a second at most, as often as ranges are told."""
        if not self._ranges_changed or now < self._rank_at:
            return
        self._ranges_changed = False
        self._rank_at = now + 0.25
        known = [
            peer.ranges
            for peer in self._peers.values()
            if peer.ranges is not None and peer.state is PeerState.READY and not peer.poor
        ]
        for want in self._pool:
            want.rarity = 0 if want.leaf is None else sum(want.leaf in ranges for ranges in known)
        self._sort_pool()

    def _sort_pool(self) -> None:
        if self._order is Order.FILE:
            self._pool.sort(key=lambda want: -want.rank)
        else:
            self._pool.sort(key=lambda want: (-want.rarity, -want.rank))

    def _pick(self, peer: SessionPeer, room: int, count: int) -> list[SessionWant]:
        """Take from the pool, best first; a poor peer gets what is least urgent."""
        picked: list[SessionWant] = []
        size = self._size()
        positions = range(len(self._pool)) if peer.poor else range(len(self._pool) - 1, -1, -1)
        for position in positions:
            want = self._pool[position]
            if peer.may_have(want):
                picked.append(want)
                room -= size
                if room <= 0 or len(picked) >= count:
                    break
        else:
            peer.searched = self._version
        for want in picked:
            self._close(want)
        return picked

    def _duplicate(self, peer: SessionPeer, now: float) -> None:
        """Ask an idle peer also for what another will bring much later."""
        size = self._size()
        room, count = peer.room(now)
        late: list[tuple[float, int, SessionWant]] = []
        bound = 2 * peer.time_for(size)
        for other in self._peers.values():
            if other is peer:
                continue
            for want in other.outstanding:
                if len(want.askers) == 1 and peer not in want.told and peer.may_have(want):
                    left = other.time_left(want, now)
                    if left > bound:
                        late.append((-left, len(late), want))
        late.sort()
        limit = min(count, max(room // size, 1))
        self._ask(peer, [want for _, _, want in late[:limit]], now)

    def _ask(self, peer: SessionPeer, wants: list[SessionWant], now: float) -> None:
        if not wants:
            return
        size = self._size()
        for want in wants:
            peer.ask(want, size, now)
        self._effects.append(Ask(peer=peer.peer, cids=tuple(want.cid for want in wants)))

    def _size(self) -> int:
        return expected_size(self._average, self._parameters.size_guess)

    def _refused(self, peer: SessionPeer, want: SessionWant, now: float) -> None:
        """It does not have it, or does not answer: at once to the next."""
        want.lacks.add(peer)
        want.holders.discard(peer)
        if peer.release(want) is not None:
            peer.misses += 1
            if peer.poor:
                peer.take_rest(now)
            self._reopen(want)
        self._dirty = True

    def _stall(self, peer: SessionPeer, now: float) -> None:
        """Others take over. It is not told: should it wake, what it owes is still welcome."""
        peer.stalled = True
        peer.take_rest(now)
        self._release_all(peer)

    def _release_all(self, peer: SessionPeer) -> None:
        for want in list(peer.outstanding):
            peer.release(want)
            self._reopen(want)

    def _peer_lost(self, peer: PeerId, now: float) -> None:
        known = self._peers.get(peer)
        if known is None or known.state is PeerState.DROPPED:
            return
        known.state = PeerState.KNOWN
        known.take_rest(now)
        self._release_all(known)
        self._dirty = True

    def _drop(self, peer: PeerId, reason: str) -> None:
        known = self._peers.get(peer)
        if known is None or known.state is PeerState.DROPPED:
            return
        known.state = PeerState.DROPPED
        known.dropped = reason
        self._release_all(known)
        self._effects.append(PeerDropped(peer=peer, reason=reason))
        self._dirty = True

    def _reopen(self, want: SessionWant) -> None:
        if not want.askers and not want.open:
            want.open = True
            self._pool.append(want)
            self._version += 1
            self._dirty = True

    def _close(self, want: SessionWant) -> None:
        want.open = False
        self._pool.remove(want)

    def _finish(self, want: SessionWant, sender: SessionPeer | None) -> None:
        """No longer needed: everybody else who was told is told."""
        del self._wants[want.multihash]
        if want.open:
            self._close(want)
        for peer in want.told:
            peer.release(want)
            if peer is not sender and peer.state is PeerState.READY:
                self._withdrawals.setdefault(peer.peer, []).append(want.cid)
        for neighbour in self._broadcast_to.pop(want.multihash, ()):
            if sender is None or neighbour != sender.peer:
                self._withdrawals.setdefault(neighbour, []).append(want.cid)
        self._dirty = True
