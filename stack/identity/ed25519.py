"""Ed25519 keys: 32 bytes public; seed and public key, 64 bytes, private. Source: peer-ids.md, "Ed25519"; RFC 8032."""

from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey as _Private
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey as _Public

from stack.errors import DecodeError
from stack.identity.keys import BadSignature, PrivateKey, PublicKey

PUBLIC_BYTES = 32
SEED_BYTES = 32
_SIGN = 1 << 255
_FIELD = (1 << 255) - 19
_SMALL = frozenset(
    int.from_bytes(bytes.fromhex(y), "little")
    for y in (
        "00" * 32,
        "01" + "00" * 31,
        "ec" + "ff" * 30 + "7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    )
)
"""The y of points of small order: the one check of a signature that RFC 8032 asks for is met by a signature that anybody can make."""


LOADED = 64
"""Keys kept as OpenSSL has them, 2 KiB each: of authors who write much. Each connection holds a key, and few verify anything with it."""

_loaded = lru_cache(LOADED)(_Public.from_public_bytes)  # any 32 bytes are taken


class Ed25519PublicKey(PublicKey):
    """A public key of this type."""

    __slots__ = ()

    kind = "ed25519"
    number = 1

    def verify(self, data: bytes, signature: bytes) -> None:
        try:
            _loaded(self.data).verify(signature, data)
        except InvalidSignature:
            raise BadSignature("the ed25519 signature does not verify") from None


class Ed25519PrivateKey(PrivateKey):
    """A private key of this type."""

    __slots__ = ("_key",)

    kind = "ed25519"
    number = 1

    def __init__(self, key: _Private) -> None:
        self._key = key
        super().__init__(Ed25519PublicKey(key.public_key().public_bytes_raw()))

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data)

    def secret(self) -> bytes:
        return self._key.private_bytes_raw() + self.public.data


def generate() -> PrivateKey:
    """A new key."""
    return Ed25519PrivateKey(_Private.generate())


def decode_public(data: bytes) -> PublicKey:
    """The key in these bytes. Raises DecodeError, also on a key that is nobody's alone."""
    if len(data) != PUBLIC_BYTES:
        raise DecodeError(f"a public ed25519 key has {PUBLIC_BYTES} bytes, this one has {len(data)}")
    if (int.from_bytes(data, "little") & ~_SIGN) % _FIELD in _SMALL:
        raise DecodeError("a public ed25519 key of small order: anybody can sign with it")
    return Ed25519PublicKey(data)


def decode_private(data: bytes) -> PrivateKey:
    """The key in these bytes; the old form has the public key a second time. Raises DecodeError."""
    if len(data) not in (SEED_BYTES + PUBLIC_BYTES, SEED_BYTES + 2 * PUBLIC_BYTES):
        raise DecodeError(f"a private ed25519 key has 64 or 96 bytes, this one has {len(data)}")
    key = Ed25519PrivateKey(_Private.from_private_bytes(data[:SEED_BYTES]))
    if data[SEED_BYTES:] != key.public.data * (len(data) // PUBLIC_BYTES - 1):
        raise DecodeError("the public half of a private ed25519 key is not that of its seed")
    return key
