"""Noise over a raw stream."""

import secrets
from collections.abc import Sequence

from stack.identity.keys import PrivateKey
from stack.identity.peer_id import PeerId
from stack.security.noise.handshake import KEY_BYTES, NoiseHandshake, encode_payload, static_public_key
from stack.streams.interfaces import RawStream, SecureChannel
from stack.streams.pump import drive


class NoiseSecurity:
    """The security protocol `/noise`; see `stack.security.interfaces.Security`.

    One per node: its static key is drawn and signed once, which the specification allows and which halves the cost of a
    handshake. The key is never stored.
    """

    def __init__(self, key: PrivateKey) -> None:
        self._key = key
        self._peer = PeerId.of(key.public)
        self._static = secrets.token_bytes(KEY_BYTES)
        self._static_public = static_public_key(self._static)
        self._payloads: dict[tuple[str, ...], bytes] = {}

    def __repr__(self) -> str:
        return f"<NoiseSecurity of {self._peer}>"

    async def upgrade(
        self, stream: RawStream, *, outbound: bool, expected: PeerId | None, muxers: Sequence[str]
    ) -> SecureChannel:
        """Do the handshake. The caller sets the deadline, and closes `stream` when this raises.

        Raises SecurityError, PeerIdMismatch, NegotiationError, BrokenResourceError.
        """
        offered = tuple(muxers)
        if offered not in self._payloads:
            # A node has one list, two at the most.
            self._payloads[offered] = encode_payload(self._key, self._static_public, offered)
        machine = NoiseHandshake(
            outbound=outbound,
            static_key=self._static,
            ephemeral_key=secrets.token_bytes(KEY_BYTES),
            payload=self._payloads[offered],
            muxers=offered,
            expected=expected,
        )
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
