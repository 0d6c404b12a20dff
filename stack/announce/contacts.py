"""Members one knows: those connected, and for each shard a few that can be dialled. Source: docs/announce.md, "Members"."""

from collections import Counter
from collections.abc import Callable, Iterator

from stack.announce.keyspace import WHOLE, Home, Shard, common_bits, home_of_peer, level_of, shard_at
from stack.announce.records import Record
from stack.announce.reputation import Reputation
from stack.identity.peer_id import PeerId
from stack.sansio.interfaces import Randomness
from stack.values import dataclass

OWN_SHARD_MAX = 32
"""Members of our own shard that are remembered: a mesh has a dozen."""
OTHER_SHARD_MAX = 3
"""Members of each other shard: two are asked, one may be gone."""
STAYING_PART = 3
"""A third of those of a shard stays until it fails, so that many who come at once do not take all places. The others give way to
whoever has written a record since: where a hundredth of the network changes each minute, half of those of two hours ago are gone."""
SHARDS_MAX = 4096
"""Shards of which any are remembered: 12,288 records of 250 bytes are 3 MB."""
CONTACT_BYTES_MAX = 2048
"""The longest record that is kept as a contact and told to others: all of an answer's fit one page. What has more to tell has a
presence as well."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A member that may be asked."""

    peer: PeerId
    home: Home
    record: Record | None
    """Its signed record; None: we are connected, and know no more."""
    group: str | None
    connected: bool


class Contacts:
    """Facts: `connected`, `disconnected`, `learn`, `forget`. Commands: `move`.

    Getters: `nearest`, `closer`, `in_shard`, `missing`, `reached`.

    `now` is wall-clock seconds."""

    __slots__ = ("_connected", "_known", "_level", "_own", "_random", "_reputation", "_shard")

    def __init__(self, own: PeerId, reputation: Reputation, random: Randomness) -> None:
        self._own = own
        self._reputation = reputation
        self._random = random
        self._connected: dict[PeerId, tuple[Home, str | None]] = {}
        self._known: dict[Shard, dict[bytes, Record]] = {}
        """By shard, then by author, in the order we came to know them."""
        self._level = 0
        self._shard = WHOLE

    def __repr__(self) -> str:
        return f"<Contacts: {len(self._connected)} connected, {len(self)} known>"

    def __len__(self) -> int:
        return sum(map(len, self._known.values()))

    # Getters

    def is_connected(self, peer: PeerId) -> bool:
        """It can be asked without a dial."""
        return peer in self._connected

    def group_of(self, peer: PeerId) -> str | None:
        """The address group of a connected member, by its connection."""
        return self._connected.get(peer, (None, None))[1]

    def connected_in(self, shard: Shard) -> list[PeerId]:
        """Connected members whose home is in a shard."""
        level = level_of(shard)
        return [peer for peer, (home, _) in self._connected.items() if shard_at(home, level) == shard]

    def reached(self) -> Counter[Shard]:
        """How many members are connected in each shard, at the level we keep contacts by."""
        return Counter(shard_at(home, self._level) for home, _ in self._connected.values())

    def connected_peers(self) -> tuple[PeerId, ...]:
        """All connected members."""
        return tuple(self._connected)

    def in_shard(self, shard: Shard, now: float) -> list[Record]:
        """Known members of a shard, at the level we keep contacts by."""
        return [record for record in self._known.get(shard, {}).values() if record.expires > now]

    def missing(self) -> list[Shard]:
        """Shards of which no member is known."""
        every = map(Shard, range(1 << self._level, 2 << self._level))
        return [shard for shard in every if shard not in self._known and shard != self._shard]

    def nearest(self, place: Home, skip: Callable[[PeerId], bool], now: float) -> list[Candidate]:
        """Who may be asked about a place, the most likely to keep it first; of those equally near who has failed last, connected
        ones and then proven ones first."""
        level = self._level
        found: dict[PeerId, Candidate] = {}
        for peer, (home, group) in self._connected.items():
            if not skip(peer):
                found[peer] = Candidate(peer, home, None, group, True)
        for record in self._around(place):
            peer = record.author
            if peer not in found and record.expires > now and not skip(peer):
                found[peer] = Candidate(peer, record.home, record, record.group, False)
        candidates = list(found.values())
        self._random.shuffle(candidates)
        score = self._reputation.score
        candidates.sort(
            key=lambda c: (
                -min(common_bits(place, c.home), level),
                score(c.peer) < 0,
                not c.connected,
                -score(c.peer),
            )
        )
        return candidates

    def closer(self, place: Home, count: int, now: float) -> list[bytes]:
        """Records of members near a place, to tell somebody else."""
        records = [r for r in self._around(place) if r.expires > now]
        score = self._reputation.score
        records.sort(key=lambda r: (-common_bits(place, r.home), -score(r.author), -r.issued))
        return [record.data for record in records[:count] if score(record.author) >= 0]

    # Facts

    def connected(self, peer: PeerId, group: str | None) -> None:
        """A member can be asked without a dial."""
        self._connected[peer] = (home_of_peer(peer), group)

    def disconnected(self, peer: PeerId) -> None:
        """It cannot any more."""
        self._connected.pop(peer, None)

    def learn(self, record: Record) -> bool:
        """Somebody may be a member, and can be dialled by what it has signed. True when it is new to us."""
        if not (record.member or record.is_presence) or not record.addresses or record.author == self._own:
            return False
        if len(record.data) > CONTACT_BYTES_MAX:
            return False
        known = self._known
        shard = shard_at(record.home, self._level)
        others = known.get(shard)
        if others is None:
            if len(known) >= SHARDS_MAX:
                return False
            others = known[shard] = {}
        author = bytes(record.author)
        before = others.get(author)
        if before is not None:
            if record.sequence > before.sequence:
                others[author] = record
            return False
        limit = OWN_SHARD_MAX if shard == self._shard else OTHER_SHARD_MAX
        if len(others) >= limit:
            gives_way = self._gives_way(list(others.values()), limit // STAYING_PART, record)
            if gives_way is None:
                return False
            del others[bytes(gives_way.author)]
        others[author] = record
        return True

    def forget(self, peer: PeerId) -> None:
        """It could not be reached."""
        shard = shard_at(home_of_peer(peer), self._level)
        others = self._known.get(shard, {})
        if others.pop(bytes(peer), None) is not None and not others:
            del self._known[shard]

    # Commands

    def move(self, shard: Shard) -> None:
        """We keep another shard: contacts are kept by its level."""
        before = [record for others in self._known.values() for record in others.values()]
        self._shard = shard
        self._level = level_of(shard)
        self._known = {}
        for record in before:
            self.learn(record)

    # Inside

    def _gives_way(self, others: list[Record], staying: int, record: Record) -> Record | None:
        """Who makes room for a member more: who has failed or expired, else the one not heard of for longest."""
        score = self._reputation.score
        useless = [other for other in others if other.expires <= record.issued or score(other.author) < 0]
        if useless:
            return min(useless, key=lambda other: (score(other.author), other.issued))
        older = [o for o in others[staying:] if o.issued < record.issued and score(o.author) == 0]
        return min(older, key=lambda other: other.issued, default=None)

    def _around(self, place: Home) -> Iterator[Record]:
        """Members of the shard at a place, then of ever larger shards around it, until there are a few."""
        count = 0
        for up in range(self._level + 1):
            half = shard_at(place, self._level - max(up - 1, 0))
            # Step by step the half that was not looked at yet.
            fresh = half if up == 0 else half ^ 1
            depth = max(up - 1, 0)
            for shard in range(fresh << depth, (fresh + 1) << depth):
                others = self._known.get(Shard(shard), {})
                count += len(others)
                yield from others.values()
            if count >= OTHER_SHARD_MAX:
                return
