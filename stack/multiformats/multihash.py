"""Multihashes: a hash function's code, a length, a digest; plain bytes everywhere. Source: multiformats/multihash.

The only file that imports py-multihash. Its table says which functions there are, by which name and code, and it computes them, but for
those that nearly every block is named by: these go straight to hashlib and blake3 (0.8 us against 5.1 us for 100 bytes). It is imported
when first needed: 7 ms where a node is loaded, 25 ms where nothing is.
"""

import hashlib
from collections.abc import Callable
from typing import Protocol, cast

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

NAMES = {"identity": IDENTITY, "sha2-256": SHA2_256, "murmur3-x64-64": 0x22}
"""Names that py-multihash's table has otherwise, or of old: the specification's come first; and the one that nearly everything has."""

_Digest = Callable[[Buffer], bytes]


class PyMultihash(Protocol):
    """What py-multihash's `Multihash` has."""

    @property
    def code(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def length(self) -> int: ...
    @property
    def digest(self) -> bytes: ...


def _blake3(data: Buffer, length: int = 32) -> bytes:
    from blake3 import blake3

    return blake3(data).digest(length=length)


_OWN: dict[int, _Digest] = {
    IDENTITY: bytes,
    SHA2_256: lambda data: hashlib.sha256(data).digest(),
    0x1A: lambda data: keccak(data, 28),
    0x1B: lambda data: keccak(data, 32),
    0x1C: lambda data: keccak(data, 48),
    0x1D: lambda data: keccak(data, 64),
    BLAKE3: _blake3,
}
"""What nearly every block is named by, and what py-multihash has no function for."""

_SHAKE_BYTES = {0x18: 32, 0x19: 64}

_REGISTERED = (
    frozenset({0x11, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x20, 0x56, 0xD5})
    | frozenset(range(0xB201, 0xB241))
    | frozenset(range(0xB241, 0xB261))
)
"""sha1 to shake, sha2-384, dbl-sha2-256, md5, blake2b, blake2s: what py-multihash computes. Of its others, murmur3 is another function
than 0x22 names now."""

ALLOWED = frozenset(
    {IDENTITY, 0x11, SHA2_256, 0x13, 0x14, 0x15, 0x16, 0x17, 0x19, BLAKE3, 0x56}
    | {0xB200 + size for size in range(DIGEST_BYTES_MIN, 65)}
    | {0xB240 + size for size in range(DIGEST_BYTES_MIN, 33)}
)
"""Functions a block may be named by: those of boxo's verifcid, less keccak, which is slow here (pure Python)."""


def code_of(name: str) -> int:
    """The code of a hash function's name. Raises DecodeError when there is none of that name."""
    if name in NAMES:
        return NAMES[name]
    from multihash.constants import HASH_CODES  # type: ignore[import-untyped]  # py-multihash has no types; here: 9 ms

    if name not in HASH_CODES:
        raise DecodeError(f"no hash function is called {name[:40]!r}")
    return int(HASH_CODES[name])


def name_of(code: int) -> str:
    """The name of a hash function; `0x...` for one that is not in the table."""
    for name, ours in NAMES.items():
        if ours == code:
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
    return _OWN.get(code) or _registered(code)


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


def _registered(code: int) -> _Digest:
    if code not in _REGISTERED:
        raise DecodeError(f"hash function {name_of(code)} cannot be computed here")
    from multihash import FuncReg  # type: ignore[import-untyped]  # py-multihash has no types

    def compute(data: Buffer) -> bytes:
        function = FuncReg.hash_from_func(code, _SHAKE_BYTES.get(code))
        function.update(data)
        return bytes(function.digest())

    return compute


def to_py(multihash: bytes) -> PyMultihash:
    """A multihash as an object of py-multihash. Raises DecodeError for a function that it does not know."""
    import multihash as py_multihash

    code, _ = decode(multihash)  # in its strict form, which py-multihash does not ask for
    try:
        return cast(PyMultihash, py_multihash.decode(multihash))
    except ValueError as error:
        raise DecodeError(f"py-multihash cannot hold this {name_of(code)}: {error}") from error


def from_py(value: PyMultihash) -> bytes:
    """The multihash that an object of py-multihash is. Raises DecodeError when its length is not that of its digest."""
    if value.length != len(value.digest):
        raise DecodeError(f"multihash says {value.length} bytes, {len(value.digest)} are there")
    return encode(value.code, value.digest)


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
