"""The records of one shard: bounded, fair to address groups, found by key. Source: docs/announce.md, "The table"."""

from collections.abc import Callable, Iterable, Iterator
from enum import Enum

from stack.announce.keyspace import (
    KEY_BYTES,
    Home,
    Shard,
    compatible,
    covers,
    home_of_key,
    key_range,
)
from stack.announce.messages import DIGEST_BYTES, DIGESTS, PAGE_BYTES
from stack.announce.records import KEY_OVERHEAD_BYTES, Record, holds
from stack.errors import LimitExceeded
from stack.sansio.budget import Resource, Scope

TABLE_BYTES_MAX = 16 * 1024 * 1024
"""What one table may hold of the node's budget; a shard is split long before."""
RECORDS_PER_AUTHOR_MAX = 4
"""One is the rule; more for a while when shards split, and one that says the author is a member."""
UPDATE_SECONDS_MIN = 10
"""Between two records of one author for one shard, by their own dates, so that all members judge alike."""
LOAD_OF_RECORD = 180
"""Bytes of a record without its keys, as the load counts them: the same whatever it says of other shards."""


class Outcome(Enum):
    """What became of a record that was offered."""

    NEW = "new"
    KNOWN = "known"
    OLD = "there is a newer one"
    EXPIRED = "expired, or from the future"
    TOO_SOON = "the last one of this author is not ten seconds older"
    FOREIGN = "of another shard"
    FULL = "no room, and its address group has most of it"


def part_of(record: Record) -> int:
    """In which part of a table a record is compared."""
    return bytes(record.author)[-1] % DIGESTS


def _list_cost(keys: bytes) -> int:
    return len(keys) + len(keys) // KEY_BYTES * KEY_OVERHEAD_BYTES


def keys_within(keys: bytes, shard: Shard) -> bytes:
    """Those of sorted keys that are of a shard."""
    first, behind = key_range(shard)
    start = _position(keys, first)
    return keys[start : _position(keys, behind, start) if behind is not None else len(keys)]


def _position(keys: bytes, key: bytes, low: int = 0) -> int:
    """Where in sorted keys the first is that is not before `key`."""
    high = len(keys)
    while low < high:
        middle = (low + high) // (2 * KEY_BYTES) * KEY_BYTES
        if keys[middle : middle + KEY_BYTES] < key:
            low = middle + KEY_BYTES
        else:
            high = middle
    return low


class Table:
    """Facts: `insert`, `add_list`, `expire`. Commands: `reshard`, `close`. Getters: `find`, `search`, `records_of`, `page`, `digests`,
    `load`, `members`, `len`. `now` is wall-clock seconds."""

    __slots__ = (
        "_authors",
        "_groups",
        "_held",
        "_index",
        "_is_proven",
        "_lists",
        "_load",
        "_members",
        "_parts",
        "shard",
    )

    def __init__(self, shard: Shard, budget: Scope, is_proven: Callable[[bytes], bool] = lambda author: False) -> None:
        """`is_proven`: this author (peer id) has delivered what it announced; it is evicted last."""
        self.shard = shard
        self._authors: dict[bytes, tuple[Record, ...]] = {}
        self._groups: dict[str | None, int] = {}
        self._lists: dict[bytes, tuple[Record, bytes]] = {}
        self._index: dict[bytes, tuple[bytes, ...]] | None = None
        """Authors by key; made when somebody asks for the first time, for most tables are never asked."""
        self._held = budget.child("announcements", {Resource.BYTES: TABLE_BYTES_MAX}).reserve(Resource.BYTES, 0)
        self._is_proven = is_proven
        self._load = 0
        self._members: dict[bytes, Home] = {}
        """Where those are that say they keep this shard."""
        self._parts = [0] * DIGESTS
        """Of all records about this shard, so that a comparison need not look at each."""

    def __repr__(self) -> str:
        return f"<Table {self.shard:b}: {len(self._authors)} authors, {self._held.amount} bytes>"

    def __len__(self) -> int:
        return len(self._authors)

    def __iter__(self) -> Iterator[Record]:
        return (record for records in self._authors.values() for record in records)

    # Getters

    @property
    def load(self) -> int:
        """Bytes of records, as far as they are about this shard."""
        return self._load

    @property
    def members(self) -> int:
        """Peers that say they keep this shard."""
        return len(self._members)

    @property
    def bytes_held(self) -> int:
        """What is drawn from the budget."""
        return self._held.amount

    def records_of(self, author: bytes) -> tuple[Record, ...]:
        """All of one author."""
        return self._authors.get(author, ())

    def find(self, key: bytes, now: float) -> list[Record]:
        """Records that have a key, in the order they came."""
        found = []
        for author in self._indexed().get(key, ()):
            record = self._newest(author, key)
            if record is not None and record.expires > now and self._has(record, key):
                found.append(record)
        return found

    def search(self, key: bytes, wanted: Callable[[Record], bool], now: float) -> list[Record]:
        """Records with names, among those with the key of a word, that are wanted."""
        return [
            record
            for author in self._indexed().get(key, ())
            for record in self._authors[author]
            if record.names and record.expires > now and wanted(record)
        ]

    def digests(self, shard: Shard, now: float) -> bytes:
        """The tags of all records about `shard`, part by part: two tables with the same records have the same."""
        if shard == self.shard:
            self.expire(now)
            parts = self._parts
        else:
            parts = [0] * DIGESTS
            for record in self:
                if record.expires > now and self._concerns(record, shard):
                    parts[part_of(record)] ^= record.tag
        return b"".join(part.to_bytes(DIGEST_BYTES, "big") for part in parts)

    def page(self, shard: Shard, after: bytes, digests: bytes, now: float) -> tuple[list[bytes], bytes]:
        """Records about `shard` in the order of their authors, behind `after`, of those parts where `digests` differ; and where
        the next page begins, empty at the end."""
        ours = self.digests(shard, now) if digests else b""
        starts = range(0, len(digests), DIGEST_BYTES)
        differs = [ours[at : at + DIGEST_BYTES] != digests[at : at + DIGEST_BYTES] for at in starts]
        page: list[bytes] = []
        size = 0
        for author in sorted(author for author in self._authors if author > after):
            records = self._authors[author]
            if differs and not differs[part_of(records[0])]:
                continue
            fitting = [r.data for r in records if r.expires > now and self._concerns(r, shard)]
            page += fitting
            size += sum(len(data) + 4 for data in fitting)
            if size >= PAGE_BYTES:
                return page, author
        return page, b""

    # Facts

    def insert(self, record: Record, now: float) -> Outcome:
        """A record that is verified. Keeps it when the outcome is NEW, else changes nothing."""
        if record.expires <= now:
            return Outcome.EXPIRED
        author = bytes(record.author)
        known = self._authors.get(author, ())
        outcome, replaced = self._compare(record, known)
        if outcome is not Outcome.NEW:
            return outcome
        rest = tuple(old for old in known if old not in replaced)
        if len(rest) >= RECORDS_PER_AUTHOR_MAX:
            oldest = min(rest, key=lambda old: old.sequence)
            rest = tuple(old for old in rest if old is not oldest)
            replaced = [*replaced, oldest]
        if not self._make_room(record.group, author, record.cost - sum(old.cost for old in replaced)):
            return Outcome.FULL
        for old in replaced:
            self._uncount(old)
        self._groups[record.group] = self._groups.get(record.group, 0) + record.cost
        self._count(record)
        self._authors[author] = (*rest, record)
        self._forget_list(author, replaced)
        self._reindex(author, known)
        return Outcome.NEW

    def add_list(self, record: Record, keys: bytes) -> bool:
        """The keys behind `record.more`, as far as they are of this shard. False when they are not to be kept."""
        author = bytes(record.author)
        if record not in self._authors.get(author, ()) or author in self._lists:
            return False
        kept = keys_within(keys, self.shard)
        try:
            self._held.grow(_list_cost(kept))
        except LimitExceeded:
            return False
        self._lists[author] = (record, kept)
        self._load += len(kept)
        self._index = None
        return True

    def expire(self, now: float) -> None:
        """Forget what is no longer good."""
        # Each member does this each minute, for each record: so it is not `any(r.expires <= now for r in records)`.
        for author in [a for a, rs in self._authors.items() if min([r.issued + r.ttl for r in rs]) <= now]:
            self._keep(author, [record for record in self._authors[author] if record.expires > now])

    # Commands

    def reshard(self, shard: Shard) -> None:
        """Keep another shard from now on: what is not about it is forgotten."""
        for author, (record, _) in list(self._lists.items()):
            self._forget_list(author, (record,))
        for author in list(self._authors):
            self._keep(author, [record for record in self._authors[author] if self._concerns(record, shard)])
        self.shard = shard
        self._index = None
        self._load = 0
        self._members.clear()
        self._parts = [0] * DIGESTS
        for record in self:
            self._count(record)

    def members_in(self, shard: Shard) -> int:
        """Of those that say they keep this shard, the ones that would keep `shard`."""
        return sum(covers(shard, home) for home in self._members.values())

    def close(self) -> None:
        """Give everything back."""
        self._authors.clear()
        self._held.release()

    # Inside

    def _compare(self, record: Record, known: tuple[Record, ...]) -> tuple[Outcome, list[Record]]:
        """What to do with a record, and which older ones it replaces."""
        if not compatible(self.shard, record.shard):
            return Outcome.FOREIGN, []
        replaced = []
        for old in known:
            if old.is_presence != record.is_presence or not compatible(old.shard, record.shard):
                continue
            if old.tag == record.tag:
                return Outcome.KNOWN, []
            if old.sequence >= record.sequence:
                if covers(old.shard, record.shard):
                    return Outcome.OLD, []
                continue
            if record.issued < old.issued + UPDATE_SECONDS_MIN and old.shard == record.shard:
                return Outcome.TOO_SOON, []
            if covers(record.shard, old.shard) or covers(record.shard, self.shard):
                replaced.append(old)
        return Outcome.NEW, replaced

    def _make_room(self, group: str | None, author: bytes, cost: int) -> bool:
        """Take what a record needs from the budget; others go for it, of the group that has most, the latest comers first."""
        self._held.shrink(max(-cost, 0))
        while cost > 0:
            try:
                self._held.grow(cost)
                break
            except LimitExceeded:
                largest = max(self._groups, key=lambda other: self._groups[other], default=group)
                if largest == group or not self._evict(largest, author):
                    return False
        return True

    def _evict(self, group: str | None, spared: bytes) -> bool:
        for proven in (False, True):
            for author in reversed(self._authors):
                records = self._authors[author]
                if author != spared and any(r.group == group for r in records) and self._is_proven(author) == proven:
                    self._keep(author, [])
                    return True
        return False

    def _keep(self, author: bytes, kept: list[Record]) -> None:
        before = self._authors[author]
        gone = [record for record in before if record not in kept]
        for record in gone:
            self._held.shrink(record.cost)
            self._uncount(record)
        self._authors[author] = tuple(kept)
        self._forget_list(author, gone)
        self._reindex(author, before)
        if not kept:
            del self._authors[author]

    def _uncount(self, record: Record) -> None:
        left = self._groups[record.group] - record.cost
        if left:
            self._groups[record.group] = left
        else:
            del self._groups[record.group]
        self._load -= self._weight(record)
        if self._is_member(record):
            del self._members[bytes(record.author)]
        if self._concerns(record, self.shard):
            self._parts[part_of(record)] ^= record.tag

    def _count(self, record: Record) -> None:
        self._load += self._weight(record)
        if self._is_member(record):
            self._members[bytes(record.author)] = record.home
        if self._concerns(record, self.shard):
            self._parts[part_of(record)] ^= record.tag

    def _forget_list(self, author: bytes, gone: Iterable[Record]) -> None:
        entry = self._lists.get(author)
        if entry is not None and entry[0] in gone:
            del self._lists[author]
            self._held.shrink(_list_cost(entry[1]))
            self._load -= len(entry[1])
            self._index = None

    def _concerns(self, record: Record, shard: Shard) -> bool:
        """Whether somebody who keeps `shard` wants it. A record without content says that its author has nothing there."""
        if covers(shard, record.shard):
            return True
        if not covers(record.shard, shard):
            return False
        return bool(record.more or keys_within(record.keys, shard)) or any(
            covers(shard, home_of_key(word)) for word in record.words()
        )

    def _weight(self, record: Record) -> int:
        return LOAD_OF_RECORD + len(keys_within(record.keys, self.shard))

    def _is_member(self, record: Record) -> bool:
        return record.is_presence and covers(self.shard, record.home)

    def _newest(self, author: bytes, key: bytes) -> Record | None:
        """The record of an author that decides about a key: when shards split, a newer one may be about a part only."""
        home = home_of_key(key)
        about = [r for r in self._authors.get(author, ()) if not r.is_presence and covers(r.shard, home)]
        return max(about, key=lambda record: record.sequence, default=None)

    def _has(self, record: Record, key: bytes) -> bool:
        if key in record:
            return True
        entry = self._lists.get(bytes(record.author))
        return entry is not None and entry[0] is record and holds(entry[1], key)

    def _keys_of(self, author: bytes, records: Iterable[Record]) -> Iterator[bytes]:
        for record in records:
            kept = keys_within(record.keys, self.shard)
            yield from (kept[at : at + KEY_BYTES] for at in range(0, len(kept), KEY_BYTES))
            yield from record.words()
        entry = self._lists.get(author)
        if entry is not None:
            yield from (entry[1][at : at + KEY_BYTES] for at in range(0, len(entry[1]), KEY_BYTES))

    def _indexed(self) -> dict[bytes, tuple[bytes, ...]]:
        if self._index is None:
            self._index = {}
            for author, records in self._authors.items():
                for key in dict.fromkeys(self._keys_of(author, records)):
                    self._index[key] = (*self._index.get(key, ()), author)
        return self._index

    def _reindex(self, author: bytes, before: Iterable[Record]) -> None:
        """The records of one author have changed from `before` to what they are."""
        index = self._index
        if index is None:
            return
        for key in dict.fromkeys(self._keys_of(author, before)):
            left = tuple(other for other in index.get(key, ()) if other != author)
            if left:
                index[key] = left
            else:
                index.pop(key, None)
        for key in dict.fromkeys(self._keys_of(author, self._authors[author])):
            index[key] = (*index.get(key, ()), author)
