"""XSalsa20: Salsa20 with a nonce of 24 bytes. Pure. Source: Bernstein, "Extending the Salsa20 nonce" (2011).

pycryptodome has Salsa20 itself in C; what makes it XSalsa20 is done once for each direction of a connection, here.
"""

import hashlib
import struct

from stack.errors import ConfigError
from stack.sansio.interfaces import Buffer

NONCE_BYTES = 24

_CONSTANTS = struct.unpack("<4I", b"expand 32-byte k")
_ROUNDS = (
    (4, 0, 12, 7), (8, 4, 0, 9), (12, 8, 4, 13), (0, 12, 8, 18),
    (9, 5, 1, 7), (13, 9, 5, 9), (1, 13, 9, 13), (5, 1, 13, 18),
    (14, 10, 6, 7), (2, 14, 10, 9), (6, 2, 14, 13), (10, 6, 2, 18),
    (3, 15, 11, 7), (7, 3, 15, 9), (11, 7, 3, 13), (15, 11, 7, 18),
    (1, 0, 3, 7), (2, 1, 0, 9), (3, 2, 1, 13), (0, 3, 2, 18),
    (6, 5, 4, 7), (7, 6, 5, 9), (4, 7, 6, 13), (5, 4, 7, 18),
    (11, 10, 9, 7), (8, 11, 10, 9), (9, 8, 11, 13), (10, 9, 8, 18),
    (12, 15, 14, 7), (13, 12, 15, 9), (14, 13, 12, 13), (15, 14, 13, 18),
)  # fmt: skip
"""One double round: word a ^= (word b + word c) rotated left by so many bits (Salsa20 specification, sections 3 to 6)."""


def hsalsa20(key: bytes, nonce: bytes) -> bytes:
    """A key of 32 bytes from a key of 32 and a nonce of 16: the core of Salsa20 without its last addition."""
    k, n = struct.unpack("<8I", key), struct.unpack("<4I", nonce)
    c = _CONSTANTS
    words = [c[0], *k[:4], c[1], *n, c[2], *k[4:], c[3]]
    for _ in range(10):
        for target, first, second, bits in _ROUNDS:
            total = (words[first] + words[second]) & 0xFFFFFFFF
            words[target] ^= (total << bits | total >> (32 - bits)) & 0xFFFFFFFF
    return struct.pack("<8I", *(words[place] for place in (0, 5, 10, 15, 6, 7, 8, 9)))


class XSalsa20:
    """The key stream of one direction; `apply` goes on where it left off."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes, nonce: bytes) -> None:
        """Raises ConfigError when the extra `pnet` is not installed."""
        self._cipher = _Salsa20(hsalsa20(key, nonce[:16]), nonce[16:])

    def apply(self, data: Buffer, out: memoryview) -> None:
        """Encrypt or decrypt `data` into `out`, which is as long and may be the same memory."""
        self._cipher.apply(data, out)


class _Salsa20:
    """pycryptodome's; the only place that knows it."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes, nonce: bytes) -> None:
        try:
            from Crypto.Cipher import Salsa20  # here: an optional dependency
        except ImportError as error:
            raise ConfigError("private networks need another package: pip install 'pycryptodome>=3.20'") from error
        self._cipher = Salsa20.new(key=key, nonce=nonce)

    def apply(self, data: Buffer, out: memoryview) -> None:
        self._cipher.encrypt(data, output=out)


def fingerprint(key: bytes) -> bytes:
    """16 bytes that name a private network without telling its key: what Kubo prints at its start."""
    stream = bytearray(64)
    _Salsa20(key, b"finprint").apply(bytes(64), memoryview(stream))
    return hashlib.shake_128(stream).digest(16)
