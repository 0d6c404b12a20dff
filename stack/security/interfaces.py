"""What the upgrader asks of a security protocol."""

from collections.abc import Sequence
from typing import Protocol

from stack.identity.peer_id import PeerId
from stack.streams.interfaces import RawStream, SecureChannel


class Protector(Protocol):
    """Stands in front of all security protocols: a private network's key, around every raw stream."""

    def protect(self, stream: RawStream, *, outbound: bool) -> RawStream:
        """A stream that only members of the network can use, in place of `stream`; closing it closes both. Its reads raise
        SecurityError when the other end is no member."""
        ...


class Security(Protocol):
    """A row of `SECURITY`; constructed with our private key."""

    async def upgrade(
        self, stream: RawStream, *, outbound: bool, expected: PeerId | None, muxers: Sequence[str]
    ) -> SecureChannel:
        """Do the handshake. `outbound` says that we dialled; `muxers` are ours, preferred first, for early negotiation.

        The caller sets the deadline and closes `stream` when this raises: SecurityError (PeerIdMismatch),
        NegotiationError (no muxer in common), EndOfStream, BrokenResourceError.
        """
        ...
