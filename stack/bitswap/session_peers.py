"""The peers of one session: who is known, who can be asked, who is to be connected. Pure."""

from collections.abc import Collection, Iterable, Iterator
from math import inf

from stack.bitswap.session_parameters import SessionParameters
from stack.bitswap.session_peer import PeerState, SessionPeer, SessionWant
from stack.identity.peer_id import PeerId
from stack.protocols.providers.ranges import LeafRanges

KNOWN_FACTOR = 4
"""So many times as many providers as are used are remembered: many who lie may be named before the few who do not."""


class SessionPeers:
    """Getters: `get`, `values`, `ready`, `in_turn`, `ranges`, `parts_rate`, `to_leave_to_others`, `hopeful`, `lack`, `starved`,
    `busy`, `timeouts`. Commands: `add`, `dial`."""

    __slots__ = ("_parameters", "_peers", "forgotten")

    def __init__(self, parameters: SessionParameters) -> None:
        self._parameters = parameters
        self._peers: dict[PeerId, SessionPeer] = {}
        self.forgotten: list[PeerId] = []
        """Who had to make way for others, until somebody takes note of it."""

    def __len__(self) -> int:
        return len(self._peers)

    def values(self) -> Collection[SessionPeer]:
        """All of them, the dropped ones too."""
        return self._peers.values()

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
        """A peer that is not known yet; None when there is no place. Who was of no use so far makes way, the one that is left
        alone for longest."""
        if len(self._peers) >= KNOWN_FACTOR * self._parameters.peers_max:
            idle = (PeerState.KNOWN, PeerState.READY)
            useless = [
                peer for peer in self._peers.values() if peer.useless and peer.state in idle and not peer.outstanding
            ]
            if not useless:
                return None
            self.forgotten.append(max(useless, key=lambda peer: peer.rest).peer)
            del self._peers[self.forgotten[-1]]
        self._peers[peer] = SessionPeer(peer, self._parameters, full=full)
        return self._peers[peer]

    @property
    def starved(self) -> bool:
        """Nobody who can be asked has brought anything, or brings more: whoever has it is still to be found."""
        return not any(peer.blocks and not peer.poor for peer in self.ready())

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

    def dial(self, now: float) -> list[PeerId]:
        """Whom to connect now; they are being dialled from now on. Who has not been tried comes first.

        A session that starves tries more at a time, but dials those who have failed no faster than others do.
        """
        wanted = [peer for peer in self._peers.values() if peer.state is PeerState.KNOWN and now >= peer.rest_until]
        if not wanted:
            return []
        wanted.sort(key=lambda peer: peer.rest)
        starved = self.starved
        places = self._parameters.peers_max - sum(
            self._holds_place(peer, now, starved) for peer in self._peers.values()
        )
        under_way = sum(peer.state is PeerState.DIALLING and now < peer.rest_until for peer in self._peers.values())
        chosen: list[PeerId] = []
        for peer in wanted[: max(places, 0)]:
            if under_way >= (self._parameters.dials_starved if starved and not peer.rest else self._parameters.dials):
                break
            under_way += 1
            peer.state = PeerState.DIALLING
            peer.rest_until = now + self._parameters.dial_patience
            chosen.append(peer.peer)
        return chosen

    def _holds_place(self, peer: SessionPeer, now: float, starved: bool) -> bool:
        """Whether it keeps another from being connected. Who only lets a starved session wait does not."""
        if peer.state is PeerState.DIALLING:
            return not starved or now < peer.rest_until
        waited_for = starved and (peer.outstanding or peer.misses)
        return peer.state is PeerState.READY and not peer.useless and not waited_for
