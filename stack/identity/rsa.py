"""RSA keys: PKIX DER public, PKCS #1 DER private, signatures PKCS #1 v1.5 over SHA-256. Source: peer-ids.md, "RSA"."""

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
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

MODULUS_BITS_MIN = 2048
"""go-libp2p: "rsa keys must be >= 2048 bits to be useful"."""

MODULUS_BITS_MAX = 8192
"""CVE-2023-39533: a key much larger costs the verifier minutes."""

EXPONENT_BITS_MAX = 31
"""go reads no larger exponent; the time to verify grows with it."""

PUBLIC_BYTES_MAX = 1100
"""A PKIX key of 8192 bits has 1062 bytes: longer ones are refused unread."""

PRIVATE_BYTES_MAX = 5000
"""A PKCS #1 key of 8192 bits has 4.7 kB."""

_SIZE = f"an RSA key has {MODULUS_BITS_MIN} to {MODULUS_BITS_MAX} bits and an exponent of at most {EXPONENT_BITS_MAX}"


class RsaPublicKey(PublicKey):
    """A public key of this type."""

    __slots__ = ("_key",)

    kind = "rsa"
    number = 0

    def __init__(self, key: rsa.RSAPublicKey) -> None:
        self._key = key
        super().__init__(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    def verify(self, data: bytes, signature: bytes) -> None:
        try:
            self._key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            raise BadSignature("the RSA signature does not verify") from None


class RsaPrivateKey(PrivateKey):
    """A private key of this type."""

    __slots__ = ("_key",)

    kind = "rsa"
    number = 0

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        self._key = key
        super().__init__(RsaPublicKey(key.public_key()))

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data, padding.PKCS1v15(), hashes.SHA256())

    def secret(self) -> bytes:
        return self._key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def generate() -> PrivateKey:
    """A new key of 2048 bits."""
    return RsaPrivateKey(rsa.generate_private_key(public_exponent=65537, key_size=MODULUS_BITS_MIN))


def decode_public(data: bytes) -> PublicKey:
    """The key in these bytes. Raises DecodeError, or ValueError for what cryptography refuses."""
    check_sequence(data, PUBLIC_BYTES_MAX)
    try:
        key = load_der_public_key(data)
    except UnsupportedAlgorithm as error:
        raise DecodeError("this is no RSA key") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise DecodeError("this is no RSA key")
    _check_size(key)
    return RsaPublicKey(key)


def decode_private(data: bytes) -> PrivateKey:
    """The key in these bytes. Raises DecodeError, or ValueError for what cryptography refuses."""
    check_sequence(data, PRIVATE_BYTES_MAX)
    try:
        key = load_der_private_key(data, password=None)
    except (UnsupportedAlgorithm, TypeError) as error:
        raise DecodeError("this is no RSA key") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise DecodeError("this is no RSA key")
    _check_size(key.public_key())
    return RsaPrivateKey(key)


def _check_size(key: rsa.RSAPublicKey) -> None:
    exponent_bits = key.public_numbers().e.bit_length()
    if not MODULUS_BITS_MIN <= key.key_size <= MODULUS_BITS_MAX or exponent_bits > EXPONENT_BITS_MAX:
        raise DecodeError(_SIZE)
