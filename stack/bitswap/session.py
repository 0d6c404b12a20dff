"""The fetch of one DAG from many peers: who is asked for which block, and when another one is. Pure.

Facts in, effects out, time and randomness as arguments. Wants wait in a queue, a bounded look-ahead of it (the pool) is free
to be asked for in any order, and each peer with room in its window takes from the pool what it may have.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from stack.bitswap.effects import Ask, Connect, Effect, PeerDropped, PeerForgotten, Withdraw
from stack.bitswap.endgame import fastest_first, wants_to_duplicate
from stack.bitswap.interfaces import Order, PeerReport
from stack.bitswap.neighbours import Neighbours
from stack.bitswap.session_parameters import SessionParameters
from stack.bitswap.session_peer import SessionPeer
from stack.bitswap.session_peers import SessionPeers
from stack.bitswap.session_pool import RANK_INTERVAL, WINDOW_PART, WantPool
from stack.bitswap.session_want import PeerState, SessionWant
from stack.bitswap.size_estimate import SizeEstimate
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.protocols.providers.ranges import LeafRanges
from stack.sansio.interfaces import Randomness


class SessionMachine:
    """Getters: `wanted`, `hopeful`, `lacking`, `reports`. Commands: `want`, `cancel`, `add_peer`, `pause`, `resume`.
    Facts: `peer_*`, `neighbour_*`, `receive_*`, `handle_timeout`. Outputs: `next_effect`, `next_timeout`.
    """

    def __init__(
        self,
        random: Randomness,
        *,
        order: Order = Order.SPREAD,
        broadcast: float | None = None,
        parameters: SessionParameters | None = None,
    ) -> None:
        """From `broadcast` on (0: at once, None: never) neighbours are asked while no peer gives hope."""
        self._parameters = parameters if parameters is not None else SessionParameters()
        self._random = random
        self._order = order
        self._broadcast = broadcast
        self._wants: dict[bytes, SessionWant] = {}
        self._pool = WantPool(order, self._parameters.look_ahead)
        self._sequence = 0
        self._peers = SessionPeers(self._parameters)
        self._neighbours = Neighbours(self._parameters.broadcast_peers, self._parameters.broadcast_wants)
        self._sizes = SizeEstimate(self._parameters.size_guess)
        self._effects: deque[Effect] = deque()
        self._withdrawals: dict[PeerId, list[Cid]] = {}
        self._dirty = False
        self._paused = False
        self._ranges_changed = False
        self._rank_at = 0.0
        self._retry_at: float | None = None
        self._endgame_at = 0.0
        self._endgame = False
        """Duplicates may be considered at the next occasion."""

    def __repr__(self) -> str:
        return f"<SessionMachine {len(self._wants)} wants, {len(self._peers)} peers>"

    @property
    def wanted(self) -> int:
        """How many blocks are still needed."""
        return len(self._wants)

    @property
    def hopeful(self) -> bool:
        """Somebody may still bring something: see `SessionPeer.hopeful`."""
        return self._peers.hopeful

    def lacking(self, multihashes: Iterable[bytes]) -> bool:
        """Whether each of these is wanted, and everybody who could be asked, or may be soon, says that it has not got it."""
        return self._peers.lack(self._wants.get(multihash) for multihash in multihashes)

    def reports(self) -> list[PeerReport]:
        """What each peer has done so far."""
        return self._peers.reports()

    def want(self, cids: Iterable[Cid], leaves: Sequence[int] | None = None) -> None:
        """Fetch these blocks; `leaves` are their numbers among the leaves of the root, where known."""
        for index, cid in enumerate(cids):
            if cid.multihash in self._wants:
                continue
            self._sequence += 1
            rank = float(self._sequence) if self._order is Order.FILE else self._random.random()
            self._wants[cid.multihash] = want = SessionWant(cid, leaves[index] if leaves is not None else None, rank)
            self._pool.add(want)
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
            known.named(full=full)
            self._may_have_more(known)
            return known.state is not PeerState.DROPPED
        added = self._peers.add(peer, full=full)
        if added is None:
            return False
        if peer in self._neighbours:
            added.state = PeerState.READY
        self._dirty = True
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
        self._neighbours.connected(peer)
        known = self._peers.get(peer)
        if known is not None and known.state is not PeerState.DROPPED:
            known.state = PeerState.READY
            known.rest_until = 0.0
        self._dirty = True

    def peer_disconnected(self, peer: PeerId, now: float) -> None:
        """The last connection to this peer is gone."""
        self._neighbours.disconnected(peer)
        self._peer_lost(peer, now)

    def peer_unreachable(self, peer: PeerId, now: float, *, reason: str | None = None) -> None:
        """It could not be connected or asked; with a `reason` it never will be."""
        self._peer_lost(peer, now)
        if reason is not None:
            self._drop(peer, reason, now)

    def receive_block(self, peer: PeerId, multihash: bytes, size: int, now: float) -> None:
        """A block came and its hash is right; another session may have asked for it."""
        known, want = self._peers.get(peer), self._wants.get(multihash)
        if want is None:
            self.receive_late_block(peer, size, now)
            return
        self._sizes.count(size)
        if known is not None:
            asked_at = known.release(want)
            known.count_block(size, asked_at, now)
            for other in want.askers:
                if asked_at is not None and other.outstanding[want][0] < asked_at:
                    other.overtaken(now)
        elif self._broadcast is not None:
            self.add_peer(peer)  # a small block came in place of HAVE
        self._finish(want, known)

    def receive_late_block(self, peer: PeerId, size: int, now: float, *, owed: bool = True) -> None:
        """A second copy of a block, or one that is wanted no longer; no sign of life unless it `owed` it still."""
        known = self._peers.get(peer)
        if known is not None:
            known.count_copy(size, now, owed=owed)

    def receive_wrong_block(self, peer: PeerId, now: float) -> None:
        """It sent bytes that nobody asked for."""
        known = self._peers.get(peer)
        if known is not None:
            known.wrong_blocks += 1
            self._drop(peer, "sent a wrong block", now)

    def receive_presence(self, peer: PeerId, multihash: bytes, now: float, *, have: bool) -> None:
        """HAVE or DONT_HAVE. What is said about blocks that are not wanted leaves no trace (A47)."""
        want = self._wants.get(multihash)
        if want is None:
            return
        if have and self._broadcast is not None:
            self.add_peer(peer)
        known = self._peers.get(peer)
        if known is None:
            return
        known.answered(want, now, have=have)
        if have:
            want.holders.add(known)
            want.lacks.discard(known)
            want.denied -= {known}
            self._may_have_more(known)
        else:
            want.denied |= {known}
            known.denials += 1
            self._refused(known, want, now)

    def receive_progress(self, peer: PeerId, now: float, size: int = 0) -> None:
        """So many bytes of blocks came from this peer, not yet a whole message."""
        known = self._peers.get(peer)
        if known is not None:
            known.progress(now, size)

    def receive_no_block(self, peer: PeerId, size: int, *, broken: bool = False) -> None:
        """So many of these bytes are of no block for this session: their message is over, or (`broken`) will never be whole."""
        known = self._peers.get(peer)
        if known is not None:
            known.no_block(size, broken=broken)

    def receive_ranges(self, peer: PeerId, ranges: LeafRanges | None, *, hearsay: bool = False) -> None:
        """Which leaves this peer has, None for all, as it says or, by `hearsay`, another; to be called again when the object changes."""
        known = self._peers.get(peer)
        if known is not None and known.take_ranges(ranges, hearsay=hearsay):
            self._ranges_changed = True
            self._may_have_more(known)

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
            if peer.rest_until and now >= peer.rest_until:
                peer.rest_until = 0.0
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            for want in self._pool.open:
                want.lacks.clear()
            self._pool.open_up()
        if self._broadcast and now >= self._broadcast:
            self._broadcast = 0.0
        if now >= self._endgame_at:
            self._endgame_at = now + self._parameters.endgame_step
            self._endgame = True
        self._dirty = True

    # outputs

    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due, or None. It may be called late; the bounds hold to within that lateness."""
        if not self._wants:
            return None
        times = [at for at in (self._retry_at, self._broadcast or None) if at is not None]
        times += self._peers.timeouts()
        if self._peers.busy and not self._pool.queued:
            times.append(self._endgame_at)
        return min(times, default=None)

    def next_effect(self, now: float) -> Effect | None:
        """The next thing to do, or None. Wants are handed out here, once for all facts since the last call."""
        if self._dirty and self._wants:
            self._dirty = False
            if self._broadcast == 0.0 and not self._peers.hopeful:
                self._effects += self._neighbours.ask(self._wants.values())
            self._assign(now)
            self._effects += [
                Connect(peer=peer) for peer in self._peers.dial(now, None if self._paused else self._pool)
            ]
        if self._peers.forgotten:
            return PeerForgotten(peer=self._peers.forgotten.pop())
        if self._withdrawals:
            peer, cids = self._withdrawals.popitem()
            return Withdraw(peer=peer, cids=tuple(cids))
        return self._effects.popleft() if self._effects else None

    # decisions

    def _may_have_more(self, peer: SessionPeer) -> None:
        peer.searched = -1
        self._dirty = True

    def _assign(self, now: float) -> None:
        if self._paused:
            return
        if self._pool.fill() or (self._ranges_changed and now >= self._rank_at):
            self._ranges_changed = False
            self._rank_at = now + RANK_INTERVAL
            self._rank(now)
        idle = []
        # Who has only parts takes first, so that the few who have all are left for what nobody else has; then the fastest.
        # Those few are asked for more ahead: a swarm is then complete without them while each in it still lacks a quarter.
        ahead = min(self._parameters.window_together, self._sizes.expected * self._sequence // WINDOW_PART)
        least = ahead // max(1, sum(peer.full and not peer.poor for peer in self._peers.ready()))
        together = self._parameters.together_max - sum(peer.outstanding_bytes for peer in self._peers.values())
        parts_rate = self._peers.parts_rate() if self._order is Order.SPREAD else 0.0
        for peer in self._peers.in_turn():
            if not peer.full:
                self._probe(peer)
            room, count = peer.room(now, least if peer.full else 0)
            room = min(room, together)
            if room <= 0 or count <= 0:
                continue
            spared = self._order is Order.SPREAD and peer.may_be_spared(parts_rate)
            if not self._pool.nothing_for(peer):
                picked = self._pool.pick(peer, room, count, self._sizes.expected, rare_only=spared)
                together -= self._ask(peer, picked, now)
            if self._pool.nothing_for(peer) and not peer.poor and not (spared and self._pool.open):
                idle.append(peer)
        if self._endgame and not self._pool.queued:
            self._endgame = False
            for peer in fastest_first(idle):
                self._ask(peer, wants_to_duplicate(peer, self._peers.values(), self._sizes.expected, now), now)

    def _rank(self, now: float) -> None:
        """What is rare goes first; what others can bring by now is not left with those who have everything."""
        for peer, want in self._peers.to_leave_to_others() if self._order is Order.SPREAD else ():
            peer.release(want)
            want.told.pop(peer)
            self._withdrawals.setdefault(peer.peer, []).append(want.cid)
            self._reopen(want, now)
        self._pool.rank(self._peers.ranges())

    def _ask(self, peer: SessionPeer, wants: list[SessionWant], now: float) -> int:
        """Returns with how many bytes they are reckoned."""
        size = self._sizes.expected
        for want in wants:
            peer.ask(want, size, now)
        # Nodes have leaves below them, and come in their order; of leaves that others fetch too, the server knows best.
        free = self._order is Order.SPREAD
        for any_order in (False, True):
            cids = tuple(want.cid for want in wants if (free and want.leaf is not None) is any_order)
            if cids:
                self._effects.append(Ask(peer=peer.peer, cids=cids, any_order=any_order))
        return size * len(wants)

    def _probe(self, peer: SessionPeer) -> None:
        """Ask a peer that has parts whether it has what ranges do not tell: wants that are no numbered leaves. It says HAVE
        now, or when the block has come to it."""
        wants = self._pool.pick_probes(peer, peer.probe_room)
        if wants:
            peer.probe(wants)
            self._effects.append(Ask(peer=peer.peer, cids=tuple(want.cid for want in wants), have=True))

    def _refused(self, peer: SessionPeer, want: SessionWant, now: float) -> None:
        """It does not have it, or does not answer: at once to the next."""
        want.lacks.add(peer)
        want.holders.discard(peer)
        if peer.release(want) is not None:
            peer.misses += 1
            if peer.poor:
                peer.take_rest(now)
            self._reopen(want, now)
        self._dirty = True

    def _stall(self, peer: SessionPeer, now: float) -> None:
        """Others take over. It is not told: should it wake, what it owes is still welcome."""
        peer.stalled = True
        peer.take_rest(now)
        self._release_all(peer, now)

    def _release_all(self, peer: SessionPeer, now: float) -> None:
        for want in list(peer.outstanding):
            peer.release(want)
            self._reopen(want, now)

    def _peer_lost(self, peer: PeerId, now: float) -> None:
        known = self._peers.get(peer)
        if known is None or known.state is PeerState.DROPPED:
            return
        known.connection_lost(now)
        self._release_all(known, now)
        self._dirty = True

    def _drop(self, peer: PeerId, reason: str, now: float) -> None:
        known = self._peers.get(peer)
        if known is None or known.state is PeerState.DROPPED:
            return
        known.state = PeerState.DROPPED
        known.dropped = reason
        self._neighbours.disconnected(peer)
        known.rest_until = 0.0
        self._release_all(known, now)
        self._effects.append(PeerDropped(peer=peer, reason=reason))
        self._dirty = True

    def _reopen(self, want: SessionWant, now: float) -> None:
        want.failures += 1
        if want.askers:
            return
        self._pool.reopen(want)
        if want.lacks and self._retry_at is None:
            self._retry_at = now + self._parameters.retry
        self._dirty = True

    def _finish(self, want: SessionWant, sender: SessionPeer | None) -> None:
        """No longer needed: everybody else who was told is told."""
        del self._wants[want.multihash]
        self._pool.discard(want)
        for peer in want.told:
            peer.release(want)
            peer.probes.discard(want)
            if peer is not sender and peer.state is PeerState.READY:
                self._withdrawals.setdefault(peer.peer, []).append(want.cid)
        for neighbour in self._neighbours.finished(want.multihash):
            if sender is None or neighbour != sender.peer:
                self._withdrawals.setdefault(neighbour, []).append(want.cid)
        self._dirty = True
