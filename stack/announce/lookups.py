"""Who has a key, what has a name: asked of members until the caller has enough. Source: docs/announce.md, "Lookups"."""

import math
from dataclasses import replace
from functools import partial

from stack.announce.contacts import Candidate
from stack.announce.events import AskId, Found, LookupAnswered, LookupId, RoundEnded
from stack.announce.keyspace import home_of_key
from stack.announce.messages import Kind, Request, Response
from stack.announce.records import Record
from stack.announce.state import State
from stack.announce.walk import Walk
from stack.identity.peer_id import PeerId

FOUND_MAX = 1024
"""Authors that one lookup tells of; who needs more than that has other troubles."""
BEFORE_ALL = b"\0"
"""No peer id begins with less."""


class _Lookup:
    """One question, and who has been told for it."""

    __slots__ = (
        "after",
        "begun",
        "found",
        "has_more",
        "id",
        "request",
        "retry_after",
        "retry_at",
        "streams",
        "walk",
        "words",
    )

    def __init__(self, id: LookupId, request: Request, now: float, retry_after: float) -> None:
        self.id = id
        self.request = request
        self.words = request.word_keys
        self.begun = now
        self.found: dict[PeerId, int] = {}
        self.walk: Walk | None = None
        self.streams: list[AskId] = []
        """Where more may come."""
        self.retry_at = now
        self.retry_after = retry_after
        self.has_more = False
        """Somebody has told as many as fit into an answer. Who goes on was not helped by them: all others are told of then, for many
        who lie may hide the few who do not."""
        self.after = BEFORE_ALL
        """Whom those are behind that are to be told next."""


class Lookups:
    """Commands: `start`, `stop`. Facts: `answered`, `pushed`, `members_changed`, `handle_timeout`. Getters: `deadline`."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._lookups: dict[LookupId, _Lookup] = {}
        self._asked: dict[AskId, _Lookup] = {}

    def __len__(self) -> int:
        return len(self._lookups)

    @property
    def deadline(self) -> float:
        """When `handle_timeout` wants to be called."""
        each = (u.walk.deadline if u.walk is not None else u.retry_at for u in self._lookups.values())
        return min(each, default=math.inf)

    def start(self, request: Request, now: float, wall: float) -> LookupId:
        """Ask; what is found comes as effects until `stop`."""
        id = LookupId(self._state.next_id())
        lookup = self._lookups[id] = _Lookup(id, request, now, self._state.params.lookup_retry_first)
        self._begin(lookup, now, wall)
        return id

    def stop(self, id: LookupId) -> None:
        """Nothing more is wanted."""
        lookup = self._lookups.pop(id, None)
        if lookup is not None:
            self._end_streams(lookup)

    def members_changed(self, now: float) -> None:
        """Somebody has come who can be asked: lookups that found nothing need not wait."""
        for lookup in self._lookups.values():
            if not lookup.found:
                lookup.retry_at = min(lookup.retry_at, now)

    def answered(self, id: AskId, response: Response | None, now: float, wall: float) -> None:
        """See Asker."""
        lookup = self._asked[id]
        walk = lookup.walk
        # When a walk ends, nothing is asked any more by it.
        assert walk is not None
        peer = walk.waiting[id][0].peer
        if response is None:
            walk.failed(id, now, wall)
        else:
            self._take(lookup, peer, response, wall)
            counts = walk.answered(id, response, now, wall)
            if self._state.trace is not None:
                count = len(response.records)
                seconds = now - lookup.begun
                self._state.trace(LookupAnswered(peer=peer, records=count, authoritative=counts, seconds=seconds))
        self._go_on(lookup, now)

    def pushed(self, id: AskId, peer: PeerId, response: Response, wall: float) -> None:
        """Another message on a stream that an answer came on."""
        lookup = self._asked.get(id)
        if lookup is not None:
            self._take(lookup, peer, response, wall)

    def handle_timeout(self, now: float, wall: float) -> None:
        """Ask others where members are slow, ask again where it is time."""
        for lookup in list(self._lookups.values()):
            if lookup.walk is None:
                if lookup.retry_at <= now:
                    self._begin(lookup, now, wall)
            elif lookup.walk.deadline <= now:
                for id in lookup.walk.handle_timeout(now, wall):
                    self._asked.pop(id, None)
                    self._state.stop_asking(id)
                self._go_on(lookup, now)

    # Inside

    def _begin(self, lookup: _Lookup, now: float, wall: float) -> None:
        state = self._state
        self._end_streams(lookup)
        request = lookup.request
        place = home_of_key(request.key)
        wanted = state.params.asks
        if state.keeps(place):
            most = FOUND_MAX if lookup.has_more else state.params.answers
            if request.kind is Kind.FIND:
                records = state.table.find(request.key, wall, FOUND_MAX)
            else:
                records = state.table.search(lookup.words, wall)
            lookup.has_more |= len(records) > most
            for record in state.reputation.best(records, most, state.random):
                self._tell(lookup, record, None)
            wanted -= state.answers_for(place)
        lookup.walk = Walk(place, max(wanted, 1), state.contacts, state.params, partial(self._send, lookup))
        lookup.walk.start(now, wall)
        self._go_on(lookup, now)

    def _send(self, lookup: _Lookup, candidate: Candidate) -> AskId:
        request = lookup.request
        if lookup.has_more and request.kind is Kind.FIND:
            request = replace(request, after=lookup.after)
        id = self._state.ask_candidate(candidate, request, self)
        self._asked[id] = lookup
        lookup.streams.append(id)
        return id

    def _take(self, lookup: _Lookup, peer: PeerId, response: Response, wall: float) -> None:
        most = None if lookup.has_more else self._state.params.answers
        if most is not None:
            lookup.has_more = len(response.records) >= most
        else:
            # From the beginning again at the end: nobody who lies about where that is hides anybody for long.
            lookup.after = response.next or BEFORE_ALL
        for data in response.records[:most]:
            record = self._state.verified(data, peer)
            if record is None or not self._is_wanted(lookup, record):
                # An honest member would not have told it.
                self._state.reputation.failed(peer)
            elif self._state.is_of_today(record, peer, wall) and record.expires > wall:
                self._tell(lookup, record, peer)

    def _is_wanted(self, lookup: _Lookup, record: Record) -> bool:
        if lookup.request.kind is Kind.FIND:
            # What is behind `more` cannot be seen here; whether it is true shows when it is fetched.
            return lookup.request.key in record or record.more is not None
        return record.has_words(lookup.words)

    def _tell(self, lookup: _Lookup, record: Record, source: PeerId | None) -> None:
        known = lookup.found.get(record.author)
        if record.author == self._state.peer or (known is None and len(lookup.found) >= FOUND_MAX):
            return
        if known is None or known < record.sequence:
            lookup.found[record.author] = record.sequence
            self._state.effects.append(Found(lookup.id, record, source))

    def _go_on(self, lookup: _Lookup, now: float) -> None:
        if lookup.walk is None or not lookup.walk.done:
            return
        answers = lookup.walk.answers + self._state.answers_for(lookup.walk.place)
        late = list(lookup.walk.waiting)
        lookup.walk = None
        for id in late:
            del self._asked[id]
            lookup.streams.remove(id)
            self._state.stop_asking(id)
        lookup.retry_at = now + lookup.retry_after
        lookup.retry_after = min(2 * lookup.retry_after, self._state.params.lookup_retry_max)
        self._state.effects.append(RoundEnded(lookup.id, answers))

    def _end_streams(self, lookup: _Lookup) -> None:
        for id in lookup.streams:
            self._asked.pop(id, None)
            self._state.stop_asking(id)
        lookup.streams = []
