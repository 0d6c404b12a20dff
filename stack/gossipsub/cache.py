"""What is remembered of messages: that they were seen, by whom, and the latest of them whole, to be asked for."""

from collections import deque
from collections.abc import Iterable
from enum import Enum

from stack.gossipsub.messages import Message
from stack.gossipsub.peers import Peer
from stack.values import dataclass

MESSAGE_OVERHEAD_BYTES = 256
"""What a message takes in memory beside its bytes, measured: without it, tiny ones would take three times what they are counted with."""
GIVEN_MAX = 262_144
"""Pairs of message and peer for which is counted how often it was given on request: 12 MB. Beyond that it is given uncounted: what a
peer may ask for in a heartbeat is bounded anyway, and who is honest must still get what it has missed."""


class Fate(Enum):
    """What became of a message."""

    VALID = "valid"
    INVALID = "invalid"
    IGNORED = "ignored"


@dataclass(slots=True)
class Seen:
    """A message id that has been dealt with."""

    fate: Fate
    at: float
    """When that was decided."""
    expires: float
    source: Peer | None
    """Who was first to deliver it; None: we wrote it."""
    peers: dict[Peer, None] | None = None
    """Who else of the mesh has delivered it and been credited for that."""


class SeenCache:
    """Ids for `ttl` seconds from first sight, at most `limit` of them; the oldest go first.

    Getters: `get`, `in`, `new`. Commands: `add`, `expire`.
    """

    __slots__ = ("_entries", "_limit", "_ttl")

    def __init__(self, ttl: float, limit: int) -> None:
        self._ttl = ttl
        self._limit = limit
        self._entries: dict[bytes, Seen] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, message_id: bytes) -> bool:
        return message_id in self._entries

    def new(self, message_ids: Iterable[bytes]) -> list[bytes]:
        """Those that are not known: thousands at once."""
        entries = self._entries
        return [message_id for message_id in message_ids if message_id not in entries]

    def get(self, message_id: bytes) -> Seen | None:
        """What is known of the id."""
        return self._entries.get(message_id)

    def add(self, message_id: bytes, fate: Fate, source: Peer | None, now: float) -> Seen:
        """Remember an id that is not known yet."""
        seen = self._entries[message_id] = Seen(fate, now, now + self._ttl, source)
        if len(self._entries) > self._limit:
            del self._entries[next(iter(self._entries))]
        return seen

    def expire(self, now: float) -> None:
        """Forget what is over; entries lie in the order of their expiry."""
        old = []
        for message_id, seen in self._entries.items():
            if seen.expires > now:
                break
            old.append(message_id)
        for message_id in old:
            del self._entries[message_id]


@dataclass(slots=True)
class _Cached:
    message: Message
    size: int
    sent: dict[Peer, int] | None = None
    """How often each peer was given it on request."""


class MessageCache:
    """The messages of the last heartbeats, whole; ids of the latest of them for gossip. Source: v1.0, "Message Cache".

    Getters: `get`, `gossip_ids`, `size`, `given`. Commands: `put`, `take_for`, `clear`, `shift`.
    """

    __slots__ = ("_gossip", "_limit", "_messages", "_windows", "given", "size")

    def __init__(self, length: int, gossip: int, limit: int) -> None:
        self._messages: dict[bytes, _Cached] = {}
        self._windows: deque[dict[str, list[bytes]]] = deque([{} for _ in range(length)], maxlen=length)
        self._gossip = gossip
        self._limit = limit
        self.size = 0
        """Bytes held, about."""
        self.given = 0
        """Pairs of message and peer that are counted."""

    def __len__(self) -> int:
        return len(self._messages)

    def get(self, message_id: bytes) -> Message | None:
        """The message, while it is kept."""
        cached = self._messages.get(message_id)
        return cached.message if cached is not None else None

    def put(self, message_id: bytes, message: Message) -> None:
        """Keep a message. The oldest give way when it does not fit."""
        if message_id in self._messages:
            return
        size = message.size + MESSAGE_OVERHEAD_BYTES
        self._messages[message_id] = _Cached(message, size)
        self._windows[0].setdefault(message.topic, []).append(message_id)
        self.size += size
        while self.size > self._limit:
            self._drop(next(iter(self._messages)))

    def take_for(self, message_id: bytes, peer: Peer) -> tuple[Message, int] | None:
        """The message, and how often this peer has now asked for it; None when it is not kept."""
        cached = self._messages.get(message_id)
        if cached is None:
            return None
        if cached.sent is None:
            cached.sent = {}
        count = cached.sent.get(peer, 0) + 1
        if count > 1 or self.given < GIVEN_MAX:
            cached.sent[peer] = count
            self.given += count == 1
        return cached.message, count

    def gossip_ids(self, topic: str) -> list[bytes]:
        """Ids of the messages of a topic in the last `gossip` heartbeats, the latest first."""
        found: list[bytes] = []
        for index in range(self._gossip):
            ids = self._windows[index].get(topic)
            if ids:
                found += [message_id for message_id in ids if message_id in self._messages]
        return found

    def clear(self) -> None:
        """All of it is old: nothing is told of, or given, any more."""
        for message_id in list(self._messages):
            self._drop(message_id)

    def shift(self) -> None:
        """A heartbeat has passed: what is older than all windows goes."""
        for ids in self._windows[-1].values():
            for message_id in ids:
                self._drop(message_id)
        self._windows.appendleft({})

    def _drop(self, message_id: bytes) -> None:
        cached = self._messages.pop(message_id, None)
        if cached is not None:
            self.size -= cached.size
            self.given -= len(cached.sent or ())
