"""secp256k1 keys: a compressed point of 33 bytes, a scalar of 32 bytes. Source: peer-ids.md, "Secp256k1"."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stack.errors import DecodeError
from stack.identity.keys import BadSignature, PrivateKey, PublicKey

PUBLIC_BYTES = 33
PRIVATE_BYTES = 32

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""The order of the group (SEC 2, 2.4.1)."""

_CURVE = ec.SECP256K1()
_SIGNATURE = ec.ECDSA(hashes.SHA256())


class Secp256k1PublicKey(PublicKey):
    """A public key of this type."""

    __slots__ = ("_key",)

    kind = "secp256k1"
    number = 2

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._key = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, data)

    def verify(self, data: bytes, signature: bytes) -> None:
        try:
            self._key.verify(signature, data, _SIGNATURE)
        except InvalidSignature:
            raise BadSignature("the secp256k1 signature does not verify") from None


class Secp256k1PrivateKey(PrivateKey):
    """A private key of this type."""

    __slots__ = ("_key",)

    kind = "secp256k1"
    number = 2

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        point = key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        super().__init__(Secp256k1PublicKey(point))

    def sign(self, data: bytes) -> bytes:
        # Of the two values of s that verify, Bitcoin's rules and several libp2p verifiers take only the lower one.
        r, s = decode_dss_signature(self._key.sign(data, _SIGNATURE))
        return encode_dss_signature(r, min(s, ORDER - s))

    def secret(self) -> bytes:
        return self._key.private_numbers().private_value.to_bytes(PRIVATE_BYTES)


def generate() -> PrivateKey:
    """A new key."""
    return Secp256k1PrivateKey(ec.generate_private_key(_CURVE))


def decode_public(data: bytes) -> PublicKey:
    """The key in these bytes. Raises DecodeError, or ValueError when the point is not on the curve."""
    if len(data) != PUBLIC_BYTES:
        raise DecodeError(f"a public secp256k1 key has {PUBLIC_BYTES} bytes, this one has {len(data)}")
    return Secp256k1PublicKey(data)


def decode_private(data: bytes) -> PrivateKey:
    """The key in these bytes. Raises DecodeError."""
    if len(data) != PRIVATE_BYTES or not 0 < int.from_bytes(data) < ORDER:
        raise DecodeError("a private secp256k1 key has 32 bytes, above zero and below the order of the group")
    return Secp256k1PrivateKey(ec.derive_private_key(int.from_bytes(data), _CURVE))
