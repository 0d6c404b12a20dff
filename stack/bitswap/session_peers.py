"""The peers of one session: who is known, who can be asked, who is to be connected. Pure."""

from collections.abc import Collection, Iterator

from stack.bitswap.session_peer import PeerState, SessionParameters, SessionPeer, SessionWant
from stack.identity.peer_id import PeerId
from stack.protocols.providers.ranges import LeafRanges

KNOWN_FACTOR = 4
"""So many times as many providers as are used are remembered: many who lie may be named before the few who do not."""


class SessionPeers:
    """Getters: `get`, `values`, `ready`, `ranges`, `to_leave_to_others`, `providers`. Commands: `add`, `dial`."""

    __slots__ = ("_parameters", "_peers")

    def __init__(self, parameters: SessionParameters) -> None:
        self._parameters = parameters
        self._peers: dict[PeerId, SessionPeer] = {}

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

    def ranges(self) -> list[LeafRanges]:
        """What those have who say so and can be asked."""
        return [peer.ranges for peer in self.ready() if peer.ranges is not None and not peer.poor]

    def to_leave_to_others(self) -> list[tuple[SessionPeer, SessionWant]]:
        """What peers that have everything owe, and others have by now who are fast enough to bring it."""
        known = self.ranges()
        return [
            (peer, want)
            for peer in self.ready()
            if peer.outstanding and peer.may_be_spared(self.ready())
            for want in peer.outstanding
            if want.leaf is not None and any(want.leaf in ranges for ranges in known)
        ]

    @property
    def providers(self) -> int:
        """Peers that have not been dropped."""
        return sum(peer.state is not PeerState.DROPPED for peer in self._peers.values())

    def add(self, peer: PeerId, *, full: bool) -> SessionPeer | None:
        """A peer that is not known yet; None when there is no place."""
        if not self._make_place():
            return None
        self._peers[peer] = SessionPeer(peer, self._parameters, full=full)
        return self._peers[peer]

    def dial(self, now: float) -> list[PeerId]:
        """Whom to connect now; they are being dialled from now on. Who has not been tried comes first."""
        dialling = sum(peer.state is PeerState.DIALLING for peer in self._peers.values())
        useful = sum(not peer.useless for peer in self.ready())
        room = min(self._parameters.dials - dialling, self._parameters.peers_max - dialling - useful)
        wanted = [peer for peer in self._peers.values() if peer.state is PeerState.KNOWN and now >= peer.rest_until]
        wanted.sort(key=lambda peer: peer.rest)
        for peer in wanted[: max(room, 0)]:
            peer.state = PeerState.DIALLING
        return [peer.peer for peer in wanted[: max(room, 0)]]

    def _make_place(self) -> bool:
        """Room for one more peer: who was of no use so far makes way, the one that is left alone for longest."""
        if len(self._peers) < KNOWN_FACTOR * self._parameters.peers_max:
            return True
        idle = (PeerState.KNOWN, PeerState.READY)
        useless = [
            peer for peer in self._peers.values() if peer.useless and peer.state in idle and not peer.outstanding
        ]
        if useless:
            del self._peers[max(useless, key=lambda peer: peer.rest).peer]
        return bool(useless)
