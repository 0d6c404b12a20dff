"""Noise over a raw stream."""

from collections.abc import Sequence

from stack.identity.keys import PrivateKey
from stack.identity.peer_id import PeerId
from stack.streams.interfaces import RawStream, SecureChannel


class NoiseSecurity:
    """The security protocol `/noise`; one per node, because its static key is signed once."""

    def __init__(self, key: PrivateKey) -> None:
        self._key = key

    async def upgrade(
        self, stream: RawStream, *, outbound: bool, expected: PeerId | None, muxers: Sequence[str]
    ) -> SecureChannel:
        """See `stack.security.interfaces.Security`."""
        raise NotImplementedError
