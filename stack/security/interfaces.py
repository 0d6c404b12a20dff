"""What the upgrader asks of a security protocol."""

from collections.abc import Sequence
from typing import Protocol

from stack.errors import SecurityError
from stack.identity.peer_id import PeerId
from stack.streams.interfaces import RawStream, SecureChannel


class PeerIdMismatch(SecurityError):
    """The other end proved another identity than the one that was dialled."""

    def __init__(self, expected: PeerId, actual: PeerId) -> None:
        super().__init__(f"expected peer {expected}, but the other end is {actual}")
        self.expected = expected
        self.actual = actual


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
