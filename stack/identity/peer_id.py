"""Peer ids: the hash of a public key, or the key itself when it is short. Source: libp2p/specs, peer-ids/peer-ids.md."""

from stack.errors import SecurityError
from stack.identity.keys import PublicKey, decode_public
from stack.multiformats import multihash
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import LIBP2P_KEY
from stack.multiformats.peer_text import (
    INLINE_KEY_BYTES_MAX,
    check_peer_multihash,
    decode_peer_text,
    encode_peer_text,
)


class PeerId:
    """An immutable peer id; hashable, ordered by its bytes. Made by `of`, `parse`, `decode`."""

    __slots__ = ("_bytes", "_text")

    _bytes: bytes
    _text: str

    def __init__(self) -> None:
        raise TypeError("make a PeerId with of, parse or decode")

    @staticmethod
    def of(public_key: PublicKey) -> "PeerId":
        """The id of a key."""
        encoded = public_key.encode()
        inline = len(encoded) <= INLINE_KEY_BYTES_MAX
        return _make(multihash.digest(multihash.IDENTITY if inline else multihash.SHA2_256, encoded))

    @staticmethod
    def parse(text: str) -> "PeerId":
        """The id in base58, or as a CID of the codec libp2p-key in any base. Raises DecodeError."""
        return _make(decode_peer_text(text))

    @staticmethod
    def decode(data: bytes) -> "PeerId":
        """The id in its bytes. Raises DecodeError."""
        data = bytes(data)
        check_peer_multihash(data)
        return _make(data)

    @property
    def cid(self) -> Cid:
        """The id as a CID, for where a CID is asked for (IPNS names)."""
        return Cid.v1(LIBP2P_KEY, self._bytes)

    def public_key(self) -> PublicKey | None:
        """The key, when the id holds it; None when it holds a hash. Raises DecodeError when what it holds is no key."""
        code, digest = multihash.decode(self._bytes)
        return decode_public(digest) if code == multihash.IDENTITY else None

    def __bytes__(self) -> bytes:
        return self._bytes

    def __str__(self) -> str:
        try:
            return self._text
        except AttributeError:
            self._text = encode_peer_text(self._bytes)
            return self._text

    def __repr__(self) -> str:
        return f"<PeerId {self}>"

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PeerId) and self._bytes == other._bytes

    def __lt__(self, other: "PeerId") -> bool:
        return self._bytes < other._bytes

    def __reduce__(self) -> tuple[object, tuple[bytes]]:
        return PeerId.decode, (self._bytes,)


def _make(data: bytes) -> PeerId:
    peer: PeerId = object.__new__(PeerId)
    peer._bytes = data
    return peer


class PeerIdMismatch(SecurityError):
    """The other end is not who it should be."""

    def __init__(self, expected: PeerId, actual: PeerId) -> None:
        super().__init__(f"expected peer {expected}, this is {actual}")
        self.expected = expected
        self.actual = actual
