"""Content identifiers, versions 0 and 1. Source: multiformats/cid.

The only file that imports py-cid. It reads and writes CIDs where people and programs meet us: `parse`, `str`, `to_py_cid`,
`from_py_cid`. What may pass are the forms of the specification, so our own reader goes first: py-cid takes peer ids and paths for CIDs,
is quadratic in the text, and refuses legal CIDs (unknown codecs, an empty identity), which are then read and written here alone.
Where many CIDs pass (blocks, directories, the control protocol) it is always here: `decode`, `text`, `from_text` take 1 to 8 us, py-cid 10
to 130.
"""

import hashlib
from typing import Final, Protocol, cast

from stack.errors import DecodeError
from stack.multiformats import multibase, multihash, varint
from stack.multiformats.multicodec import DAG_PB, RAW, name_of
from stack.multiformats.varint import Buffer

TEXT_MAX: Final = 512
"""Longest text taken for a CID. An identity CID of 128 bytes has 273 characters in base16, the longest form in use."""

_V0_BYTES = 34
_V0_TEXT = 46
_V0_PREFIX = b"\x12\x20"
_V1_SHA2_256_BYTES = 36


class PyCid(Protocol):
    """What py-cid's `CIDv0` and `CIDv1` have."""

    @property
    def version(self) -> int: ...
    @property
    def codec(self) -> str: ...
    @property
    def multihash(self) -> bytes: ...
    @property
    def buffer(self) -> bytes: ...
    def encode(self, encoding: str) -> bytes: ...


class Cid:
    """An immutable content identifier; hashable, ordered by its bytes, its fields read on first use.

    Made by `of`, `v0`, `v1`, `decode`, `read`, `parse`, `from_text`, `from_prefix`, `from_py_cid`, `from_py_multihash`; never by
    calling the class. Holding a Cid means that its form is right, not that its hash function is allowed: see `multihash.check_allowed`.
    """

    __slots__ = ("_bytes", "_codec", "_digest_start", "_hash_code", "_multihash_start")

    _bytes: bytes
    _codec: int
    _digest_start: int
    _hash_code: int
    _multihash_start: int

    def __init__(self) -> None:
        raise TypeError("make a Cid with of, v0, v1, decode, read, parse or from_prefix")

    @staticmethod
    def of(data: Buffer, codec: int = RAW, hash: int | str = "sha2-256", version: int = 1) -> "Cid":
        """The CID of `data`. Raises ValueError for what version 0 cannot say, DecodeError for an unknown function."""
        if version == 0:
            if codec != DAG_PB or hash not in ("sha2-256", multihash.SHA2_256):
                raise ValueError("version 0 is always dag-pb and sha2-256")
            return _make(_V0_PREFIX + hashlib.sha256(data).digest())
        if version != 1:
            raise ValueError(f"there is no CID version {version}")
        return _make(b"\x01" + varint.encode(codec) + multihash.digest(hash, data))

    @staticmethod
    def v0(digest_multihash: bytes) -> "Cid":
        """Version 0 of a sha2-256 multihash. Raises DecodeError for any other."""
        if len(digest_multihash) != _V0_BYTES or not digest_multihash.startswith(_V0_PREFIX):
            raise DecodeError("version 0 holds a whole sha2-256 multihash and nothing else")
        return _make(bytes(digest_multihash))

    @staticmethod
    def v1(codec: int, digest_multihash: bytes) -> "Cid":
        """Version 1 of a codec and a multihash. Raises DecodeError when that is no multihash."""
        multihash.decode(digest_multihash)
        return _make(b"\x01" + varint.encode(codec) + digest_multihash)

    @staticmethod
    def decode(data: Buffer) -> "Cid":
        """The CID that these bytes are, all of them. Raises DecodeError."""
        data = bytes(data)
        if len(data) == _V1_SHA2_256_BYTES and data[0] == 1 and data[1] < 0x80 and data[2:4] == _V0_PREFIX:
            return _make(data)
        cid, end = Cid.read(data, 0)
        if end != len(data):
            raise DecodeError(f"{len(data) - end} bytes follow the CID")
        return cid

    @staticmethod
    def read(data: Buffer, offset: int = 0) -> tuple["Cid", int]:
        """The CID at `offset` and the offset after it. Raises DecodeError."""
        view = memoryview(data)
        if view[offset : offset + 2] == _V0_PREFIX:
            end = offset + _V0_BYTES
            if end > len(view):
                raise DecodeError("CID is cut short")
            return _make(bytes(view[offset:end])), end
        version, position = varint.decode(view, offset)
        if version != 1:
            raise DecodeError(f"there is no CID version {version}")
        _, position = varint.decode(view, position)
        _, _, end = multihash.read(view, position)
        return _make(bytes(view[offset:end])), end

    @staticmethod
    def parse(text: str) -> "Cid":
        """The CID that this text is, as py-cid reads it too. Raises DecodeError; a path, a URL and a peer id are none."""
        cid = Cid.from_text(text)
        import cid as py_cid  # type: ignore[import-untyped]  # py-cid has no types; here: few programs read a text

        try:
            read = py_cid.make_cid(text).buffer
        except ValueError:  # a legal one that py-cid does not know
            return cid
        if read != cid._bytes:
            raise DecodeError("this is not read as one and the same CID by everybody")
        return cid

    @staticmethod
    def from_text(text: str) -> "Cid":
        """As `parse`, without py-cid: for where many pass. Raises DecodeError."""
        if len(text) > TEXT_MAX:
            raise DecodeError(f"a CID has at most {TEXT_MAX} characters, this text has {len(text)}")
        if text.startswith("Qm"):
            return _parse_v0(text)
        if text.startswith(("12D3Koo", "16Uiu2H")):
            raise DecodeError("this is the id of a peer, not of content")
        cid = Cid.decode(multibase.decode(text)[1])
        if cid.version == 0:
            # multiformats/cid, "Decoding Algorithm": version 0 is never behind a multibase prefix.
            raise DecodeError("version 0 has no multibase prefix")
        return cid

    @staticmethod
    def from_py_cid(value: PyCid) -> "Cid":
        """The same as one of py-cid's objects. Raises DecodeError: those can hold anything."""
        return Cid.decode(value.buffer)

    @staticmethod
    def from_py_multihash(codec: int, value: multihash.PyMultihash) -> "Cid":
        """Version 1 of a codec and one of py-multihash's objects. Raises DecodeError."""
        return Cid.v1(codec, multihash.from_py(value))

    def to_py_cid(self) -> PyCid:
        """The same as an object of py-cid. Raises DecodeError for a codec that py-cid does not know."""
        import cid as py_cid

        try:
            return cast(PyCid, py_cid.make_cid(self.version, name_of(self.codec), self.multihash))
        except ValueError as error:
            raise DecodeError(f"py-cid cannot hold this: {error}") from error

    def to_py_multihash(self) -> multihash.PyMultihash:
        """The multihash as an object of py-multihash. Raises DecodeError for a function that py-multihash does not know."""
        return multihash.to_py(self.multihash)

    @staticmethod
    def from_prefix(prefix: bytes, data: Buffer) -> "Cid":
        """The CID of `data` by a bitswap prefix: version, codec, hash function, digest length.

        Refuses, before anything is hashed, a function that is not allowed for blocks. Raises DecodeError.
        """
        version, position = varint.decode(prefix)
        codec, position = varint.decode(prefix, position)
        code, position = varint.decode(prefix, position)
        length, position = varint.decode(prefix, position)
        if position != len(prefix):
            raise DecodeError(f"{len(prefix) - position} bytes follow the CID prefix")
        multihash.check_allowed_function(code, length)
        digest_multihash = multihash.digest(code, data, length)
        if version == 0 and codec == DAG_PB:
            return Cid.v0(digest_multihash)
        if version != 1:
            raise DecodeError(f"there is no CID version {version} of {name_of(codec)}")
        return _make(b"\x01" + varint.encode(codec) + digest_multihash)

    @property
    def version(self) -> int:
        """0 or 1."""
        return 0 if self._bytes[0] == 0x12 else 1

    @property
    def codec(self) -> int:
        """The code of what the bytes are: `multicodec.RAW`, `DAG_PB`, ..., or one we do not know."""
        try:
            return self._codec
        except AttributeError:
            return self._fields()._codec

    @property
    def multihash(self) -> bytes:
        """The hash function's code, the length and the digest."""
        if self._bytes[0] == 0x12:
            return self._bytes
        try:
            return self._bytes[self._multihash_start :]
        except AttributeError:
            return self._bytes[self._fields()._multihash_start :]

    @property
    def hash_code(self) -> int:
        """The code of the hash function."""
        try:
            return self._hash_code
        except AttributeError:
            return self._fields()._hash_code

    @property
    def digest(self) -> bytes:
        """The digest alone."""
        try:
            return self._bytes[self._digest_start :]
        except AttributeError:
            return self._bytes[self._fields()._digest_start :]

    @property
    def prefix(self) -> bytes:
        """Version, codec, hash function, digest length, each a varint: what bitswap sends in place of the CID."""
        start = self._fields()._digest_start
        return b"\0\x70\x12\x20" if self.version == 0 else self._bytes[:start]

    def to_v1(self) -> "Cid":
        """The same content as version 1."""
        return self if self.version else _make(b"\x01\x70" + self._bytes)

    def with_codec(self, codec: int) -> "Cid":
        """The same digest, read as another codec, as version 1."""
        return _make(b"\x01" + varint.encode(codec) + self.multihash)

    def encode(self, base: str) -> str:
        """Text in a multibase base; version 0 has only base58btc, without prefix. Raises ValueError."""
        if self.version:
            return multibase.encode(base, self._bytes)
        if base != "base58btc":
            raise ValueError("version 0 is written in base58btc only")
        return multibase.encode_base58(self._bytes)

    def _fields(self) -> "Cid":
        if self.version == 0:
            self._codec, self._multihash_start, self._hash_code, self._digest_start = DAG_PB, 0, multihash.SHA2_256, 2
            return self
        self._codec, self._multihash_start = varint.decode(self._bytes, 1)
        self._hash_code, self._digest_start, _ = multihash.read(self._bytes, self._multihash_start)
        return self

    def __bytes__(self) -> bytes:
        return self._bytes

    @property
    def text(self) -> str:
        """The same as `str`, without py-cid: for where many pass."""
        return self.encode("base32" if self.version else "base58btc")

    def __str__(self) -> str:
        try:
            return str(self.to_py_cid().encode("base32"), "ascii")
        except DecodeError:
            return self.text

    def __repr__(self) -> str:
        return f"<Cid {self.text}>"

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cid) and self._bytes == other._bytes

    def __lt__(self, other: "Cid") -> bool:
        return self._bytes < other._bytes

    def __le__(self, other: "Cid") -> bool:
        return self._bytes <= other._bytes

    def __gt__(self, other: "Cid") -> bool:
        return self._bytes > other._bytes

    def __ge__(self, other: "Cid") -> bool:
        return self._bytes >= other._bytes

    def __reduce__(self) -> tuple[object, tuple[bytes]]:
        return Cid.decode, (self._bytes,)


_new = object.__new__


def _make(data: bytes) -> Cid:
    cid = _new(Cid)
    cid._bytes = data
    return cid


def _parse_v0(text: str) -> Cid:
    if len(text) != _V0_TEXT:
        raise DecodeError(f"version 0 has {_V0_TEXT} characters, this text has {len(text)}")
    return Cid.v0(multibase.decode_base58(text))
