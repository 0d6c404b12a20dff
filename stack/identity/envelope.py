"""Signed envelopes: a payload, what kind it is, who signed it, for which purpose. Source: libp2p/specs, RFC 0002."""

from google.protobuf.message import DecodeError as ProtobufDecodeError

from stack.errors import DecodeError
from stack.identity.keys import PrivateKey, PublicKey, decode_public
from stack.multiformats import varint
from stack.pb import envelope_pb2
from stack.values import dataclass

ENVELOPE_BYTES_MAX = 64 * 1024
"""The largest message that carries one: identify, 8 KiB, leaves room for eight times that."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload whose signature has been made or verified here."""

    public_key: PublicKey
    payload_type: bytes
    """The multicodec of what the payload is, as a varint."""
    payload: bytes
    signature: bytes

    @staticmethod
    def seal(key: PrivateKey, domain: str, payload_type: bytes, payload: bytes) -> "Envelope":
        """Sign a payload for the purpose that `domain` names."""
        signature = key.sign(_signed_bytes(domain, payload_type, payload))
        return Envelope(key.public, payload_type, payload, signature)

    @staticmethod
    def open(data: bytes, domain: str) -> "Envelope":
        """The envelope in these bytes, verified for `domain`. Raises DecodeError, or BadSignature."""
        if len(data) > ENVELOPE_BYTES_MAX:
            raise DecodeError(f"an envelope has at most {ENVELOPE_BYTES_MAX} bytes, this one has {len(data)}")
        message = envelope_pb2.Envelope()
        try:
            message.ParseFromString(data)
        except ProtobufDecodeError as error:
            raise DecodeError("this is no envelope") from error
        key = decode_public(message.public_key)
        key.verify(_signed_bytes(domain, message.payload_type, message.payload), message.signature)
        return Envelope(key, message.payload_type, message.payload, message.signature)

    def encode(self) -> bytes:
        """The bytes that `open` reads."""
        return envelope_pb2.Envelope(
            public_key=self.public_key.encode(),
            payload_type=self.payload_type,
            payload=self.payload,
            signature=self.signature,
        ).SerializeToString(deterministic=True)


def _signed_bytes(domain: str, payload_type: bytes, payload: bytes) -> bytes:
    parts = (domain.encode(), payload_type, payload)
    return b"".join([varint.encode(len(part)) + part for part in parts])
