"""Peer ids as text and as the multihash they are; `identity.PeerId` and `/p2p/` in multiaddrs share it.

Source: libp2p/specs, peer-ids/peer-ids.md, "Peer Ids" and "String representation".
"""

from stack.errors import DecodeError
from stack.multiformats import multibase, multihash
from stack.multiformats.cid import TEXT_MAX, Cid
from stack.multiformats.multicodec import LIBP2P_KEY, name_of
from stack.multiformats.varint import Buffer

INLINE_KEY_BYTES_MAX = 42
"""Keys up to this size are the peer id, under the identity hash; longer ones are hashed (peer-ids.md)."""

_SHA2_256_BYTES = 32


def check_peer_multihash(data: Buffer) -> None:
    """Raise DecodeError unless a peer id can be this: a whole sha2-256, or identity of 1 to 42 bytes."""
    code, start, end = multihash.read(data, 0)
    if end != len(data):
        raise DecodeError(f"{len(data) - end} bytes follow the peer id")
    length = end - start
    if code == multihash.SHA2_256 and length == _SHA2_256_BYTES:
        return
    if code == multihash.IDENTITY and 0 < length <= INLINE_KEY_BYTES_MAX:
        return
    raise DecodeError(f"no peer id is {multihash.name_of(code)} of {length} bytes")


def decode_peer_text(text: str) -> bytes:
    """The multihash of a peer id in base58 or as a CID of the codec libp2p-key. Raises DecodeError."""
    if len(text) > TEXT_MAX:
        raise DecodeError(f"a peer id has at most {TEXT_MAX} characters, this text has {len(text)}")
    if text.startswith(("1", "Qm")):
        data = multibase.decode_base58(text)
    else:
        cid = Cid.from_text(text)
        if cid.codec != LIBP2P_KEY:
            raise DecodeError(f"the CID of a peer id has the codec libp2p-key, not {name_of(cid.codec)}")
        data = cid.multihash
    check_peer_multihash(data)
    return data


def encode_peer_text(data: bytes) -> str:
    """base58btc, the form the specification has peers show."""
    return multibase.encode_base58(data)
