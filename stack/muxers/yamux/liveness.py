"""Pings of ours, the round trip they measure, and what follows from silence."""

from stack.errors import RemoteProtocolError
from stack.muxers.yamux.events import PongReceived
from stack.muxers.yamux.frames import UINT32_MAX
from stack.muxers.yamux.parameters import YamuxParameters

PINGS_MAX = 32
"""Of our own, unanswered; the oldest is forgotten."""


class Liveness:
    """Whether the peer still lives. Facts: `heard`, `heard_part`, `receive_pong`, `handle_timeout`. Commands: `ping`.

    Getters: `asked`, `round_trip`, `next_timeout`. Every byte received is a sign of life, so a busy connection is never asked.
    """

    __slots__ = ("_asked_at", "_heard_at", "_keep_alive", "_next", "_sent", "_silence_max", "round_trip")

    def __init__(self, parameters: YamuxParameters, now: float) -> None:
        self._keep_alive = parameters.keep_alive
        self._silence_max = parameters.silence_max
        self._heard_at = now
        self._asked_at: float | None = None
        self._sent: dict[int, float] = {}
        self._next = 0
        self.round_trip = 0.0
        """Seconds, from the last ping; 0 before the first."""

    @property
    def asked(self) -> bool:
        """It was asked, and has not been heard since."""
        return self._asked_at is not None

    def heard(self, now: float) -> None:
        """Bytes have come."""
        self._heard_at = now
        self._asked_at = None

    def heard_part(self, at: float) -> None:
        """Bytes came then, of a frame that may not be whole yet."""
        if at > self._heard_at:
            self.heard(at)

    def ping(self, now: float) -> int:
        """A number for a new ping."""
        if len(self._sent) >= PINGS_MAX:
            del self._sent[next(iter(self._sent))]
        number = self._next
        self._next = (number + 1) & UINT32_MAX
        self._sent[number] = now
        return number

    def receive_pong(self, number: int, now: float) -> PongReceived | None:
        """The peer has answered; None when nobody asked."""
        sent_at = self._sent.pop(number, None)
        if sent_at is None:
            return None
        self.round_trip = now - sent_at
        return PongReceived(ping=number, round_trip=self.round_trip)

    def next_timeout(self) -> float:
        """When the silence is too long."""
        if self._asked_at is not None:
            return self._asked_at + self._silence_max
        return self._heard_at + self._keep_alive

    def handle_timeout(self, now: float) -> int | None:
        """A ping to send now, or None. Raises RemoteProtocolError when the peer was asked and did not answer."""
        if now < self.next_timeout():
            return None
        if self._asked_at is not None:
            raise RemoteProtocolError(f"the peer was silent for {self._silence_max:g} s after it was asked")
        self._asked_at = now
        return self.ping(now)
