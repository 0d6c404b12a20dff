"""Signed records: what one author has in one shard, and where it can be dialled. Source: docs/announce.md, "Records"."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import field
from functools import lru_cache

from google.protobuf.message import DecodeError as ProtobufDecodeError

from stack.announce.keyspace import (
    KEY_BYTES,
    LEVEL_MAX,
    SHARD_MAX,
    WHOLE,
    Home,
    Shard,
    home_of_peer,
    key_range,
    word_keys_of,
)
from stack.errors import DecodeError, RemoteProtocolError, StackError
from stack.identity.keys import PrivateKey, PublicKey, decode_public
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import Reach, neighbourhood_of, reach_of
from stack.pb import announce_pb2 as pb
from stack.values import dataclass

SIGN_PREFIX = b"stack/announce-record/1"

RECORD_BYTES_MAX = 16 * 1024
"""256 keys, 32 names, 8 addresses fit; rust-libp2p takes no RPC over 64 KiB."""
KEYS_MAX = 256
"""Keys in line; more are a list that is fetched by those who keep the shard."""
NAMES_MAX = 32
NAME_BYTES_MAX = 255
"""The longest file name of the usual systems."""
ADDRESSES_MAX = 8
"""As a ticket has."""
ADDRESS_BYTES_MAX = 256
"""A relayed address has about 120."""
ADDRESS_PROTOCOLS_MAX = 16
"""A relayed address has about ten. Each takes 120 bytes of memory, and 256 bytes have room for a hundred."""
RECORD_OVERHEAD_BYTES = 1280
"""What a record costs beside its bytes and what is in it; measured, as the following."""
KEY_OVERHEAD_BYTES = 160
"""What a key costs in the index, or a word of a name."""
NAME_OVERHEAD_BYTES = 640
"""What a public name costs without its characters and words: 32 names with 512 words have 4 KiB and take 100."""
CHARACTER_BYTES = 4
"""What a character of a name may take: one outside of the first plane makes it so for all of them."""
PROTOCOL_OVERHEAD_BYTES = 120
"""What a protocol in an address costs; an address has its bytes twice more, as text and in its parts."""
CID_BYTES_MAX = 160
"""An identity CID of 128 bytes, the longest that is allowed."""
TTL_MAX = 24 * 3600
TTL_MIN = 60
SKEW_SECONDS = 600
"""How far the clock of an author may be ahead of ours."""

SIGNER_KEYS_MAX = 1024
"""Public keys kept ready: reading one takes a third of the time of verifying with it."""
CACHED_MAX = 64
"""Decoded records kept: the same one comes by gossip and from who hands it in, within seconds. At most 3 MB."""


class BadRecord(RemoteProtocolError):
    """These bytes are no record, or its author has not signed them: whoever sent them has not looked at them."""


@dataclass(frozen=True, slots=True)
class PublicName:
    """A name under which the author wants something to be found by anybody."""

    name: str
    size: int
    """Bytes, as the author says."""
    cid: Cid


def holds(keys: bytes, key: bytes) -> bool:
    """Whether a key is one of those that stand one behind the other."""
    position = keys.find(key)
    while position > 0 and position % KEY_BYTES:
        position = keys.find(key, position + 1)
    return position >= 0


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Record:
    """What one author has in one shard. Immutable, so that many tables may share it."""

    author: PeerId
    sequence: int
    issued: int
    """Wall-clock seconds since 1970."""
    ttl: int
    """Seconds."""
    shard: Shard
    addresses: tuple[Multiaddr, ...]
    """Without `/p2p`, the best first."""
    keys: bytes = field(repr=False)
    """Sorted, one behind the other."""
    names: tuple[PublicName, ...]
    words: tuple[frozenset[bytes], ...] = field(repr=False)
    """The keys of the words of each name: taken apart once, however often somebody searches."""
    more: Cid | None
    """A block with further keys, sorted, one behind the other."""
    directory: Cid | None
    """The root of all public names of the author, a UnixFS directory."""
    member: bool
    """The author keeps the shard around its home, and answers for it."""
    data: bytes = field(repr=False)
    """All of it, with its signature, as it travels."""
    home: Home
    """Where the author is in the key space."""
    group: str | None
    """Its IPv4 /24 or IPv6 /48, by what it says; None for loopback."""
    tag: int
    """64 bits of a hash of `data`."""
    cost: int
    """Bytes that it holds in memory, about."""

    @property
    def expires(self) -> int:
        """Wall-clock seconds."""
        return self.issued + self.ttl

    @property
    def is_presence(self) -> bool:
        """It says only that its author keeps the shard around its home."""
        return self.shard == self.home

    def __contains__(self, key: bytes) -> bool:
        return holds(self.keys, key)

    def each_key(self) -> Iterator[bytes]:
        """The keys in line, in order."""
        keys = self.keys
        return (keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES))

    def word_keys(self) -> Iterator[bytes]:
        """The keys of the words of all public names; some may come again."""
        return (key for keys in self.words for key in keys)

    def has_words(self, wanted: frozenset[bytes]) -> bool:
        """One of the names has all words with these keys."""
        return any(wanted <= keys for keys in self.words)


Verify = Callable[[bytes, bytes, bytes, bytes], bool]
"""Takes peer id, public key (empty when the id holds it), what is signed, signature. A simulation may say True."""


@lru_cache(maxsize=SIGNER_KEYS_MAX)
def _signer(author: bytes, public_key: bytes) -> PublicKey | None:
    peer = PeerId.decode(author)
    if not public_key:
        return peer.public_key()
    key = decode_public(public_key)
    return key if PeerId.of(key) == peer else None


def verify_signature(author: bytes, public_key: bytes, signed: bytes, signature: bytes) -> bool:
    """Whether the owner of this peer id has signed these bytes. Takes 120 us for ed25519."""
    try:
        key = _signer(author, public_key)
        if key is None:
            return False
        key.verify(signed, signature)
    except StackError:
        return False
    return True


class RecordReader:
    """Reads records, each bytes string once. Records of a cache that many nodes share are one object in all tables."""

    __slots__ = ("_cache", "_cached_max", "_ready", "_verify")

    def __init__(
        self,
        verify: Verify = verify_signature,
        cache: MutableMapping[bytes, Record] | None = None,
        cached_max: int = CACHED_MAX,
    ) -> None:
        self._verify = verify
        self._cache: MutableMapping[bytes, Record] = OrderedDict() if cache is None else cache
        self._cached_max = cached_max
        self._ready: dict[bytes, Record] = {}

    def prepare(self, data: bytes) -> None:
        """Read a record that is read again soon, and keep it until `forget`. Raises BadRecord."""
        self._ready[data] = self.read(data)

    def forget(self, data: bytes) -> None:
        """It has been read, or will not be."""
        self._ready.pop(data, None)

    def read(self, data: bytes) -> Record:
        """The record in these bytes, verified. Raises BadRecord."""
        record = self._ready.get(data) or self._cache.get(data)
        if record is None:
            record = decode_record(data, self._verify)
            self._cache[record.data] = record
            if len(self._cache) > self._cached_max:
                del self._cache[next(iter(self._cache))]
        return record


def decode_record(data: bytes, verify: Verify = verify_signature) -> Record:
    """The record in these bytes. Raises BadRecord when its form, a bound or its signature is wrong."""
    if len(data) > RECORD_BYTES_MAX:
        raise BadRecord(f"a record has at most {RECORD_BYTES_MAX} bytes, this one has {len(data)}")
    outer, inner = pb.SignedRecord(), pb.Record()
    try:
        outer.ParseFromString(data)
        inner.ParseFromString(outer.record)
        author = PeerId.decode(inner.author)
        shard = _shard(inner)
        _check_bounds(inner)
        _check_keys(inner.keys, shard)
        names = tuple(_name(name) for name in inner.names)
        more, directory = _cid(inner.more), _cid(inner.directory)
    except (DecodeError, ProtobufDecodeError) as error:
        raise BadRecord(f"record: {error}") from error
    # The last check, because it costs most.
    if not verify(inner.author, inner.public_key, SIGN_PREFIX + outer.record, outer.signature):
        raise BadRecord("record: not signed by its author")
    addresses = tuple(_addresses(inner.addresses, author))
    words = tuple(word_keys_of(name.name) for name in names)
    return Record(
        author=author,
        sequence=inner.sequence,
        issued=inner.issued,
        ttl=inner.ttl,
        shard=shard,
        addresses=addresses,
        keys=inner.keys,
        names=names,
        words=words,
        more=more,
        directory=directory,
        member=inner.member,
        data=bytes(data),
        home=home_of_peer(author),
        group=_group(addresses),
        tag=int.from_bytes(hashlib.sha256(data).digest()[:8], "big"),
        cost=_cost(len(data), addresses, len(inner.keys), names, words),
    )


def encode_record(
    key: PrivateKey,
    *,
    sequence: int,
    issued: int,
    ttl: int,
    shard: Shard = WHOLE,
    addresses: Sequence[Multiaddr] = (),
    keys: Iterable[bytes] = (),
    names: Sequence[PublicName] = (),
    more: Cid | None = None,
    directory: Cid | None = None,
    member: bool = False,
) -> bytes:
    """A signed record. The caller keeps the bounds; keys are sorted here."""
    author = PeerId.of(key.public)
    inner = pb.Record(
        author=bytes(author),
        public_key=b"" if author.public_key() is not None else key.public.encode(),
        sequence=sequence,
        issued=issued,
        ttl=ttl,
        shard=shard,
        addresses=[bytes(address) for address in addresses],
        keys=b"".join(sorted(keys)),
        more=bytes(more) if more is not None else b"",
        names=[pb.Name(name=name.name, size=name.size, cid=bytes(name.cid)) for name in names],
        directory=bytes(directory) if directory is not None else b"",
        member=member,
    )
    payload = inner.SerializeToString(deterministic=True)
    return pb.SignedRecord(record=payload, signature=key.sign(SIGN_PREFIX + payload)).SerializeToString()


def addresses_to_tell(addresses: Iterable[Multiaddr]) -> tuple[Multiaddr, ...]:
    """What a record carries of where we are: public addresses; without one, private ones; without any, loopback."""
    by_reach: dict[Reach, list[Multiaddr]] = {}
    for address in addresses:
        if len(bytes(address)) <= ADDRESS_BYTES_MAX:
            by_reach.setdefault(reach_of(address), []).append(address)
    return tuple(by_reach[max(by_reach)][:ADDRESSES_MAX]) if by_reach else ()


def _shard(inner: pb.Record) -> Shard:
    if not WHOLE <= inner.shard <= SHARD_MAX:
        raise DecodeError(f"shard {inner.shard}")
    return Shard(inner.shard)


def _check_bounds(inner: pb.Record) -> None:
    if not TTL_MIN <= inner.ttl <= TTL_MAX:
        raise DecodeError(f"good for {inner.ttl} s")
    if len(inner.addresses) > ADDRESSES_MAX or any(len(address) > ADDRESS_BYTES_MAX for address in inner.addresses):
        raise DecodeError("too many or too long addresses")
    if len(inner.names) > NAMES_MAX:
        raise DecodeError(f"{len(inner.names)} names")
    if inner.shard.bit_length() > LEVEL_MAX and (inner.names or inner.more or inner.directory):
        raise DecodeError("a presence has no content")


def _check_keys(keys: bytes, shard: Shard) -> None:
    if len(keys) % KEY_BYTES or len(keys) > KEYS_MAX * KEY_BYTES:
        raise DecodeError(f"{len(keys)} bytes of keys")
    first, behind = key_range(shard)
    last = first
    for at in range(0, len(keys), KEY_BYTES):
        key = keys[at : at + KEY_BYTES]
        if key < last or (at and key == last) or (behind is not None and key >= behind):
            raise DecodeError("keys out of order, or of another shard")
        last = key


def _name(message: pb.Name) -> PublicName:
    if not 0 < len(message.name.encode()) <= NAME_BYTES_MAX:
        raise DecodeError("a name is empty or too long")
    cid = _cid(message.cid)
    if cid is None:
        raise DecodeError("a name without CID")
    return PublicName(message.name, message.size, cid)


def _cid(data: bytes) -> Cid | None:
    if len(data) > CID_BYTES_MAX:
        raise DecodeError(f"CID of {len(data)} bytes")
    return Cid.decode(data) if data else None


def _addresses(told: Iterable[bytes], author: PeerId) -> Iterator[Multiaddr]:
    """Those that are understood: a peer may listen on protocols that are newer than this program."""
    for data in told:
        try:
            address, peer = Multiaddr.decode(data).split_peer()
        except DecodeError:
            continue
        if address and peer in (None, str(author)) and len(address.protocols) <= ADDRESS_PROTOCOLS_MAX:
            yield address


def _cost(
    size: int,
    addresses: Sequence[Multiaddr],
    keys_size: int,
    names: Sequence[PublicName],
    words: Sequence[frozenset[bytes]],
) -> int:
    """What a record holds in memory: its author chooses what is in it, and some of that takes many times its bytes (A42)."""
    cost = size + RECORD_OVERHEAD_BYTES + keys_size // KEY_BYTES * KEY_OVERHEAD_BYTES
    for address in addresses:
        cost += 2 * len(bytes(address)) + len(address.protocols) * PROTOCOL_OVERHEAD_BYTES
    for name, keys in zip(names, words, strict=True):
        cost += NAME_OVERHEAD_BYTES + CHARACTER_BYTES * len(name.name) + len(keys) * KEY_OVERHEAD_BYTES
    return cost


def _group(addresses: Sequence[Multiaddr]) -> str | None:
    for address in addresses:
        group = neighbourhood_of(address)
        if group is not None:
            return group
    return None
