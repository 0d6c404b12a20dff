"""What we announce ourselves: made into records, renewed, withdrawn, kept over a restart. Source: docs/announce.md, "Records"."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field

from google.protobuf.message import DecodeError as ProtobufDecodeError

from stack.announce.keyspace import (
    LEVEL_MAX,
    Home,
    Shard,
    announce_key,
    home_of_key,
    home_of_peer,
    shard_at,
    word_key,
    words_of,
)
from stack.announce.outcomes import UPDATE_SECONDS_MIN
from stack.announce.params import AnnounceParams
from stack.announce.records import (
    CID_BYTES_MAX,
    KEYS_MAX,
    NAME_BYTES_MAX,
    NAMES_MAX,
    TTL_MIN,
    PublicName,
    encode_record,
)
from stack.errors import DecodeError, LocalProtocolError
from stack.identity.keys import PrivateKey
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.pb import announce_pb2 as pb
from stack.sansio.interfaces import Randomness
from stack.values import dataclass

LIST_KEYS_MAX = 65_536
"""Keys in a block behind a record: 1 MiB. With 256 in line that is a shard's part of more files than anybody has."""
NAMES_TOTAL_MAX = 8 * 1024
"""Bytes of names in one record, so that with 256 keys and 8 addresses it stays below its bound."""
ANNOUNCEMENTS_MAX = 1_000_000
ADDRESSES_SETTLE_SECONDS = 2.0
"""Addresses change several times when a network comes up."""
AHEAD_SECONDS = 300
"""A record of ours that is dated further ahead was written while our clock was wrong: half of what others allow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """One root that we announce."""

    root: Cid
    name: str | None = None
    """Anybody may find it by this; None: only who knows the root finds us."""
    size: int = 0
    """Bytes."""


@dataclass(slots=True)
class _Content:
    keys: dict[bytes, None] = field(default_factory=dict)
    names: list[PublicName] = field(default_factory=list)

    def places(self) -> Iterator[Home]:
        """Where those look who seek it."""
        yield from map(home_of_key, self.keys)
        for name in self.names:
            yield from (home_of_key(word_key(word)) for word in words_of(name.name))


@dataclass(slots=True)
class _Issued:
    """A record that is out."""

    content: tuple[frozenset[bytes], tuple[PublicName, ...], Cid | None]
    places: tuple[Home, ...]
    refresh_at: float
    """Wall-clock seconds."""
    expires: float
    ttl: int
    more: Cid | None = None
    """The list of further keys that it names."""

    @property
    def issued(self) -> float:
        """By our clock at that time."""
        return self.expires - self.ttl

    def is_due(self, wall: float) -> bool:
        """It is to be written anew: it is time, or our clock was ahead when it was written, and others refuse it for that."""
        return self.refresh_at <= wall or self.issued > wall + AHEAD_SECONDS

    @property
    def empty(self) -> bool:
        """It only takes back what was told before. That we keep our shard is not empty: it is refreshed."""
        return self.refresh_at == math.inf


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record to be handed to members."""

    shard: Shard
    data: bytes
    places: tuple[Home, ...]
    """It goes to members that keep these."""


class OwnAnnouncements:
    """Commands: `announce`, `withdraw`, `set_directory`, `set_kept`, `load`. Facts: `addresses_changed`. Getters: `items`, `directory`,
    `lists`, `is_pending`, `saved`, `next_timeout`. Outputs: `due`. `now` is monotonic, `wall` wall-clock seconds."""

    def __init__(
        self,
        key: PrivateKey,
        params: AnnounceParams,
        random: Randomness,
        *,
        is_member: bool,
        keep_list: Callable[[bytes], Cid],
    ) -> None:
        """`keep_list` keeps a block of further keys where others can fetch it."""
        self._key = key
        self._params = params
        self._random = random
        self._is_member = is_member
        self._keep_list = keep_list
        self._home = home_of_peer(PeerId.of(key.public))
        self._items: dict[Cid, Announcement] = {}
        self._directory: Cid | None = None
        self._kept: tuple[bytes, ...] = ()
        self._issued: dict[Shard, _Issued] = {}
        self._sequence = 0
        self._loaded = 0
        """The sequence before a restart: the second in which the last record of then was written, or a later one."""
        self._addresses: tuple[Multiaddr, ...] = ()
        self._changed_at: float | None = None
        """Since when something is not out yet."""
        self._last_at = -math.inf
        self._moved = False
        """Our addresses have changed: every record is to be written anew."""

    @property
    def items(self) -> tuple[Announcement, ...]:
        """In the order they were announced."""
        return tuple(self._items.values())

    @property
    def directory(self) -> Cid | None:
        """What `set_directory` was told last."""
        return self._directory

    @property
    def lists(self) -> frozenset[Cid]:
        """The lists of further keys that records name which are out."""
        return frozenset(issued.more for issued in self._issued.values() if issued.more is not None)

    @property
    def is_pending(self) -> bool:
        """Something has changed that is not in a record yet."""
        return self._changed_at is not None

    def announce(self, announcement: Announcement, now: float) -> None:
        """Tell, from now on. Raises LocalProtocolError when the name or the root is too long, or there are too many."""
        if announcement.name is not None:
            check_name(announcement.name)
        if len(bytes(announcement.root)) > CID_BYTES_MAX or not 0 <= announcement.size < 1 << 64:
            raise LocalProtocolError("this root, or its size, cannot be announced")
        if len(self._items) >= ANNOUNCEMENTS_MAX:
            raise LocalProtocolError(f"{ANNOUNCEMENTS_MAX} roots are announced already")
        if self._items.get(announcement.root) != announcement:
            self._items[announcement.root] = announcement
            self._change(now)

    def withdraw(self, root: Cid, now: float) -> bool:
        """Tell no more; False when it was not announced."""
        if self._items.pop(root, None) is None:
            return False
        self._change(now)
        return True

    def set_directory(self, root: Cid | None, now: float) -> None:
        """The UnixFS directory of all our public names."""
        if root != self._directory:
            self._directory = root
            self._change(now)

    def set_kept(self, keys: Iterable[bytes], now: float) -> None:
        """Keys that are told besides those of the items, and are not saved: whoever shares and seeds tells them again."""
        kept = tuple(sorted(set(keys)))
        if kept != self._kept:
            self._kept = kept
            self._change(now)

    def addresses_changed(self, addresses: Sequence[Multiaddr], now: float) -> None:
        """Where we can be dialled."""
        if tuple(addresses) != self._addresses:
            self._addresses = tuple(addresses)
            self._moved = True
            self._change(now + (ADDRESSES_SETTLE_SECONDS if self._issued else 0.0))

    def next_timeout(self, now: float, wall: float) -> float | None:
        """When `due` has something, in the time of `now`, as long as the clocks go on together; None: never, as it stands."""
        refresh = min((wall if i.is_due(wall) else i.refresh_at for i in self._issued.values()), default=math.inf)
        at = min(self._change_due(), now + max(refresh - wall, 0.0))
        return None if at == math.inf else at

    def due(self, level: int, now: float, wall: float) -> list[NewRecord]:
        """Records that are to go out now, shards being of this level."""
        for shard in [shard for shard, issued in self._issued.items() if issued.empty and issued.expires <= wall]:
            del self._issued[shard]
        changed = self._change_due() <= now
        refresh = {shard for shard, issued in self._issued.items() if issued.is_due(wall)}
        if not changed and not refresh:
            return []
        plan = self._plan(level)
        wanted = self._empties(plan, level) | plan
        everything = self._moved and changed
        written = [
            record
            for shard, content in wanted.items()
            if (record := self._write(shard, content, shard in refresh or everything, level, wall)) is not None
        ]
        self._issued = {shard: self._issued[shard] for shard in wanted}
        if changed:
            self._changed_at = None
            self._moved = False
            if any(record.shard != self._home for record in written):
                # That we keep our shard is told when we start; what is announced then need not wait for it.
                self._last_at = now
        return written

    def saved(self) -> bytes:
        """What to keep over a restart."""
        return pb.Saved(
            sequence=self._sequence,
            announcements=[
                pb.Saved.Announcement(root=bytes(item.root), name=item.name or "", size=item.size)
                for item in self._items.values()
            ],
            directory=bytes(self._directory) if self._directory is not None else b"",
        ).SerializeToString()

    def load(self, data: bytes, now: float) -> None:
        """Take back what `saved` gave. Raises DecodeError."""
        message = pb.Saved()
        try:
            message.ParseFromString(data)
        except ProtobufDecodeError as error:
            raise DecodeError("these are no announcements") from error
        self._sequence = self._loaded = max(self._sequence, message.sequence)
        for item in message.announcements:
            root = Cid.decode(item.root)
            self.announce(Announcement(root=root, name=item.name or None, size=item.size), now)
        self.set_directory(Cid.decode(message.directory) if message.directory else None, now)

    # Inside

    def _change(self, now: float) -> None:
        if self._changed_at is None:
            self._changed_at = now

    def _change_due(self) -> float:
        if self._changed_at is None:
            return math.inf
        return max(self._changed_at, self._last_at + self._params.update_interval)

    def _plan(self, level: int) -> dict[Shard, _Content]:
        plan: dict[Shard, _Content] = {}
        for item in self._items.values():
            key = announce_key(item.root.multihash)
            plan.setdefault(shard_at(home_of_key(key), level), _Content()).keys[key] = None
            if item.name is not None:
                name = PublicName(item.name, item.size, item.root)
                places = (home_of_key(word_key(word)) for word in words_of(item.name))
                for shard in dict.fromkeys(shard_at(place, level) for place in places):
                    plan.setdefault(shard, _Content()).names.append(name)
        for key in self._kept:
            plan.setdefault(shard_at(home_of_key(key), level), _Content()).keys[key] = None
        if self._is_member:
            # That we keep our shard is a record of its own, of the deepest shard: it has nothing to do with the others.
            plan[shard_at(self._home, LEVEL_MAX)] = _Content()
        return plan

    def _empties(self, plan: dict[Shard, _Content], level: int) -> dict[Shard, _Content]:
        """Shards that have been told of content that is no more, or is told of in another shard now."""
        places = (place for issued in self._issued.values() for place in issued.places if place != self._home)
        return {shard: _Content() for shard in dict.fromkeys(shard_at(p, level) for p in places) if shard not in plan}

    def _write(self, shard: Shard, content: _Content, anew: bool, level: int, wall: float) -> NewRecord | None:
        before = self._issued.get(shard)
        presence = shard == self._home
        places = (self._home,) if presence else tuple(dict.fromkeys(content.places()))
        empty = not places
        if empty:
            old = [issued for issued in self._issued.values() if issued.expires > wall]
            places = tuple(dict.fromkeys(p for i in old for p in i.places if shard_at(p, level) == shard))
        told = (frozenset(content.keys), tuple(content.names), self._directory if content.names else None)
        if before is not None and not anew and before.content == told and before.empty == empty:
            return None
        params = self._params
        ttl = params.ttl_first if before is None else min(params.ttl, max(before.ttl, params.ttl_first))
        if before is not None and anew and not self._moved:
            ttl = min(params.ttl, 2 * before.ttl)
        # Who has the last one, perhaps of before a restart, takes no other that is not dated ten seconds later, also when our clock was
        # set back since.
        last = self._loaded if before is None else int(before.issued)
        dated = max(int(wall), min(last + UPDATE_SECONDS_MIN, int(wall) + AHEAD_SECONDS))
        expires = max(wall, dated) + ttl
        refresh_at = wall + ttl / 2 * (1 - params.refresh_jitter * self._random.random())
        if empty:
            # It only has to outlive what it takes back.
            expires = min(max([i.expires for i in self._issued.values()], default=expires), wall + params.ttl)
            ttl = max(TTL_MIN, min(params.ttl, math.ceil(expires - wall)))
            refresh_at = math.inf
        keys = sorted(content.keys)
        more = self._keep_list(b"".join(keys[KEYS_MAX : KEYS_MAX + LIST_KEYS_MAX])) if len(keys) > KEYS_MAX else None
        self._issued[shard] = _Issued(told, places, refresh_at, expires, ttl, more)
        self._sequence = max(self._sequence + 1, int(wall))
        data = encode_record(
            self._key,
            sequence=self._sequence,
            issued=dated,
            ttl=ttl,
            shard=shard,
            addresses=self._addresses,
            keys=keys[:KEYS_MAX],
            names=_fitting(content.names),
            more=more,
            directory=self._directory if content.names else None,
            member=self._is_member,
        )
        return NewRecord(shard, data, places)


def check_name(name: str) -> None:
    """Raises LocalProtocolError when this is no public name."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise LocalProtocolError("a public name is text") from error
    if not (0 < size <= NAME_BYTES_MAX and words_of(name)):
        raise LocalProtocolError(f"a public name has 1 to {NAME_BYTES_MAX} bytes and a word of two characters")
    if "/" in name or "\0" in name:
        raise LocalProtocolError("a public name is a name in a directory: it has no slash in it")


def _fitting(names: Iterable[PublicName]) -> list[PublicName]:
    """The first that fit into a record; all are in the directory."""
    fitting: list[PublicName] = []
    size = 0
    for name in names:
        size += len(name.name.encode()) + len(bytes(name.cid)) + 16
        if len(fitting) < NAMES_MAX and size <= NAMES_TOTAL_MAX:
            fitting.append(name)
    return fitting
