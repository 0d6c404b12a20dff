"""Which of our addresses others reach: whom to ask about which, and what to think of the answers. Pure."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import field
from enum import Enum

from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.values import dataclass

WITNESSES = 3
"""Neighbourhoods whose word settles it where nothing is proved: about what the specification suggests."""
FRESH_SECONDS = 1800.0
"""An answer counts for so long; then the question is asked again."""
REST_SECONDS = 10.0
"""Between two questions to one server: half of what it allows."""
SULK_SECONDS = 120.0
"""And after one that it did not answer, or refused."""
ASKING_MAX = 3
"""Questions under way."""
CANDIDATES_MAX = 8
"""Addresses that are looked after."""
SERVERS_MAX = 64
"""Servers that are remembered, all of them connected."""
VOTES_MAX = 16
"""Neighbourhoods whose last word on one address is kept."""


class Said(Enum):
    """What a server says of an address."""

    PROVED = "proved"
    """It was dialled there: somebody came and named the number that only the server had."""
    OPEN = "open"
    """It says that it was dialled there."""
    CLOSED = "closed"
    """It could not be dialled there."""


@dataclass(frozen=True, slots=True)
class Question:
    """To be asked of `peer`; then `Judge.answered` or `Judge.failed`."""

    peer: PeerId
    addresses: tuple[Multiaddr, ...]
    """One, but for version 1."""
    v1: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is thought of one address."""

    address: Multiaddr
    open: bool | None
    """Others reach us there; None: nobody has tried."""
    peers: int
    """How many independent peers say so."""


@dataclass(slots=True)
class _Server:
    place: str
    v2: bool
    asking: bool = False
    rests_until: float = 0.0
    tried: dict[Multiaddr, float] = field(default_factory=dict)


class Judge:
    """Facts: `server_found`, `server_gone`, `candidates_are`, `moved`, `answered`, `failed`. Outputs: `next_question`, `next_timeout`.
    Getters: `verdicts`, `is_settled`, `may_learn`, `servers`."""

    def __init__(self) -> None:
        self._servers: dict[PeerId, _Server] = {}
        self._candidates: tuple[Multiaddr, ...] = ()
        self._votes: dict[Multiaddr, OrderedDict[str, tuple[Said, float]]] = {}

    @property
    def servers(self) -> int:
        """How many peers could be asked."""
        return len(self._servers)

    def server_found(self, peer: PeerId, place: str, *, v2: bool) -> None:
        """A connected peer of the neighbourhood `place` tries addresses for others."""
        known = self._servers.get(peer)
        if known is not None:
            known.place, known.v2 = place, v2
        elif len(self._servers) < SERVERS_MAX:
            self._servers[peer] = _Server(place, v2)

    def server_gone(self, peer: PeerId) -> None:
        """It is not connected any more."""
        self._servers.pop(peer, None)

    def candidates_are(self, addresses: Sequence[Multiaddr]) -> None:
        """Where others may reach us, the most useful first."""
        self._candidates = tuple(addresses)[:CANDIDATES_MAX]
        self._votes = {address: votes for address, votes in self._votes.items() if address in self._candidates}

    def moved(self) -> None:
        """This computer is in another network: nothing that was found out is so any more."""
        self._votes = {}
        for server in self._servers.values():
            server.tried = {}
            server.rests_until = 0.0

    def answered(self, question: Question, said: Said, now: float, address: Multiaddr | None = None) -> None:
        """What a server says of what it was asked about, or of `address` alone."""
        server = self._rest(question, now + REST_SECONDS)
        if server is None:
            return
        for about in question.addresses if address is None else (address,):
            if about in self._candidates:
                votes = self._votes.setdefault(about, OrderedDict())
                votes[server.place] = (said, now)
                votes.move_to_end(server.place)
                if len(votes) > VOTES_MAX:
                    votes.popitem(last=False)

    def failed(self, question: Question, now: float) -> None:
        """It did not answer, or would not."""
        self._rest(question, now + SULK_SECONDS)

    def _rest(self, question: Question, until: float) -> _Server | None:
        server = self._servers.get(question.peer)
        if server is not None:
            server.asking, server.rests_until = False, until
        return server

    def next_question(self, now: float) -> Question | None:
        """One to ask now, if there is one; it counts as being asked from now on."""
        if sum(server.asking for server in self._servers.values()) >= ASKING_MAX:
            return None
        for address in self._candidates:
            if self.is_settled(address, now):
                continue
            for peer, server in self._servers.items():
                if server.v2 and self._may_ask(server, address, now):
                    return self._ask(peer, server, (address,), now)
        for peer, server in self._servers.items():
            doubtful = tuple(
                address
                for address in self._candidates
                if not self.is_settled(address, now) and self._may_ask(server, address, now)
            )
            if doubtful and not server.v2:
                return self._ask(peer, server, doubtful, now)
        return None

    def may_learn(self, now: float) -> bool:
        """Somebody is being asked, or can be asked now."""
        return any(
            server.asking or (not self.is_settled(address, now) and self._may_ask(server, address, now))
            for server in self._servers.values()
            for address in self._candidates
        )

    def _may_ask(self, server: _Server, address: Multiaddr, now: float) -> bool:
        fresh = now - FRESH_SECONDS
        votes = self._votes.get(address, OrderedDict())
        vote = votes.get(server.place)
        return (
            not server.asking
            and server.rests_until <= now
            and server.tried.get(address, fresh) <= fresh
            and (vote is None or vote[1] <= fresh)
        )

    def _ask(self, peer: PeerId, server: _Server, addresses: tuple[Multiaddr, ...], now: float) -> Question:
        server.asking = True
        server.tried = {address: at for address, at in server.tried.items() if address in self._candidates}
        server.tried.update(dict.fromkeys(addresses, now))
        return Question(peer, addresses, v1=not server.v2)

    def next_timeout(self, now: float) -> float | None:
        """When `next_question` may have one again, though nothing happens; None while there is nobody to ask."""
        if not self._servers or not self._candidates:
            return None
        due = [server.rests_until for server in self._servers.values()]
        due += [at + FRESH_SECONDS for server in self._servers.values() for at in server.tried.values()]
        due += [at + FRESH_SECONDS for votes in self._votes.values() for _, at in votes.values()]
        return min((at for at in due if at > now), default=None)

    def is_settled(self, address: Multiaddr, now: float) -> bool:
        """Nobody needs to be asked about it."""
        votes = self._fresh(address, now)
        said = [vote for vote, _ in votes]
        return self._open(votes) is not None and (Said.PROVED in said or len(said) >= WITNESSES)

    def verdicts(self, now: float) -> list[Verdict]:
        """Of all candidates, in their order."""
        found = []
        for address in self._candidates:
            votes = self._fresh(address, now)
            opened = self._open(votes)
            peers = sum((said is not Said.CLOSED) is opened for said, _ in votes)
            found.append(Verdict(address, opened, peers))
        return found

    def _fresh(self, address: Multiaddr, now: float) -> list[tuple[Said, float]]:
        return [vote for vote in self._votes.get(address, {}).values() if now - vote[1] < FRESH_SECONDS]

    def _open(self, votes: Sequence[tuple[Said, float]]) -> bool | None:
        """A proof stands against any number of words, until two who come later find the door shut."""
        proofs = [at for said, at in votes if said is Said.PROVED]
        shut = [at for said, at in votes if said is Said.CLOSED]
        if proofs:
            return sum(at > max(proofs) for at in shut) < 2
        opened = len(votes) - len(shut)
        if opened and opened < WITNESSES and not shut:
            return None
        return opened > len(shut) if votes else None
