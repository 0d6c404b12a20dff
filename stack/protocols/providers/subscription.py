"""One stream about one root, as the swarm sees it, and what a root's streams share. Pure."""

from collections import deque
from dataclasses import dataclass
from typing import NewType

from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.protocols.providers.interfaces import announce_key
from stack.protocols.providers.messages import RUNS_MAX, RangesUpdate, Update
from stack.protocols.providers.ranges import LeafRanges, merge_runs

UPDATES_BURST = 200.0
"""Messages a stream may send us at once: 21 a tick, and slack."""

LOG_MAX = 64
"""Ticks of changes kept; whoever is further behind gets the bitmap."""

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


SwarmEffect = SendUpdates | PeerFound | RangesChanged


class RangeLog:
    """Somebody's ranges and what was added to them lately, for those who follow. Versions start at 1."""

    __slots__ = ("_log", "ranges", "version")

    def __init__(self, ranges: LeafRanges) -> None:
        self.ranges = ranges
        self.version = 1
        self._log: deque[tuple[int, tuple[tuple[int, int], ...]]] = deque(maxlen=LOG_MAX)

    def replace(self, ranges: LeafRanges) -> None:
        """Follow to `ranges`, which contain what was there before or are of another file."""
        runs = ranges.runs_missing_in(self.ranges) if ranges.count == self.ranges.count else None
        self.ranges = ranges
        if runs is None:
            self._log.clear()
        if runs is None or runs:
            self.version += 1
        if runs:
            self._log.append((self.version, tuple(runs)))

    def since(self, version: int) -> RangesUpdate | None:
        """What to tell somebody who knows `version` (0: nothing); None when that is the newest."""
        if version == self.version:
            return None
        leaves = self.ranges.count
        if self.ranges.complete:
            return RangesUpdate(leaves=leaves, complete=True)
        if version and self._log and self._log[0][0] <= version + 1:
            runs = merge_runs(run for at, added in self._log if at > version for run in added)
            if len(runs) <= RUNS_MAX:
                return RangesUpdate(leaves=leaves, runs=tuple(runs))
        return RangesUpdate(leaves=leaves, bitmap=bytes(self.ranges))


class Subscription:
    """One stream about one root."""

    __slots__ = (
        "addresses",
        "finished",
        "has_all",
        "has_told",
        "id",
        "inbound",
        "leaving",
        "log",
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

    def __init__(self, id: SubscriptionId, peer: PeerId, root: "Root", now: float, *, inbound: bool) -> None:
        self.id = id
        self.peer = peer
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

    @property
    def part(self) -> float:
        """What part of the leaves the peer says it has, 0 to 1."""
        if self.has_all:
            return 1.0
        return len(self.log.ranges) / self.log.ranges.count if self.log is not None else 0.0


class Root:
    __slots__ = ("cid", "joined", "key", "own", "streams")

    def __init__(self, cid: Cid) -> None:
        self.cid = cid
        self.key = announce_key(cid.multihash)
        self.joined = 0
        self.own: RangeLog | None = None
        self.streams: dict[SubscriptionId, Subscription] = {}

    @property
    def complete(self) -> bool:
        """All of it is here."""
        return self.own is not None and self.own.ranges.complete
