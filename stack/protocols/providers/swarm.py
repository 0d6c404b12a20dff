"""Who else shares or fetches a root, and which leaves each has. Pure.

One stream between two peers of a root carries what each of them has, in both directions, and what the one that was asked
knows of others at first hand. What is heard of others is not told further: it would outlive its truth.
"""

from collections import deque
from collections.abc import Callable

from stack.errors import DecodeError, RemoteProtocolError, SecurityError
from stack.identity.peer_id import PeerId
from stack.identity.peer_record import PeerRecord, open_peer_record
from stack.multiformats.cid import Cid
from stack.protocols.providers.interfaces import MayKnow, RangeSource, announce_key
from stack.protocols.providers.messages import Member, RangesUpdate, Status, Update, apply_ranges
from stack.protocols.providers.places import find_place
from stack.protocols.providers.ranges import LEAVES_MAX
from stack.protocols.providers.subscription import (
    LOG_BYTES_MAX,
    MEMBERS_MAX,
    UPDATES_BURST,
    PeerFound,
    RangeLog,
    RangesChanged,
    Root,
    SendUpdates,
    Subscription,
    SubscriptionId,
    SwarmEffect,
)

TICK_SECONDS = 0.1
"""How often changes are told: at 500 MiB/s, 50 blocks of 1 MiB a tick."""

STREAMS_PER_PEER_MAX = 32
"""Streams of one peer, over all roots: those of a folder's files it fetches at a time."""

STREAMS_LOOKED_AT = 64
"""In one call of `handle_timeout`: each is told of some of the others, and all of them together would be many turns of the loop."""

STREAMS_OF_A_TICK = 256
"""Of more streams the changes are told less often: each may cause work for all others of its root."""

UPDATES_PER_SECOND = 100.0
"""Messages a stream may send us in the long run: 21 a tick, and slack."""

OpenRecord = Callable[[bytes], PeerRecord]
"""Reads and verifies a signed peer record; raises DecodeError, SecurityError. A simulation may hand in a stub."""


class SwarmMachine:
    """Commands: `join`, `leave`, `subscribe`. Facts: `receive_update`, `stream_closed`, `sent`, `handle_timeout`.
    Getters: `knows`, `streams`, `leaving`, `told`, `finished`, `receivers`. Outputs: `next_effect`, `next_timeout`.
    """

    def __init__(
        self, source: RangeSource, *, open_record: OpenRecord = open_peer_record, may_know: MayKnow | None = None
    ) -> None:
        """Whom `may_know` does not name for a root hears what it would hear if we did not know the root."""
        self._source = source
        self._may_know = may_know
        self._open_record = open_record
        self._roots: dict[bytes, Root] = {}
        self._streams: dict[SubscriptionId, Subscription] = {}
        self._effects: deque[SwarmEffect] = deque()
        self._parting: set[SubscriptionId] = set()
        """Streams that had to go for others, and have not ended yet."""
        self._tick_at = 0.0
        self._due: list[bytes] = []
        """Roots that are still to be looked at in this tick."""

    def __repr__(self) -> str:
        return f"<SwarmMachine {len(self._roots)} roots, {len(self._streams)} streams>"

    # getters

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return len(self._streams)

    @property
    def leaving(self) -> bool:
        """Whether somebody is yet to hear that something is complete here."""
        return any(stream.leaving for stream in self._streams.values())

    def knows(self, root: Cid, peer: PeerId) -> bool:
        """Whether there is a stream with this peer about this root already."""
        known = self._roots.get(announce_key(root.multihash))
        return known is not None and any(stream.peer == peer for stream in known.streams.values())

    def bytes_kept(self, id: SubscriptionId) -> int:
        """Bytes of bitmaps that this stream may make us keep, of its peer with their changes, and of the members it tells."""
        stream = self._streams.get(id)
        if stream is None or stream.root.own is None:
            return 0
        bitmap = (stream.root.own.ranges.count + 7) // 8
        return bitmap * (1 if stream.inbound else 1 + MEMBERS_MAX) + min(LOG_BYTES_MAX, 64 * bitmap)

    def told(self, id: SubscriptionId) -> tuple[Cid, bool] | None:
        """The root that the peer of a stream has told us of, and whether it has all of it; None when it has told nothing."""
        stream = self._streams.get(id)
        return (stream.root.cid, stream.has_all) if stream is not None and stream.has_told else None

    def finished(self, id: SubscriptionId) -> Cid | None:
        """The root of which the peer of a stream says that it has all that it wanted; None when it has not said so."""
        stream = self._streams.get(id)
        return stream.root.cid if stream is not None and stream.finished else None

    def receivers(self, root: Cid) -> dict[PeerId, float]:
        """Who asks about a root, and what part of its leaves each says it has."""
        known = self._roots.get(announce_key(root.multihash))
        return {stream.peer: stream.part for stream in known.streams.values() if stream.inbound} if known else {}

    # commands

    def join(self, root: Cid) -> None:
        """Tell of the peers of this root from now on, first of those that have come already."""
        known = self._root(root)
        known.joined += 1
        for stream in known.streams.values():
            self._tell_joined(stream)

    def leave(self, root: Cid) -> list[SubscriptionId]:
        """Undo one `join`. Returns the streams that we opened and that are to be closed.

        Whoever has all of it now, or all that was wanted of it, says so first, and ends the stream then: who shares it may be
        waiting for that.
        """
        known = self._roots[announce_key(root.multihash)]
        known.joined -= 1
        if known.joined:
            return []
        self._follow_own(known)
        ours = [stream for stream in known.streams.values() if not stream.inbound]
        if known.complete or self._source.is_finished(root):
            for stream in ours:
                self._take_leave(stream)
            return []
        self._forget(known)
        return [stream.id for stream in ours]

    def subscribe(self, id: SubscriptionId, peer: PeerId, root: Cid, record: bytes, now: float) -> None:
        """A stream to `peer` has been opened to ask about `root`; to tell only that it is complete when it is not joined."""
        known = self._root(root)
        stream = Subscription(id, peer, known, now, inbound=False)
        self._streams[id] = known.streams[id] = stream
        self._follow_own(known)
        self._send(stream, [Update(key=known.key, record=record, ranges=stream.own_news())])
        stream.record_told = record
        stream.leaving = not known.joined

    # facts

    def receive_update(
        self,
        id: SubscriptionId,
        peer: PeerId,
        update: Update,
        record: bytes,
        now: float,
        *,
        group: str | None = None,
    ) -> None:
        """A message on a stream; the first one of an unknown `id` asks. `record` is our own peer record, `group` the peer's group of
        addresses; both are needed for that one alone.

        Raises RemoteProtocolError when the peer breaks a rule; the stream is to be reset then.
        """
        if id in self._parting:
            return
        stream = self._streams.get(id)
        if stream is None:
            stream = self._accept(id, peer, update, record, now, group)
            if stream is None:
                return
        self._charge(stream, now)
        if update.status is not Status.OK:
            raise RemoteProtocolError(f"{peer} does not tell: {update.status.name}")
        if update.record and update.record != stream.record:
            self._take_record(stream, update.record)
        if update.ranges is not None:
            self._take_ranges(stream, update.ranges)
        if update.member is not None:
            self._take_member(stream, update.member, now)
        stream.finished |= update.finished
        if update.resend:
            stream.own_told = 0
            stream.told = {member: (record, 0) for member, (record, _) in stream.told.items()}
            stream.looked = None

    def stream_closed(self, id: SubscriptionId) -> None:
        """The stream is gone; what it told goes with it."""
        self._parting.discard(id)
        stream = self._streams.pop(id, None)
        if stream is not None:
            del stream.root.streams[id]
            stream.root.changes += 1
            self._forget(stream.root)

    def sent(self, id: SubscriptionId) -> None:
        """What was to be sent has gone: there is room for more."""
        stream = self._streams.get(id)
        if stream is not None:
            stream.ready = True
            if stream.leaving:
                self._take_leave(stream)

    def handle_timeout(self, now: float) -> None:
        """Tell some of them what has changed since the last time; it is due again at once until everybody has been told."""
        self._due = self._due or list(self._roots)
        looked = 0
        while self._due and looked < STREAMS_LOOKED_AT:
            root = self._roots.get(self._due.pop())
            if root is None:
                continue
            looked += 1
            self._follow_own(root)
            for stream in root.streams.values():
                if stream.ready and not stream.leaving and stream.looked != root.changes:
                    looked += 1
                    stream.looked = root.changes
                    self._send(stream, list(stream.news()))
        self._tick_at = now if self._due else now + TICK_SECONDS * (1 + len(self._streams) // STREAMS_OF_A_TICK)

    # outputs

    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due; None while there is nobody to tell."""
        return self._tick_at if self._streams else None

    def next_effect(self) -> SwarmEffect | None:
        """The next thing to do, or None."""
        return self._effects.popleft() if self._effects else None

    # what we are told

    def _accept(
        self, id: SubscriptionId, peer: PeerId, update: Update, record: bytes, now: float, group: str | None
    ) -> Subscription | None:
        known = self._roots.get(update.key)
        root = known.cid if known is not None else self._source.root_of(update.key)
        if root is None or (self._may_know is not None and not self._may_know(root, peer)):
            self._effects.append(SendUpdates(id=id, updates=(Update(status=Status.UNKNOWN),), close=True))
            return None
        known = self._root(root)
        of_peer = sum(stream.peer == peer for stream in self._streams.values())
        served, going = find_place(known, peer, group)
        if not served or of_peer >= STREAMS_PER_PEER_MAX:
            self._forget(known)
            self._effects.append(SendUpdates(id=id, updates=(Update(status=Status.BUSY),), close=True))
            return None
        if going is not None:
            self.stream_closed(going.id)
            self._parting.add(going.id)
            self._effects.append(SendUpdates(id=going.id, updates=(Update(status=Status.BUSY),), close=True))
        stream = Subscription(id, peer, known, now, inbound=True, group=group)
        self._streams[id] = known.streams[id] = stream
        self._follow_own(known)
        self._send(
            stream,
            [Update(record=record, ranges=stream.own_news(), name=self._source.name(root)), *stream.members()],
        )
        stream.record_told = record
        return stream

    def _charge(self, stream: Subscription, now: float) -> None:
        stream.tokens = min(stream.tokens + (now - stream.tokens_at) * UPDATES_PER_SECOND, UPDATES_BURST) - 1
        stream.tokens_at = now
        if stream.tokens < 0:
            raise RemoteProtocolError(f"more than {UPDATES_PER_SECOND:.0f} updates a second")

    def _take_record(self, stream: Subscription, record: bytes) -> None:
        opened = self._open(record)
        if opened.peer_id != stream.peer:
            raise RemoteProtocolError(f"peer record of {opened.peer_id} from {stream.peer}")
        stream.record = record
        stream.root.changes += 1
        stream.addresses = opened.addresses
        self._tell_joined(stream)

    def _take_ranges(self, stream: Subscription, update: RangesUpdate) -> None:
        stream.has_told = True
        if update.complete:
            stream.has_all = True
        if not self._fits(stream, update):
            return self._tell_ranges(stream)
        had = stream.log
        ranges = apply_ranges(update, had.ranges.copy() if had is not None else None)
        if had is None:
            stream.log = RangeLog(ranges)
        else:
            had.replace(ranges)
        stream.root.changes += 1
        return self._tell_ranges(stream)

    def _take_member(self, stream: Subscription, member: Member, now: float) -> None:
        if stream.inbound or not stream.root.joined:
            return
        if member.gone:
            stream.others.pop(member.peer, None)
            return
        known = member.peer in stream.others
        if not known and not member.record:
            return  # whoever has shown no record of it could say anything of anybody
        if not known and len(stream.others) >= MEMBERS_MAX:
            raise RemoteProtocolError(f"more than {MEMBERS_MAX} members")
        if not known and not stream.root.may_name(stream.peer, now):
            return
        if member.record:
            opened = self._open(member.record)
            if opened.peer_id != member.peer:
                raise RemoteProtocolError(f"peer record of {opened.peer_id} for {member.peer}")
            stream.others.setdefault(member.peer, None)
            self._effects.append(PeerFound(root=stream.root.cid, peer=member.peer, addresses=opened.addresses))
        if member.ranges is not None:
            at_first_hand = any(other.peer == member.peer for other in stream.root.streams.values())
            if member.ranges.complete:
                ranges = None
            elif self._fits(stream, member.ranges):
                ranges = apply_ranges(member.ranges, stream.others[member.peer])
                stream.others[member.peer] = ranges
            else:
                return
            if not at_first_hand:
                self._effects.append(RangesChanged(root=stream.root.cid, peer=member.peer, ranges=ranges, hearsay=True))

    def _fits(self, stream: Subscription, update: RangesUpdate) -> bool:
        """Whether the ranges can be kept: of as many leaves as we know the root has, never of as many as a peer says.

        A fetch learns that number after it has begun; what came before is asked for once more then.
        """
        own = stream.root.own
        if own is not None and update.leaves == own.ranges.count:
            return True
        stream.unusable_at = own.ranges.count if own is not None else 0
        return False

    def _tell_joined(self, stream: Subscription) -> None:
        if stream.root.joined and stream.record:
            self._effects.append(PeerFound(root=stream.root.cid, peer=stream.peer, addresses=stream.addresses))
            self._tell_ranges(stream)

    def _tell_ranges(self, stream: Subscription) -> None:
        if not stream.root.joined:
            return
        if stream.has_all:
            self._effects.append(RangesChanged(root=stream.root.cid, peer=stream.peer, ranges=None))
        elif stream.log is not None:
            self._effects.append(RangesChanged(root=stream.root.cid, peer=stream.peer, ranges=stream.log.ranges))

    # what we tell

    def _follow_own(self, root: Root) -> None:
        """See what has been added here since the last time."""
        ranges = self._source.ranges(root.cid)
        if ranges is None or not 0 < ranges.count <= LEAVES_MAX:
            return
        if root.own is None:
            root.own = RangeLog(ranges.copy())
            root.changes += 1
        elif len(ranges) != len(root.own.ranges) or ranges.count != root.own.ranges.count:
            root.own.replace(ranges.copy())
            root.changes += 1

    def _take_leave(self, stream: Subscription) -> None:
        stream.leaving = True
        if stream.ready:
            stream.ready = False
            ranges = stream.own_news()
            finished = not stream.root.complete and self._source.is_finished(stream.root.cid)
            updates = (Update(ranges=ranges, finished=finished),) if ranges is not None or finished else ()
            self._effects.append(SendUpdates(id=stream.id, updates=updates, close=True, linger=True))

    def _send(self, stream: Subscription, updates: list[Update]) -> None:
        if updates:
            stream.ready = False
            self._effects.append(SendUpdates(id=stream.id, updates=tuple(updates)))

    # roots

    def _root(self, cid: Cid) -> Root:
        root = Root(cid)
        return self._roots.setdefault(root.key, root)

    def _forget(self, root: Root) -> None:
        if not root.streams and not root.joined:
            self._roots.pop(root.key, None)

    def _open(self, record: bytes) -> PeerRecord:
        try:
            return self._open_record(record)
        except (DecodeError, SecurityError) as error:
            raise RemoteProtocolError(f"peer record: {error}") from error
