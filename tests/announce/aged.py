"""A network as it is when it has stood for a day, made at once: nodes of all ages keep their shards, tables hold records of those
alive and of those that have left meanwhile, and everybody knows members from the time it came. From then on nothing is shortened.

What growing such a network by its own rules would need, hours of simulated time of 10,000 nodes, is left out; that it comes to
this is what the runs of smaller networks from their first node on show.
"""

import hashlib
import math
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from random import Random

from stack.announce.contacts import OTHER_SHARD_MAX, OWN_SHARD_MAX, STAYING_PART
from stack.announce.keyspace import LEVEL_MAX, Shard, announce_key, home_of_key, home_of_peer, shard_at
from stack.announce.own import Announcement, _Issued
from stack.announce.params import AnnounceParams
from stack.announce.records import KEY_OVERHEAD_BYTES, Record, decode_record
from stack.announce.table import Table
from stack.identity.peer_id import PeerId
from stack.multiformats.varint import encode
from stack.sansio.budget import Scope
from tests.announce.network import WALL, Network, Node, address_of, peer_of, root_of

DAY = 24 * 3600.0
SETTLED_SECONDS = 120.0
"""An author that has come so long ago has handed in its records, and its contacts are those of that time."""


@dataclass(slots=True)
class Author:
    """Somebody who shares files, or has until he left."""

    number: int
    peer: PeerId
    born: float
    """Wall-clock seconds."""
    raw: bytes
    records: list[Record] = field(default_factory=list)
    """The first is that it is a member."""
    issued: dict[Shard, _Issued] = field(default_factory=dict)


def make_aged(network: Network, *, nodes: int, files: int, change: float) -> int:
    """Adds `nodes` that share `files` each, of which a part of `change` left each minute and was followed by others, for a day.
    Returns how many have left of whom there are records still."""
    random = Random(f"aged {network.random.random()}")
    life = 60 / change
    params = network.params
    alive = [(WALL - min(random.expovariate(1 / life), DAY), math.inf) for _ in range(nodes)]
    gone = list(_gone(nodes, life, params, random))
    members = len(alive) + len(gone)
    level = max((n for n in range(LEVEL_MAX) if members >> n >= params.members_min), default=0)
    while level and _load(members, files, level - 1) < params.split_bytes:
        level -= 1
    authors = [
        Author(number, peer_of(number), born, bytes(peer_of(number)))
        for number, (born, _) in enumerate([*alive, *gone])
    ]
    tables: dict[Shard, Table] = {}
    for author, (_, died) in zip(authors, [*alive, *gone], strict=True):
        network.numbers[author.peer] = author.number
        _write(author, files, level, died, params, random)
        for record in author.records:
            network.reader._cache[record.data] = record
            shards = [shard_at(record.home, level)] if record.is_presence else [record.shard]
            for shard in shards:
                table = tables.setdefault(shard, Table(shard, Scope("shard", {})))
                table.insert(record, WALL)
    by_shard: dict[Shard, list[Author]] = {}
    for author in sorted(authors, key=lambda each: each.born):
        by_shard.setdefault(shard_at(home_of_peer(author.peer), level), []).append(author)
    born = {shard: [author.born for author in each] for shard, each in by_shard.items()}
    latest: dict[Shard, dict[Shard, list[tuple[bytes, Record]]]] = {}
    for author in authors[:nodes]:
        node = Node(network, author.number, is_member=True, params=params)
        network.insert(node)
        _settle(node, author, files, level, tables, random)
        shard = node.machine._state.table.shard
        if shard not in latest:
            latest[shard] = _latest(tables[shard], level)
        _introduce(node, author, by_shard, born, latest[shard], random)
        node.pump()
    present = {shard: [a.number for a in each if a.number < nodes] for shard, each in by_shard.items()}
    _wire(network, {shard: numbers for shard, numbers in present.items() if numbers}, random)
    return len(gone)


def _gone(nodes: int, life: float, params: AnnounceParams, random: Random) -> list[tuple[float, float]]:
    """When those were born and died that have left within a day and whose last records are good still."""
    found = []
    at = 0.0
    while (at := at + random.expovariate(nodes / life)) < DAY:
        born = WALL - at - min(random.expovariate(1 / life), DAY)
        issued, ttl, _ = _last(born, WALL - at, params, random)
        if issued + ttl > WALL:
            found.append((born, WALL - at))
    return found


def _last(born: float, died: float, params: AnnounceParams, random: Random) -> tuple[float, int, float]:
    """The last record an author wrote until now or until it died: when, its ttl, when it would be refreshed."""
    issued, ttl = born, params.ttl_first
    while True:
        refresh = issued + ttl / 2 * (1 - params.refresh_jitter * random.random())
        if refresh > min(died, WALL):
            return issued, ttl, refresh
        issued, ttl = refresh, min(2 * ttl, params.ttl)


def _load(members: int, files: int, level: int) -> float:
    """Of a shard of this level, as members reckon it: a file more makes a record more only where there was none."""
    shards = 1 << level
    return members * ((1 - (1 - 1 / shards) ** files) * 180 + 16 * files / shards)


def _write(author: Author, files: int, level: int, died: float, params: AnnounceParams, random: Random) -> None:
    keys: dict[Shard, list[bytes]] = {home_of_peer(author.peer): []}
    for number in range(files):
        # The key of root_of((author, number)), without the objects between.
        digest = hashlib.sha256(b"content (%d, %d)" % (author.number, number)).digest()
        key = announce_key(b"\x12\x20" + digest)
        keys.setdefault(shard_at(home_of_key(key), level), []).append(key)
    begin = _field(1, author.raw)
    end = _field(7, bytes(address_of(author.number)))
    for shard, content in keys.items():
        issued, ttl, refresh = _last(author.born, died, params, random)
        content.sort()
        head = b"\x18%b\x20%b\x28%b\x30%b" % (*(encode(int(issued)),) * 2, encode(ttl), encode(shard))
        record = begin + head + end + (_field(8, b"".join(content)) if content else b"") + b"\x60\x01"
        # Nobody has signed: these are never verified, for they are what has been read already.
        data = _field(1, record) + _field(2, bytes(64))
        author.records.append(_read(data, content, issued, ttl, shard, author))
        if died == math.inf:
            places = tuple(map(home_of_key, content)) or (home_of_peer(author.peer),)
            author.issued[shard] = _Issued((frozenset(content), (), None), places, refresh, issued + ttl, ttl)


def _field(number: int, data: bytes) -> bytes:
    """Of a protobuf: written by hand, for there are millions."""
    return bytes([number << 3 | 2]) + encode(len(data)) + data


def _read(data: bytes, keys: list[bytes], issued: float, ttl: int, shard: Shard, author: Author) -> Record:
    """The record in these bytes. Only the first of an author is decoded, the presence; the others are like it but for some fields."""
    if not author.records:
        return decode_record(data, lambda *_: True)
    first = author.records[0]
    return replace(
        first,
        sequence=int(issued),
        issued=int(issued),
        ttl=ttl,
        shard=shard,
        keys=b"".join(keys),
        data=data,
        tag=int.from_bytes(hashlib.sha256(data).digest()[:8], "big"),
        cost=first.cost + len(data) - len(first.data) + len(keys) * KEY_OVERHEAD_BYTES,
    )


def _settle(node: Node, author: Author, files: int, level: int, tables: dict[Shard, Table], random: Random) -> None:
    """It keeps its shard, knows what there is to know, and has handed in all of its own."""
    machine, now = node.machine, node.now
    state, membership, own = machine._state, machine._membership, machine._own
    for number in range(files):
        root = root_of((author.number, number))
        own._items[root] = Announcement(root=root)
    own._issued = author.issued
    own._sequence = int(WALL)
    own._moved, own._changed_at = False, None
    machine._own_at = own.next_timeout(now, node.wall)
    membership._settle(level, now, node.wall)
    state.missing = []
    membership._transfer = None
    membership._connect_at = now + random.uniform(0, state.params.connect_interval)
    membership._sync_at = now + random.uniform(0, state.params.sync_interval)
    # A connection is compared at once when the last comparison is long ago: these were compared when they were made.
    membership._synced_at = membership._sync_at
    membership._level_at = now + random.uniform(0, state.params.level_interval)
    state.presence = author.records[0].data
    table, base = state.table, tables[state.table.shard]
    table._authors = dict(base._authors)
    table._order, table._expires = list(base._order), base._expires
    table._groups._groups = {group: (held, dict(authors)) for group, (held, authors) in base._groups._groups.items()}
    table._load, table._members = base._load, dict(base._members)
    table._parts = {shard: list(parts) for shard, parts in base._parts.items()}
    table._held.grow(base.bytes_held)


def _introduce(
    node: Node,
    author: Author,
    by_shard: dict[Shard, list[Author]],
    born: dict[Shard, list[float]],
    latest: dict[Shard, list[tuple[bytes, Record]]],
    random: Random,
) -> None:
    """Members it has come to know. Of each shard a third are from when it came, gone or not; the others those whose records it was
    told last."""
    contacts = node.machine._state.contacts
    here = node.machine._state.table.shard
    for shard, each in by_shard.items():
        limit = OWN_SHARD_MAX if shard == here else OTHER_SHARD_MAX
        before = bisect_left(born[shard], author.born + SETTLED_SECONDS) or len(each)
        of_shard = contacts._known[shard] = {}
        for _ in range(limit // STAYING_PART):
            other = each[random.randrange(before)]
            if other is not author:
                of_shard[other.raw] = other.records[0]
        for raw, record in latest.get(shard, ()):
            if len(of_shard) < limit and record.author != author.peer:
                of_shard[raw] = record


def _latest(table: Table, level: int) -> dict[Shard, list[tuple[bytes, Record]]]:
    """Of the authors in a table, by the shards they keep: those who have written last."""
    found: dict[Shard, list[tuple[bytes, Record]]] = {}
    for record in sorted(table, key=lambda each: -each.issued):
        shard = shard_at(record.home, level)
        of_shard = found.setdefault(shard, [])
        if len(of_shard) < (OWN_SHARD_MAX if shard == table.shard else OTHER_SHARD_MAX):
            of_shard.append((bytes(record.author), record))
    return found


def _wire(network: Network, members: dict[Shard, list[int]], random: Random) -> None:
    """Connections within each shard, into others where a node sees to those, and three that each node has begun with."""
    degree = network.params.degree
    standing = len(members) - 1 <= network.params.standing
    for numbers in members.values():
        for number in numbers:
            for other in random.sample(numbers, len(numbers)):
                if len(network.links[number]) >= degree:
                    break
                network.connect(number, other)
    every = [number for numbers in members.values() for number in numbers]
    for number in sorted(every):
        for other in random.sample(every, 3):
            network.connect(number, other)
        for numbers in members.values() if standing else ():
            if network.links[number].keys().isdisjoint(numbers):
                network.connect(number, random.choice(numbers))
