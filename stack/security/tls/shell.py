"""TLS over a raw stream."""

import time
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric import ec

from stack.identity.keys import PrivateKey
from stack.identity.peer_id import PeerId
from stack.security.tls.handshake import TlsContext, TlsHandshake
from stack.streams.interfaces import RawStream, SecureChannel
from stack.streams.pump import drive


class TlsSecurity:
    """The security protocol `/tls/1.0.0`; see `stack.security.interfaces.Security`.

    One per node: its certificate is made once, which the specification allows. The key of the certificate is never stored.
    """

    def __init__(self, key: PrivateKey) -> None:
        self._peer = PeerId.of(key.public)
        self._context = TlsContext(key, ec.generate_private_key(ec.SECP256R1()))

    def __repr__(self) -> str:
        return f"<TlsSecurity of {self._peer}>"

    async def upgrade(
        self, stream: RawStream, *, outbound: bool, expected: PeerId | None, muxers: Sequence[str]
    ) -> SecureChannel:
        """Do the handshake. The caller sets the deadline, and closes `stream` when this raises.

        Raises SecurityError, PeerIdMismatch, NegotiationError, BrokenResourceError.
        """
        machine = TlsHandshake(self._context, outbound=outbound, wall=time.time(), muxers=muxers, expected=expected)
        try:
            finished = await drive(stream, machine)
        finally:
            machine.close()
        return SecureChannel(
            stream=stream,
            session=finished.session,
            local_peer=self._peer,
            remote_peer=finished.remote_peer,
            remote_key=finished.remote_key,
            muxer=finished.muxer,
            leftover=machine.leftover,
        )
