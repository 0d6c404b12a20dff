"""What the server knows of one peer, and the figures it serves by. Pure."""

from dataclasses import replace

from stack.bitswap.effects import SendBlocks
from stack.bitswap.ledger import HeldWant, Ledger
from stack.bitswap.messages import WANTS_PER_MESSAGE_MAX, Presence, Want
from stack.blocks.interfaces import RealmId
from stack.values import dataclass

KIB = 1024
MIB = 1024 * 1024

RATE_OF_ONE = 8 * KIB
"""Bytes a second that a peer gets when it is its turn. With less it would take us for stalled: 16 KiB in 2 s show that we are not."""

PIECE_BYTES = 64 * KIB

PAUSE_SECONDS = 0.1
PAUSE_SECONDS_MAX = 10.0
"""After the first failed message to a peer, and after many: doubled each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineParameters:
    """Figures of the server, in bytes unless said otherwise."""

    message: int = MIB
    """Blocks are packed into messages of about this size: one worker call, one buffer, and every implementation takes it."""
    message_most: int = 7 * 256 * KIB
    """The same for a peer that takes all that it may be sent, and fast: a message costs as much whatever its size."""
    outstanding_least: int = 256 * KIB
    outstanding_start: int = MIB
    outstanding_most: int = 4 * MIB
    """Bytes on their way to one peer (boxo: 1 MiB). A peer that takes 10 MiB a second or more gets a tenth of a second of its
    rate, so that reading the next message from disk overlaps with sending; one that takes less gets a second of it."""
    total: int = 48 * MIB
    """Bytes on their way to all that have proved to read."""
    piece: int = PIECE_BYTES
    """Held at a time for a peer that has not: its blocks go a piece at a time, and are read anew when their memory was needed."""
    total_unproven: int = 16 * MIB
    """Of such pieces together: for more peers than a node has connections."""
    proven: int = 512 * KIB
    """What a peer has to take of us before more is held for it: more than the window of a stream, which fills without a reader."""
    fast: int = 128 * KIB
    """Bytes a second. Who takes less is sent pieces however much it has taken: memory that moves slowly serves nobody."""
    have_replace: int = 1024
    """Blocks up to this size answer WANT_HAVE (boxo: 1,024)."""
    lookup: int = 256
    """Wants in one question to the index: an answer takes a millisecond or two on the event loop."""
    lookups: int = 8 * WANTS_PER_MESSAGE_MAX
    """Wants of all peers together that wait for the index. Then who has most of them loses some to whoever has fewer."""
    presences: int = 2 * WANTS_PER_MESSAGE_MAX
    """HAVE and DONT_HAVE that wait for one peer to read them; more are not said."""
    peers_at_once: int | None = None
    """Peers to whom blocks are on their way at a time; the others have their turn after them."""

    @classmethod
    def limited(cls, rate: int) -> "EngineParameters":
        """For an upload of at most `rate` bytes a second: short messages, and little on its way that cannot be withdrawn."""
        outstanding = min(max(rate // 4, 256 * KIB), 4 * MIB)
        return cls(
            message=min(max(rate // 10, 1), MIB),
            message_most=min(max(rate // 10, 1), MIB),
            outstanding_start=min(outstanding, MIB),
            outstanding_most=outstanding,
            peers_at_once=max(rate // RATE_OF_ONE, 1),
        )

    @classmethod
    def of(cls, upload: int, memory: int | None) -> "EngineParameters":
        """For an upload of so many bytes a second (0: no bound), by a node that may hold so many bytes for all its peers, of
        which much is needed for other things."""
        figures = cls.limited(upload) if upload else cls()
        if memory is None:
            return figures
        return replace(
            figures, total=min(figures.total, memory * 3 // 8), total_unproven=min(figures.total_unproven, memory // 4)
        )


class ServedPeer:
    """The server's view of one connected peer."""

    __slots__ = (
        "active",
        "active_bytes",
        "admitted",
        "again_at",
        "allowance",
        "charged",
        "charged_unproven",
        "failures",
        "incoming",
        "ledger",
        "looking",
        "presences",
        "served",
        "slow",
        "taken",
    )

    def __init__(self, parameters: EngineParameters) -> None:
        self.ledger = Ledger()
        self.presences: dict[bytes, Presence] = {}
        self.incoming: dict[bytes, Want] = {}
        """Wants not yet looked up."""
        self.looking: dict[bytes, Want] | None = None
        """Wants being looked up."""
        self.active: dict[bytes, bool] = {}
        """Blocks on their way, and whether the peer still wants them."""
        self.active_bytes = 0
        self.admitted: frozenset[RealmId] = frozenset()
        """The realms it has proved that it may enter."""
        self.charged = 0
        self.charged_unproven = 0
        """What is held for them: whole messages, and pieces."""
        self.allowance = parameters.outstanding_start
        self.taken = 0
        """Bytes of blocks since it was connected, or since a message to it failed."""
        self.slow = False
        """By the last message."""
        self.failures = 0
        """Messages in a row that could not be sent."""
        self.again_at = 0.0
        """No message goes before."""
        self.served = 0
        """Bytes served, on the scale of all peers: the least served is next."""

    def is_proven(self, parameters: EngineParameters) -> bool:
        """It reads what it asks for, and fast enough that whole messages may be held for it."""
        return self.taken >= parameters.proven and not self.slow

    def takes_all(self, parameters: EngineParameters) -> bool:
        """It takes as much as may be on its way to one peer, and has shown it."""
        return self.taken > 0 and self.allowance >= parameters.outstanding_most

    def message_taken(self, size: int, seconds: float, before: int, parameters: EngineParameters) -> None:
        """It has read a message in this time; `before` is what it had taken when that was sent. Of several on their way all count: each
        waits for those in front of it."""
        self.failures = 0
        self.taken += size
        rate = max(self.taken - before, size) / max(seconds, 1e-6)
        self.slow = rate < parameters.fast
        wish = max(min(rate, parameters.outstanding_start), rate / 10)
        self.allowance = int(min(max(wish, parameters.outstanding_least), parameters.outstanding_most))

    def message_failed(self, now: float, *, ours: bool) -> None:
        """It has not, or (`ours`) we had no memory to send it from."""
        self.failures += 1
        self.again_at = now + min(PAUSE_SECONDS * 2 ** (self.failures - 1), PAUSE_SECONDS_MAX)
        if not ours:
            self.taken = 0


@dataclass(frozen=True, slots=True)
class Sending:
    """A message on its way."""

    message: SendBlocks
    served: ServedPeer
    wants: tuple[HeldWant, ...]
    began: float
    taken: int
    """By its peer until then."""
    charged: int
