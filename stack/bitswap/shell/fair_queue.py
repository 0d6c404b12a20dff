"""What has come from several peers, taken in turns: whoever brings much waits behind itself."""

from collections import deque
from collections.abc import Iterator
from threading import Lock
from typing import Generic, TypeVar

from stack.identity.peer_id import PeerId

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Commands: `add`, `put_back`, `take`, `drop`. Getters: `len`, iteration over all that waits. Any thread may call it."""

    __slots__ = ("_lock", "_queues")

    def __init__(self) -> None:
        self._queues: dict[PeerId | None, deque[T]] = {}
        """Of those of whom something waits; the one whose turn it is comes first."""
        self._lock = Lock()

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __len__(self) -> int:
        with self._lock:
            return sum(map(len, self._queues.values()))

    def __iter__(self) -> Iterator[T]:
        with self._lock:
            waiting = [item for queue in self._queues.values() for item in queue]
        return iter(waiting)

    def add(self, peer: PeerId | None, item: T) -> None:
        """Behind all else of this peer; None is whatever is nobody's."""
        with self._lock:
            self._queues.setdefault(peer, deque()).append(item)

    def put_back(self, peer: PeerId | None, item: T) -> None:
        """What was taken and is not done yet: before all else of this peer, when it has its next turn."""
        with self._lock:
            self._queues.setdefault(peer, deque()).appendleft(item)

    def take(self) -> T | None:
        """The oldest of the peer whose turn it is; None when nothing waits."""
        with self._lock:
            peer = next(iter(self._queues), None)
            queue = self._queues.pop(peer, None)
            if queue is None:
                return None
            item = queue.popleft()
            if queue:
                self._queues[peer] = queue
            return item

    def drop(self, peer: PeerId) -> list[T]:
        """All that waits of this peer, which is not taken any more."""
        with self._lock:
            return list(self._queues.pop(peer, ()))
