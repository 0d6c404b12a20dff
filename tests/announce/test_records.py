"""Signed records: what is taken, what is refused."""

import pytest

from stack.announce.keyspace import word_key
from stack.announce.records import (
    ADDRESSES_MAX,
    KEYS_MAX,
    RECORD_BYTES_MAX,
    SIGN_PREFIX,
    TTL_MAX,
    BadRecord,
    PublicName,
    RecordReader,
    addresses_to_tell,
    decode_record,
    holds,
    verify_signature,
)
from stack.identity.keys import generate
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.pb import announce_pb2 as pb
from tests.announce.build import NOW, a_key, a_record, keys_of, record_bytes
from tests.announce.network import key_of, peer_of, root_of

NAME = PublicName("a film", 7, root_of("film"))


def signed(inner: pb.Record, author: int = 0) -> bytes:
    payload = inner.SerializeToString()
    return pb.SignedRecord(record=payload, signature=key_of(author).sign(SIGN_PREFIX + payload)).SerializeToString()


def inner(**fields: object) -> pb.Record:
    base: dict[str, object] = {"author": bytes(peer_of(0)), "sequence": 1, "issued": NOW, "ttl": 3600, "shard": 1}
    return pb.Record(**(base | fields))  # type: ignore[arg-type]


def test_a_record_says_who_has_what_and_where() -> None:
    record = a_record(3, keys=keys_of(5), names=[NAME], more=Cid.of(b"list"), member=True, sequence=9, ttl=60)
    assert (record.author, record.sequence, record.issued, record.expires) == (peer_of(3), 9, NOW, NOW + 60)
    assert list(record.each_key()) == sorted(keys_of(5))
    assert record.names == (NAME,) and record.more == Cid.of(b"list") and record.directory is None
    assert list(record.word_keys()) == [word_key("film")]
    assert (record.member, record.is_presence, record.group) == (True, False, "8.8.8.0/24")
    assert record.addresses == (Multiaddr.parse("/ip4/8.8.8.8/tcp/1"),)
    assert keys_of(5)[2] in record and a_key(1) not in record


@pytest.mark.parametrize("kind", ["ed25519", "secp256k1", "ecdsa", "rsa"])
def test_every_kind_of_key_signs_records(kind: str) -> None:
    key = generate(kind)
    record = a_record(key, keys=keys_of(1))
    assert record.author == PeerId.of(key.public)


def test_a_key_that_only_straddles_two_others_is_not_there() -> None:
    keys = [bytes(range(16)), bytes(range(16, 32)), bytes(range(32, 48))]
    joined = b"".join(keys)
    assert all(holds(joined, key) for key in keys)
    assert not holds(joined, joined[8:24])
    assert holds(joined[8:24] + bytes(8) + joined[8:24][8:] + joined[8:24], joined[8:24])


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        bytes(RECORD_BYTES_MAX + 1),
        b"",
        signed(inner(author=b"nobody")),
        signed(inner(shard=0)),
        signed(inner(shard=1 << 17)),
        signed(inner(ttl=TTL_MAX + 1)),
        signed(inner(ttl=0)),
        signed(inner(addresses=[b"\x04"] * (ADDRESSES_MAX + 1))),
        signed(inner(addresses=[bytes(257)])),
        signed(inner(names=[pb.Name(name="a", cid=bytes(root_of(1)))] * 33)),
        signed(inner(names=[pb.Name(name="", cid=bytes(root_of(1)))])),
        signed(inner(names=[pb.Name(name="a")])),
        signed(inner(names=[pb.Name(name="x" * 256, cid=bytes(root_of(1)))])),
        signed(inner(more=b"\x01")),
        signed(inner(more=bytes(200))),
        signed(inner(shard=1 << 16, more=bytes(root_of(1)))),
        signed(inner(keys=bytes(15))),
        signed(inner(keys=b"".join(sorted(keys_of(KEYS_MAX + 1))))),
        signed(inner(keys=a_key(2) + a_key(1))),
        signed(inner(keys=a_key(2) + a_key(2))),
        signed(inner(shard=2, keys=a_key(0x80))),
        signed(inner(shard=3, keys=a_key(0x7F))),
        signed(inner(), author=1),
        signed(inner(author=bytes(peer_of(1)), public_key=key_of(0).public.encode())),
        signed(inner(author=bytes.fromhex("1220") + bytes(32))),
        signed(inner(author=bytes.fromhex("1220") + bytes(32), public_key=b"no key")),
    ],
)
def test_what_breaks_a_rule_is_no_record(data: bytes) -> None:
    with pytest.raises(BadRecord):
        decode_record(data)


def test_a_changed_byte_anywhere_is_noticed() -> None:
    data = record_bytes(keys=keys_of(2), names=[NAME])
    for position in range(len(data)):
        changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(BadRecord):
            decode_record(changed)


def test_addresses_that_are_not_understood_or_are_of_others_are_left_out() -> None:
    good = Multiaddr.parse("/ip4/10.0.0.1/tcp/1")
    addresses = [
        b"\xff\xff\x7f",
        bytes(good.with_peer(str(peer_of(5)))),
        bytes(good.with_peer(str(peer_of(0)))),
        bytes(Multiaddr.parse(f"/p2p/{peer_of(0)}")),
        bytes(Multiaddr.parse("/ip4/127.0.0.1/tcp/1")),
    ]
    record = decode_record(signed(inner(addresses=addresses)))
    assert record.addresses == (good, Multiaddr.parse("/ip4/127.0.0.1/tcp/1"))
    assert record.group == "10.0.0.0/24"
    assert decode_record(signed(inner(addresses=addresses[4:]))).group is None


def test_a_reader_decodes_the_same_bytes_once() -> None:
    calls = []

    def verify(author: bytes, key: bytes, data: bytes, signature: bytes) -> bool:
        calls.append(author)
        return True

    reader = RecordReader(verify, cached_max=2)
    data = [record_bytes(number) for number in range(3)]
    assert reader.read(data[0]) is reader.read(bytes(data[0]))
    assert len(calls) == 1
    for each in data:
        reader.read(each)
    reader.read(data[0])
    assert len(calls) == 4
    shared: dict[bytes, object] = {}
    assert RecordReader(verify, shared).read(data[0]) is RecordReader(verify, shared).read(data[0])  # type: ignore[arg-type]


def test_where_we_are_is_told_no_nearer_than_need_be() -> None:
    public, private, loopback = (Multiaddr.parse(f"/ip4/{ip}/tcp/1") for ip in ("8.8.8.8", "192.168.1.2", "127.0.0.1"))
    assert addresses_to_tell([loopback, private, public]) == (public,)
    assert addresses_to_tell([loopback, private]) == (private,)
    assert addresses_to_tell([loopback]) == (loopback,)
    assert addresses_to_tell([]) == ()
    long = Multiaddr.parse("/dns4/" + ".".join(["a" * 49] * 5) + "/tls/sni/" + ".".join(["a" * 49] * 5) + "/tcp/1")
    assert addresses_to_tell([long, private]) == (private,)
    many = [Multiaddr.parse(f"/ip4/8.8.8.{n}/tcp/1") for n in range(20)]
    assert len(addresses_to_tell(many)) == ADDRESSES_MAX


def test_a_signature_of_a_key_that_is_none_is_bad() -> None:
    assert not verify_signature(bytes.fromhex("0002aabb"), b"", b"data", b"signature")
