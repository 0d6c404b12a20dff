"""A rate that many keep to together: when the next piece may go. Pure."""

BURST_SECONDS = 0.1
"""What was not used of the last tenth of a second may be used now: event loops wake late by a few milliseconds."""

PIECE_SECONDS = 0.01
PIECE_MIN = 16 * 1024
PIECE_MAX = 256 * 1024
"""What one taker moves before another one's turn: 10 ms of the rate, but neither crumbs, each of which is a frame and a call of
the cipher, nor more than a window of yamux."""


class Pace:
    """A token bucket in which takers queue up: `take` counts at once, and says how long to wait for it.

    Who takes first goes first, so that several who take one `piece` at a time get equal parts of the rate.
    """

    __slots__ = ("_burst", "_seen", "_tokens", "piece", "rate")

    def __init__(self, rate: int, now: float, *, burst: int | None = None) -> None:
        """`rate` in bytes (or whatever is counted) a second; `burst` may be taken at once after a silence, by default what
        moves in BURST_SECONDS. Raises ValueError unless the rate is above 0."""
        if rate <= 0:
            raise ValueError("a pace is more than nothing")
        self.rate = rate
        self.piece = max(PIECE_MIN, min(PIECE_MAX, int(rate * PIECE_SECONDS)))
        """Bytes to take at a time."""
        self._burst = max(rate * BURST_SECONDS, float(self.piece)) if burst is None else float(burst)
        self._tokens = self._burst
        self._seen = now

    def __repr__(self) -> str:
        return f"<Pace {self.rate} bytes a second>"

    def take(self, size: int, now: float) -> float:
        """Seconds to wait, from `now` on, before `size` bytes may move."""
        self._tokens = min(self._burst, self._tokens + max(now - self._seen, 0.0) * self.rate)
        self._seen = max(now, self._seen)
        self._tokens -= size
        return max(-self._tokens / self.rate, 0.0)
