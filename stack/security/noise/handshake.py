"""The Noise handshake of libp2p: `Noise_XX_25519_ChaChaPoly_SHA256`, its payload, and early muxer negotiation.

Sources: libp2p specs noise/README.md and connections/inlined-muxer-negotiation.md. The XX pattern itself is done by the
package `noiseprotocol`; this is its only importer, and what must not leak from it (its own exceptions, `InvalidTag`,
private attributes) ends here.
"""

from collections.abc import Sequence
from typing import Protocol, cast

from cryptography.exceptions import InvalidTag
from google.protobuf.message import DecodeError as ProtobufDecodeError
from noise.backends.default.keypairs import KeyPair25519  # type: ignore[import-untyped] # the package has no types
from noise.connection import Keypair, NoiseConnection  # type: ignore[import-untyped] # likewise
from noise.exceptions import NoiseValueError  # type: ignore[import-untyped] # likewise

from stack.errors import DecodeError, NegotiationError, ProtocolError, SecurityError
from stack.identity.keys import PrivateKey, PublicKey, decode_public
from stack.identity.peer_id import PeerId, PeerIdMismatch
from stack.pb.noise_pb2 import NoiseHandshakePayload
from stack.security.noise.frames import LENGTH_BYTES, NoiseSession
from stack.values import dataclass

PROTOCOL_NAME = b"Noise_XX_25519_ChaChaPoly_SHA256"

MESSAGE_BYTES_MAX = 4096
"""A handshake message that carries the largest key we accept (RSA 8192) and its signature stays below 3 KiB."""

MUXERS_MAX = 32
"""More muxers than exist; the rest of a longer list is not looked at."""

SIGNATURE_PREFIX = b"noise-libp2p-static-key:"
"""noise/README.md, "The libp2p Handshake Payload"."""

KEY_BYTES = 32
"""X25519."""


class _Public(Protocol):
    public_bytes: bytes


class _Cipher(Protocol):
    k: bytes


class _State(Protocol):
    e: object
    rs: _Public


class _Noise(Protocol):
    """The private parts of `noiseprotocol` that we rely on; a test asserts them."""

    handshake_state: _State
    handshake_hash: bytes
    cipher_state_encrypt: _Cipher
    cipher_state_decrypt: _Cipher


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeFinished:
    """Both ends have proved who they are."""

    remote_key: PublicKey
    """The identity key of the peer."""
    remote_peer: PeerId
    """Derived from that key."""
    muxer: str | None
    """Agreed in the handshake; None when one end offered nothing."""
    session: NoiseSession
    """For all that follows."""
    handshake_hash: bytes
    """Names this session (channel binding)."""


def static_public_key(private: bytes) -> bytes:
    """The X25519 public key of a Noise static key."""
    return cast(bytes, KeyPair25519.from_private_bytes(private).public_bytes)


def encode_payload(identity: PrivateKey, static_public: bytes, muxers: Sequence[str]) -> bytes:
    """What proves our identity: the key and its signature over the Noise static key, with our muxers."""
    payload = NoiseHandshakePayload(
        identity_key=identity.public.encode(), identity_sig=identity.sign(SIGNATURE_PREFIX + static_public)
    )
    payload.extensions.stream_muxers.extend(muxers)
    return payload.SerializeToString()


def decode_payload(data: bytes, static_public: bytes) -> tuple[PublicKey, list[str]]:
    """Check a payload against the static key it came with: (identity key, muxers of the peer). Raises SecurityError."""
    try:
        payload = NoiseHandshakePayload.FromString(data)
        key = decode_public(payload.identity_key)
    except (ProtobufDecodeError, DecodeError, ProtocolError) as error:
        raise SecurityError(f"the peer's handshake payload is damaged: {error}") from error
    key.verify(SIGNATURE_PREFIX + static_public, payload.identity_sig)
    return key, list(payload.extensions.stream_muxers[:MUXERS_MAX])


class NoiseHandshake:
    """One end of the handshake; a `ByteMachine` of `HandshakeFinished`.

    Facts: `receive_data`. Outputs: `data_to_send`, `next_event`, then `leftover`. Command: `close`. Raises SecurityError for
    whatever is wrong with the peer, PeerIdMismatch when it is not `expected`, NegotiationError when no muxer is common; the
    handshake is over then. Keys come in ready-made: `static_key` may serve many handshakes, `ephemeral_key` only this.
    """

    def __init__(
        self,
        *,
        outbound: bool,
        static_key: bytes,
        ephemeral_key: bytes,
        payload: bytes,
        muxers: Sequence[str] = (),
        expected: PeerId | None = None,
        prologue: bytes = b"",
    ) -> None:
        self._outbound = outbound
        self._payload = payload
        self._muxers = tuple(muxers)
        self._expected = expected
        self._received = bytearray()
        self._to_send = bytearray()
        self._event: HandshakeFinished | None = None
        self._remote: tuple[PublicKey, PeerId, str | None] | None = None
        self._reads = 1 if outbound else 2
        self._failed = False
        noise = NoiseConnection.from_name(PROTOCOL_NAME)
        if outbound:
            noise.set_as_initiator()
        else:
            noise.set_as_responder()
        noise.set_prologue(prologue)
        noise.set_keypair_from_private_bytes(Keypair.STATIC, static_key)
        noise.start_handshake()
        self._noise = noise
        self._private = cast(_Noise, noise.noise_protocol)
        # After the last message the package drops its handshake state, and the peer's static key with it.
        self._state = self._private.handshake_state
        # Set here and not by `set_keypair_from_private_bytes`, which warns that fixed keys are for tests.
        self._state.e = KeyPair25519.from_private_bytes(ephemeral_key)
        if outbound:
            self._write(b"")

    def __repr__(self) -> str:
        return f"<NoiseHandshake {'out' if self._outbound else 'in'}bound, {self._reads} messages to come>"

    @property
    def leftover(self) -> bytes:
        """Bytes received behind the last message; they belong to the session."""
        return bytes(self._received)

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes from the peer; `b""` means it sends no more. Raises as the class says."""
        if self._failed:
            raise SecurityError("this handshake has failed before")
        if not data and self._reads:
            self._failed = True
            raise SecurityError("the peer closed during the handshake")
        self._received += data
        try:
            while self._reads and (message := self._take()) is not None:
                self._read(message)
        except BaseException:
            self._failed = True
            raise

    def next_event(self) -> HandshakeFinished | None:
        """The end of the handshake, once."""
        event, self._event = self._event, None
        return event

    def data_to_send(self) -> bytes:
        """Bytes to send now."""
        data = bytes(self._to_send)
        self._to_send.clear()
        return data

    def next_timeout(self) -> float | None:
        """Never: the caller sets one deadline for the whole upgrade."""
        return None

    def handle_timeout(self, now: float) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """It is over, however it went. What the package holds refers to itself in circles: some 7 KiB of each connection would
        stay until Python looks for such."""
        vars(self._private).clear()
        vars(self._noise).clear()

    def _take(self) -> bytes | None:
        if len(self._received) < LENGTH_BYTES:
            return None
        size = int.from_bytes(self._received[:LENGTH_BYTES], "big")
        if size > MESSAGE_BYTES_MAX:
            raise SecurityError(f"a handshake message of {size} bytes, {MESSAGE_BYTES_MAX} are allowed")
        if len(self._received) < LENGTH_BYTES + size:
            return None
        message = bytes(self._received[LENGTH_BYTES : LENGTH_BYTES + size])
        del self._received[: LENGTH_BYTES + size]
        return message

    def _read(self, message: bytes) -> None:
        try:
            payload = bytes(self._noise.read_message(message))
        except (InvalidTag, NoiseValueError, ValueError) as error:
            raise SecurityError("the peer's handshake message is forged or damaged") from error
        self._reads -= 1
        if self._outbound:
            self._check(payload)
            self._write(self._payload)
            self._finish()
        elif self._reads:
            # noise/README.md: the first message carries no payload; what others may put there means nothing to us.
            self._write(self._payload)
        else:
            self._check(payload)
            self._finish()

    def _write(self, payload: bytes) -> None:
        try:
            message = self._noise.write_message(payload)
        except ValueError as error:
            raise SecurityError("the peer's ephemeral key is a point of small order") from error
        self._to_send += len(message).to_bytes(LENGTH_BYTES, "big") + message

    def _check(self, payload: bytes) -> None:
        key, theirs = decode_payload(payload, self._state.rs.public_bytes)
        peer = PeerId.of(key)
        if self._expected is not None and peer != self._expected:
            raise PeerIdMismatch(self._expected, peer)
        self._remote = key, peer, self._agree(theirs)

    def _agree(self, theirs: list[str]) -> str | None:
        """The initiator's first that both have (connections/inlined-muxer-negotiation.md)."""
        if not self._muxers or not theirs:
            return None
        first, second = (self._muxers, theirs) if self._outbound else (theirs, self._muxers)
        for muxer in first:
            if muxer in second:
                return muxer
        # "If there is no overlap ... the handshake MUST fail."
        raise NegotiationError(f"no muxer in common: we have {', '.join(self._muxers)}, the peer {', '.join(theirs)}")

    def _finish(self) -> None:
        assert self._remote is not None  # `_check` ran before, on both paths
        key, peer, muxer = self._remote
        self._event = HandshakeFinished(
            remote_key=key,
            remote_peer=peer,
            muxer=muxer,
            session=NoiseSession(self._private.cipher_state_encrypt.k, self._private.cipher_state_decrypt.k),
            handshake_hash=self._private.handshake_hash,
        )
