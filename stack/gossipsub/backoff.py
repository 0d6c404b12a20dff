"""Who may not be grafted, and until when. Source: gossipsub v1.1, "PRUNE Backoff and Peer Exchange"."""

from stack.identity.peer_id import PeerId


class Backoffs:
    """Back-offs by topic and peer, also of peers that are gone; at most `limit`, the oldest give way.

    Getters: `until`, `blocks_us`. Commands: `add`, `expire`.
    """

    __slots__ = ("_entries", "_limit", "_slack")

    def __init__(self, limit: int, slack: float) -> None:
        self._entries: dict[tuple[str, PeerId], float] = {}
        self._limit = limit
        self._slack = slack

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, topic: str, peer: PeerId, until: float) -> None:
        """No grafting before `until`; one that ends later stays."""
        key = (topic, peer)
        known = self._entries.pop(key, until)
        self._entries[key] = max(known, until)
        if len(self._entries) > self._limit:
            del self._entries[next(iter(self._entries))]

    def until(self, topic: str, peer: PeerId) -> float | None:
        """When the back-off ends, if there is one."""
        return self._entries.get((topic, peer))

    def blocks_us(self, topic: str, peer: PeerId, now: float) -> bool:
        """We must not graft yet: until the end and "some slack to account for the offset until the next heartbeat"."""
        until = self._entries.get((topic, peer))
        return until is not None and now < until + self._slack

    def expire(self, now: float) -> None:
        """Forget what is over."""
        old = [key for key, until in self._entries.items() if until + self._slack <= now]
        for key in old:
            del self._entries[key]
