"""How much may be on its way: the windows of a stream, and the memory that stands behind them.

Source: libp2p specs yamux/README.md ("Flow Control"); growth as in go-yamux (a window that is used up within four round
trips is too small). Credit is handed back for bytes the application has read, never for bytes received.
"""

from stack.errors import LimitExceeded, RemoteProtocolError
from stack.muxers.yamux.frames import UINT32_MAX, GoAwayCode
from stack.sansio.budget import Reservation

WINDOW_INITIAL = 256 * 1024
"""The specification's: both ends assume it, so it cannot be made smaller."""

ROUND_TRIP_MIN = 0.01
"""Seconds. Below it, scheduling hides the round trip, and a loopback window would never grow."""

GROWTH_ROUND_TRIPS = 4
"""A half window that is read within so many round trips is too small (go-yamux)."""

IDLE_SECONDS = 10.0
"""A window of which less than half was read for so long is larger than it need be."""

CHARGE_BYTES = 64 * 1024
"""Memory is drawn from the budget in such steps, about one full frame each."""

LITTLE_BYTES = 4096
"""A first step that is smaller: streams on which a few bytes wait are many, and must not use up what is for payload (attack 4)."""


class SendWindow:
    """What the peer lets us send on a stream.

    Facts: `open`. Commands: `take`. Getters: `credit`.
    """

    __slots__ = ("credit",)

    def __init__(self) -> None:
        self.credit = WINDOW_INITIAL

    def open(self, delta: int) -> bool:
        """The peer grants `delta` bytes more; True when nothing could be sent before and now something can.

        Raises RemoteProtocolError, and changes nothing, when the sum is no 32-bit number (CVE-2026-31814).
        """
        if self.credit + delta > UINT32_MAX:
            raise RemoteProtocolError(
                f"a window of {self.credit} bytes cannot be opened by {delta}", code=GoAwayCode.PROTOCOL_ERROR
            )
        opened = self.credit == 0 and delta > 0
        self.credit += delta
        return opened

    def take(self, size: int) -> int:
        """Use at most `size` bytes of the window; says how much."""
        taken = min(size, self.credit)
        self.credit -= taken
        return taken


class ReceiveWindow:
    """What we let the peer send on a stream, and what of that waits to be read.

    Facts: `receive`, `keep`. Commands: `read`, `take_credit`, `call_back`, `rest`, `end`, `release`. Getters: `credit`, `size`,
    `unread`, `charged`, `spare`.

    The first 256 KiB are the peer's by specification; of them only what really waits is charged to the budget. Growth is
    charged when it is granted, and lent: it may be called back. What waits in the first is counted apart from it as well (`unread`):
    a peer gets them by opening streams, growth only by what was read. Credit that the peer has cannot be taken from it, so what it
    sends beyond the smaller window is charged as it comes, like the first 256 KiB, and no more is granted until it has used it.
    """

    __slots__ = ("_budget", "_first", "_held", "_most", "_unread", "_updated_at", "charged", "credit", "size", "unread")

    def __init__(self, budget: Reservation, unread: Reservation, most: int, now: float) -> None:
        self._budget = budget
        self._unread = unread
        self._first = 0
        """Of what waits, that which is counted there."""
        self._most = most
        self._updated_at = now
        self._held = 0
        """Of what is charged, the steps in which something waits."""
        self.credit = WINDOW_INITIAL
        """What the peer may still send."""
        self.size = WINDOW_INITIAL
        """What it may send in all while nothing is read."""
        self.unread = 0
        """Received and not yet read by the application."""
        self.charged = 0
        """Bytes this stream has drawn from the budget."""

    def receive(self, size: int) -> None:
        """A data frame of `size` bytes has begun. Raises RemoteProtocolError when it exceeds the window."""
        if size > self.credit:
            raise RemoteProtocolError(
                f"a data frame of {size} bytes, the window has {self.credit}", code=GoAwayCode.PROTOCOL_ERROR
            )
        self.credit -= size
        self.unread += size

    def keep(self, waiting: int) -> None:
        """`waiting` bytes are held in memory. Raises LimitExceeded when the budget has no room for them."""
        self._charge(waiting)

    def read(self, size: int, waiting: int) -> None:
        """The application has read `size` bytes; `waiting` are still held."""
        self.unread -= size
        if self.charged:
            self._charge(waiting)

    @property
    def untouched(self) -> bool:
        """No byte has come."""
        return self.credit == self.size == WINDOW_INITIAL and not self.unread

    @property
    def owed(self) -> int:
        """Credit that could be handed back now."""
        return max(self.size - self.credit - self.unread, 0)

    @property
    def spare(self) -> int:
        """See `Holder`: growth in which nothing waits."""
        return max(self.charged - self._held, 0)

    @property
    def due(self) -> bool:
        """At least half of the window could be handed back: less is not worth a frame."""
        return 2 * self.owed >= self.size

    def take_credit(self, now: float, round_trip: float) -> int:
        """The delta to tell the peer now. The window doubles when it was used up fast and the budget has room."""
        if self.due and now - self._updated_at < GROWTH_ROUND_TRIPS * max(round_trip, ROUND_TRIP_MIN):
            self._grow()
        self._updated_at = now
        delta = self.owed
        self.credit += delta
        return delta

    def call_back(self) -> None:
        """See `Holder`: half of the window is enough."""
        self._shrink(max(self.size // 2, WINDOW_INITIAL))

    def rest(self, now: float) -> None:
        """Give growth back that was not used of late."""
        if now - self._updated_at >= IDLE_SECONDS:
            self._shrink(WINDOW_INITIAL)

    def end(self) -> None:
        """Nothing more can come: only what waits is held."""
        self._shrink(WINDOW_INITIAL)

    def release(self) -> None:
        """Give all memory back; the stream is gone."""
        if self._held or self.charged or self.size > WINDOW_INITIAL:  # of most streams of a flood it holds nothing
            self._hold(0)
            self._shrink(WINDOW_INITIAL)

    def _grow(self) -> None:
        size = min(2 * self.size, self._most)
        if size == self.size:
            return
        growth = size - WINDOW_INITIAL
        try:
            # Growth is called back only from windows that are larger: many streams end up with equal parts.
            self._charge_at_least(growth, keep=growth)
        except LimitExceeded:
            return
        self.size = size
        self._budget.lend(self)

    def _shrink(self, size: int) -> None:
        if size == WINDOW_INITIAL < self.size:
            self._budget.settle(self)
        self.size = size
        self._charge_at_most(max(self._held, size - WINDOW_INITIAL))

    def _charge(self, waiting: int) -> None:
        """Hold what waits, in whole steps, but never less than the growth that was granted."""
        steps = -(-waiting // CHARGE_BYTES) * CHARGE_BYTES
        self._hold(LITTLE_BYTES if 0 < waiting <= LITTLE_BYTES else steps)
        wanted = max(self._held, self.size - WINDOW_INITIAL)
        self._charge_at_most(wanted)
        self._charge_at_least(wanted)

    def _hold(self, held: int) -> None:
        first = (
            min(held, WINDOW_INITIAL) if held > LITTLE_BYTES else 0
        )  # the little is bounded by the number of streams
        if first > self._first:
            self._unread.grow(first - self._first)
        elif first < self._first:
            self._unread.shrink(self._first - first)
        self._first = first
        self._held = held

    def _charge_at_most(self, wanted: int) -> None:
        if wanted < self.charged:
            self._budget.shrink(self.charged - wanted)
            self.charged = wanted

    def _charge_at_least(self, wanted: int, keep: int = 0) -> None:
        if wanted > self.charged:
            self._budget.grow(wanted - self.charged, keep=keep)
            self.charged = wanted
