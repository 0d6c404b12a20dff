import hashlib

import multihash as py_multihash
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.errors import DecodeError
from stack.multiformats import multicodec, multihash

BOTH = ("sha1", "sha2-256", "sha2-384", "sha2-512", "sha3-224", "sha3-256", "sha3-384", "sha3-512", "blake3", "md5")
BLAKE2 = ("blake2b-8", "blake2b-160", "blake2b-256", "blake2b-512", "blake2s-128", "blake2s-256")


@given(st.sampled_from(BOTH + BLAKE2 + ("shake-128", "shake-256", "dbl-sha2-256")), st.binary(max_size=300))
def test_py_multihash_computes_the_same(function: str, data: bytes) -> None:
    expected = py_multihash.sum(data, function).encode()
    assert multihash.digest(function, data) == expected
    assert multihash.digest(multihash.code_of(function), memoryview(data)) == expected


@given(st.integers(0, 1 << 40), st.binary(max_size=200))
def test_code_and_digest_come_back(code: int, digest: bytes) -> None:
    data = multihash.encode(code, digest)
    assert multihash.decode(data) == (code, digest)
    assert multihash.decode(memoryview(data)) == (code, digest)
    with pytest.raises(DecodeError, match="follow the multihash"):
        multihash.decode(data + b"\0")


@given(st.binary(max_size=60))
def test_any_bytes_are_a_multihash_or_a_decode_error(data: bytes) -> None:
    try:
        code, digest = multihash.decode(data)
    except DecodeError:
        return
    assert multihash.encode(code, digest) == data


@pytest.mark.parametrize("size", [1, 20, 32, 64])
def test_every_blake2_digest_length_has_its_function(size: int) -> None:
    assert multihash.digest(0xB200 + size, b"x") == multihash.encode(
        0xB200 + size, hashlib.blake2b(b"x", digest_size=size).digest()
    )
    if size <= 32:
        assert multihash.digest(0xB240 + size, b"x").endswith(hashlib.blake2s(b"x", digest_size=size).digest())


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("keccak-224", "f71837502ba8e10837bdd8d365adb85591895602fc552b48b7390abd"),
        (
            "keccak-384",
            "2c23146a63a29acf99e73b88f8c24eaa7dc60aa771780ccc006afbfa8fe2479b2dd2b21362337441ac12b515911957ff",
        ),
    ],
)
def test_keccak_of_the_empty_input_is_that_of_the_reference(function: str, expected: str) -> None:
    assert multihash.decode(multihash.digest(function, b""))[1].hex() == expected


def test_the_identity_of_nothing_is_a_multihash() -> None:
    assert multihash.digest("identity", b"") == b"\0\0"
    assert multihash.decode(b"\0\0") == (multihash.IDENTITY, b"")


def test_a_digest_has_the_length_that_is_asked_for_or_is_refused() -> None:
    whole = multihash.digest("sha2-256", b"x")
    assert multihash.digest("sha2-256", b"x", 20) == b"\x12\x14" + whole[2:22]
    assert multihash.digest("blake3", b"x", 64)[2:34] == multihash.digest("blake3", b"x")[2:]
    for function, length in (("sha2-256", 33), ("blake3", 129), ("identity", 2), ("identity", 0)):
        with pytest.raises(DecodeError, match="no digest of"):
            multihash.digest(function, b"x", length)


def test_names_that_are_not_ours_come_from_py_multihash() -> None:
    assert multihash.code_of("keccak-256") == 0x1B
    assert multihash.name_of(0xB220) == "blake2b-256"
    assert multihash.name_of(0x12) == "sha2-256"
    assert multihash.name_of(0x7FFF_0000) == "0x7fff0000"
    with pytest.raises(DecodeError, match="no hash function"):
        multihash.code_of("crc32")


@pytest.mark.parametrize("code", [0x22, 0x23, 0x1052, 0x7FFF_0000])
def test_A51_a_function_that_cannot_be_computed_is_an_error(code: int) -> None:
    with pytest.raises(DecodeError, match="cannot be computed"):
        multihash.digest(code, b"x")


@pytest.mark.parametrize(
    ("code", "length"),
    [(0x12, 20), (0x12, 32), (0x12, 128), (0x1E, 64), (0xB220, 32), (0x00, 0), (0x00, 128), (0x11, 20), (0x56, 32)],
)
def test_blocks_may_be_named_by_strong_hashes(code: int, length: int) -> None:
    multihash.check_allowed(multihash.encode(code, bytes(length)))
    multihash.check_allowed_function(code, length)


@pytest.mark.parametrize(
    ("code", "length"),
    [
        (0x12, 1),  # py-multihash verifies a digest of one byte
        (0x12, 19),
        (0x12, 129),
        (0x00, 129),  # IPIP-512
        (0xD5, 16),  # md5
        (0x22, 8),
        (0x1B, 32),  # keccak: pure Python here
        (0xB201, 20),  # blake2b-8 with padding after it
        (0x7FFF_0000, 32),
    ],
)
def test_A48_blocks_may_not_be_named_by_weak_or_endless_hashes(code: int, length: int) -> None:
    with pytest.raises(DecodeError, match="allowed"):
        multihash.check_allowed(multihash.encode(code, bytes(length)))


def test_what_follows_an_allowed_multihash_is_refused() -> None:
    with pytest.raises(DecodeError, match="follow the multihash"):
        multihash.check_allowed(multihash.digest("sha2-256", b"x") + b"\0")


def test_codecs_have_names_both_ways_and_unknown_ones_are_legal() -> None:
    assert (multicodec.name_of(multicodec.DAG_PB), multicodec.code_of("dag-pb")) == ("dag-pb", 0x70)
    assert multicodec.name_of(0x123456) == "0x123456"
    assert multicodec.code_of("0x123456") == 0x123456
    for name in ("dag-xyz", "0xzz", "", "0x-1", "0x" + "f" * 17):
        with pytest.raises(DecodeError, match="no codec"):
            multicodec.code_of(name)
