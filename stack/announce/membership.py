"""Which shard we keep, and how we come to know what others of it know. Source: docs/announce.md, "Shards", "Joining"."""

import math

from stack.announce.clocks import median_low
from stack.announce.events import AskId, Connect, ShardChanged, Subscribe, TableLoaded, Unsubscribe
from stack.announce.keyspace import LEVEL_MAX, Home, Shard, compatible, covers, level_of, shard_at, topic_of
from stack.announce.messages import Kind, Request, Response, Status
from stack.announce.records import Record
from stack.announce.state import State
from stack.identity.peer_id import PeerId

PAGES_MAX = 4096
"""Of one transfer: 256 MiB, more than any table holds."""
DIALS = 2
"""Members of our shard that are dialled at a time, and others."""
DIAL_SECONDS = 30.0
SYNC_SECONDS_MIN = 30.0
"""Between two comparisons, however many connect: after a partition heals, one tells both sides."""
CONFIRM_SECONDS = 1.0
"""After a table has been fetched it is compared with that of a second member."""
SEARCH_SECONDS_MAX = 60.0
"""Between two questions for members of shards of which we know none."""
CROWD_MIN = 3
"""So many are a crowd: one or two that lie about their shard move nobody."""
TOLD_MAX = 64
"""Members whose shard we remember."""


class _Transfer:
    """Pages of a table, from one member after the other."""

    __slots__ = ("after", "compare", "pages", "region", "sources", "tried")

    def __init__(self, region: Shard, compare: bool) -> None:
        self.region = region
        self.compare = compare
        """Only what differs from ours."""
        self.after = b""
        self.pages = 0
        self.sources = 0
        self.tried: set[PeerId] = set()


class Membership:
    """Facts: `peer_connected`, `peer_disconnected`, `told`, `answered`, `handle_timeout`. Getters: `deadline`."""

    def __init__(self, state: State, now: float) -> None:
        self._state = state
        self._asked: dict[AskId, PeerId] = {}
        """Who has been asked how deep shards are."""
        self._told: dict[PeerId, int] = {}
        """Levels that members around us have."""
        self._transfer: _Transfer | None = None
        self._page: AskId | None = None
        self._strangers: set[PeerId] = set()
        """Members of our shard that have connected and were not compared with yet: after a partition they know what no one else does."""
        self._searches: set[AskId] = set()
        self._dialling: dict[PeerId, tuple[Shard, float]] = {}
        """The shard each is wanted for, and until when it may take."""
        self._leaving: dict[str, float] = {}
        """Topics of shards we had before, and when to leave them."""
        self._votes = 0
        self._lonely_at = now + state.params.lonely
        self._alone_since = now
        self._connect_at = now
        self._search_at = now
        self._search_after = state.params.connect_interval
        self._sync_at = math.inf
        self._synced_at = -math.inf
        self._level_at = math.inf

    @property
    def deadline(self) -> float:
        """When `handle_timeout` wants to be called."""
        state = self._state
        times = [self._connect_at, self._sync_at, self._level_at, *self._leaving.values()]
        if not state.settled:
            times.append(self._lonely_at)
        return min(times)

    # Facts

    def peer_connected(self, peer: PeerId, now: float, wall: float) -> None:
        """A member can be asked."""
        state = self._state
        self._dialling.pop(peer, None)
        if not state.settled:
            request = Request(kind=Kind.MEMBERS, shard=state.place)
            self._asked[state.ask(peer, None, request, self)] = peer
        elif state.is_member and self._in_shard(peer):
            if state.missing:
                self._load(now, wall)
            else:
                self._strangers.add(peer)
                self._sync_at = min(self._sync_at, max(now, self._synced_at + SYNC_SECONDS_MIN))

    def peer_disconnected(self, peer: PeerId) -> None:
        """It cannot any more."""
        self._told.pop(peer, None)
        self._strangers.discard(peer)

    def told(self, peer: PeerId, shard: Shard | None) -> None:
        """A member has said which shard it keeps."""
        if shard is not None and (peer in self._told or len(self._told) < TOLD_MAX) and self._in_shard(peer):
            self._told[peer] = level_of(shard)

    def answered(self, id: AskId, response: Response | None, now: float, wall: float) -> None:
        """See Asker."""
        if id in self._asked:
            self._level_told(self._asked.pop(id), response, now, wall)
        elif id == self._page:
            for data in response.records if response is not None else ():
                self.page_record(id, data, wall)
            self._page = None
            self._page_came(response, now, wall)
        else:
            self._searches.discard(id)

    def clock_jumped(self, now: float) -> None:
        """The machine slept, or its clock was set: compare at once, what was refused for its date may be good now."""
        self._sync_at = min(self._sync_at, now)
        self._connect_at = self._search_at = now

    def page_record(self, id: AskId, data: bytes, wall: float) -> None:
        """One of a page that is coming."""
        if id == self._page:
            record = self._state.read(data, None, wall)
            if record is not None:
                self._state.insert(record, None, wall)

    def handle_timeout(self, now: float, wall: float) -> None:
        """Whatever is due: connections, a look at the load, a comparison of tables, topics to leave."""
        state = self._state
        for topic in [topic for topic, until in self._leaving.items() if until <= now]:
            self._leave(topic)
        if not state.settled and self._lonely_at <= now:
            self._settle(0, now, wall)
        if self._connect_at <= now:
            self._connect_at = now + state.params.connect_interval
            self._connect(now, wall)
        if self._sync_at <= now:
            self._sync_at = now + state.params.sync_interval * (0.5 + state.random.random())
            self._sync(now, wall)
        if self._level_at <= now:
            self._level_at = now + self._level_interval()
            self._look(now, wall)

    # How deep shards are

    def _level_told(self, peer: PeerId, response: Response | None, now: float, wall: float) -> None:
        if response is not None and response.shard is not None:
            self._told[peer] = level_of(response.shard)
        if not self._asked:
            # All have answered; those that do not know either are as new as we are.
            self._settle(median_low(self._told.values()) if self._told else 0, now, wall)

    def _settle(self, level: int, now: float, wall: float) -> None:
        state = self._state
        for id in self._asked:
            state.stop_asking(id)
        self._asked = {}
        state.settled = True
        self._move(state.home_shard(level), now, wall)

    def _move(self, shard: Shard, now: float, wall: float) -> None:
        """Keep another shard from now on."""
        state = self._state
        old = state.table.shard if state.topics else None
        members = state.table.members
        if state.trace is not None:
            state.trace(ShardChanged(old=old, new=shard, load=state.table.load, members=members))
        state.contacts.move(shard)
        if not state.is_member:
            state.table.shard = shard
            return
        before = state.table.shard
        state.table.reshard(shard)
        state.fetching.resharded()
        state.fetch_lists()
        if old is None:
            state.missing = [shard]
        elif covers(shard, before):
            state.missing += [Shard(shard << 1 | (1 - (before & 1)))]
        else:
            state.missing = [shard for region in state.missing if compatible(region, shard)][:1]
        for topic in state.topics:
            self._leaving.setdefault(topic, now + state.params.overlap)
        topic = topic_of(shard)
        self._leaving.pop(topic, None)
        if topic not in state.topics:
            state.topics[topic] = shard
            state.effects.append(Subscribe(topic))
        self._votes = 0
        # What they said before is of the time before.
        self._told = {}
        self._strangers = set()
        self._level_at = now + self._level_interval()
        self._sync_at = now + state.params.sync_interval * (0.5 + state.random.random())
        self._connect_at = self._search_at = now
        self._search_after = state.params.connect_interval
        self._transfer = None
        self._alone_since = now
        self._load(now, wall)

    def _leave(self, topic: str) -> None:
        del self._leaving[topic]
        del self._state.topics[topic]
        self._state.effects.append(Unsubscribe(topic))

    def _look(self, now: float, wall: float) -> None:
        """Split or merge, when two looks agree."""
        state = self._state
        state.table.expire(wall)
        if not state.loaded:
            return
        wanted = self._wanted()
        self._votes = self._votes + wanted if wanted * self._votes >= 0 and wanted else wanted
        if abs(self._votes) >= 2:
            self._move(state.home_shard(state.level + wanted), now, wall)

    def _wanted(self) -> int:
        """One level deeper, or one less deep, or neither."""
        state = self._state
        params, level, table = state.params, state.level, state.table
        deeper = [told for told in self._told.values() if told > level]
        less = [told for told in self._told.values() if told < level]
        half = len(self._told) / 2
        wanted = 0
        if table.load > params.split_bytes and level < LEVEL_MAX:
            halves = (Shard(table.shard << 1), Shard(table.shard << 1 | 1))
            wanted = int(all(table.members_in(each) >= params.members_min for each in halves))
        elif level and (table.load < params.merge_bytes or table.members < params.members_few):
            wanted = -1
        # Levels of those who keep the same keys differ by one at the most: who runs ahead waits, who is behind follows.
        if len(self._told) >= CROWD_MIN:
            if (wanted > 0 and len(less) > half) or (wanted < 0 and len(deeper) > half):
                return 0
            if not wanted:
                return (len(deeper) > half) - (len(less) > half)
        return wanted

    def _level_interval(self) -> float:
        params = self._state.params
        return params.level_interval * (1 + params.level_jitter * (2 * self._state.random.random() - 1))

    # What others know

    def _load(self, now: float, wall: float) -> None:
        """Fetch what is missing, if nothing is under way."""
        state = self._state
        if self._page is None and state.missing and state.is_member:
            region = state.missing[0]
            if self._transfer is None or self._transfer.region != region:
                self._transfer = _Transfer(region, compare=False)
            self._next_page(now, wall)

    def _sync(self, now: float, wall: float) -> None:
        """Compare our table with that of another."""
        state = self._state
        if state.missing:
            self._load(now, wall)
        elif self._page is None:
            self._synced_at = now
            self._transfer = _Transfer(state.table.shard, compare=True)
            self._next_page(now, wall)
        if self._strangers:
            self._sync_at = min(self._sync_at, now + SYNC_SECONDS_MIN)

    def _next_page(self, now: float, wall: float) -> None:
        state, transfer = self._state, self._transfer
        assert transfer is not None
        source = self._source(transfer, wall)
        if source is None or transfer.pages >= PAGES_MAX:
            # Nobody is left to ask. When nobody was there for a while, what we have is all there is.
            if not transfer.compare and now >= self._alone_since + state.params.lonely:
                self._loaded(transfer.region)
            transfer.tried.clear()
            if transfer.compare:
                self._transfer = None
            return
        peer, record = source
        transfer.pages += 1
        digests = state.table.digests(transfer.region, wall) if transfer.compare else b""
        request = Request(kind=Kind.PAGE, shard=transfer.region, after=transfer.after, digests=digests)
        self._page = state.ask(peer, record, request, self)
        transfer.tried.add(peer)

    def _source(self, transfer: _Transfer, wall: float) -> tuple[PeerId, Record | None] | None:
        """Whom to ask: connected members first, those we have not heard yet before others, at random."""
        state = self._state
        peers = [p for p in state.contacts.connected_in(transfer.region) if p not in transfer.tried]
        if peers:
            chosen = state.random.sample([p for p in peers if p in self._strangers] or peers, 1)[0]
            self._strangers.discard(chosen)
            return chosen, None
        if transfer.compare:
            return None
        place = Home(Shard(transfer.region << LEVEL_MAX - level_of(transfer.region)))
        nearest = state.contacts.nearest(place, transfer.tried.__contains__, wall)
        level = min(level_of(transfer.region), state.level)
        fitting = [c for c in nearest if shard_at(c.home, level) == shard_at(place, level)]
        return (fitting[0].peer, fitting[0].record) if fitting else None

    def _page_came(self, response: Response | None, now: float, wall: float) -> None:
        state, transfer = self._state, self._transfer
        if transfer is None:
            self._load(now, wall)
            return
        good = response is not None and response.status in (Status.OK, Status.LOADING) and response.shard is not None
        if response is not None and good:
            if response.next > transfer.after:
                # The order is the same everywhere: who is asked for the next page need not be who gave this one.
                transfer.after = response.next
                transfer.tried.clear()
            elif transfer.compare:
                self._transfer = None
                return
            elif response.status is Status.OK and response.shard is not None:
                if compatible(transfer.region, response.shard):
                    self._region_came(transfer.region, response.shard)
                    # What one says another confirms or corrects.
                    self._sync_at = min(self._sync_at, now + CONFIRM_SECONDS)
                    self._transfer = None
                    self._load(now, wall)
                    return
            else:
                self._alone_since = min(self._alone_since, now - state.params.lonely)
        self._next_page(now, wall)

    def _region_came(self, region: Shard, kept: Shard) -> None:
        """A member that keeps `kept` has told all it has about a region."""
        if covers(kept, region):
            self._loaded(region)
            return
        while region != kept:
            # It keeps a part of it only: the other halves on the way down are still missing.
            self._state.missing.remove(region)
            below = Shard(kept >> (level_of(kept) - level_of(region) - 1))
            self._state.missing += [below, Shard(below ^ 1)]
            region = below
        self._loaded(region)

    def _loaded(self, region: Shard) -> None:
        state = self._state
        state.missing.remove(region)
        self._transfer = None
        if not state.missing and state.trace is not None:
            state.trace(TableLoaded(authors=len(state.table)))

    # Whom we know

    def _connect(self, now: float, wall: float) -> None:
        """See to connections in our shard, and in each other one while they are few; learn of members of those, one shard at a time."""
        state = self._state
        if not state.settled or not state.is_member:
            return
        if state.missing:
            self._load(now, wall)
        self._dialling = {peer: each for peer, each in self._dialling.items() if each[1] > now}
        reached = state.contacts.reached()
        reached.update(shard for shard, _ in self._dialling.values())
        lacking = state.params.degree - reached[state.table.shard]
        known = self._dial(state.table.shard, min(max(lacking, 0), DIALS), now, wall)
        every = range(1 << state.level, 2 << state.level)
        if len(every) - 1 <= state.params.standing:
            # Where there are few shards, lookups are not to wait for a dial.
            unreached = [Shard(shard) for shard in every if not reached[Shard(shard)] and shard != state.table.shard]
            for shard in state.random.sample(unreached, min(len(unreached), DIALS)):
                self._dial(shard, 1, now, wall)
        missing = state.contacts.missing() if state.level else []
        wanted = state.table.shard if lacking > 0 and known < lacking else None
        if missing and wanted is None:
            wanted = state.random.sample(missing, 1)[0]
        if wanted is not None and not self._searches and self._search_at <= now:
            # Where there are few, there is nothing to be found for long.
            self._search_after = min(2 * self._search_after, SEARCH_SECONDS_MAX)
            self._search_at = now + self._search_after
            place = Home(Shard(wanted << LEVEL_MAX - level_of(wanted)))
            for candidate in state.contacts.nearest(place, lambda peer: False, wall)[:1]:
                self._searches.add(state.ask_candidate(candidate, Request(kind=Kind.MEMBERS, shard=wanted), self))

    def _dial(self, shard: Shard, count: int, now: float, wall: float) -> int:
        """Connect so many members of a shard at random. Returns how many are known that are not connected yet."""
        state = self._state
        known = [
            record
            for record in state.contacts.in_shard(shard, wall)
            if not state.contacts.is_connected(record.author) and record.author not in self._dialling
        ]
        for record in state.random.sample(known, min(len(known), count)):
            self._dialling[record.author] = (shard, now + DIAL_SECONDS)
            state.effects.append(Connect(record.author, record.addresses))
        return len(known)

    def _in_shard(self, peer: PeerId) -> bool:
        return peer in self._state.contacts.connected_in(self._state.table.shard)
