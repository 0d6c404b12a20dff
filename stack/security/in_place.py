"""Whether a cipher may read and write the same memory: `cryptography` does so and does not promise it, so it is tried."""

from collections.abc import Callable
from functools import cache
from typing import Protocol

from stack.sansio.interfaces import Buffer

NONCE_BYTES = 12
TAG_BYTES = 16
SIZES = (1, 100, 65519)
"""The last is a full Noise frame."""


class Cipher(Protocol):
    """What AESGCM and ChaCha20Poly1305 have in common: keys of 32 bytes, these nonces and tags."""

    def encrypt(self, nonce: Buffer, data: Buffer, associated_data: Buffer | None) -> bytes: ...
    def encrypt_into(self, nonce: Buffer, data: Buffer, associated_data: Buffer | None, buf: Buffer) -> int: ...
    def decrypt_into(self, nonce: Buffer, data: Buffer, associated_data: Buffer | None, buf: Buffer) -> int: ...


@cache
def works_in_place(kind: Callable[[bytes], Cipher]) -> bool:
    """Whether ciphers of this kind do."""
    cipher = kind(bytes(32))
    nonce = bytes(NONCE_BYTES)
    try:
        for size in SIZES:
            plaintext = (bytes(range(251)) * 262)[:size]
            frame = memoryview(bytearray(plaintext + bytes(TAG_BYTES)))
            cipher.encrypt_into(nonce, frame[:size], None, frame)
            if frame != cipher.encrypt(nonce, plaintext, None):
                return False
            cipher.decrypt_into(nonce, frame, None, frame[:size])
            if frame[:size] != plaintext:
                return False
    except Exception:  # noqa: BLE001 - whatever a version says to memory that overlaps: it is given a copy
        return False
    return True
