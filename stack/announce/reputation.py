"""Who has delivered what was said of it, and who has not. Each node judges for itself and tells nobody."""

from collections import OrderedDict
from collections.abc import Sequence

from stack.announce.records import Record
from stack.identity.peer_id import PeerId
from stack.sansio.interfaces import Randomness

PEERS_MAX = 4096
"""Peers remembered; the one not heard of for longest goes first."""
SCORE_MAX = 4
"""A peer that has delivered often may still fail four times before it counts like a stranger."""


class Reputation:
    """Facts: `delivered`, `failed`. Getters: `score`, `best`."""

    __slots__ = ("_scores",)

    def __init__(self) -> None:
        self._scores: OrderedDict[bytes, int] = OrderedDict()

    def delivered(self, peer: PeerId) -> None:
        """It had what it announced, or answered what it was asked."""
        self._add(peer, 1)

    def failed(self, peer: PeerId) -> None:
        """It could not be reached, or had not what it announced."""
        self._add(peer, -1)

    def score(self, peer: PeerId) -> int:
        """From -4 to 4; 0 for a stranger."""
        return self._scores.get(bytes(peer), 0)

    def is_proven(self, author: bytes) -> bool:
        """It has delivered more often than not."""
        return self._scores.get(author, 0) > 0

    def best(self, records: Sequence[Record], count: int, random: Randomness) -> list[Record]:
        """At most `count` records: proven authors first, in turn from each address group, at random among equals, so that many
        identities behind few addresses do not hide the others."""
        ranked = random.sample(records, len(records))
        ranked.sort(key=lambda record: -self.score(record.author))
        turns: dict[str | None, int] = {}
        order: list[tuple[int, int, Record]] = []
        for position, record in enumerate(ranked):
            # Loopback and memory are no group: there nobody hides anybody.
            turn = turns.get(record.group, 0) if record.group is not None else 0
            turns[record.group] = turn + 1
            order.append((turn - self.score(record.author), position, record))
        order.sort(key=lambda entry: entry[:2])
        return [record for _, _, record in order[:count]]

    def _add(self, peer: PeerId, amount: int) -> None:
        raw = bytes(peer)
        score = self._scores.pop(raw, 0) + amount
        self._scores[raw] = max(-SCORE_MAX, min(SCORE_MAX, score))
        if len(self._scores) > PEERS_MAX:
            self._scores.popitem(last=False)
