"""Writes `tests/vectors/announce/announce.json`: what another implementation of docs/announce.md can check itself with.

python -m tests.announce.make_vectors
"""

import hashlib
import json
from pathlib import Path

from stack.announce.keyspace import (
    Shard,
    announce_key,
    home_of_key,
    home_of_peer,
    shard_at,
    ticket_key,
    topic_of,
    word_key,
    words_of,
)
from stack.announce.messages import (
    DIGEST_BYTES,
    DIGESTS,
    Kind,
    Request,
    Response,
    Status,
    encode_request,
    encode_response,
)
from stack.announce.records import SIGN_PREFIX, PublicName, Record, decode_record, encode_record
from stack.announce.rules import record_id
from stack.gossipsub.messages import Message
from stack.identity.keys import PrivateKey, decode_private
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.pb import announce_pb2 as pb

FILE = Path(__file__).parent.parent / "vectors" / "announce" / "announce.json"

SECRET = bytes(range(16))
ISSUED = 1_800_000_000
NAMES = (
    "Holiday_Film (2026).MKV",
    "Straße ﬁlm",
    "ÉTÉ e\u0301te\u0301",
    "a b . !",
    "日本語 テスト",
    "हिन्दी फ़िल्म",
    "x" * 33,
    "one two one",
)


def private_key(number: int) -> PrivateKey:
    """An Ed25519 key whose seed is 32 times this number. Of a known seed, so that signatures are the same everywhere."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    seed = bytes([number]) * 32
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return decode_private(b"\x08\x01\x12\x40" + seed + public)


def roots(count: int) -> list[Cid]:
    return [Cid.of(b"content %d" % number) for number in range(count)]


def shard_of_most(keys: list[bytes], level: int) -> Shard:
    return shard_at(home_of_key(keys[0]), level)


def describe(record: Record) -> dict[str, object]:
    return {
        "author": str(record.author),
        "sequence": record.sequence,
        "issued": record.issued,
        "ttl": record.ttl,
        "shard": record.shard,
        "addresses": [str(address) for address in record.addresses],
        "keys": [key.hex() for key in record.each_key()],
        "names": [{"name": name.name, "size": name.size, "cid": str(name.cid)} for name in record.names],
        "more": str(record.more) if record.more is not None else None,
        "directory": str(record.directory) if record.directory is not None else None,
        "member": record.member,
        "hex": record.data.hex(),
    }


def records() -> list[Record]:
    """Good ones: content, a part of the key space, nothing (withdrawn), public, presence, more."""
    keys = [announce_key(root.multihash) for root in roots(6)]
    address = Multiaddr.parse("/ip4/198.51.100.7/tcp/4009")
    half = shard_of_most(keys, 1)
    made = [
        encode_record(private_key(1), sequence=1, issued=ISSUED, ttl=7200, addresses=[address], keys=keys),
        encode_record(
            private_key(1),
            sequence=2,
            issued=ISSUED + 60,
            ttl=14400,
            shard=half,
            addresses=[address, Multiaddr.parse("/ip6/2001:db8::1/tcp/4009")],
            keys=[key for key in keys if shard_at(home_of_key(key), 1) == half],
            member=True,
        ),
        encode_record(private_key(1), sequence=3, issued=ISSUED + 120, ttl=7200),
        encode_record(
            private_key(2),
            sequence=ISSUED,
            issued=ISSUED,
            ttl=86400,
            names=[PublicName("Holiday_Film (2026).MKV", 1234567, roots(1)[0])],
            directory=Cid.of(b"directory"),
        ),
        encode_record(
            private_key(2),
            sequence=ISSUED + 1,
            issued=ISSUED,
            ttl=7200,
            shard=home_of_peer(PeerId.of(private_key(2).public)),
            addresses=[address],
            member=True,
        ),
        encode_record(private_key(3), sequence=1, issued=ISSUED, ttl=7200, keys=keys[:1], more=Cid.of(b"".join(keys))),
    ]
    return [decode_record(data) for data in made]


def bad_records() -> list[tuple[str, bytes]]:
    """Why it is none, and the bytes."""
    author = bytes(PeerId.of(private_key(1).public))
    low, high = bytes(16), b"\xff" * 16

    def signed(key: int = 1, **fields: object) -> bytes:
        base: dict[str, object] = {"author": author, "sequence": 1, "issued": ISSUED, "ttl": 3600, "shard": 1}
        payload = pb.Record(**(base | fields)).SerializeToString(deterministic=True)  # type: ignore[arg-type]
        signature = private_key(key).sign(SIGN_PREFIX + payload)
        return pb.SignedRecord(record=payload, signature=signature).SerializeToString()

    return [
        ("signed by another", signed(key=2)),
        ("one bit of the signature is wrong", signed()[:-1] + bytes([signed()[-1] ^ 1])),
        ("keys out of order", signed(keys=high + low)),
        ("a key twice", signed(keys=low + low)),
        ("a key of another shard", signed(shard=2, keys=high)),
        ("keys of no whole number", signed(keys=low[:15])),
        ("no shard", signed(shard=0)),
        ("a shard too deep", signed(shard=1 << 17)),
        ("good for too long", signed(ttl=86401)),
        ("good for too short", signed(ttl=59)),
        ("nine addresses", signed(addresses=[b"\x04\x08\x08\x08\x08\x06\x00\x01"] * 9)),
        ("a name without a CID", signed(names=[pb.Name(name="film")])),
        ("a presence with a name", signed(shard=1 << 16, names=[pb.Name(name="film", cid=bytes(roots(1)[0]))])),
    ]


def messages() -> list[dict[str, object]]:
    requests = [
        Request(kind=Kind.FIND, key=announce_key(roots(1)[0].multihash), keep=True),
        Request(kind=Kind.SEARCH, key=word_key("holiday"), words=("film", "holiday")),
        Request(kind=Kind.MEMBERS, shard=Shard(11)),
        Request(kind=Kind.PAGE, shard=Shard(5), after=b"\x00\x24", digests=bytes(DIGESTS * DIGEST_BYTES)),
        Request(kind=Kind.PUT, record=b"record"),
    ]
    responses = [
        Response(shard=Shard(1), records=(b"one", b"two")),
        Response(status=Status.NOT_MINE, shard=Shard(11), closer=(b"near",)),
        Response(status=Status.LOADING, shard=Shard(5), records=(b"one",), next=b"\x00\x24"),
        Response(status=Status.BUSY),
    ]
    return [{"request": request.kind.name, "hex": encode_request(request).hex()} for request in requests] + [
        {"response": response.status.name, "hex": encode_response(response).hex()} for response in responses
    ]


def vectors() -> dict[str, object]:
    """All of it."""
    good = records()
    homes = [private_key(number) for number in range(1, 4)]
    return {
        "origin": "docs/announce.md; made by tests/announce/make_vectors.py",
        "keys": [
            {
                "cid": str(root),
                "multihash": root.multihash.hex(),
                "key": announce_key(root.multihash).hex(),
                "home": home_of_key(announce_key(root.multihash)),
            }
            for root in roots(3)
        ],
        "ticket_keys": [
            {"cid": str(root), "secret": SECRET.hex(), "key": ticket_key(SECRET, root.multihash).hex()}
            for root in roots(3)
        ],
        "words": [
            {"text": text, "words": list(words_of(text)), "keys": [word_key(word).hex() for word in words_of(text)]}
            for text in NAMES
        ],
        "peers": [{"peer": str(PeerId.of(key.public)), "home": home_of_peer(PeerId.of(key.public))} for key in homes],
        "topics": [{"shard": shard, "topic": topic_of(Shard(shard))} for shard in (1, 2, 3, 11, 1 << 16)],
        "message_ids": [
            {
                "topic": topic_of(Shard(shard)),
                "data": good[0].data.hex(),
                "id": record_id(Message(topic_of(Shard(shard)), good[0].data)).hex(),
            }
            for shard in (1, 2)
        ],
        "records": [describe(record) for record in good],
        "bad_records": [{"why": why, "hex": data.hex()} for why, data in bad_records()],
        "tags": [{"sha256": hashlib.sha256(r.data).hexdigest(), "tag": f"{r.tag:016x}"} for r in good[:2]],
        "messages": messages(),
    }


def text() -> str:
    return json.dumps(vectors(), indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text())
