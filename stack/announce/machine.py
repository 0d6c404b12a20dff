"""The announcement layer as one pure machine. Source: docs/announce.md."""

import math
from collections.abc import Iterable

from stack.announce.clocks import WRONG_SECONDS, ClockOpinion, Clocks
from stack.announce.events import (
    AskId,
    ClockJumped,
    ClockWrong,
    Effect,
    InterestId,
    Judgement,
    KeepKeys,
    ListsNamed,
    LookupId,
    RecordRefused,
    RefusedBecause,
    Save,
)
from stack.announce.handing import Handing
from stack.announce.keyspace import KEY_BYTES, Shard, compatible, word_key, words_of
from stack.announce.lookups import Lookups
from stack.announce.membership import Membership
from stack.announce.messages import Kind, Request, Response
from stack.announce.outcomes import Outcome
from stack.announce.own import LIST_KEYS_MAX, Announcement, OwnAnnouncements
from stack.announce.params import AnnounceParams
from stack.announce.records import SKEW_SECONDS, BadRecord, Record, RecordReader
from stack.announce.reputation import Reputation
from stack.announce.serving import Serving
from stack.announce.state import State
from stack.announce.table import Table
from stack.errors import LocalProtocolError
from stack.identity.keys import PrivateKey
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.sansio.budget import Scope
from stack.sansio.interfaces import Randomness
from stack.trace import Trace


class AnnounceMachine:
    """The announcement layer of one node. `now` is monotonic seconds, `wall` wall-clock seconds.

    Getters: `table`, `reputation`, `shard`, `loaded`, `items`, `directory`, `saved`, `clock`, `waiting`. Facts: `peer_connected`,
    `peer_disconnected`, `dial_failed`, `receive_gossip`, `receive_request`, `interest_dropped`, `prepare`, `page_record`, `answered`,
    `pushed`, `keys_fetched`, `addresses_changed`. Commands: `load`, `announce`, `withdraw`, `set_directory`, `set_kept`, `find`, `search`,
    `stop`. Outputs: `next_effect`, `next_timeout`, `handle_timeout`.
    """

    def __init__(
        self,
        key: PrivateKey,
        *,
        random: Randomness,
        now: float,
        budget: Scope,
        params: AnnounceParams | None = None,
        reader: RecordReader | None = None,
        is_member: bool = True,
        trace: Trace | None = None,
    ) -> None:
        """`reader` verifies records; many machines of a simulation share one. One that is no member keeps no shard: it
        announces and asks, and serves nobody."""
        params = params if params is not None else AnnounceParams()
        peer = PeerId.of(key.public)
        reader = reader if reader is not None else RecordReader()
        self._state = state = State(peer, params, random, reader, budget, trace, is_member=is_member)
        self._own = OwnAnnouncements(key, params, random, is_member=is_member, keep_list=self._keep_list)
        self._membership = Membership(state, now)
        self._serving = Serving(state)
        self._handing = Handing(state)
        self._lookups = Lookups(state)
        self._lists: frozenset[Cid] | None = None
        """Those that records of ours name, as was told last; None: those of an earlier run may be kept still."""
        self._clocks = Clocks()
        self._told_of = 0.0
        """How wrong we have said that our clock is."""
        self._own_at: float | None = None
        """When a record of ours is due, or to be looked at."""

    def __repr__(self) -> str:
        state = self._state
        return f"<AnnounceMachine of {state.peer}: shard {state.shard}, {state.table!r}>"

    # Getters

    @property
    def table(self) -> Table:
        """What we keep for others."""
        return self._state.table

    @property
    def reputation(self) -> Reputation:
        """Whom we found good."""
        return self._state.reputation

    @property
    def shard(self) -> Shard | None:
        """What we keep; None: nothing, or not known yet."""
        return self._state.shard

    @property
    def loaded(self) -> bool:
        """We answer for all of our shard."""
        return self._state.loaded

    @property
    def items(self) -> tuple[Announcement, ...]:
        """What we announce."""
        return self._own.items

    @property
    def directory(self) -> Cid | None:
        """The UnixFS directory of all our public names."""
        return self._own.directory

    @property
    def clock(self) -> ClockOpinion | None:
        """What others make of our clock; None: nobody has told."""
        return self._clocks.opinion

    @property
    def waiting(self) -> int:
        """Records of ours that no member has taken yet, those not counted singly that are not written yet."""
        return self._handing.waiting + self._own.is_pending

    def saved(self) -> bytes:
        """Our announcements, for `load` after a restart."""
        return self._own.saved()

    # Facts

    def peer_connected(self, peer: PeerId, group: str | None, now: float, wall: float) -> None:
        """A peer that speaks our protocol is connected; `group` is its IPv4 /24 or IPv6 /48 by its connection."""
        self._state.contacts.connected(peer, group)
        self._membership.peer_connected(peer, now, wall)
        self._handing.members_changed(now)
        self._lookups.members_changed(now)

    def peer_disconnected(self, peer: PeerId) -> None:
        """It is not connected any more."""
        self._state.contacts.disconnected(peer)
        self._membership.peer_disconnected(peer)

    def dial_failed(self, peer: PeerId) -> None:
        """A `Connect` came to nothing."""
        self._state.reputation.failed(peer)
        self._state.contacts.forget(peer)

    def delivered(self, peer: PeerId) -> None:
        """A provider had what it announced."""
        self._state.reputation.delivered(peer)

    def failed(self, peer: PeerId) -> None:
        """A provider could not be reached, or had not what it announced."""
        self._state.reputation.failed(peer)

    def addresses_changed(self, addresses: tuple[Multiaddr, ...], now: float) -> None:
        """Where we can be dialled; `records.addresses_to_tell` chooses."""
        self._own.addresses_changed(addresses, now)
        self._own_at = now

    def receive_gossip(self, topic: str, data: bytes, source: PeerId, now: float, wall: float) -> Judgement:
        """A message of one of our topics, that was not seen before."""
        state = self._state
        shard = state.topics.get(topic)
        if shard is None or not state.may_take(source, len(data), now):
            return Judgement.IGNORE
        try:
            record = state.reader.read(data)
        except BadRecord:
            self._refuse(source, RefusedBecause.INVALID)
            return Judgement.REJECT
        if not compatible(shard, record.shard):
            self._refuse(source, Outcome.FOREIGN)
            return Judgement.REJECT
        if record.issued > wall + SKEW_SECONDS:
            # Perhaps it is our clock that is wrong: nobody is blamed.
            self._refuse(source, RefusedBecause.FUTURE)
            return Judgement.IGNORE
        if not state.may_take_of(record, source, now):
            return Judgement.IGNORE
        if state.insert(record, source, wall) is not Outcome.NEW:
            return Judgement.IGNORE
        state.contacts.learn(record)
        return Judgement.ACCEPT

    def receive_request(
        self, peer: PeerId, request: Request, now: float, wall: float
    ) -> tuple[Response, InterestId | None]:
        """Somebody asks. With an interest the stream stays open for `Push` effects until `InterestEnded`."""
        return self._serving.receive_request(peer, request, now, wall)

    def interest_dropped(self, id: InterestId) -> None:
        """The stream of an interest has ended."""
        self._serving.interest_dropped(id)

    def answered(self, id: AskId, peer: PeerId, response: Response | None, now: float, wall: float) -> None:
        """What came back of an `Ask`; None: nothing, or nothing that makes sense."""
        if response is not None:
            self._membership.told(peer, response.shard)
            if response.time:
                self._clock_told(peer, response.time, wall)
        before = len(self._state.contacts)
        self._state.answered(id, response, now, wall)
        if len(self._state.contacts) > before:
            self._handing.members_changed(now)

    def prepare(self, data: bytes, peer: PeerId) -> bool:
        """A record of an answer that is about to be told: verify it now, one by one they take little time. False: it is none."""
        return self._state.prepare(data, peer)

    def unprepare(self, data: bytes) -> None:
        """The answer has been told."""
        self._state.reader.forget(data)

    def page_record(self, id: AskId, data: bytes, wall: float) -> None:
        """A record of an answer to a PAGE that is about to be told, without it: take it now."""
        self._membership.page_record(id, data, wall)

    def pushed(self, id: AskId, peer: PeerId, response: Response, wall: float) -> None:
        """What followed the answer on the same stream."""
        self._lookups.pushed(id, peer, response, wall)

    def keys_fetched(self, record: Record, data: bytes | None) -> None:
        """The block of a `FetchKeys`, whose hash is right; None: it could not be had."""
        state = self._state
        state.fetching.done(record, came=data is not None)
        if data is None:
            state.reputation.failed(record.author)
        elif len(data) % KEY_BYTES == 0 and len(data) <= LIST_KEYS_MAX * KEY_BYTES:
            state.table.add_list(record, data)
        state.fetch_lists()

    # Commands

    def load(self, saved: bytes, now: float) -> None:
        """Announce again what was announced before a restart. Raises DecodeError."""
        self._own.load(saved, now)
        self._own_at = now

    def announce(self, announcement: Announcement, now: float) -> None:
        """Tell that we have it. Raises LocalProtocolError."""
        self._own.announce(announcement, now)
        self._changed(now)

    def withdraw(self, root: Cid, now: float) -> bool:
        """Tell no more that we have it; False when we did not."""
        withdrawn = self._own.withdraw(root, now)
        if withdrawn:
            self._changed(now)
        return withdrawn

    def set_directory(self, root: Cid | None, now: float) -> None:
        """The UnixFS directory of all our public names."""
        self._own.set_directory(root, now)
        self._changed(now)

    def set_kept(self, keys: Iterable[bytes], now: float) -> None:
        """Keys to be told besides those of what is announced, as long as this machine lives."""
        self._own.set_kept(keys, now)
        self._own_at = now

    def find(self, key: bytes, now: float, wall: float) -> LookupId:
        """Who has the root with this key: `Found` effects until `stop`."""
        return self._lookups.start(Request(kind=Kind.FIND, key=key, keep=True), now, wall)

    def search(self, text: str, now: float, wall: float) -> LookupId:
        """What has all these words in its public name. Raises LocalProtocolError when there is no word in it."""
        words = words_of(text)
        if not words:
            raise LocalProtocolError("nothing to search for: a word has at least two letters or digits")
        # The longest is probably the rarest.
        word = max(words, key=lambda each: (len(each), each))
        return self._lookups.start(Request(kind=Kind.SEARCH, key=word_key(word), words=words), now, wall)

    def stop(self, lookup: LookupId) -> None:
        """The caller has enough."""
        self._lookups.stop(lookup)

    def close(self) -> None:
        """Give back what is held."""
        self._state.table.close()

    # Outputs

    def next_effect(self) -> Effect | None:
        """The next thing to be done, or None."""
        effects = self._state.effects
        return effects.popleft() if effects else None

    def next_timeout(self) -> float:
        """When `handle_timeout` wants to be called."""
        serving = self._serving.deadline
        times = (
            self._membership.deadline,
            self._lookups.deadline,
            self._handing.deadline,
            serving if serving is not None else math.inf,
            self._own_at if self._own_at is not None and self._state.settled else math.inf,
        )
        return min(times)

    def handle_timeout(self, now: float, wall: float) -> None:
        """A deadline has passed, or the machine has slept: does what is due. Called every few seconds anyway, it also sees that
        the wall clock was set."""
        jump = self._clocks.look(now, wall)
        if jump:
            self._clock_jumped(jump, now, wall)
        self._membership.handle_timeout(now, wall)
        self._serving.handle_timeout(now)
        state = self._state
        # Dates are wall-clock time, waited for in monotonic time: so it is looked at each time.
        own_at = self._own.next_timeout(now, wall) if self._own_at is None or self._own_at > now else now
        if state.settled and own_at is not None and own_at <= now:
            written = self._own.due(state.level, now, wall)
            for new in written:
                self._handing.hand_in(new, now)
                record = state.read(new.data, None, wall)
                if record is not None and record.is_presence:
                    state.presence = new.data
                if record is not None and state.is_member and compatible(state.table.shard, record.shard):
                    state.insert(record, None, wall)
            if written:
                state.effects.append(Save())
            if self._own.lists != self._lists:
                self._lists = self._own.lists
                state.effects.append(ListsNamed(self._lists))
            self._own_at = self._own.next_timeout(now, wall)
        self._handing.handle_timeout(now, wall)
        self._lookups.handle_timeout(now, wall)

    # Inside

    def _clock_jumped(self, jump: float, now: float, wall: float) -> None:
        if self._state.trace is not None:
            self._state.trace(ClockJumped(seconds=jump))
        if jump < 0:
            self._state.table.forget_future(wall)
        self._membership.clock_jumped(now)
        # Who could not be asked while we slept, or would not take what we said, may now.
        self._handing.members_changed(now)
        self._lookups.members_changed(now)

    def _clock_told(self, peer: PeerId, time: int, wall: float) -> None:
        self._clocks.told(peer, self._state.contacts.group_of(peer), time, wall)
        opinion = self._clocks.opinion
        if opinion is not None and not opinion.is_wrong:
            self._told_of = 0.0
        elif opinion is not None and abs(opinion.ahead - self._told_of) >= WRONG_SECONDS:
            self._told_of = opinion.ahead
            self._state.effects.append(ClockWrong(opinion))

    def _changed(self, now: float) -> None:
        self._state.effects.append(Save())
        self._own_at = now

    def _keep_list(self, data: bytes) -> Cid:
        cid = Cid.of(data)
        self._state.effects.append(KeepKeys(cid, data))
        return cid

    def _refuse(self, source: PeerId, reason: RefusedBecause | Outcome) -> None:
        if self._state.trace is not None:
            self._state.trace(RecordRefused(peer=source, reason=reason))
