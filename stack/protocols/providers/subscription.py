"""One stream about one root, as the swarm sees it, and what a root's streams share. Pure."""

from array import array
from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import NewType

from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.protocols.providers.interfaces import announce_key
from stack.protocols.providers.messages import RUNS_MAX, Member, RangesUpdate, Update
from stack.protocols.providers.ranges import LeafRanges, merge_runs
from stack.values import dataclass

UPDATES_BURST = 200.0
"""Messages a stream may send us at once: 21 a tick, and slack."""

MEMBERS_MAX = 20
"""Other peers told on one stream."""

NAMES_BURST = 2 * MEMBERS_MAX
NAME_SECONDS = 10.0
"""So many others a peer may name at once, and one more each so many seconds: a session remembers 256, and one that takes back whom it
has named, and names others, would fill that. What it names beyond is passed over: in a swarm that comes and goes others name them."""

TELLERS_MAX = 256
"""Peers of a root that name others, of whom it is remembered how many; the one that did so longest ago is forgotten."""

LOG_MAX = 64
"""Ticks of changes kept, of at most `RUNS_MAX` runs together; whoever is further behind gets the bitmap."""

LOG_BYTES_MAX = 16 * RUNS_MAX + 256 * LOG_MAX
"""What a log takes at most (measured)."""

SubscriptionId = NewType("SubscriptionId", int)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendUpdates:
    """Send these on a stream; answered by `sent`."""

    id: SubscriptionId
    updates: tuple[Update, ...]
    close: bool = False
    """End the stream after them."""
    linger: bool = False
    """Then wait until the other side has ended it: it has read them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerFound:
    """A peer of a root that we joined."""

    root: Cid
    peer: PeerId
    addresses: tuple[Multiaddr, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RangesChanged:
    """What a peer of a root that we joined has; None says all."""

    root: Cid
    peer: PeerId
    ranges: LeafRanges | None
    hearsay: bool = False
    """It does not say so itself, another one does."""


SwarmEffect = SendUpdates | PeerFound | RangesChanged


class RangeLog:
    """Somebody's ranges and what was added to them lately, for those who follow. Versions start at 1."""

    __slots__ = ("_log", "_numbers", "ranges", "version")

    def __init__(self, ranges: LeafRanges) -> None:
        self.ranges = ranges
        self.version = 1
        self._log: deque[tuple[int, array[int]]] = deque()
        """Versions, and the runs that each has added: start, end, start, end and so on."""
        self._numbers = 0

    def replace(self, ranges: LeafRanges) -> None:
        """Follow to `ranges`, which contain what was there before or are of another file."""
        runs = ranges.runs_missing_in(self.ranges, RUNS_MAX) if ranges.count == self.ranges.count else None
        self.ranges = ranges
        if runs is not None and not runs:
            return
        self.version += 1
        if runs is None or len(runs) > RUNS_MAX:
            self._log.clear()
            self._numbers = 0
            return
        self._log.append((self.version, array("L", chain.from_iterable(runs))))
        self._numbers += 2 * len(runs)
        while self._numbers > 2 * RUNS_MAX or len(self._log) > LOG_MAX:
            self._numbers -= len(self._log.popleft()[1])

    def since(self, version: int) -> RangesUpdate | None:
        """What to tell somebody who knows `version` (0: nothing); None when that is the newest."""
        if version == self.version:
            return None
        leaves = self.ranges.count
        if self.ranges.complete:
            return RangesUpdate(leaves=leaves, complete=True)
        if version and self._log and self._log[0][0] <= version + 1:
            added = [numbers for at, numbers in self._log if at > version]
            runs = merge_runs(chain.from_iterable(zip(numbers[::2], numbers[1::2], strict=True) for numbers in added))
            return RangesUpdate(leaves=leaves, runs=tuple(runs))
        return RangesUpdate(leaves=leaves, bitmap=bytes(self.ranges))


class Subscription:
    """One stream about one root."""

    __slots__ = (
        "addresses",
        "finished",
        "group",
        "has_all",
        "has_told",
        "id",
        "inbound",
        "leaving",
        "log",
        "looked",
        "others",
        "own_told",
        "peer",
        "ready",
        "record",
        "record_told",
        "root",
        "tokens",
        "tokens_at",
        "told",
        "unusable_at",
    )

    def __init__(
        self,
        id: SubscriptionId,
        peer: PeerId,
        root: "Root",
        now: float,
        *,
        inbound: bool,
        group: str | None = None,
    ) -> None:
        self.id = id
        self.peer = peer
        self.group = group
        """Of addresses, from which the peer has asked; None where groups do not count."""
        self.root = root
        self.inbound = inbound
        self.ready = True
        """Nothing is being sent."""
        self.leaving = False
        """We have all of it: that is the last thing to be said."""
        self.tokens = UPDATES_BURST
        self.tokens_at = now
        # what it told us
        self.record = b""
        self.addresses: tuple[Multiaddr, ...] = ()
        self.log: RangeLog | None = None
        self.has_all = False
        self.has_told = False
        self.finished = False
        """It has all that it wanted."""
        self.unusable_at: int | None = None
        """How many leaves we believed in when ranges of another number came, 0 for none; None when all could be used."""
        self.others: dict[PeerId, LeafRanges | None] = {}
        # what we told it
        self.record_told = b""
        self.own_told = 0
        self.told: dict[PeerId, tuple[bytes, int]] = {}
        """Record and version of ranges of each member it knows from us."""
        self.looked: int | None = None
        """How many changes of the root there were when it was last looked at for news; None for news of its own."""

    @property
    def part(self) -> float:
        """What part of the leaves the peer says it has, 0 to 1."""
        if self.has_all:
            return 1.0
        return len(self.log.ranges) / self.log.ranges.count if self.log is not None else 0.0

    def own_news(self) -> RangesUpdate | None:
        """What we have that it has not been told; it counts as told from now on."""
        own = self.root.own
        if own is None:
            return None
        update = own.since(self.own_told)
        self.own_told = own.version
        return update

    def news(self) -> Iterator[Update]:
        """What has changed since it was told last."""
        ranges = self.own_news()
        own = self.root.own
        resend = self.unusable_at is not None and own is not None and own.ranges.count != self.unusable_at
        if resend:
            self.unusable_at = None
        if ranges is not None or resend:
            yield Update(ranges=ranges, resend=resend)
        if self.inbound:
            yield from self.members()

    def members(self) -> Iterator[Update]:
        """What is new of others that we know at first hand."""
        direct = {other.peer: other for other in self.root.streams.values() if other.record and other.peer != self.peer}
        for peer in [peer for peer in self.told if peer not in direct]:
            del self.told[peer]
            yield Update(member=Member(peer=peer, gone=True))
        for peer, other in direct.items():
            if peer not in self.told and len(self.told) >= MEMBERS_MAX:
                continue
            record, version = self.told.get(peer, (b"", 0))
            ranges = other.log.since(version) if other.log is not None else None
            if ranges is None and record == other.record:
                continue
            self.told[peer] = (other.record, other.log.version if other.log is not None else 0)
            yield Update(
                member=Member(peer=peer, record=other.record if record != other.record else b"", ranges=ranges)
            )


class Root:
    """What is shared or fetched, and the streams about it."""

    __slots__ = ("changes", "cid", "joined", "key", "own", "streams", "tellers")

    def __init__(self, cid: Cid) -> None:
        self.cid = cid
        self.key = announce_key(cid.multihash)
        self.joined = 0
        self.own: RangeLog | None = None
        self.streams: dict[SubscriptionId, Subscription] = {}
        self.changes = 0
        """What could be news for one of the streams."""
        self.tellers: dict[PeerId, tuple[float, float]] = {}
        """How many others each may name still, and when that was so."""

    def may_name(self, teller: PeerId, now: float) -> bool:
        """Whether a peer may name one more, which counts then."""
        left, at = self.tellers.pop(teller, (float(NAMES_BURST), now))
        left = min(left + (now - at) / NAME_SECONDS, float(NAMES_BURST))
        may = left >= 1
        self.tellers[teller] = (left - may, now)
        if len(self.tellers) > TELLERS_MAX:
            del self.tellers[next(iter(self.tellers))]
        return may

    @property
    def complete(self) -> bool:
        """All of it is here."""
        return self.own is not None and self.own.ranges.complete
