"""Keys of peers: what they sign, how they are written. Source: libp2p/specs, peer-ids/peer-ids.md, "Keys".

One file per key type beside this one, a row in `KEY_TYPES`, loaded when first needed: the cryptography package takes 20 ms
to import, protobuf 60 ms. What is written is always the canonical form, since a peer id is made of it.
"""

from abc import ABC, abstractmethod
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, Protocol, cast

from stack.errors import ConfigError, DecodeError, SecurityError
from stack.multiformats import varint

if TYPE_CHECKING:
    from stack.pb import keys_pb2

KEY_BYTES_MAX = 8192
"""More than any key there is: a private RSA key of 8192 bits has 4.7 kB."""


class BadSignature(SecurityError):
    """The signature is not that of this key over this message."""


class PublicKey(ABC):
    """A public key; immutable, equal by what it encodes to."""

    __slots__ = ("_data",)

    kind: ClassVar[str]
    number: ClassVar[int]
    """The key type in the protobuf."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def data(self) -> bytes:
        """The key alone, in the form its type has on the wire."""
        return self._data

    @abstractmethod
    def verify(self, data: bytes, signature: bytes) -> None:
        """Raise BadSignature unless `signature` is over exactly `data`."""

    def encode(self) -> bytes:
        """The protobuf that peers exchange and peer ids are made of."""
        return _encode(self.number, self._data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and (self.kind, self._data) == (other.kind, other._data)

    def __hash__(self) -> int:
        return hash((self.kind, self._data))

    def __repr__(self) -> str:
        return f"<PublicKey {self.kind} {self._data[-4:].hex()}>"


class PrivateKey(ABC):
    """A private key; immutable. Its text never shows it."""

    __slots__ = ("_public",)

    kind: ClassVar[str]
    number: ClassVar[int]
    """The key type in the protobuf."""

    def __init__(self, public: PublicKey) -> None:
        self._public = public

    @property
    def public(self) -> PublicKey:
        """The key others verify with."""
        return self._public

    @abstractmethod
    def sign(self, data: bytes) -> bytes:
        """A signature over `data`."""

    @abstractmethod
    def secret(self) -> bytes:
        """The key alone, in the form its type has in files."""

    def encode(self) -> bytes:
        """The protobuf that key files hold."""
        return _encode(self.number, self.secret())

    def __repr__(self) -> str:
        return f"<PrivateKey of {self._public!r}>"


class KeyType(Protocol):
    """What the module of a key type offers; its readers raise DecodeError, or ValueError from the cryptography package."""

    def generate(self) -> PrivateKey: ...
    def decode_public(self, data: bytes) -> PublicKey: ...
    def decode_private(self, data: bytes) -> PrivateKey: ...


KEY_TYPES = {
    "ed25519": (1, "stack.identity.ed25519"),
    "secp256k1": (2, "stack.identity.secp256k1"),
    "ecdsa": (3, "stack.identity.ecdsa"),
    "rsa": (0, "stack.identity.rsa"),
}
"""Kind: its number on the wire, and the module that is a `KeyType`."""

_MODULES = dict(KEY_TYPES.values())


def _load(module: str) -> KeyType:
    return cast(KeyType, import_module(module))


def generate(kind: str = "ed25519") -> PrivateKey:
    """A new key: ed25519, secp256k1, ecdsa (P-256) or rsa (2048 bits). Raises ConfigError for any other kind."""
    row = KEY_TYPES.get(kind)
    if row is None:
        raise ConfigError(f"there is no key type {kind!r}, there are {', '.join(KEY_TYPES)}")
    return _load(row[1]).generate()


def decode_public(data: bytes) -> PublicKey:
    """The public key in a protobuf. Raises DecodeError."""
    from stack.pb import keys_pb2

    module, key = _parse(keys_pb2.PublicKey(), data)
    try:
        return module.decode_public(key)
    except ValueError as error:
        raise DecodeError(f"this is no public key: {error}") from error


def decode_private(data: bytes) -> PrivateKey:
    """The private key in a protobuf. Raises DecodeError; its message tells nothing of the key."""
    from stack.pb import keys_pb2

    module, key = _parse(keys_pb2.PrivateKey(), data)
    try:
        return module.decode_private(key)
    except ValueError:
        raise DecodeError("this is no private key") from None


def _encode(number: int, data: bytes) -> bytes:
    """Type and data, in that order and always both: peer-ids.md, "Keys", asks for exactly this form."""
    return bytes((0x08, number, 0x12)) + varint.encode(len(data)) + data


def _parse(message: "keys_pb2.PublicKey | keys_pb2.PrivateKey", data: bytes) -> tuple[KeyType, bytes]:
    from google.protobuf.message import DecodeError as ProtobufDecodeError

    if len(data) > KEY_BYTES_MAX:
        raise DecodeError(f"a key has at most {KEY_BYTES_MAX} bytes, this one has {len(data)}")
    try:
        message.ParseFromString(data)
    except ProtobufDecodeError as error:
        raise DecodeError("this is no key") from error
    # An unknown type is an unknown field to protobuf; required fields are not checked by its Python reader.
    if not message.IsInitialized():
        raise DecodeError("a key has a type that is known, and data")
    return _load(_MODULES[message.type]), message.data
