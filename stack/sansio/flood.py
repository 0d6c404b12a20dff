"""What costs a peer next to nothing and us something: counted, so that it ends before it is felt."""

WINDOW_SECONDS = 10.0
"""Over which things are counted: a connection that lives for days may have seen any number of them."""


class Flood:
    """At most `most` in `WINDOW_SECONDS`. Facts: `add`, `forgive`."""

    __slots__ = ("_count", "_most", "_since")

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._since = 0.0

    def add(self, now: float) -> bool:
        """One more at `now`, in monotonic seconds; True when that is too many."""
        if now - self._since > WINDOW_SECONDS:
            self._since = now
            self._count = 0
        self._count += 1
        return self._count > self._most

    def forgive(self) -> None:
        """Something came that was worth it: the count of a row begins again."""
        self._count = 0
