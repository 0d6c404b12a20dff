"""The vectors of docs/announce.md: read, checked, and made again."""

import hashlib
import hmac
import json

import pytest

from stack.announce.keyspace import (
    Shard,
    announce_key,
    home_of_key,
    home_of_peer,
    shard_of_topic,
    ticket_key,
    topic_of,
    word_key,
    words_of,
)
from stack.announce.messages import decode_request, decode_response, encode_request, encode_response
from stack.announce.records import BadRecord, decode_record
from stack.announce.rules import record_id
from stack.gossipsub.messages import Message
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from tests.announce.make_vectors import FILE, describe, text

VECTORS = json.loads(FILE.read_text())


def test_the_file_is_what_the_script_makes() -> None:
    assert FILE.read_text() == text()


def test_keys_homes_and_topics() -> None:
    for row in VECTORS["keys"]:
        multihash = Cid.parse(row["cid"]).multihash
        key = hashlib.sha256(b"stack/announce/1" + bytes.fromhex(row["multihash"])).digest()[:16]
        assert multihash.hex() == row["multihash"] and announce_key(multihash) == key
        assert key.hex() == row["key"] and home_of_key(key) == row["home"] == 0x10000 + int(row["key"][:4], 16)
    for row in VECTORS["ticket_keys"]:
        said = b"stack/announce-ticket/1" + Cid.parse(row["cid"]).multihash
        secret = bytes.fromhex(row["secret"])
        assert hmac.new(secret, said, hashlib.sha256).digest()[:16].hex() == row["key"]
        assert ticket_key(secret, Cid.parse(row["cid"]).multihash).hex() == row["key"]
    for row in VECTORS["peers"]:
        assert home_of_peer(PeerId.parse(row["peer"])) == row["home"]
    for row in VECTORS["topics"]:
        assert topic_of(Shard(row["shard"])) == row["topic"] and shard_of_topic(row["topic"]) == row["shard"]


@pytest.mark.parametrize("row", VECTORS["words"], ids=lambda row: ascii(row["text"])[:30])
def test_words(row: dict[str, object]) -> None:
    assert list(words_of(str(row["text"]))) == row["words"]
    assert [word_key(word).hex() for word in words_of(str(row["text"]))] == row["keys"]


def test_message_ids_and_tags() -> None:
    for row in VECTORS["message_ids"]:
        assert record_id(Message(row["topic"], bytes.fromhex(row["data"]))).hex() == row["id"]
    assert len({row["id"] for row in VECTORS["message_ids"]}) == 2
    for row in VECTORS["tags"]:
        assert row["sha256"].startswith(row["tag"])


@pytest.mark.parametrize("row", VECTORS["records"], ids=lambda row: f"{row['author'][-4:]} {row['sequence']}")
def test_records(row: dict[str, object]) -> None:
    assert describe(decode_record(bytes.fromhex(str(row["hex"])))) == row


@pytest.mark.parametrize("row", VECTORS["bad_records"], ids=lambda row: row["why"])
def test_bad_records(row: dict[str, str]) -> None:
    with pytest.raises(BadRecord):
        decode_record(bytes.fromhex(row["hex"]))


@pytest.mark.parametrize("row", VECTORS["messages"], ids=lambda row: row.get("request") or row["response"])
def test_messages(row: dict[str, str]) -> None:
    data = bytes.fromhex(row["hex"])
    if "request" in row:
        assert decode_request(data).kind.name == row["request"]
        assert encode_request(decode_request(data)) == data
    else:
        assert decode_response(data).status.name == row["response"]
        assert encode_response(decode_response(data)) == data
