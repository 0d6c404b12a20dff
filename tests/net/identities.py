"""Keys for tests, made once a run: identities are needed by the hundred, their making is not what is tested."""

from functools import cache

from stack.identity.keys import PrivateKey, generate
from stack.identity.peer_id import PeerId


@cache
def key(number: int) -> PrivateKey:
    """The key of test peer `number`."""
    return generate()


@cache
def peer(number: int) -> PeerId:
    """Its id."""
    return PeerId.of(key(number).public)


def peers_in_order(count: int) -> list[PeerId]:
    """Ids, the smallest first."""
    return sorted(peer(number) for number in range(count))
