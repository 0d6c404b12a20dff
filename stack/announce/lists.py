"""Sorted keys that stand one behind the other, and lists of further keys of authors that have many. Source: docs/announce.md,
"Records"."""

from stack.announce.keyspace import KEY_BYTES, Shard, key_range
from stack.announce.records import KEY_OVERHEAD_BYTES, Record

LISTS_MAX = 256
"""Lists in one table: each is looked through for each question. The shortest gives way to a longer one."""


def list_cost(keys: bytes) -> int:
    """What a list draws from the budget: whoever looks for one of its keys may have it in a record of its own next."""
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


class KeyLists:
    """By author, the record that names a list and the keys in it. Commands: `add`, `pop`. Getters: `authors`, `holds`, `entries`,
    `shortest`."""

    __slots__ = ("_lists",)

    def __init__(self) -> None:
        self._lists: dict[bytes, tuple[Record, bytes]] = {}

    def __len__(self) -> int:
        return len(self._lists)

    def __contains__(self, author: bytes) -> bool:
        return author in self._lists

    def authors(self, key: bytes) -> list[bytes]:
        """Whose list has a key."""
        return [author for author, (_, keys) in self._lists.items() if _has(keys, key)]

    def holds(self, record: Record, key: bytes) -> bool:
        """The list of this record has a key."""
        known = self._lists.get(bytes(record.author))
        return known is not None and known[0] is record and _has(known[1], key)

    def entries(self) -> list[tuple[Record, bytes]]:
        """All."""
        return list(self._lists.values())

    def shortest(self) -> tuple[Record, bytes]:
        """Of all; there is one."""
        return min(self._lists.values(), key=lambda entry: len(entry[1]))

    def add(self, record: Record, keys: bytes) -> None:
        """The keys behind a record."""
        self._lists[bytes(record.author)] = (record, keys)

    def pop(self, author: bytes, records: tuple[Record, ...] | list[Record]) -> bytes:
        """Forget the list of an author if one of these records names it; returns what it had."""
        known = self._lists.get(author)
        if known is None or known[0] not in records:
            return b""
        del self._lists[author]
        return known[1]

    def clear(self) -> None:
        """Forget all."""
        self._lists.clear()


def _has(keys: bytes, key: bytes) -> bool:
    at = _position(keys, key)
    return keys[at : at + KEY_BYTES] == key
