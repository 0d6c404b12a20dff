"""XSalsa20, by the published vectors of NaCl (tests/core1, core2, stream2 and stream3 of nacl-20110221)."""

import hashlib
import sys

import pytest

from stack.errors import ConfigError
from stack.security.pnet.cipher import XSalsa20, fingerprint, hsalsa20

SHARED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
FIRST_KEY = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
NONCE = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
SECOND_KEY = bytes.fromhex("dc908dda0b9344a953629b733820778880f3ceb421bb61b91cbd4c3e66256ce4")
STREAM = bytes.fromhex("eea6a7251c1e72916d11c2cb214d3c252539121d8e234e652d651fa4c8cff880")
STREAM_SHA256 = "662b9d0e3463029156069b12f918691a98f7dfb2ca0393c96bbfc6b1fbd630a2"
"""Of the first 4 MiB."""


def test_the_core_gives_the_keys_of_the_published_vectors() -> None:
    assert hsalsa20(SHARED, bytes(16)) == FIRST_KEY
    assert hsalsa20(FIRST_KEY, NONCE[:16]) == SECOND_KEY


def test_the_stream_is_that_of_the_published_vectors() -> None:
    stream = bytearray(4 << 20)
    XSalsa20(FIRST_KEY, NONCE).apply(bytes(len(stream)), memoryview(stream))
    assert stream[:32] == STREAM
    assert hashlib.sha256(stream).hexdigest() == STREAM_SHA256


@pytest.mark.parametrize("step", [1, 63, 64, 65, 1000])
def test_pieces_of_any_size_and_in_place_give_the_same(step: int) -> None:
    data = bytearray(b"ab" * 2048)
    whole = bytearray(len(data))
    XSalsa20(FIRST_KEY, NONCE).apply(data, memoryview(whole))
    cipher = XSalsa20(FIRST_KEY, NONCE)
    for start in range(0, len(data), step):
        piece = memoryview(data)[start : start + step]
        cipher.apply(piece, piece)
    assert data == whole


def test_a_fingerprint_names_a_network_and_hides_its_key() -> None:
    assert len(fingerprint(FIRST_KEY)) == 16
    assert fingerprint(FIRST_KEY) == fingerprint(FIRST_KEY) != fingerprint(SECOND_KEY)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "Crypto.Cipher", None)
    with pytest.raises(ConfigError, match="another package: pip install"):
        XSalsa20(FIRST_KEY, NONCE)
