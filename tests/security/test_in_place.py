"""Ciphers that read and write the same memory, and others."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from stack.security.in_place import Cipher, works_in_place


class Sound:
    """As both are today."""

    def __init__(self, key: bytes) -> None:
        self._cipher: Cipher = ChaCha20Poly1305(key)

    def encrypt(self, nonce: bytes, data: bytes, associated: bytes | None) -> bytes:
        return self._cipher.encrypt(nonce, data, associated)

    def encrypt_into(self, nonce: bytes, data: memoryview, associated: bytes | None, out: memoryview) -> None:
        self._cipher.encrypt_into(nonce, data, associated, out)

    def decrypt_into(self, nonce: bytes, data: memoryview, associated: bytes | None, out: memoryview) -> None:
        self._cipher.decrypt_into(nonce, data, associated, out)


class EncryptsWrong(Sound):
    def encrypt_into(self, nonce: bytes, data: memoryview, associated: bytes | None, out: memoryview) -> None:
        out[:] = bytes(len(out))


class DecryptsWrong(Sound):
    def decrypt_into(self, nonce: bytes, data: memoryview, associated: bytes | None, out: memoryview) -> None:
        out[:] = b"\xff" * len(out)


class Refuses(Sound):
    def encrypt_into(self, nonce: bytes, data: memoryview, associated: bytes | None, out: memoryview) -> None:
        raise ValueError("the same memory")


@pytest.mark.parametrize(
    ("kind", "works"),
    [
        (AESGCM, True),
        (ChaCha20Poly1305, True),
        (Sound, True),
        (EncryptsWrong, False),
        (DecryptsWrong, False),
        (Refuses, False),
    ],
)
def test_a_cipher_that_does_not_work_in_place_is_found_out(kind: type[Sound], works: bool) -> None:
    assert works_in_place(kind) is works  # type: ignore[arg-type] # as far as it is used
