"""Yamux over a secured channel."""

from stack.sansio.budget import Scope
from stack.streams.interfaces import MuxedConnection, SecureChannel


class YamuxMuxer:
    """The muxer `/yamux/1.0.0`."""

    def connection(self, channel: SecureChannel, *, outbound: bool, scope: Scope) -> MuxedConnection:
        """See `stack.muxers.interfaces.Muxer`."""
        raise NotImplementedError
