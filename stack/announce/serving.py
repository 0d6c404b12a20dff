"""What we answer to others, and the interests they leave with us. Source: docs/announce.md, "Asking"."""

from collections.abc import Sequence

from stack.announce.events import InterestEnded, InterestId, Publish
from stack.announce.keyspace import LEVEL_MAX, Home, Shard, compatible, home_of_key, level_of
from stack.announce.messages import PAGE_BYTES, Kind, Request, Response, Status
from stack.announce.outcomes import Outcome
from stack.announce.quota import Quota
from stack.announce.records import Record
from stack.announce.state import State
from stack.identity.peer_id import PeerId

PAGE_COST = 16
"""A page counts like so many requests: it has 64 KiB."""
LOOKED_AT_COST = 64
"""Authors that are looked at for one question count like a question more: 0.2 ms. What a peer may ask is work, not questions."""


class Serving:
    """Facts: `receive_request`, `interest_dropped`, `handle_timeout`. Getters: `matching`, `deadline`, `len` (interests)."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._requests: Quota[PeerId] = Quota(state.params.requests_rate, state.params.requests_burst)
        self._interests: dict[InterestId, tuple[bytes, PeerId, float]] = {}
        """By age: key, who, until when."""
        self._by_key: dict[bytes, list[InterestId]] = {}
        self._by_peer: dict[PeerId, int] = {}
        state.interests = self

    def __len__(self) -> int:
        return len(self._interests)

    @property
    def deadline(self) -> float | None:
        """When `handle_timeout` wants to be called."""
        return next((until for _, _, until in self._interests.values()), None)

    def matching(self, record: Record) -> Sequence[InterestId]:
        """Who is to be told of a record."""
        if not self._by_key:
            return ()
        return [id for key in record.each_key() for id in self._by_key.get(key, ())]

    # Facts

    def receive_request(
        self, peer: PeerId, request: Request, now: float, wall: float
    ) -> tuple[Response, InterestId | None]:
        """The answer to a request, and the interest that is kept when records may follow."""
        if not self._requests.take(peer, PAGE_COST if request.kind is Kind.PAGE or request.after else 1, now):
            return Response(status=Status.BUSY, shard=self._state.shard), None
        table = self._state.table
        before = table.looked_at
        answer = self._answer_to(peer, request, now, wall)
        self._requests.charge(peer, (table.looked_at - before) // LOOKED_AT_COST)
        return answer

    def interest_dropped(self, id: InterestId) -> None:
        """Nobody listens any more."""
        key, peer, _ = self._interests.pop(id, (b"", None, 0.0))
        if peer is None:
            return
        self._by_key[key].remove(id)
        if not self._by_key[key]:
            del self._by_key[key]
        self._by_peer[peer] -= 1
        if not self._by_peer[peer]:
            del self._by_peer[peer]

    def handle_timeout(self, now: float) -> None:
        """Interests end."""
        for id in [id for id, (_, _, until) in self._interests.items() if until <= now]:
            self.interest_dropped(id)
            self._state.effects.append(InterestEnded(id))

    # Inside

    def _answer_to(self, peer: PeerId, request: Request, now: float, wall: float) -> tuple[Response, InterestId | None]:
        if request.kind is Kind.FIND and request.key:
            return self._find(peer, request, now, wall)
        if request.kind is Kind.SEARCH and request.key and request.words:
            return self._search(request, wall), None
        if request.kind is Kind.MEMBERS:
            return self._members(request.shard, wall), None
        if request.kind is Kind.PAGE:
            return self._page(request, wall), None
        if request.kind is Kind.PUT:
            return self._put(peer, request.record, now, wall), None
        return Response(status=Status.REFUSED, shard=self._state.shard), None

    def _find(self, peer: PeerId, request: Request, now: float, wall: float) -> tuple[Response, InterestId | None]:
        state = self._state
        place = home_of_key(request.key)
        if not state.keeps(place):
            return self._not_mine(place, wall), None
        if request.after:
            records = state.table.find_behind(request.key, request.after, wall)
        else:
            found = state.table.find(request.key, wall)
            records = state.reputation.best(found, state.params.answers, state.random)
        interest = None
        params = state.params
        if (
            request.keep
            and len(self._interests) < params.interests
            and self._by_peer.get(peer, 0) < params.interests_per_peer
        ):
            interest = InterestId(state.next_id())
            self._interests[interest] = (request.key, peer, now + params.interest)
            self._by_key.setdefault(request.key, []).append(interest)
            self._by_peer[peer] = self._by_peer.get(peer, 0) + 1
        return self._answer(place, records), interest

    def _search(self, request: Request, wall: float) -> Response:
        state = self._state
        place = home_of_key(request.key)
        if not state.keeps(place):
            return self._not_mine(place, wall)
        found = state.table.search(request.word_keys, wall)
        return self._answer(place, state.reputation.best(found, state.params.answers, state.random))

    def _answer(self, place: Home, records: Sequence[Record]) -> Response:
        state = self._state
        status = Status.OK if state.answers_for(place) else Status.LOADING
        fitting: list[bytes] = []
        size = 0
        for record in records:
            size += len(record.data) + 4
            if size > PAGE_BYTES:
                break
            fitting.append(record.data)
        next = bytes(records[len(fitting) - 1].author) if 0 < len(fitting) < len(records) else b""
        return Response(status=status, shard=state.shard, records=tuple(fitting), next=next)

    def _not_mine(self, place: Home, wall: float) -> Response:
        state = self._state
        closer = state.contacts.closer(place, state.params.closer, wall)
        return Response(status=Status.NOT_MINE, shard=state.shard, closer=tuple(closer))

    def _members(self, shard: Shard, wall: float) -> Response:
        state = self._state
        place = Home(Shard(shard << LEVEL_MAX - level_of(shard)))
        closer = state.contacts.closer(place, state.params.closer, wall)
        if state.presence:
            closer.append(state.presence)
        return Response(shard=state.shard, closer=tuple(closer), time=int(wall))

    def _page(self, request: Request, wall: float) -> Response:
        state = self._state
        if state.shard is None or not compatible(state.shard, request.shard):
            return self._not_mine(Home(Shard(request.shard << LEVEL_MAX - level_of(request.shard))), wall)
        page, after = state.table.page(request.shard, request.after, request.digests, wall)
        status = Status.LOADING if state.missing else Status.OK
        return Response(status=status, shard=state.shard, records=tuple(page), next=after, time=int(wall))

    def _put(self, peer: PeerId, data: bytes, now: float, wall: float) -> Response:
        state = self._state
        if not state.may_take(peer, len(data), now):
            return Response(status=Status.BUSY, shard=state.shard)
        record = state.read(data, peer, wall)
        if record is None:
            return Response(status=Status.REFUSED, shard=state.shard, time=int(wall))
        if not (state.is_member and compatible(state.table.shard, record.shard)):
            return self._not_mine(Home(Shard(record.shard << LEVEL_MAX - level_of(record.shard))), wall)
        if not state.may_take_of(record, peer, now):
            return Response(status=Status.BUSY, shard=state.shard)
        outcome = state.insert(record, peer, wall)
        if outcome is Outcome.NEW:
            for topic, shard in state.topics.items():
                if compatible(shard, record.shard):
                    state.effects.append(Publish(topic, data))
        taken = outcome in (Outcome.NEW, Outcome.KNOWN)
        return Response(status=Status.OK if taken else Status.REFUSED, shard=state.shard, time=int(wall))
