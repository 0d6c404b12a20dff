"""The peers of one session: who is known, who can be asked, who is to be connected. Pure."""

from collections.abc import Collection, Iterable, Iterator
from math import inf

from stack.bitswap.interfaces import PeerReport
from stack.bitswap.session_parameters import SessionParameters
from stack.bitswap.session_peer import SessionPeer
from stack.bitswap.session_pool import WantPool
from stack.bitswap.session_want import PeerState, SessionWant
from stack.identity.peer_id import PeerId
from stack.protocols.providers.ranges import LeafRanges

KNOWN_FACTOR = 4
"""So many times as many providers as are used are remembered: many who lie may be named before the few who do not."""

DROPPED_KEPT = 64
"""Of those dropped who had to make way, the last so many are remembered for the report, and do not come back: whoever is named again
and again would be dialled, and send its wrong block, again and again."""


class SessionPeers:
    """Getters: `get`, `values`, `reports`, `ready`, `in_turn`, `ranges`, `parts_rate`, `to_leave_to_others`, `hopeful`, `lack`,
    `starved`, `busy`, `timeouts`. Commands: `add`, `dial`."""

    __slots__ = ("_dropped", "_parameters", "_peers", "forgotten")

    def __init__(self, parameters: SessionParameters) -> None:
        self._parameters = parameters
        self._peers: dict[PeerId, SessionPeer] = {}
        self._dropped: dict[PeerId, PeerReport] = {}
        self.forgotten: list[PeerId] = []
        """Who had to make way for others, until somebody takes note of it."""

    def __len__(self) -> int:
        return len(self._peers)

    def values(self) -> Collection[SessionPeer]:
        """All of them, the dropped ones too."""
        return self._peers.values()

    def reports(self) -> list[PeerReport]:
        """What each has done so far, and why the last were dropped."""
        return [*(peer.report() for peer in self._peers.values()), *self._dropped.values()]

    def get(self, peer: PeerId) -> SessionPeer | None:
        """What is known of a peer."""
        return self._peers.get(peer)

    def ready(self) -> Iterator[SessionPeer]:
        """Those that can be asked."""
        return (peer for peer in self._peers.values() if peer.state is PeerState.READY)

    def in_turn(self) -> list[SessionPeer]:
        """Those that can be asked, in the order in which they take wants; who has brought nothing and refused is behind who brings."""

        def turn(peer: SessionPeer) -> tuple[bool, bool, float, int]:
            return peer.poor, peer.full, -(peer.rate or (0.0 if peer.misses else inf)), peer.misses

        return sorted(self.ready(), key=turn)

    def ranges(self) -> list[LeafRanges]:
        """What those have who say so and can be asked."""
        return [peer.ranges for peer in self.ready() if peer.ranges is not None and not peer.poor]

    def parts_rate(self) -> float:
        """Bytes a second that those who have parts bring together."""
        return sum(
            peer.rate or 0.0 for peer in self.ready() if peer.ranges is not None and not peer.full and not peer.poor
        )

    def to_leave_to_others(self) -> list[tuple[SessionPeer, SessionWant]]:
        """What peers that have everything owe, and others have by now who are fast enough to bring it."""
        known = self.ranges()
        parts_rate = self.parts_rate()
        return [
            (peer, want)
            for peer in self.ready()
            if peer.outstanding and peer.may_be_spared(parts_rate)
            for want in peer.outstanding
            if want.leaf is not None and any(want.leaf in ranges for ranges in known)
        ]

    @property
    def hopeful(self) -> bool:
        """One of them may still turn out to have something."""
        return any(peer.hopeful for peer in self._peers.values())

    def lack(self, wants: Iterable[SessionWant | None]) -> bool:
        """Whether somebody said of each of these that it has not got it, and so did everybody else who can be asked, or may be soon."""
        asked = [peer for peer in self._peers.values() if peer.state is PeerState.READY or peer.awaited]
        return all(
            want is not None
            and want.denied
            and all(peer in want.denied or not (peer.full or peer.may_have(want)) for peer in asked)
            for want in wants
        )

    def add(self, peer: PeerId, *, full: bool) -> SessionPeer | None:
        """A peer that is not known yet; None when there is no place. Who was dropped makes way, then who was of no use so far, the
        one that is left alone for longest; and for one that is said to have everything, who is not and has brought nothing."""
        if peer in self._dropped:
            return None
        if len(self._peers) >= KNOWN_FACTOR * self._parameters.peers_max and not self._make_way(full=full):
            return None
        self._peers[peer] = SessionPeer(peer, self._parameters, full=full)
        return self._peers[peer]

    def _make_way(self, *, full: bool) -> bool:
        def may_leave(peer: SessionPeer) -> bool:
            if peer.outstanding or peer.state is PeerState.DIALLING:
                return False
            hoped_for = peer.full or peer.blocks or not full
            return peer.state is PeerState.DROPPED or peer.useless or not hoped_for

        def turn(peer: SessionPeer) -> tuple[bool, bool, bool, float]:
            return peer.state is not PeerState.DROPPED, not peer.useless, peer.full, -peer.rest

        leaving = min(filter(may_leave, self._peers.values()), key=turn, default=None)
        if leaving is None:
            return False
        del self._peers[leaving.peer]
        if leaving.state is not PeerState.DROPPED:
            self.forgotten.append(leaving.peer)
            return True
        self._dropped[leaving.peer] = leaving.report()
        if len(self._dropped) > DROPPED_KEPT:
            self.forgotten.append(next(iter(self._dropped)))
            del self._dropped[self.forgotten[-1]]
        return True

    def starved(self, pool: WantPool | None) -> bool:
        """Nobody who can be asked brings anything that is left, as far as it is being asked for from this pool: whoever has it is
        still to be found."""
        return not any(
            peer.blocks and not peer.poor and (peer.outstanding or pool is None or not pool.nothing_for(peer))
            for peer in self.ready()
        )

    @property
    def busy(self) -> bool:
        """Somebody owes something."""
        return any(peer.outstanding for peer in self._peers.values())

    def timeouts(self) -> Iterator[float]:
        """When something is due with any of them."""
        for peer in self._peers.values():
            if peer.outstanding:
                asked_at = next(iter(peer.outstanding.values()))[0]
                yield peer.stall_at()
                yield peer.overdue_at(asked_at)
            if peer.rest_until:
                yield peer.rest_until

    def dial(self, now: float, pool: WantPool | None) -> list[PeerId]:
        """Whom to connect now, once all that can be was asked for from `pool` (None: nothing is); they are being dialled from now on.
        Who has not been tried comes first. Who owes nothing keeps nobody out who is said to have everything.

        A session that starves tries more at a time, but dials those who have failed no faster than others do.
        """
        wanted = [peer for peer in self._peers.values() if peer.state is PeerState.KNOWN and now >= peer.rest_until]
        if not wanted:
            return []
        wanted.sort(key=lambda peer: peer.rest)
        starved = self.starved(pool)
        holding = [peer for peer in self._peers.values() if self._holds_place(peer, now, starved)]
        places = self._parameters.peers_max - len(holding)
        places_of_idle = sum(peer.state is PeerState.READY and (peer.poor or not peer.outstanding) for peer in holding)
        under_way = sum(peer.state is PeerState.DIALLING and now < peer.rest_until for peer in self._peers.values())
        chosen: list[PeerId] = []
        for peer in wanted:
            if places + (places_of_idle if peer.full else 0) <= 0:
                continue
            if under_way >= (self._parameters.dials_starved if starved and not peer.rest else self._parameters.dials):
                break
            under_way += 1
            places -= 1
            peer.state = PeerState.DIALLING
            peer.rest_until = now + self._parameters.dial_patience
            chosen.append(peer.peer)
        return chosen

    def _holds_place(self, peer: SessionPeer, now: float, starved: bool) -> bool:
        """Whether it keeps another from being connected. While a session starves nobody does who is connected: it waits for them, or
        they lack what is left."""
        if peer.state is PeerState.DIALLING:
            return not starved or now < peer.rest_until
        return peer.state is PeerState.READY and not peer.useless and not starved
