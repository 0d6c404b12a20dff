"""Whose lists of further keys are fetched, and who waits: nobody's silence costs others theirs. Source: docs/announce.md, "Abuse"."""

from collections import OrderedDict

from stack.announce.groups import Group
from stack.announce.records import Record
from stack.announce.table import Table
from stack.identity.peer_id import PeerId

UNDER_WAY_MAX = 8
"""Lists that are being fetched, of 1 MiB at most: one of an address group and of an author."""
WAITING_MAX = 256
"""Authors that wait: as many as a table has lists."""
CAME_MAX = 1024
"""Authors of whom it is known which list has come."""


class ListFetches:
    """Facts: `named`, `done`, `resharded`. Output: `next_record`. Getter: `waiting`.

    What is waited for is looked up in the table when its turn comes: an author waits, not a record.
    """

    def __init__(self, table: Table, own: PeerId) -> None:
        """Lists of our `own` are not fetched."""
        self._table = table
        self._own = own
        self._under_way: dict[bytes, Record] = {}
        self._waiting: dict[Group, dict[bytes, None]] = {}
        """The groups in the order of their turns; of each the authors, the first comer first."""
        self._groups: dict[bytes, Group] = {}
        """Where each author waits."""
        self._came: OrderedDict[bytes, int] = OrderedDict()
        """Tags of the records whose lists have come, of use or not: who repeats the record of another would have everybody ask that one
        again and again."""

    @property
    def waiting(self) -> int:
        """Authors."""
        return len(self._groups)

    def named(self, record: Record) -> None:
        """A record that is in the table has come, or come again. With too many waiting the group that has most gives way; who found no
        place may try again with the same record."""
        author, group = bytes(record.author), record.group
        if record.author == self._own or self._wanted(author) is None or self._groups.get(author, ...) == group:
            return
        under_way = self._under_way.get(author)
        if under_way is not None and under_way.data == record.data:
            return
        if author in self._groups:
            self._forget(author)
        if self.waiting >= WAITING_MAX:
            largest = max(self._waiting, key=lambda each: len(self._waiting[each]))
            if len(self._waiting[largest]) <= len(self._waiting.get(group, ())) + 1:
                return
            self._forget(next(reversed(self._waiting[largest])))
        self._waiting.setdefault(group, {})[author] = None
        self._groups[author] = group

    def done(self, record: Record, *, came: bool) -> None:
        """Its list has been fetched, or cannot be; then it may be tried again when the record is heard again."""
        author = bytes(record.author)
        self._under_way.pop(author, None)
        if came:
            self._came[author] = record.tag
            self._came.move_to_end(author)
            if len(self._came) > CAME_MAX:
                self._came.popitem(last=False)

    def resharded(self) -> None:
        """The table keeps another shard: what was of no use may be now."""
        self._came.clear()
        for record in self._table:
            if self.waiting < WAITING_MAX:
                self.named(record)

    def next_record(self) -> Record | None:
        """Whose list is to be fetched now; None: nobody's, or enough are under way."""
        if len(self._under_way) >= UNDER_WAY_MAX:
            return None
        busy = {record.group for record in self._under_way.values()}
        for group in [group for group in self._waiting if group not in busy]:
            authors = self._waiting.pop(group)
            record = self._first(authors)
            if authors:
                self._waiting[group] = authors  # behind all others
            if record is not None:
                self._under_way[bytes(record.author)] = record
                return record
        return None

    def _first(self, authors: dict[bytes, None]) -> Record | None:
        for author in [author for author in authors if author not in self._under_way]:
            del authors[author], self._groups[author]
            if (record := self._wanted(author)) is not None:
                return record
        return None

    def _forget(self, author: bytes) -> None:
        group = self._groups.pop(author)
        del self._waiting[group][author]
        if not self._waiting[group]:
            del self._waiting[group]

    def _wanted(self, author: bytes) -> Record | None:
        if self._table.has_list(author):
            return None
        named = [record for record in self._table.records_of(author) if record.more is not None]
        record = max(named, key=lambda record: record.sequence, default=None)
        return record if record is not None and record.tag != self._came.get(author) else None
