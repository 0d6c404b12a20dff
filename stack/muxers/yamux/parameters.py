"""The bounds of a yamux connection."""

from stack.errors import ConfigError
from stack.muxers.yamux.frames import FRAME_LENGTH_MAX
from stack.muxers.yamux.windows import WINDOW_INITIAL
from stack.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class YamuxParameters:
    """Raises ConfigError when a figure has no meaning."""

    window_max: int = FRAME_LENGTH_MAX
    """Bytes one stream's window may grow to (go-yamux: 16 MiB)."""
    memory_max: int = 32 * 1024 * 1024
    """Bytes of all streams of a connection that wait to be read or have been granted beyond 256 KiB."""
    streams_max: int = 1024
    """Streams of a connection, both directions."""
    backlog_max: int = 256
    """Streams opened and not acknowledged, in each direction (yamux/README.md, "ACK backlog")."""
    keep_alive: float = 30.0
    """Seconds without a byte from the peer, after which it is asked for a sign of life (go-yamux)."""
    silence_max: float = 10.0
    """Seconds it has to answer; also what one write may wait for the peer to read (go-yamux)."""

    def __post_init__(self) -> None:
        if not WINDOW_INITIAL <= self.window_max <= FRAME_LENGTH_MAX:
            raise ConfigError(f"yamux window_max must lie between {WINDOW_INITIAL} and {FRAME_LENGTH_MAX}")
        if min(self.memory_max, self.streams_max, self.backlog_max) < 1:
            raise ConfigError("yamux memory_max, streams_max and backlog_max must be positive")
        if min(self.keep_alive, self.silence_max) <= 0:
            raise ConfigError("yamux keep_alive and silence_max must be positive")
