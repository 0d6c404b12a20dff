"""What each address group holds of a table: who has most gives way first. Source: docs/announce.md, "The table"."""

from heapq import nlargest
from itertools import islice

from stack.announce.records import Record

Group = str | None
"""An IPv4 /24 or IPv6 /48; None: loopback, or none that is known."""


class Groups:
    """Facts: `add`, `remove`. Getters: `held`, `largest`, `latest`."""

    __slots__ = ("_groups",)

    def __init__(self) -> None:
        self._groups: dict[Group, tuple[int, dict[bytes, int]]] = {}
        """Bytes; and authors in the order they came, with how many records each has."""

    def held(self, group: Group) -> int:
        """Bytes."""
        return self._groups[group][0] if group in self._groups else 0

    def largest(self, most: int) -> list[Group]:
        """So many of those that hold most, the largest first."""
        return nlargest(most, self._groups, key=self.held)

    def latest(self, group: Group, most: int) -> list[bytes]:
        """So many authors of a group, the latest comer first."""
        return list(islice(reversed(self._groups[group][1]), most)) if group in self._groups else []

    def add(self, record: Record) -> None:
        """A record is kept. Added before what it replaces is removed, its author keeps its place among the others."""
        held, authors = self._groups.get(record.group, (0, {}))
        author = bytes(record.author)
        authors[author] = authors.get(author, 0) + 1
        self._groups[record.group] = (held + record.cost, authors)

    def remove(self, record: Record) -> None:
        """It is not any more."""
        held, authors = self._groups[record.group]
        author = bytes(record.author)
        authors[author] -= 1
        if not authors[author]:
            del authors[author]
        self._groups[record.group] = (held - record.cost, authors)
        if not authors:
            del self._groups[record.group]
