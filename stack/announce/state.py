"""What the parts of the machine share: who we are, what we keep, whom we know, and what is to be done."""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from stack.announce.contacts import Candidate, Contacts
from stack.announce.events import Ask, AskId, Effect, FetchKeys, Push, RecordRefused, RefusedBecause, StopAsking
from stack.announce.events import InterestId as InterestId
from stack.announce.fetching import ListFetches
from stack.announce.keyspace import WHOLE, Home, Shard, covers, home_of_peer, shard_at
from stack.announce.messages import Request, Response
from stack.announce.outcomes import Outcome
from stack.announce.params import AnnounceParams
from stack.announce.quota import Quota
from stack.announce.records import SKEW_SECONDS, BadRecord, Record, RecordReader
from stack.announce.reputation import Reputation
from stack.announce.table import Table
from stack.identity.peer_id import PeerId
from stack.sansio.budget import Scope
from stack.sansio.interfaces import Randomness
from stack.trace import Trace


class Asker(Protocol):
    """A part that has asked somebody."""

    def answered(self, id: AskId, response: Response | None, now: float, wall: float) -> None:
        """What came back; None: nothing."""
        ...


class Interests(Protocol):
    """Who wants to be told of records as they come."""

    def matching(self, record: Record) -> Sequence[InterestId]: ...


class State:
    """Tables of one node. `place` is where it is, `shard` what it keeps or would keep, `missing` what of that it has not loaded."""

    def __init__(
        self,
        peer: PeerId,
        params: AnnounceParams,
        random: Randomness,
        reader: RecordReader,
        budget: Scope,
        trace: Trace | None,
        *,
        is_member: bool,
    ) -> None:
        self.peer = peer
        self.place: Home = home_of_peer(peer)
        self.params = params
        self.random = random
        self.reader = reader
        self.trace = trace
        self.is_member = is_member
        self.reputation = Reputation()
        self.contacts = Contacts(peer, self.reputation, random)
        self.table = Table(WHOLE, budget, self.reputation.is_proven)
        self.fetching = ListFetches(self.table, peer)
        self.settled = False
        """We know how deep shards are."""
        self.missing: list[Shard] = [WHOLE]
        self.topics: dict[str, Shard] = {}
        """Those we are in, with their shards."""
        self.effects: deque[Effect] = deque()
        self.interests: Interests
        """Set by the part that keeps them."""
        self.presence = b""
        """Our own record that says we keep our shard."""
        self._askers: dict[AskId, tuple[Asker, PeerId]] = {}
        self._next_id = 0
        self._neighbours: Quota[PeerId] = Quota(params.neighbour_rate, params.neighbour_burst)
        self._groups: Quota[str] = Quota(params.group_rate, params.group_burst)

    @property
    def shard(self) -> Shard | None:
        """What we keep, as we tell others; None: nothing, or not known yet."""
        return self.table.shard if self.settled and self.is_member else None

    @property
    def level(self) -> int:
        """How deep shards are, as far as we know."""
        return self.table.shard.bit_length() - 1

    @property
    def loaded(self) -> bool:
        """We answer for all of our shard."""
        return self.settled and not self.missing

    def keeps(self, place: Home) -> bool:
        """A place is in our shard."""
        return self.is_member and covers(self.table.shard, place)

    def answers_for(self, place: Home) -> bool:
        """We know what there is to know about a place."""
        return self.settled and self.keeps(place) and not any(covers(shard, place) for shard in self.missing)

    # Asking

    def next_id(self) -> int:
        """A number that was not used before."""
        self._next_id += 1
        return self._next_id

    def ask(self, peer: PeerId, record: Record | None, request: Request, asker: Asker) -> AskId:
        """Ask a member; `asker` is told what comes back."""
        id = AskId(self.next_id())
        self._askers[id] = (asker, peer)
        connected = self.contacts.is_connected(peer)
        addresses = record.addresses if record is not None and not connected else ()
        self.effects.append(Ask(id, peer, addresses, request))
        return id

    def ask_candidate(self, candidate: Candidate, request: Request, asker: Asker) -> AskId:
        """The same of one that a walk has chosen."""
        return self.ask(candidate.peer, candidate.record, request, asker)

    def stop_asking(self, id: AskId) -> None:
        """No answer is wanted any more."""
        self._askers.pop(id, None)
        self.effects.append(StopAsking(id))

    def answered(self, id: AskId, response: Response | None, now: float, wall: float) -> None:
        """Something came back, or nothing will. Ids that are not known are ignored."""
        asker, peer = self._askers.pop(id, (None, None))
        if asker is None or peer is None:
            return
        if response is None:
            self.reputation.failed(peer)
            self.contacts.forget(peer)
        else:
            for data in response.closer[: self.params.closer + 1]:
                self.read(data, peer, wall)
        asker.answered(id, response, now, wall)

    # Records

    def read(self, data: bytes, source: PeerId | None, wall: float) -> Record | None:
        """A record that somebody gave us, verified and not from the future. None: it is not."""
        record = self.verified(data, source)
        return record if record is not None and self.is_of_today(record, source, wall) else None

    def verified(self, data: bytes, source: PeerId | None) -> Record | None:
        """The same, whenever it is from: perhaps it is our clock that is wrong, and nobody is to be blamed for that."""
        try:
            return self.reader.read(data)
        except BadRecord:
            self._refuse(source, RefusedBecause.INVALID)
            return None

    def prepare(self, data: bytes, source: PeerId) -> bool:
        """Verify a record that is read again soon; False: it is none."""
        try:
            self.reader.prepare(data)
        except BadRecord:
            self._refuse(source, RefusedBecause.INVALID)
            return False
        return True

    def is_of_today(self, record: Record, source: PeerId | None, wall: float) -> bool:
        """A verified record is not from the future. Then its author may be a contact."""
        if record.issued > wall + SKEW_SECONDS:
            self._refuse(source, RefusedBecause.FUTURE)
            return False
        if record.expires > wall:
            self.contacts.learn(record)
        return True

    def may_take(self, source: PeerId, size: int, now: float) -> bool:
        """Whether a neighbour is within its budget with so many bytes more."""
        if self._neighbours.take(source, size, now):
            return True
        self._refuse(source, RefusedBecause.NEIGHBOUR_BUDGET)
        return False

    def may_take_of(self, record: Record, source: PeerId, now: float) -> bool:
        """Whether the address group of an author is within its budget."""
        if record.group is None or self._groups.take(record.group, len(record.data), now):
            return True
        self._refuse(source, RefusedBecause.GROUP_BUDGET)
        return False

    def insert(self, record: Record, source: PeerId | None, wall: float) -> Outcome:
        """Offer a record to the table; who is interested is told."""
        outcome = self.table.insert(record, wall)
        if outcome in (Outcome.NEW, Outcome.KNOWN):
            self.fetching.named(record)
            self.fetch_lists()
        if outcome is not Outcome.NEW:
            if outcome is not Outcome.KNOWN:
                self._refuse(source, outcome)
            return outcome
        for interest in self.interests.matching(record):
            self.effects.append(Push(interest, record.data))
        return outcome

    def fetch_lists(self) -> None:
        """Have lists of further keys fetched, as many as may be under way."""
        while (record := self.fetching.next_record()) is not None:
            assert record.more is not None  # else nobody waits for it
            self.effects.append(FetchKeys(record, record.more))

    def _refuse(self, source: PeerId | None, reason: RefusedBecause | Outcome) -> None:
        if self.trace is not None:
            self.trace(RecordRefused(peer=source, reason=reason))

    def home_shard(self, level: int) -> Shard:
        """The shard around our place at some level."""
        return shard_at(self.place, level)
