"""ECDSA keys: PKIX DER public, RFC 5915 DER private. Source: peer-ids.md, "ECDSA".

The specification has P-256; go-libp2p reads the other NIST curves too, and so does this.
"""

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)

from stack.errors import DecodeError
from stack.identity.der import check_sequence
from stack.identity.keys import BadSignature, PrivateKey, PublicKey

PUBLIC_BYTES_MAX = 256
"""A PKIX key on P-521 has 158 bytes."""

PRIVATE_BYTES_MAX = 512
"""A private key on P-521 has 223 bytes."""

_CURVES = (ec.SECP224R1, ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_SIGNATURE = ec.ECDSA(hashes.SHA256())


class EcdsaPublicKey(PublicKey):
    """A public key of this type."""

    __slots__ = ("_key",)

    kind = "ecdsa"
    number = 3

    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        self._key = key
        super().__init__(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    def verify(self, data: bytes, signature: bytes) -> None:
        try:
            self._key.verify(signature, data, _SIGNATURE)
        except InvalidSignature:
            raise BadSignature("the ECDSA signature does not verify") from None


class EcdsaPrivateKey(PrivateKey):
    """A private key of this type."""

    __slots__ = ("_key",)

    kind = "ecdsa"
    number = 3

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        super().__init__(EcdsaPublicKey(key.public_key()))

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data, _SIGNATURE)

    def secret(self) -> bytes:
        return self._key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def generate() -> PrivateKey:
    """A new key on P-256, the curve of the specification."""
    return EcdsaPrivateKey(ec.generate_private_key(ec.SECP256R1()))


def decode_public(data: bytes) -> PublicKey:
    """The key in these bytes. Raises DecodeError, or ValueError for what cryptography refuses."""
    check_sequence(data, PUBLIC_BYTES_MAX)
    try:
        key = load_der_public_key(data)
    except UnsupportedAlgorithm as error:
        raise DecodeError("an ECDSA key is on one of the NIST curves") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _CURVES):
        raise DecodeError("an ECDSA key is on one of the NIST curves")
    return EcdsaPublicKey(key)


def decode_private(data: bytes) -> PrivateKey:
    """The key in these bytes. Raises DecodeError, or ValueError for what cryptography refuses."""
    check_sequence(data, PRIVATE_BYTES_MAX)
    try:
        key = load_der_private_key(data, password=None)
    except (UnsupportedAlgorithm, TypeError) as error:
        raise DecodeError("an ECDSA key is on one of the NIST curves") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, _CURVES):
        raise DecodeError("an ECDSA key is on one of the NIST curves")
    return EcdsaPrivateKey(key)
