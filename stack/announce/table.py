"""The records of one shard: bounded, fair to address groups, found by key. Source: docs/announce.md, "The table"."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator
from heapq import nsmallest

from stack.announce.groups import Groups
from stack.announce.index import CROWD, KeyIndex
from stack.announce.keyspace import KEY_BYTES, Home, Shard, covers, home_of_key
from stack.announce.lists import LISTS_MAX, KeyLists, keys_within, list_cost
from stack.announce.messages import DIGEST_BYTES, DIGESTS, PAGE_BYTES
from stack.announce.outcomes import Outcome, compare
from stack.announce.records import SKEW_SECONDS, Record
from stack.errors import LimitExceeded
from stack.sansio.budget import Resource, Scope

TABLE_BYTES_MAX = 16 * 1024 * 1024
"""What one table may hold of the node's budget; a shard is split long before."""
RECORDS_PER_AUTHOR_MAX = 4
"""One is the rule; more for a while when shards split, and one that says the author is a member."""
LOAD_OF_RECORD = 180
"""Bytes of a record without its keys, as the load counts them: the same whatever it says of other shards."""


PAGE_AUTHORS_MAX = 1024
"""Looked at for one page, in a millisecond; a page may be short."""
ANSWER_AUTHORS_MAX = 384
"""The smallest records that fit into one answer."""
EVICTIONS_MAX = 8
"""Authors that one record may take the place of: a few large records are not to empty a table of small ones."""


def part_of(record: Record) -> int:
    """In which part of a table a record is compared."""
    return bytes(record.author)[-1] % DIGESTS


class Table:
    """Facts: `insert`, `add_list`, `expire`. Commands: `reshard`, `close`. Getters: `find`, `search`, `records_of`, `has_list`, `page`,
    `digests`, `load`, `members`, `len`. `now` is wall-clock seconds."""

    __slots__ = (
        "_authors",
        "_expires",
        "_groups",
        "_held",
        "_index",
        "_is_proven",
        "_lists",
        "_load",
        "_members",
        "_order",
        "_parts",
        "looked_at",
        "shard",
    )

    def __init__(self, shard: Shard, budget: Scope, is_proven: Callable[[bytes], bool] = lambda author: False) -> None:
        """`is_proven`: this author (peer id) has delivered what it announced; it is evicted last."""
        self.shard = shard
        self.looked_at = 0
        """Authors, for all questions so far: who asks is charged for them."""
        self._authors: dict[bytes, tuple[Record, ...]] = {}
        self._order: list[bytes] = []
        """The same authors, sorted."""
        self._groups = Groups()
        self._lists = KeyLists()
        self._index: KeyIndex | None = None
        """Made when somebody asks for the first time, for most tables are never asked."""
        self._held = budget.child("announcements", {Resource.BYTES: TABLE_BYTES_MAX}).reserve(Resource.BYTES, 0)
        self._is_proven = is_proven
        self._load = 0
        self._members: dict[bytes, Home] = {}
        """Where those are that say they keep this shard."""
        self._parts = {shard: [0] * DIGESTS}
        """Of all records about this shard, and about those above and below it that were asked for, so that a comparison need not
        look at each."""
        self._expires = 0
        """Nothing does before."""

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

    def members_in(self, shard: Shard) -> int:
        """Of those that say they keep this shard, the ones that would keep `shard`."""
        return sum(covers(shard, home) for home in self._members.values())

    @property
    def bytes_held(self) -> int:
        """What is drawn from the budget."""
        return self._held.amount

    def records_of(self, author: bytes) -> tuple[Record, ...]:
        """All of one author."""
        return self._authors.get(author, ())

    def has_list(self, author: bytes) -> bool:
        """The list of further keys is here that a record of this author names."""
        return author in self._lists

    def find(self, key: bytes, now: float, most: int = CROWD) -> list[Record]:
        """Records that have a key, in the order they came; of more than `most` and 256 so many, of each address group some."""
        return self._with_key([*self._indexed().some(key, most), *self._lists.authors(key)], key, now)

    def find_behind(self, key: bytes, after: bytes, now: float) -> list[Record]:
        """The same in the order of their authors, so many as fit into one answer, behind `after`."""
        every = (*self._indexed().authors(key), *self._lists.authors(key))
        return self._with_key(nsmallest(ANSWER_AUTHORS_MAX, [author for author in every if author > after]), key, now)

    def search(self, words: frozenset[bytes], now: float, most: int = CROWD) -> list[Record]:
        """Records with a name that has all words with these keys; found by the rarest of them."""
        index = self._indexed()
        rarest = min(words, key=lambda word: (len(index.authors(word)), word))
        authors = index.some(rarest, most)
        self.looked_at += len(authors)
        return [
            record
            for author in authors
            for record in self._authors[author]
            if record.expires > now and record.has_words(words)
        ]

    def digests(self, shard: Shard, now: float) -> bytes:
        """The tags of all records about `shard`, part by part: two tables with the same records have the same. Empty for a shard
        that nobody keeps who has our neighbours' depth: records about it are not compared."""
        self.expire(now)
        if shard not in self._parts:
            if shard not in (self.shard >> 1, self.shard << 1, self.shard << 1 | 1):
                return b""
            self._parts[shard] = [0] * DIGESTS
            for record in self:
                self._compare_by(record, shard)
        return b"".join(part.to_bytes(DIGEST_BYTES, "big") for part in self._parts[shard])

    def page(self, shard: Shard, after: bytes, digests: bytes, now: float) -> tuple[list[bytes], bytes]:
        """Records about `shard` in the order of their authors, behind `after`, of those parts where `digests` differ; and where
        the next page begins, empty at the end."""
        ours = self.digests(shard, now) if digests else b""
        starts = range(0, len(ours), DIGEST_BYTES)
        differs = [ours[at : at + DIGEST_BYTES] != digests[at : at + DIGEST_BYTES] for at in starts]
        page: list[bytes] = []
        size = 0
        if differs and not any(differs):
            return page, b""
        start = bisect_right(self._order, after)
        authors = self._order[start : start + PAGE_AUTHORS_MAX]
        self.looked_at += len(authors)
        for author in authors:
            records = self._authors[author]
            if differs and not differs[part_of(records[0])]:
                continue
            fitting = [r.data for r in records if r.expires > now and self._concerns(r, shard)]
            page += fitting
            size += sum(len(data) + 4 for data in fitting)
            if size >= PAGE_BYTES:
                return page, author
        return page, authors[-1] if len(authors) == PAGE_AUTHORS_MAX else b""

    # Facts

    def insert(self, record: Record, now: float) -> Outcome:
        """A record that is verified. Keeps it when the outcome is NEW, else changes nothing."""
        if record.expires <= now:
            return Outcome.EXPIRED
        author = bytes(record.author)
        known = self._authors.get(author, ())
        outcome, replaced = compare(record, known, self.shard)
        if outcome is not Outcome.NEW:
            return outcome
        rest = tuple(old for old in known if old not in replaced)
        if len(rest) >= RECORDS_PER_AUTHOR_MAX:
            oldest = min(rest, key=lambda old: old.sequence)
            rest = tuple(old for old in rest if old is not oldest)
            replaced = [*replaced, oldest]
        if not self._make_room(record.group, author, record.cost - sum(old.cost for old in replaced)):
            return Outcome.FULL
        if author not in self._authors:
            insort(self._order, author)
        self._groups.add(record)
        for old in replaced:
            self._uncount(old)
        self._count(record)
        self._authors[author] = (*rest, record)
        self._expires = min(self._expires, record.expires)
        self._forget_list(author, replaced)
        self._reindex(author, known)
        return Outcome.NEW

    def add_list(self, record: Record, keys: bytes) -> bool:
        """The keys behind `record.more`, as far as they are of this shard. False when they are not to be kept."""
        author = bytes(record.author)
        if record not in self._authors.get(author, ()) or author in self._lists:
            return False
        kept = keys_within(keys, self.shard)
        if len(self._lists) >= LISTS_MAX:
            shortest, few = self._lists.shortest()
            if len(few) >= len(kept):
                return False
            self._forget_list(bytes(shortest.author), (shortest,))
        try:
            self._held.grow(list_cost(kept))
        except LimitExceeded:
            return False
        self._lists.add(record, kept)
        self._load += len(kept)
        return True

    def expire(self, now: float) -> None:
        """Forget what is no longer good."""
        if now < self._expires:
            return
        # Each member does this each minute, for each record: so it is not `any(r.expires <= now for r in records)`.
        for author in [a for a, rs in self._authors.items() if min([r.issued + r.ttl for r in rs]) <= now]:
            self._keep(author, [record for record in self._authors[author] if record.expires > now])
        self._expires = min((record.expires for record in self), default=0)

    def forget_future(self, now: float) -> None:
        """Our clock was set back: records that are from the future by the right one would keep out those of the present."""
        for author in list(self._authors):
            records = self._authors[author]
            self._keep(author, [record for record in records if record.issued <= now + SKEW_SECONDS])

    # Commands

    def reshard(self, shard: Shard) -> None:
        """Keep another shard from now on: what is not about it is forgotten."""
        lists = self._lists.entries() if covers(self.shard, shard) else []
        for author in list(self._authors):
            self._forget_list(author, self._authors[author])
            self._keep(author, [record for record in self._authors[author] if self._concerns(record, shard)])
        self.shard = shard
        self._index = None
        self._load = 0
        self._members.clear()
        self._parts = {shard: [0] * DIGESTS}
        for record in self:
            self._count(record)
        for record, keys in lists:
            self.add_list(record, keys)

    def close(self) -> None:
        """Give everything back."""
        self._authors.clear()
        self._order.clear()
        self._index = None
        self._held.release()

    # Inside

    def _make_room(self, group: str | None, author: bytes, cost: int) -> bool:
        """Take what a record needs from the budget; others go for it, of the group that has most, the latest comers first."""
        self._held.shrink(max(-cost, 0))
        if cost <= 0 or self._takes(cost):
            return True
        ours = self._groups.held(group)
        for largest in self._groups.largest(EVICTIONS_MAX):
            for _ in range(EVICTIONS_MAX):
                others = [each for each in self._groups.latest(largest, CROWD) if each != author]
                if largest == group or self._groups.held(largest) <= ours or not others:
                    break
                self._keep(min(others, key=self._is_proven), [])
                if self._takes(cost):
                    return True
        return False

    def _takes(self, cost: int) -> bool:
        try:
            self._held.grow(cost)
        except LimitExceeded:
            return False
        return True

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
            del self._order[bisect_left(self._order, author)]

    def _uncount(self, record: Record) -> None:
        self._groups.remove(record)
        self._load -= self._weight(record)
        if self._is_member(record):
            del self._members[bytes(record.author)]
        for shard in self._parts:
            self._compare_by(record, shard)

    def _count(self, record: Record) -> None:
        self._load += self._weight(record)
        if self._is_member(record):
            self._members[bytes(record.author)] = record.home
        for shard in self._parts:
            self._compare_by(record, shard)

    def _compare_by(self, record: Record, shard: Shard) -> None:
        if self._concerns(record, shard):
            self._parts[shard][part_of(record)] ^= record.tag

    def _forget_list(self, author: bytes, gone: list[Record] | tuple[Record, ...]) -> None:
        keys = self._lists.pop(author, gone)
        self._held.shrink(list_cost(keys))
        self._load -= len(keys)

    def _concerns(self, record: Record, shard: Shard) -> bool:
        """Whether somebody who keeps `shard` wants it. A record without content says that its author has nothing there."""
        if covers(shard, record.shard):
            return True
        if not covers(record.shard, shard):
            return False
        return bool(record.more or keys_within(record.keys, shard)) or any(
            covers(shard, home_of_key(word)) for word in record.word_keys()
        )

    def _weight(self, record: Record) -> int:
        return LOAD_OF_RECORD + len(keys_within(record.keys, self.shard))

    def _is_member(self, record: Record) -> bool:
        return record.is_presence and covers(self.shard, record.home)

    def _with_key(self, authors: Iterable[bytes], key: bytes, now: float) -> list[Record]:
        """Of each of these authors the record that decides about a key, where it has it: when shards split, a newer one may
        be about a part only."""
        home = home_of_key(key)
        found: dict[bytes, Record] = {}
        for author in authors:
            self.looked_at += 1
            about = [r for r in self._authors[author] if not r.is_presence and covers(r.shard, home)]
            record = max(about, key=lambda record: record.sequence, default=None)
            if record is not None and record.expires > now and (key in record or self._lists.holds(record, key)):
                found[author] = record
        return list(found.values())

    def _keys_of(self, records: Iterable[Record]) -> Iterator[bytes]:
        for record in records:
            kept = keys_within(record.keys, self.shard)
            yield from (kept[at : at + KEY_BYTES] for at in range(0, len(kept), KEY_BYTES))
            yield from record.word_keys()

    def _indexed(self) -> KeyIndex:
        if self._index is None:
            self._index = KeyIndex()
            for author, records in self._authors.items():
                self._index.add(author, records[-1].group, dict.fromkeys(self._keys_of(records)))
        return self._index

    def _reindex(self, author: bytes, before: Iterable[Record]) -> None:
        """The records of one author have changed from `before` to what they are."""
        if self._index is None:
            return
        self._index.remove(author, dict.fromkeys(self._keys_of(before)))
        records = self._authors[author]
        if records:
            self._index.add(author, records[-1].group, dict.fromkeys(self._keys_of(records)))
