"""What the upgrader asks of a stream multiplexer."""

from typing import Protocol

from stack.sansio.budget import Scope
from stack.streams.interfaces import MuxedConnection, SecureChannel


class Muxer(Protocol):
    """A row of `MUXERS`; constructed without arguments."""

    def connection(self, channel: SecureChannel, *, outbound: bool, scope: Scope) -> MuxedConnection:
        """Take `channel` over. `outbound` says that we dialled. Streams and window memory are reserved in `scope`, and
        returned when `MuxedConnection.run` ends; the caller must run it (or `aclose` it) to have the socket closed."""
        ...
