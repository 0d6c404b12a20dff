"""Keys for tests, the same in each run: names of tests are made of them, and those of two workers have to agree."""

from functools import cache
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric import ed25519

from stack.identity.ed25519 import Ed25519PrivateKey
from stack.identity.keys import PrivateKey
from stack.identity.peer_id import PeerId


@cache
def key(number: int) -> PrivateKey:
    """The key of test peer `number`."""
    seed = sha256(f"test peer {number}".encode()).digest()
    return Ed25519PrivateKey(ed25519.Ed25519PrivateKey.from_private_bytes(seed))


@cache
def peer(number: int) -> PeerId:
    """Its id."""
    return PeerId.of(key(number).public)


def peers_in_order(count: int) -> list[PeerId]:
    """Ids, the smallest first."""
    return sorted(peer(number) for number in range(count))
