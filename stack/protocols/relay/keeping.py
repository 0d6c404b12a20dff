"""At which relays a node has a place: which it asks, when it asks again. Pure."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

R = TypeVar("R", bound=Hashable)

RETRY_SECONDS = 30.0
"""After a relay has not answered a question for more time."""
RENEWED_PART = 2 / 3
"""Of its time a place is renewed."""
RENEW_SECONDS_MIN = 5.0
"""And no sooner, whatever a relay says."""
GRANTED_SECONDS = 3600.0
"""What relays grant: go-libp2p's figure, and ours."""
GRANTED_SECONDS_MAX = 2 * GRANTED_SECONDS
"""A date further off is none that a relay gives: one of the clocks is wrong."""
RENEW_SECONDS_MAX = GRANTED_SECONDS * RENEWED_PART
"""However far off the date is that a relay tells: our clock may be wrong, as of a computer that has not heard of the time yet."""
PAUSE_SECONDS, PAUSE_SECONDS_MAX = 5.0, 300.0
"""After a relay could not be had; doubled each time."""
LOST_SECONDS = 1.0
"""After a place was lost: the relay has begun anew, perhaps, or this computer is in another network."""
CANDIDATES_MAX = 64
"""Relays among connected peers that are remembered."""
LOADED_SECONDS = 0.2
"""Each time that a relay had no place counts like a round trip that is so much longer."""
UNKNOWN_SECONDS = 1.0
"""A round trip that is not measured yet."""


def time_left(expires: float, wall: float) -> float:
    """Seconds that a place lasts, by the date that the relay tells. If that is over, or too far off, one of the clocks is wrong: with
    ours a year behind, a relay that gave no place any more was told to others for a year."""
    left = expires - wall
    return left if 0 < left <= GRANTED_SECONDS_MAX else GRANTED_SECONDS


def renew_after(seconds: float) -> float:
    """When to ask again for a place that was granted for so long."""
    return min(max(seconds * RENEWED_PART, RENEW_SECONDS_MIN), RENEW_SECONDS_MAX)


class Relays(Generic[R]):
    """Facts: `offered`, `gone`, `placed`, `lost`, `failed`. Getters: `next_relay`, `next_timeout`.

    Of the relays that are `offered`, those with the shortest round trip are asked first; who had no place lately, later. As many are
    held as are `wanted`.
    """

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._failures: dict[R, int] = {}
        self._rests: dict[R, float] = {}
        self._held: set[R] = set()

    def __repr__(self) -> str:
        return f"<Relays: {len(self._held)} of {len(self._failures)}>"

    def offered(self, relay: R) -> None:
        """One is there that could be asked."""
        if relay not in self._failures and len(self._failures) < CANDIDATES_MAX:
            self._failures[relay] = 0

    def gone(self, relay: R) -> None:
        """It is there no longer."""
        self._failures.pop(relay, None)
        self._rests.pop(relay, None)
        self._held.discard(relay)

    def placed(self, relay: R) -> None:
        """It keeps a place for us."""
        if relay in self._failures:
            self._failures[relay] = 0
            self._held.add(relay)

    def lost(self, relay: R, now: float) -> None:
        """It keeps none any more."""
        self._held.discard(relay)
        if relay in self._failures:
            self._rests[relay] = now + LOST_SECONDS

    def failed(self, relay: R, now: float) -> None:
        """It had none, or did not answer."""
        self._held.discard(relay)
        if relay in self._failures:
            self._rests[relay] = now + min(PAUSE_SECONDS * 2 ** self._failures[relay], PAUSE_SECONDS_MAX)
            self._failures[relay] = min(self._failures[relay] + 1, 16)

    def next_relay(self, now: float, latency: Callable[[R], float | None]) -> R | None:
        """The one to ask now, by the round trips (seconds; None: not measured); None when there is none, or enough are held."""
        if len(self._held) >= self._wanted:
            return None
        ready = [r for r in self._failures if r not in self._held and self._rests.get(r, now) <= now]

        def cost(relay: R) -> float:
            seconds = latency(relay)
            return (UNKNOWN_SECONDS if seconds is None else seconds) + LOADED_SECONDS * self._failures[relay]

        return min(ready, key=cost, default=None)

    def next_timeout(self) -> float | None:
        """When a relay that rests may be asked again; None when nothing waits for that."""
        if len(self._held) >= self._wanted:
            return None
        return min((until for relay, until in self._rests.items() if relay not in self._held), default=None)
