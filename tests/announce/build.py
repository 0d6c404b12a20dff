"""Records for tests, by numbers; signatures real unless said."""

from collections.abc import Sequence

from stack.announce.keyspace import KEY_BYTES, WHOLE, Shard, announce_key
from stack.announce.records import PublicName, Record, decode_record, encode_record
from stack.identity.keys import PrivateKey
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.sansio.budget import Resource, Scope
from tests.announce.network import WALL, key_of, root_of

NOW = int(WALL)
HOUR = 3600


def a_key(first: int, rest: int = 0) -> bytes:
    """A key by its first byte."""
    return bytes([first]) + rest.to_bytes(KEY_BYTES - 1, "big")


def keys_of(count: int, seed: object = "") -> list[bytes]:
    return [announce_key(root_of((seed, number)).multihash) for number in range(count)]


def record_bytes(
    author: int | PrivateKey = 0,
    *,
    keys: Sequence[bytes] = (),
    sequence: int = 1,
    issued: int = NOW,
    ttl: int = 2 * HOUR,
    shard: int = WHOLE,
    address: str = "/ip4/8.8.8.8/tcp/1",
    names: Sequence[PublicName] = (),
    more: Cid | None = None,
    member: bool = False,
) -> bytes:
    key = key_of(author) if isinstance(author, int) else author
    return encode_record(
        key,
        sequence=sequence,
        issued=issued,
        ttl=ttl,
        shard=Shard(shard),
        addresses=[Multiaddr.parse(address)] if address else [],
        keys=keys,
        names=names,
        more=more,
        member=member,
    )


def a_record(author: int | PrivateKey = 0, **options: object) -> Record:
    return decode_record(record_bytes(author, **options))  # type: ignore[arg-type]


def budget(size: int) -> Scope:
    return Scope("test", {Resource.BYTES: size})
