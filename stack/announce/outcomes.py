"""What becomes of a record that is offered, and which it replaces. Source: docs/announce.md, "The table"."""

from collections.abc import Iterable
from enum import Enum

from stack.announce.keyspace import Shard, compatible, covers
from stack.announce.records import Record

UPDATE_SECONDS_MIN = 10
"""Between two records of one author for one shard, by their own dates, so that all members judge alike."""


class Outcome(Enum):
    """What became of a record that was offered."""

    NEW = "new"
    KNOWN = "known"
    OLD = "there is a newer one"
    EXPIRED = "expired, or from the future"
    TOO_SOON = "the last one of this author is not ten seconds older"
    FOREIGN = "of another shard"
    FULL = "no room, and its address group has most of it"


def compare(record: Record, known: Iterable[Record], ours: Shard) -> tuple[Outcome, list[Record]]:
    """Whether who keeps the shard `ours` takes a record, `known` being what it has of the same author, and which of those go."""
    if not compatible(ours, record.shard):
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
        if covers(record.shard, old.shard) or covers(record.shard, ours):
            replaced.append(old)
    return Outcome.NEW, replaced
