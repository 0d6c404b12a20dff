"""Multihashes: a hash function's code, a length, a digest; plain bytes everywhere. Source: multiformats/multihash.

The only file that imports py-multihash. It is the table of names and computes the rare functions; the common ones go
straight to hashlib and blake3 (0.8 us against 5.1 us for 100 bytes), and it is imported when first needed (50 ms).
"""

import hashlib
from collections.abc import Callable

from stack.errors import DecodeError
from stack.multiformats import varint
from stack.multiformats.keccak import keccak
from stack.multiformats.varint import Buffer

IDENTITY = 0x00
SHA2_256 = 0x12
BLAKE3 = 0x1E

DIGEST_BYTES_MIN = 20
"""Shortest digest of a block that is believed (boxo verifcid): a digest cut to a few bytes is found by trying."""

DIGEST_BYTES_MAX = 128
"""Longest digest of a block that is believed (boxo verifcid)."""

IDENTITY_BYTES_MAX = 128
"""Longest identity digest (IPIP-512, MUST): data inside a CID is not limited by any block store."""

_Digest = Callable[[Buffer], bytes]


def _blake3(data: Buffer, length: int = 32) -> bytes:
    from blake3 import blake3

    return blake3(data).digest(length=length)


def _blake2b(size: int) -> _Digest:
    return lambda data: hashlib.blake2b(data, digest_size=size).digest()


def _blake2s(size: int) -> _Digest:
    return lambda data: hashlib.blake2s(data, digest_size=size).digest()


_DIGESTS: dict[int, _Digest] = {
    IDENTITY: bytes,
    0x11: lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
    SHA2_256: lambda data: hashlib.sha256(data).digest(),
    0x13: lambda data: hashlib.sha512(data).digest(),
    0x14: lambda data: hashlib.sha3_512(data).digest(),
    0x15: lambda data: hashlib.sha3_384(data).digest(),
    0x16: lambda data: hashlib.sha3_256(data).digest(),
    0x17: lambda data: hashlib.sha3_224(data).digest(),
    0x18: lambda data: hashlib.shake_128(data).digest(32),
    0x19: lambda data: hashlib.shake_256(data).digest(64),
    0x1A: lambda data: keccak(data, 28),
    0x1B: lambda data: keccak(data, 32),
    0x1C: lambda data: keccak(data, 48),
    0x1D: lambda data: keccak(data, 64),
    BLAKE3: _blake3,
    **{0xB200 + size: _blake2b(size) for size in range(1, 65)},
    **{0xB240 + size: _blake2s(size) for size in range(1, 33)},
}

_RARE = frozenset({0x20, 0x56, 0xD5})
"""sha2-384, dbl-sha2-256, md5: py-multihash computes these. Of its others, murmur3 is another function than 0x22 names now."""

_CODES = {
    "identity": IDENTITY,
    "sha1": 0x11,
    "sha2-256": SHA2_256,
    "sha2-512": 0x13,
    "sha3-512": 0x14,
    "sha3-384": 0x15,
    "sha3-256": 0x16,
    "sha3-224": 0x17,
    "blake3": BLAKE3,
    "murmur3-x64-64": 0x22,
}
_NAMES = {code: name for name, code in _CODES.items()}

ALLOWED = frozenset(
    {IDENTITY, 0x11, SHA2_256, 0x13, 0x14, 0x15, 0x16, 0x17, 0x19, BLAKE3, 0x56}
    | {0xB200 + size for size in range(DIGEST_BYTES_MIN, 65)}
    | {0xB240 + size for size in range(DIGEST_BYTES_MIN, 33)}
)
"""Functions a block may be named by: those of boxo's verifcid, less keccak, which is slow here (pure Python)."""


def code_of(name: str) -> int:
    """The code of a hash function's name. Raises DecodeError when there is none of that name."""
    code = _CODES.get(name)
    if code is not None:
        return code
    from multihash.constants import HASH_CODES  # type: ignore[import-untyped]  # py-multihash has no types

    try:
        return int(HASH_CODES[name])
    except KeyError:
        raise DecodeError(f"no hash function is called {name[:40]!r}") from None


def name_of(code: int) -> str:
    """The name of a hash function; `0x...` for one that is not in the table."""
    name = _NAMES.get(code)
    if name is not None:
        return name
    from multihash.constants import CODE_HASHES

    return str(CODE_HASHES.get(code, hex(code)))


def encode(code: int, digest: bytes) -> bytes:
    """The multihash of a digest that is already there."""
    return varint.encode(code) + varint.encode(len(digest)) + digest


def decode(data: Buffer) -> tuple[int, bytes]:
    """Code and digest; the input is one whole multihash. Raises DecodeError."""
    code, start, end = read(data, 0)
    if end != len(data):
        raise DecodeError(f"{len(data) - end} bytes follow the multihash")
    return code, bytes(data[start:end])


def read(data: Buffer, offset: int) -> tuple[int, int, int]:
    """Code, start and end of the digest of the multihash at `offset`. Raises DecodeError."""
    code, start = varint.decode(data, offset)
    length, start = varint.decode(data, start)
    end = start + length
    if end > len(data):
        raise DecodeError(f"multihash says {length} bytes, {len(data) - start} are there")
    return code, start, end


def hasher(function: int | str) -> Callable[[Buffer], bytes]:
    """What computes the plain digest of one function, for loops. Raises DecodeError when there is no such function."""
    code = code_of(function) if isinstance(function, str) else function
    return _DIGESTS.get(code) or _rare(code)


def digest(function: int | str, data: Buffer, length: int | None = None) -> bytes:
    """The multihash of `data`, its digest cut to `length` bytes when that is given.

    Raises DecodeError when the function is not known or cannot be computed, or has no digest of that length.
    """
    if length is None and (function == SHA2_256 or function == "sha2-256"):
        return b"\x12\x20" + hashlib.sha256(data).digest()
    code = code_of(function) if isinstance(function, str) else function
    if length is None:
        return encode(code, hasher(code)(data))
    whole = _blake3(data, length) if code == BLAKE3 and length <= DIGEST_BYTES_MAX else hasher(code)(data)
    if length > len(whole) or (code == IDENTITY and length != len(whole)):
        raise DecodeError(f"{name_of(code)} of {len(data)} bytes has no digest of {length} bytes")
    return encode(code, whole[:length])


def _rare(code: int) -> Callable[[Buffer], bytes]:
    if code not in _RARE:
        raise DecodeError(f"hash function {name_of(code)} cannot be computed here")
    from multihash import digest as compute  # type: ignore[import-untyped]  # py-multihash has no types

    return lambda data: bytes(compute(bytes(data), code).digest)


def check_allowed(multihash: Buffer) -> None:
    """Raise DecodeError unless a block may be named by this multihash.

    The function must be in `ALLOWED`; its digest between 20 and 128 bytes, an identity digest at most 128.
    """
    if len(multihash) == 34 and multihash[0] == SHA2_256 and multihash[1] == 32:
        return
    code, digest = decode(multihash)
    check_allowed_function(code, len(digest))


def check_allowed_function(code: int, length: int) -> None:
    """`check_allowed` for a function and a digest length that are known before there is a digest."""
    if code not in ALLOWED:
        raise DecodeError(f"hash function {name_of(code)} is not allowed for blocks")
    if code == IDENTITY:
        if length > IDENTITY_BYTES_MAX:
            raise DecodeError(f"identity digest of {length} bytes, at most {IDENTITY_BYTES_MAX} are allowed")
    elif not DIGEST_BYTES_MIN <= length <= DIGEST_BYTES_MAX:
        raise DecodeError(f"digest of {length} bytes, {DIGEST_BYTES_MIN} to {DIGEST_BYTES_MAX} are allowed")
