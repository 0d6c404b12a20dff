"""Do these bytes hash to that name? Asked of every block that comes in, and again of every block that goes out."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from stack.blocks.interfaces import Block, BlockMismatch, BlockStore, KeepsVerified
from stack.errors import DecodeError, LimitExceeded
from stack.multiformats import multihash as multihashes
from stack.sansio.interfaces import Buffer

STORED_BLOCK_MAX = 32 * 1024 * 1024
"""The largest block a store keeps: what a CAR section may hold on import by flag (go-car v1). The network's bound is smaller."""

MULTIHASH_BYTES_MAX = 255
"""A pack record has one byte for the length; what may name a block (128 bytes of digest) is far below it."""

_SHA2_256 = b"\x12\x20"


def matches(multihash: bytes, data: Buffer) -> bool:
    """Whether `data` hashes to `multihash`; False also when the hash function cannot be computed here."""
    if multihash.startswith(_SHA2_256):
        return hashlib.sha256(data).digest() == multihash[2:]
    try:
        code, digest = multihashes.decode(multihash)
        return multihashes.digest(code, data, len(digest)) == multihash
    except DecodeError:
        return False


def check_sizes(blocks: Sequence[Block]) -> None:
    """Refuse blocks that are too large for a store. Raises LimitExceeded."""
    for cid, data in blocks:
        if len(data) > STORED_BLOCK_MAX:
            raise LimitExceeded("bytes of a stored block", STORED_BLOCK_MAX)
        if len(cid.multihash) > MULTIHASH_BYTES_MAX:
            raise LimitExceeded("bytes of the multihash of a stored block", MULTIHASH_BYTES_MAX)


def check_blocks(blocks: Sequence[Block]) -> None:
    """Refuse blocks that no store keeps. Raises BlockMismatch, LimitExceeded."""
    check_sizes(blocks)
    for cid, data in blocks:
        if not matches(cid.multihash, data):
            raise BlockMismatch(cid, "whoever wants them kept")


def put_verified(store: BlockStore) -> Callable[[Sequence[Block]], Awaitable[None]]:
    """How blocks come into this store that were hashed since we had them: without being hashed again, where it can do that."""
    return cast(KeepsVerified, store).put_verified if hasattr(store, "put_verified") else store.put
