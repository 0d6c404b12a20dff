"""What a subscriber reads from."""

from collections import deque
from dataclasses import field
from functools import lru_cache

import anyio

from stack.gossipsub.events import Deliver
from stack.identity.peer_id import PeerId
from stack.values import dataclass

WAITING_MAX = 4096
WAITING_BYTES_MAX = 16 * 1024 * 1024
"""Messages that wait for one subscriber to read them; more are dropped and counted (go-libp2p-pubsub: 32)."""
AUTHORS_CACHED_MAX = 1024
"""Authors whose peer ids are kept ready, some 300 KB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMessage:
    """A message for a subscriber."""

    topic: str
    data: bytes = field(repr=False)
    author: PeerId | None
    """Who has signed it; None in topics whose messages are not signed."""
    seqno: int | None
    """Grows with each message of an author, as far as it is honest."""
    id: bytes
    source: PeerId | None
    """Who passed it on to us; None: it is our own."""

    @staticmethod
    def of(effect: Deliver) -> "ReceivedMessage":
        """The message of a `Deliver`."""
        message = effect.message
        return ReceivedMessage(
            topic=message.topic,
            data=message.data or b"",
            author=_author(message.author) if message.author is not None else None,
            seqno=int.from_bytes(message.seqno, "big") if message.seqno is not None else None,
            id=effect.message_id,
            source=effect.peer,
        )


_author = lru_cache(AUTHORS_CACHED_MAX)(PeerId.decode)


class Subscription:
    """Messages of one topic, in the order they came; an async iterator that ends when its context is left.

    A subscriber that reads too slowly misses messages: `dropped` counts them.
    """

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.dropped = 0
        self._waiting: deque[ReceivedMessage] = deque()
        self._bytes = 0
        self._wake = anyio.Event()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Subscription to {self.topic!r}: {len(self._waiting)} wait, {self.dropped} dropped>"

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> ReceivedMessage:
        """The next message; may be cancelled."""
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._wake = anyio.Event()
            await self._wake.wait()
        message = self._waiting.popleft()
        self._bytes -= len(message.data)
        return message

    def deliver(self, message: ReceivedMessage) -> bool:
        """For the service: False when there is no room."""
        if len(self._waiting) >= WAITING_MAX or self._bytes + len(message.data) > WAITING_BYTES_MAX:
            self.dropped += 1
            return False
        self._waiting.append(message)
        self._bytes += len(message.data)
        self._wake.set()
        return True

    def close(self) -> None:
        """For the service: what waits can still be read, then the iterator ends."""
        self._closed = True
        self._wake.set()
