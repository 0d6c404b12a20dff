"""Who may hold how much memory for messages on their way here, whose turn it is, and who has to go. Pure.

All of it is drawn from one budget tree: what peers send that we asked something, and below it what those send that we asked
nothing. A peer, and a group of addresses, has a small part of each unless it has just one message there. Who waits is served in
turn by peer. Memory whose message does not go on is taken back: at once when somebody waits for it, after some seconds in any case.
"""

from collections import deque
from collections.abc import Iterable

from stack.identity.peer_id import PeerId
from stack.sansio.budget import Reservation, Resource, Scope
from stack.values import dataclass

PEER_BYTES_MAX = 16 * 1024 * 1024
"""Of one peer that we asked: several long messages of our own nodes, so that reading goes on while one is hashed."""

UNASKED_PARTS = 16
"""Of what those may hold whom we asked nothing, a peer or a group of addresses with several messages has one such part."""

LOOK_SECONDS = 1.0
"""Between two looks at what moves. Looks are counted, not seconds: while our own loop stands still nobody else does."""

LOOKS = 5
LOOKS_ASKED = 30
LEAST_BYTES = 4 * 1024
"""A message that has brought less in so many looks has stalled, one that we asked for and nobody's memory waits for in six times as
many: a line that many share loses what it cannot hold, and TCP is silent then for 1, 2, 4 seconds (boxo: 12 KiB/s for the whole; a
sharer whose upload is limited gives each of many 8 KiB/s). Who asked has others take over long before."""

SLOW_BYTES = 8 * 1024
"""A second. Messages slower than that give way to others that wait."""

MOVED_BYTES = 1024
IDLE_SECONDS = 1.0
IDLE_SECONDS_ASKED = 2.0
"""A message that has not brought so many bytes for so long gives way at once."""

PATIENCE_LOOKS = 10
"""For memory that somebody else in the node holds."""


class Borrowing:
    """One long message on its way. Its attributes are for reading; `held_up` is set by whoever moves its bytes."""

    __slots__ = (
        "asked",
        "charged",
        "held_up",
        "interval",
        "moved",
        "moved_at",
        "ours",
        "peer",
        "recent",
        "reservation",
        "scope",
        "shares",
        "taken_back",
        "waited",
        "wants",
        "whole",
    )

    def __init__(self, peer: PeerId, shares: tuple[Scope, ...], *, asked: bool, now: float) -> None:
        self.peer = peer
        self.asked = asked
        self.shares = shares
        """Of its peer, and of the group of its address."""
        self.scope = shares[0]
        self.reservation = Reservation(self.scope, Resource.BYTES)
        self.charged = 0
        self.wants = 0
        """The bytes that it waits to hold; 0: it waits for none."""
        self.waited = 0
        """Looks for which it has waited."""
        self.held_up = False
        """We do not read it just now, for a reason of our own."""
        self.whole = False
        self.taken_back = False
        self.ours = False
        """Taken back for want of memory here, not because of its peer."""
        self.moved = 0
        self.moved_at = now
        self.interval = 0
        self.recent: deque[int] = deque(maxlen=LOOKS_ASKED if asked else LOOKS)


@dataclass(frozen=True, slots=True)
class Granted:
    """It holds what it asked for."""

    borrowing: Borrowing


@dataclass(frozen=True, slots=True)
class TakenBack:
    """It holds nothing any more, and its stream is to be reset."""

    borrowing: Borrowing


class Lender:
    """Commands: `begin`, `ask`, `release`. Facts: `progress`, `arrived`, `look`. Getters: `is_due`. Outputs: `next_effect`."""

    def __init__(self, receiving: Scope, unasked: Scope) -> None:
        self._receiving = receiving
        self._unasked = unasked
        self._all: dict[Borrowing, None] = {}
        """In order of their beginning."""
        self._peers: dict[tuple[PeerId, bool], Scope] = {}
        self._groups: dict[str, Scope] = {}
        self._turns: dict[PeerId, deque[Borrowing]] = {}
        """Who waits, by peer; whose turn is next is first."""
        self._effects: deque[Granted | TakenBack] = deque()
        self._looked_at = 0.0

    def __repr__(self) -> str:
        return f"<Lender {len(self._all)} messages, {self._receiving!r}>"

    @property
    def waiting(self) -> int:
        """Messages that wait for memory."""
        return sum(map(len, self._turns.values()))

    def begin(self, peer: PeerId, group: str | None, own: Scope, *, asked: bool, now: float) -> Borrowing:
        """A long message has begun; `own` is what its peer may hold in all, `group` names the group of its address."""
        parents = [own]
        if not asked and group is not None:
            parents.append(self._groups.setdefault(group, self._unasked.child(f"messages from {group}")))
        key = peer, asked
        if key not in self._peers:
            root = self._receiving if asked else self._unasked
            self._peers[key] = root.child(f"messages of {peer}", None, *parents)
        borrowing = Borrowing(peer, (self._peers[key], *parents[1:]), asked=asked, now=now)
        self._all[borrowing] = None
        return borrowing

    def ask(self, borrowing: Borrowing, amount: int, now: float) -> None:
        """It needs `amount` bytes in all. Answered by Granted, perhaps at once, or TakenBack."""
        roots = (self._receiving,) if borrowing.asked else (self._receiving, self._unasked)
        if any(amount > (root.limit(Resource.BYTES) or amount) for root in roots):
            self._take_back(borrowing, ours=True)
            return
        borrowing.wants = amount
        borrowing.waited = 0
        queue = self._turns.setdefault(borrowing.peer, deque())
        # What has begun goes first: a peer's messages that wait behind each other are whole one after the other.
        (queue.appendleft if borrowing.charged else queue.append)(borrowing)
        self._grant(now)

    def progress(self, borrowing: Borrowing, count: int, now: float) -> None:
        """Bytes of it have come."""
        borrowing.interval += count
        borrowing.moved += count
        if borrowing.moved >= MOVED_BYTES:
            borrowing.moved = 0
            borrowing.moved_at = now

    def arrived(self, borrowing: Borrowing) -> None:
        """It is whole: nothing is expected of its peer any more."""
        borrowing.whole = True

    def release(self, borrowing: Borrowing, now: float) -> None:
        """Nothing is held for it any more; to be called exactly once for each."""
        self._end(borrowing)
        self._grant(now)

    def look(self, now: float) -> None:
        """To be called about every LOOK_SECONDS while something is on its way; more often does no harm."""
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        for borrowing in tuple(self._all):
            if borrowing.wants:
                borrowing.waited += 1
            if borrowing.whole or borrowing.wants or borrowing.held_up:
                borrowing.recent.clear()
            else:
                borrowing.recent.append(borrowing.interval)
                if len(borrowing.recent) == borrowing.recent.maxlen and sum(borrowing.recent) < LEAST_BYTES:
                    self._take_back(borrowing)
            borrowing.interval = 0
        for queue in tuple(self._turns.values()):
            if queue and self._make_room_for(queue[0]):
                self._grant(now)
        self._grant(now)

    def next_effect(self) -> Granted | TakenBack | None:
        """What has been decided."""
        return self._effects.popleft() if self._effects else None

    # decisions

    def _grant(self, now: float) -> None:
        """Serve those that wait in turn by peer; nobody overtakes one that waits for memory that both may have."""
        blocked: list[Scope] = []
        granted = True
        while granted:
            granted = False
            for peer in tuple(self._turns):
                queue = self._turns.get(peer)
                if queue is None or any(queue[0].scope.is_within(scope) for scope in blocked):
                    continue
                borrowing = queue[0]
                full = self._full_for(borrowing)
                while full is not None and (idle := self._idle_below(full, borrowing, now)) is not None:
                    self._take_back(idle)
                    full = self._full_for(borrowing)
                if full is None:
                    self._serve(borrowing, now)
                    granted = True
                else:
                    blocked.append(full)

    def _serve(self, borrowing: Borrowing, now: float) -> None:
        if borrowing.wants > borrowing.charged:
            borrowing.reservation.grow(borrowing.wants - borrowing.charged)
            borrowing.charged = borrowing.wants
        borrowing.moved_at = now
        self._stop_waiting(borrowing)
        self._effects.append(Granted(borrowing))

    def _full_for(self, borrowing: Borrowing) -> Scope | None:
        """Which scope has no room for what it waits for."""
        extra = max(borrowing.wants - borrowing.charged, 0)
        for share in borrowing.shares:
            others = share.used(Resource.BYTES) - borrowing.charged
            if others and others + borrowing.wants > self._share(borrowing):
                others = self._before(borrowing, share)
                if others and others + borrowing.wants > self._share(borrowing):
                    return share
        return borrowing.scope.without_room(Resource.BYTES, extra)

    def _before(self, borrowing: Borrowing, share: Scope) -> int:
        """What counts against it of others: for the oldest that is not whole only those that are, or all could wait for each other."""
        members = [other for other in self._all if share in other.shares]
        oldest = next(other for other in members if not other.whole)
        return sum(
            other.charged for other in members if other is not borrowing and (other.whole or oldest is not borrowing)
        )

    def _share(self, borrowing: Borrowing) -> int:
        """What a peer with several messages may hold. Of a peer that we asked, never more than what is left for others."""
        if not borrowing.asked:
            return (self._unasked.limit(Resource.BYTES) or 0) // UNASKED_PARTS
        free = (self._receiving.limit(Resource.BYTES) or 0) - self._receiving.used(Resource.BYTES) + borrowing.charged
        return min(PEER_BYTES_MAX, free)

    def _idle_below(self, scope: Scope, newcomer: Borrowing, now: float) -> Borrowing | None:
        """The message in `scope` that has brought nothing for longest."""
        idle = [
            borrowing
            for borrowing in self._below(scope, newcomer)
            if now - borrowing.moved_at >= (IDLE_SECONDS_ASKED if borrowing.asked else IDLE_SECONDS)
        ]
        # Those that wait for memory themselves go last: that they bring nothing is not their peers' doing.
        return min(idle, key=lambda borrowing: (borrowing.wants > 0, borrowing.moved_at), default=None)

    def _below(self, scope: Scope, newcomer: Borrowing) -> Iterable[Borrowing]:
        return (
            borrowing
            for borrowing in self._all
            if borrowing.charged
            and borrowing is not newcomer
            and not borrowing.whole
            and not borrowing.held_up
            and borrowing.scope.is_within(scope)
        )

    def _make_room_for(self, borrowing: Borrowing) -> bool:
        """It has waited for a while: the slowest goes. For what is none of these messages it waits a few looks more."""
        full = self._full_for(borrowing) if borrowing.waited > 1 else None
        if full is None:
            return False
        slow = [
            other
            for other in self._below(full, borrowing)
            if len(other.recent) > 1 and sum(other.recent) < SLOW_BYTES * LOOK_SECONDS * len(other.recent)
        ]
        if slow:
            self._take_back(min(slow, key=lambda other: sum(other.recent) / len(other.recent)))
        elif borrowing.waited > PATIENCE_LOOKS and full not in (self._receiving, self._unasked, *borrowing.shares):
            self._take_back(borrowing, ours=True)
        return bool(slow)

    def _take_back(self, borrowing: Borrowing, *, ours: bool = False) -> None:
        borrowing.taken_back, borrowing.ours = True, ours
        self._end(borrowing)
        self._effects.append(TakenBack(borrowing))

    def _stop_waiting(self, borrowing: Borrowing) -> None:
        """The next turn is another peer's."""
        borrowing.wants = 0
        queue = self._turns.pop(borrowing.peer)
        queue.remove(borrowing)
        if queue:
            self._turns[borrowing.peer] = queue

    def _end(self, borrowing: Borrowing) -> None:
        if self._all.pop(borrowing, 0) == 0:
            return  # it was taken back before
        if borrowing.wants:
            self._stop_waiting(borrowing)
        borrowing.reservation.release()
        borrowing.charged = 0
        used = {scope for other in self._all for scope in other.shares}
        key = borrowing.peer, borrowing.asked
        if borrowing.shares[0] not in used:
            self._peers.pop(key, None)
        if len(borrowing.shares) > 1 and borrowing.shares[1] not in used:
            self._groups = {name: scope for name, scope in self._groups.items() if scope is not borrowing.shares[1]}
