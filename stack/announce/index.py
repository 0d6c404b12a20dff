"""Who has a key: authors by key, of a crowd some of each address group. Source: docs/announce.md, "The table"."""

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

CROWD = 256
"""Authors of one key from which on they are kept by group as well: so many are looked at for one question, in half a millisecond."""

Group = str | bytes
"""An address group; who names none is one of its own."""


class KeyIndex:
    """Commands: `add`, `remove`. Getters: `authors`, `some`."""

    __slots__ = ("_authors", "_crowds", "_groups", "_turn")

    def __init__(self) -> None:
        self._authors: dict[bytes, tuple[bytes, ...]] = {}
        """In the order they came; most keys have one."""
        self._crowds: dict[bytes, dict[Group, dict[bytes, None]]] = {}
        """Of keys that many have, the authors of each group."""
        self._groups: dict[bytes, Group] = {}
        """Of each author."""
        self._turn = 0

    def authors(self, key: bytes) -> tuple[bytes, ...]:
        """All that have a key, in the order they came."""
        return self._authors.get(key, ())

    def some(self, key: bytes, most: int) -> list[bytes]:
        """Those that have a key; of a crowd at most so many, one of each group in turn and each time others: many identities
        behind few addresses do not hide the rest."""
        crowd = self._crowds.get(key)
        if crowd is None:
            return list(self._authors.get(key, ()))
        self._turn += most
        waiting = [iter(_part(list(crowd[group]), self._turn, most)) for group in _part(list(crowd), self._turn, most)]
        found: list[bytes] = []
        while waiting and len(found) < most:
            taken = [(author, members) for members in waiting if (author := next(members, None)) is not None]
            found += [author for author, _ in taken]
            waiting = [members for _, members in taken]
        return found[:most]

    def add(self, author: bytes, group: str | None, keys: Iterable[bytes]) -> None:
        """An author has these keys, each named once; it had none before."""
        place = self._groups[author] = group if group is not None else author
        for key in keys:
            authors = self._authors[key] = (*self._authors.get(key, ()), author)
            crowd = self._crowds.get(key)
            if crowd is not None:
                crowd.setdefault(place, {})[author] = None
            elif len(authors) > CROWD:
                crowd = self._crowds[key] = {}
                for each in authors:
                    crowd.setdefault(self._groups[each], {})[each] = None

    def remove(self, author: bytes, keys: Iterable[bytes]) -> None:
        """It has them no more: all that it had."""
        place = self._groups.pop(author, author)
        for key in keys:
            authors = self._authors[key]
            at = authors.index(author)
            left = authors[:at] + authors[at + 1 :]
            if left:
                self._authors[key] = left
            else:
                del self._authors[key]
            crowd = self._crowds.get(key)
            if crowd is not None:
                del crowd[place][author]
                if not crowd[place]:
                    del crowd[place]
                if len(left) <= CROWD:
                    del self._crowds[key]


def _part(ring: list[T], at: int, most: int) -> list[T]:
    """So many of a ring, from a place on."""
    if len(ring) <= most:
        return ring
    at %= len(ring)
    return (ring[at:] + ring[:at])[:most]
